# W11: metrics of a deep queue and of a small one, and of many queues at once.

WORKLOAD_SYNC=off
WORKLOAD_SAMPLING=1

W11_SMALL=100

# shellcheck disable=SC2086
W11_DEEP=$(largest_of $BACKLOG)

w11_title() {
	echo "metrics at $W11_DEEP and $W11_SMALL messages; metrics_all over $QUEUES queues"
}

w11_cells() {
	local clients
	for clients in $(clients_or 2); do
		echo "metrics $clients 1"
		echo "metrics_all $clients 1"
	done
}

w11_cell() {
	case $SIDE-$CELL in
		floor-*) ;;
		*-metrics) w11_metrics ;;
		*) w11_metrics_all ;;
	esac
}

w11_metrics() {
	local depth n=$W11_DEEP
	for depth in deep small; do
		queue_create $depth
		queue_fill $depth "$n"
		queue_settle $depth
		echo "SELECT * FROM $SCHEMA.metrics('$depth');" | stage $depth-metrics $depth poll
		n=$W11_SMALL
	done
	w11_check_answer
}

w11_check_answer() {
	local said
	said=$(sql "$DATABASE" "SELECT queue_length || ' ' || queue_visible_length || ' ' || total_messages FROM $SCHEMA.metrics('deep');")
	[ "$said" = "$W11_DEEP $W11_DEEP $W11_DEEP" ] || VERDICT="metrics of $W11_DEEP messages says $said"
}

w11_metrics_all() {
	local said
	many_queues "$QUEUES" 10
	echo "SELECT count(*) FROM $SCHEMA.metrics_all();" | stage "metrics_all-$QUEUES" m1 poll
	said=$(sql "$DATABASE" "SELECT count(*) || ' ' || sum(queue_length) FROM $SCHEMA.metrics_all();")
	[ "$said" = "$QUEUES $((QUEUES * 10))" ] || VERDICT="metrics_all says $said"
}
