# W4: what else is done to messages: pop, archive and set_vt, one a call. Archived and
# extended are messages that somebody has leased, as a consumer does it: archive takes
# them in order, each once, set_vt takes any.

w4_title() {
	echo "pop, archive and set_vt, one message a call, of $PRELOAD"
}

w4_cells() {
	local clients verb
	for clients in $(clients_or 8); do
		for verb in pop archive set_vt; do
			echo "$verb $clients 1"
		done
	done
}

w4_cell() {
	local effect=$CELL
	local -a PGBENCH_ARGS=(-T "$RUN_SECONDS" -D turn=-1)
	[ "$SIDE-$CELL" != floor-pop ] && [ "$SIDE-$CELL" != floor-archive ] || return 0
	queue_create bench
	queue_fill bench "$PRELOAD"
	[ "$SIDE" = floor ] || [ "$CELL" = pop ] || queue_lease bench "$PRELOAD"
	queue_settle bench
	[ "$CELL" != set_vt ] || effect=extend
	w4_script | stage "$CELL" bench "$effect"
}

w4_script() {
	case $SIDE-$CELL in
		floor-*) echo "SELECT bench_floor.floor_lease('bench_floor.q_bench', 1);" ;;
		*-pop) echo "SELECT msg_id FROM $SCHEMA.pop('bench', 1);" ;;
		*-archive) w4_archive_script ;;
		*) w4_set_vt_script ;;
	esac
}

# Clients go through the ids side by side, until one comes to the end.
w4_archive_script() {
	cat <<-SQL
		\set turn :turn + 1
		\set id :turn * $CLIENTS + :client_id + 1
		SELECT $SCHEMA.archive('bench', :id::bigint) AS archived \gset
		\if not :archived
		SELECT bench.note('short', 1);
		\endif
	SQL
}

w4_set_vt_script() {
	cat <<-SQL
		\set id random(1, $PRELOAD)
		SELECT msg_id FROM $SCHEMA.set_vt('bench', :id::bigint, 86400);
	SQL
}
