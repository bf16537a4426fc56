# W3: send, read and delete in turn, at a steady depth. A client that reads too
# little or finds its message deleted by somebody else leaves a note.

W3_DEPTH=1000
WORKLOAD_SERIES=1

w3_title() {
	echo "send + read + delete at a steady depth of $W3_DEPTH; a call is the three statements"
}

w3_cells() {
	local clients
	for clients in $(clients_or 8); do
		echo "cycle $clients 1"
	done
	echo "cycle100 4 100"
}

w3_batch_script() {
	cat <<-SQL
		SELECT $SCHEMA.send_batch('bench', $(batch_payload "$QTY"));
		SELECT coalesce(array_agg(msg_id), '{}') AS ids, count(*) AS got FROM $SCHEMA.read('bench', 600, $QTY) \gset
		SELECT count(*) AS gone FROM $SCHEMA.delete('bench', :ids::bigint[]) \gset
		\if :got < $QTY
		SELECT bench.note('short', $QTY - :got::bigint);
		\endif
		\if :gone < :got
		SELECT bench.note('repeat', :got::bigint - :gone::bigint);
		\endif
	SQL
}

w3_script() {
	case $SIDE-$QTY in
		floor-*) floor_cycle_script ;;
		*-1) cycle_script ;;
		*) w3_batch_script ;;
	esac
}

w3_cell() {
	if [ "$SIDE" = floor ]; then
		queue_create leases
		queue_fill leases "$W3_DEPTH"
		queue_unchecked leases
	fi
	queue_create bench
	queue_fill bench "$W3_DEPTH"
	queue_settle bench
	w3_script | stage "$CELL" bench cycle
}
