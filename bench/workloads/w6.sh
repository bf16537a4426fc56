# W6: a long stretch of leased messages at the head, and an empty head beside it.
#
# Two queues: in "leased" the first LEASED messages are leased for a day, in
# "clean" there is nothing before the ready ones. The same three calls on each:
# a poll that finds nothing, read one, pop one.

WORKLOAD_SAMPLING=1

# Ready messages behind the head; if a stage takes them all, it ends there.
W6_READY=$LEASED

w6_title() {
	echo "$LEASED messages leased at the head, then empty poll, read, pop; and the same without them"
}

w6_cells() {
	local clients
	for clients in $(clients_or 8); do
		echo "head $clients 1"
	done
}

w6_prepare() {
	queue_create clean
	queue_create leased
	queue_fill leased "$LEASED"
	queue_lease leased "$LEASED"
	queue_settle leased
}

w6_pair() {
	local verb=$1 effect=$2 head
	for head in leased clean; do
		if [ "$verb" != poll ]; then
			queue_top_up "$head" "$W6_READY"
			queue_settle "$head"
		fi
		case $verb in
			pop) echo "SELECT msg_id FROM $SCHEMA.pop('$head', 1);" ;;
			*) echo "SELECT msg_id FROM $SCHEMA.read('$head', 86400, 1);" ;;
		esac | stage "$head-$verb" "$head" "$effect"
	done
}

w6_floor() {
	queue_create clean
	echo "SELECT bench_floor.floor_empty();" | stage clean-poll clean poll
	queue_fill clean "$W6_READY"
	queue_settle clean
	echo "SELECT bench_floor.floor_lease('bench_floor.q_clean', 1);" | stage clean-read clean lease
}

w6_cell() {
	if [ "$SIDE" = floor ]; then
		w6_floor
		return
	fi
	w6_prepare
	w6_pair poll poll
	w6_pair read lease
	w6_pair pop pop
}
