# Parts of pgbench scripts that several workloads use. Sourced by bench/run.

# Delete the message that \aset left in msg_id, and note what went amiss
acknowledge_script() {
	local queue=${1:-bench}
	cat <<-SQL
		\if :msg_id = 0
		SELECT bench.note('short', 1);
		\else
		SELECT $SCHEMA.delete('$queue', :msg_id::bigint) AS gone \gset
		\if not :gone
		SELECT bench.note('repeat', 1);
		\endif
		\endif
	SQL
}

# Send, read one, delete it: the depth stays.
cycle_script() {
	local queue=${1:-bench}
	cat <<-SQL
		\set msg_id 0
		SELECT $SCHEMA.send('$queue', '$PAYLOAD'::jsonb);
		SELECT msg_id FROM $SCHEMA.read('$queue', 600, 1) \aset
	SQL
	acknowledge_script "$queue"
}

# The same on the floor. It leases rows of a table beside it, so that no row is
# leased while it is deleted.
floor_cycle_script() {
	if [ "$QTY" -eq 1 ]; then
		echo "SELECT bench_floor.floor_insert('bench_floor.q_bench', '$PAYLOAD'::jsonb);"
	else
		echo "SELECT bench_floor.floor_multi_insert('bench_floor.q_bench', $(batch_payload "$QTY"));"
	fi
	echo "SELECT bench_floor.floor_lease('bench_floor.q_leases', $QTY);"
	echo "SELECT bench_floor.floor_delete('bench_floor.q_bench');"
}

# Read QTY messages and keep them.
read_script() {
	local queue=${1:-bench}
	case $SIDE in
		floor) echo "SELECT bench_floor.floor_lease('bench_floor.q_$queue', $QTY);" ;;
		*) echo "SELECT msg_id FROM $SCHEMA.read('$queue', 86400, $QTY);" ;;
	esac
}

# Pop QTY messages; note how many fewer came.
drain_script() {
	local queue=${1:-bench}
	cat <<-SQL
		SELECT count(*) AS got FROM $SCHEMA.pop('$queue', $QTY) \gset
		\if :got < $QTY
		SELECT bench.note('short', $QTY - :got::bigint);
		\endif
	SQL
}
