# The sides of a comparison and what a workload may do to a queue on each.
# Sourced by bench/run.
#
#   hot       pgmq queues on this checkout's access method
#   heap      the SQL design, sql/heap_queue.sql
#   upstream  the SQL-only pgmq, in a database of its own
#   floor     a table and C functions, floor/
#
# Workload files use the queue_ functions and these globals, set by use_side:
# SIDE, DATABASE, SCHEMA. What the queues must hold after a cell is kept in
# WANT_READY (never leased), WANT_LEASED and WANT_READS, by queue name.

declare -A WANT_READY WANT_LEASED WANT_READS

use_side() {
	SIDE=$1
	case $SIDE in
		hot) DATABASE=bench SCHEMA=pgmq ;;
		heap) DATABASE=bench SCHEMA=bench_heap ;;
		floor) DATABASE=bench SCHEMA=bench_floor ;;
		upstream) DATABASE=bench_upstream SCHEMA=pgmq ;;
	esac
}

create_sides() {
	make_payload
	sql postgres 'CREATE DATABASE bench;'
	sql bench <"$BENCH_DIR/sql/harness.sql"
	if has_side heap; then
		sql bench <"$BENCH_DIR/sql/heap_queue.sql"
	fi
	if has_side floor; then
		{
			echo "\\set module '$SCRATCH/floor/pgmq_floor'"
			cat "$BENCH_DIR/floor/floor.sql"
		} | sql bench
	fi
	if has_side hot; then
		sql bench 'CREATE EXTENSION pgmq;' || die "CREATE EXTENSION pgmq failed; try --without-hot"
	fi
	if has_side upstream; then
		sql postgres 'CREATE DATABASE bench_upstream;'
		sql bench_upstream <"$BENCH_DIR/sql/harness.sql"
		sql bench_upstream <"$UPSTREAM_SQL" >/dev/null
	fi
}

# PAYLOAD: a JSON document of PAYLOAD_BYTES that no compression makes smaller,
# the same in every run. BATCH_PAYLOAD: SQL for an array of n of them.
make_payload() {
	PAYLOAD=$(awk -v bytes="$PAYLOAD_BYTES" 'BEGIN {
		letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
		seed = 20011
		text = "{\"id\": 1, \"data\": \""
		for (i = length(text) + 2; i < bytes; i++) {
			seed = (seed * 16807) % 2147483647
			text = text substr(letters, 1 + seed % 62, 1)
		}
		print text "\"}"
	}')
}

batch_payload() {
	awk -v n="$1" -v doc="$PAYLOAD" 'BEGIN {
		for (i = 1; i <= n; i++)
			list = list (i > 1 ? "," : "") "\047" doc "\047"
		print "ARRAY[" list "]::jsonb[]"
	}'
}

# For pgbench: delete the message that \aset left in msg_id, and note what went amiss
acknowledge_script() {
	cat <<-SQL
		\if :msg_id = 0
		SELECT bench.note('short', 1);
		\else
		SELECT $SCHEMA.delete('bench', :msg_id::bigint) AS gone \gset
		\if not :gone
		SELECT bench.note('repeat', 1);
		\endif
		\endif
	SQL
}

queue_create() {
	local queue=$1
	sql "$DATABASE" "SELECT $SCHEMA.create('$queue');" >/dev/null
	WANT_READY[$queue]=0 WANT_LEASED[$queue]=0 WANT_READS[$queue]=0
}

# Leave a queue out of the count at the end.
queue_unchecked() {
	unset "WANT_READY[$1]"
}

queue_fill() {
	local queue=$1 n=$2
	[ "$n" -gt 0 ] || return 0
	sql "$DATABASE" "CALL bench.fill('$SCHEMA', '$queue', $n, '$PAYLOAD');"
	WANT_READY[$queue]=$((WANT_READY[$queue] + n))
}

# So many messages in each of so many groups, dealt out in turn.
queue_fill_groups() {
	local queue=$1 n_groups=$2 per_group=$3
	sql "$DATABASE" "CALL bench.fill_groups('$SCHEMA', '$queue', $n_groups, $per_group, '$PAYLOAD');"
	WANT_READY[$queue]=$((WANT_READY[$queue] + n_groups * per_group))
}

queue_top_up() {
	queue_fill "$1" $(($2 - WANT_READY[$1]))
}

queue_lease() {
	local queue=$1 n=$2
	sql "$DATABASE" "CALL bench.lease('$SCHEMA', '$queue', $n);"
	count_leased "$queue" "$n"
}

# Vacuum and analyze, so that autovacuum has no reason to come by, and the SQL
# design meets neither dead rows nor missing statistics it can be spared.
queue_settle() {
	sql "$DATABASE" "VACUUM (ANALYZE) $SCHEMA.q_$1;"
}

count_leased() {
	local queue=$1 n=$2
	WANT_READY[$queue]=$((WANT_READY[$queue] - n))
	WANT_LEASED[$queue]=$((WANT_LEASED[$queue] + n))
	WANT_READS[$queue]=$((WANT_READS[$queue] + n))
}

# What the hot queue says of itself: 'ok', or how many complaints.
queue_self_check() {
	[ "$SIDE" = hot ] || { echo ok; return; }
	sql "$DATABASE" "SELECT CASE count(*) WHEN 0 THEN 'ok' ELSE 'check_queue has ' || count(*) || ' complaints: ' || min(c::text) END FROM pgmq.check_queue('$1') AS c;"
}

# Drain a queue through its own functions and compare with what it should hold.
queue_verdict() {
	local queue=$1 said
	if [ "$SIDE" = floor ]; then
		sql "$DATABASE" "SELECT bench.floor_verdict('$SCHEMA', '$queue', $((WANT_READY[$queue] + WANT_LEASED[$queue])), ${WANT_READS[$queue]});"
		return
	fi
	said=$(queue_self_check "$queue")
	if [ "$said" = ok ]; then
		sql "$DATABASE" "CALL bench.drain('$SCHEMA', '$queue', '$PAYLOAD');"
		said=$(sql "$DATABASE" "SELECT bench.verdict('$SCHEMA', '$queue', ${WANT_READY[$queue]}, ${WANT_LEASED[$queue]});")
	fi
	if [ "$said" = ok ]; then
		said=$(queue_self_check "$queue")
	fi
	echo "$said"
}

queue_drop() {
	sql "$DATABASE" "SELECT $SCHEMA.drop_queue('$1');" >/dev/null
}
