# W7: delayed messages. A cycle of send, read and delete with DELAYED messages ahead
# of it, and without; then a tenth as many mature within a second, and eight
# consumers asleep wait for them: latency from the instant a message may be read to
# its consumer having it.

WORKLOAD_SAMPLING=1

W7_MATURING=$((DELAYED / 10))

w7_title() {
	echo "$DELAYED messages delayed ahead of live traffic; $W7_MATURING maturing within a second"
}

w7_cells() {
	local clients
	for clients in $(clients_or 8); do
		echo "delayed $clients 1"
	done
}

w7_cell() {
	[ "$SIDE" != floor ] || return 0
	queue_create clean
	queue_create delayed
	queue_fill_delayed delayed "$DELAYED"
	queue_settle delayed
	for queue in delayed clean; do
		cycle_script $queue | stage $queue-cycle $queue cycle
		queue_verify $queue
		queue_drop $queue
	done
	w7_mature
}

w7_mature() {
	queue_create bench
	consumers_begin 8 100
	receipts_schedule bench "$W7_MATURING" 1 1
	receipts_await bench "$W7_MATURING" 2
	consumers_end
	write_row mature message
}
