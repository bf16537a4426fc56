# W5: the depth of the queue. For each backlog: read one and read a hundred for a
# while, then pop all that is ready and count the messages a second to the end.
#
# Stages begin with the backlog's number of messages. The SQL design drains up to a
# million only: more take too long to wait for.

W5_MOST_BY_SQL=1000000

WORKLOAD_SYNC=off
WORKLOAD_SAMPLING=1
WORKLOAD_SERIES=1

w5_title() {
	echo "backlogs of $BACKLOG: read one, read 100, drain to zero by pop of 100"
}

w5_cells() {
	local n
	for n in $BACKLOG; do
		echo "$n $(clients_or 8 | awk '{ print $1 }') 1"
	done
}

w5_cell() {
	local n=$CELL
	[ "$SIDE" != floor ] || return 0
	[ "$SIDE" = hot ] || [ "$n" -le "$W5_MOST_BY_SQL" ] || return 0
	queue_create bench
	queue_fill bench "$n"
	queue_settle bench
	read_script | stage "$n-read" bench lease
	queue_verify bench
	queue_drop bench

	CLIENTS=4 QTY=100
	queue_create bench
	queue_fill bench "$n"
	queue_settle bench
	read_script | stage "$n-read100" bench lease
	queue_verify bench
	queue_drop bench

	queue_create bench
	queue_fill bench "$n"
	queue_settle bench
	drain_stage "$n-drain" bench
}
