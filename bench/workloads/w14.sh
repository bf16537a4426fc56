# W14: a pool that is too small. Drain the largest backlog with room for all of it and
# with room for a hundredth; and read visible messages that were sent behind so many
# delayed ones that these fill the pool, beside the same without the delayed ones.

WORKLOAD_SYNC=off
WORKLOAD_SAMPLING=1
WORKLOAD_SERIES=1

# shellcheck disable=SC2086
W14_BACKLOG=$(largest_of $BACKLOG)
W14_VISIBLE=$((W14_BACKLOG / 20))
W14_POOL_KB=$((W14_BACKLOG * 64 / 100 / 1024)) # 64 bytes a message
[ "$W14_POOL_KB" -ge 64 ] || W14_POOL_KB=64

w14_title() {
	echo "a pool of $W14_POOL_KB kB under $W14_BACKLOG messages; $W14_VISIBLE visible ones behind $W14_BACKLOG delayed"
}

w14_cells() {
	echo "drain 4 100"
	echo "crowded $(clients_or 8 | awk '{ print $1 }') 1"
}

w14_cell() {
	[ "$SIDE" = hot ] || return 0
	if [ "$CELL" = drain ]; then
		w14_drain full
		server_with "pgmq.ring_memory=${W14_POOL_KB}kB"
		w14_drain small
	else
		w14_read full 0
		server_with "pgmq.ring_memory=${W14_POOL_KB}kB"
		w14_read small "$W14_BACKLOG"
	fi
}

w14_drain() {
	queue_create bench
	queue_fill bench "$W14_BACKLOG"
	queue_settle bench
	drain_stage "$1-drain" bench
	queue_verify bench
	queue_drop bench
}

w14_read() {
	queue_create bench
	queue_fill_delayed bench "$2"
	queue_fill bench "$W14_VISIBLE"
	queue_settle bench
	read_script | stage "$1-read" bench lease
	w14_check
	queue_verify bench
	queue_drop bench
}

# Messages beyond the pool are deleted by a scan of the table for each batch: the drain
# that counts them needs room again, and a look at the small pool's ring before that.
w14_check() {
	local said
	said=$(queue_self_check bench)
	[ "$said" = ok ] || VERDICT="bench: $said"
	server_as_usual
}
