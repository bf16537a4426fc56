# W9: a snapshot that is held. Send, read and delete at an offered rate, without and
# with a repeatable-read transaction open in the queue's database, and somebody
# else's pgbench beside it, in a database of its own.

WORKLOAD_SAMPLING=1
WORKLOAD_SERIES=1

w9_title() {
	echo "$RATES cycles a second offered, without and with a snapshot held; --seconds 600 for ten minutes"
}

# Clients enough that a slow call does not lower the rate by itself
w9_cells() {
	local rate
	for rate in $RATES; do
		echo "$rate $(clients_or 8 | awk '{ print $1 }') 1"
	done
}

w9_cell() {
	[ "$SIDE" != floor ] || return 0
	w9_stage clean
	w9_stage held
}

# The queue is new each time: what is left over from one stage is not the next one's.
w9_stage() {
	local name=$1
	local -a PGBENCH_ARGS=(-T "$RUN_SECONDS" -R "$CELL")
	queue_create bench
	queue_fill bench 1000
	queue_settle bench
	bystander_begin
	[ "$name" = clean ] || hold_snapshot
	cycle_script | stage "$name-cycle" bench cycle
	[ "$name" = clean ] || release_snapshot
	bystander_row "$name-bystander"
	queue_verify bench
	queue_drop bench
}
