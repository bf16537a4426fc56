# W2: consumers on a deep queue; what they read stays leased.

w2_title() {
	echo "read, $PRELOAD messages preloaded, leases kept"
}

w2_cells() {
	local clients
	for clients in $(clients_or 1 8 32); do
		echo "read $clients 1"
	done
	echo "read100 4 100"
}

w2_cell() {
	queue_create bench
	queue_fill bench "$PRELOAD"
	queue_settle bench
	read_script | stage "$CELL" bench lease
}
