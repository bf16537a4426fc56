# W1: producers. One message a call, and a hundred.

w1_title() {
	echo "send: single, and batches of 100"
}

w1_cells() {
	local clients
	for clients in $(clients_or 1 8); do
		echo "send $clients 1"
	done
	echo "send_batch 4 100"
}

w1_script() {
	case $SIDE-$CELL in
		floor-send) echo "SELECT bench_floor.floor_insert('bench_floor.q_bench', '$PAYLOAD'::jsonb);" ;;
		floor-*) echo "SELECT bench_floor.floor_multi_insert('bench_floor.q_bench', $(batch_payload "$QTY"));" ;;
		*-send) echo "SELECT $SCHEMA.send('bench', '$PAYLOAD'::jsonb);" ;;
		*) echo "SELECT $SCHEMA.send_batch('bench', $(batch_payload "$QTY"));" ;;
	esac
}

w1_cell() {
	queue_create bench
	w1_script | stage "$CELL" bench send
}
