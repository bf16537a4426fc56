# WQ: the SQL of others. Statements on the queue's table itself, and read by the SQL
# path, on a deep queue of which the first LEASED messages are leased, and on one of 100:
#
#   delete    BEGIN; DELETE .. WHERE msg_id = x; ROLLBACK, x anywhere
#   next      SELECT .. WHERE vt <= now() ORDER BY msg_id LIMIT 1 FOR UPDATE SKIP LOCKED
#   sql-read  BEGIN; read(..); ROLLBACK with pgmq.fast_path off
#   read      the same with it on

WORKLOAD_SYNC=off
WORKLOAD_SAMPLING=1

WQ_SMALL=100

wq_title() {
	echo "queries on the table of $((2 * LEASED)) messages, $LEASED leased at the head, and of $WQ_SMALL"
}

wq_cells() {
	local clients
	for clients in $(clients_or 1); do
		echo "queries $clients 1"
	done
}

wq_cell() {
	local verb depth n=$((2 * LEASED))
	[ "$SIDE" != floor ] || return 0
	for depth in deep small; do
		queue_create $depth
		queue_fill $depth "$n"
		queue_lease $depth $((n / 2))
		queue_settle $depth
		for verb in delete next sql-read read; do
			SESSION_OPTIONS=''
			[ "$verb-$SIDE" != sql-read-hot ] || SESSION_OPTIONS='-c pgmq.fast_path=off'
			wq_script $verb $depth "$n" | stage $depth-$verb $depth poll
		done
		n=$WQ_SMALL
	done
}

wq_script() {
	local verb=$1 depth=$2 n=$3
	case $verb in
		delete)
			cat <<-SQL
				\set id random(1, $n)
				BEGIN;
				DELETE FROM $SCHEMA.q_$depth WHERE msg_id = :id;
				ROLLBACK;
			SQL
			;;
		next) echo "SELECT msg_id FROM $SCHEMA.q_$depth WHERE vt <= now() ORDER BY msg_id LIMIT 1 FOR UPDATE SKIP LOCKED;" ;;
		*)
			cat <<-SQL
				BEGIN;
				SELECT msg_id FROM $SCHEMA.read('$depth', 30, 1);
				ROLLBACK;
			SQL
			;;
	esac
}
