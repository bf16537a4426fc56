# W13: many queues. QUEUES of them at one message a second each, 64 clients, and as many
# messages a second through one of them; then as fast as it goes, over all of them and over
# one; a call is send, read and delete.
#
# "memory" has in total_bytes the shared memory of a queue beside its messages: that
# of the extension, less the pool, over the queues there may be.

WORKLOAD_SAMPLING=1

w13_title() {
	echo "$QUEUES queues at 1 message a second each; and at full speed; against one queue"
}

w13_cells() {
	local clients
	for clients in $(clients_or 64); do
		echo "queues $clients 1"
	done
}

w13_cell() {
	[ "$SIDE" != floor ] || return 0
	many_queues "$QUEUES" 10
	WANT_SHORT=0
	w13_script "$QUEUES" | w13_paced many-paced
	w13_script 1 | w13_paced one-paced
	w13_script "$QUEUES" | stage many-cycle m1 many
	w13_script 1 | stage one-cycle m1 many
	w13_verify
	[ "$SIDE" != hot ] || w13_memory
}

w13_paced() {
	local -a PGBENCH_ARGS=(-T "$RUN_SECONDS" -R "$QUEUES")
	stage "$1" m1 many
}

# Clients meet in a queue, so a read may find nothing but what another one is about to
# delete: that is noted.
w13_script() {
	cat <<-SQL
		\set q random(1, $1)
		\set msg_id 0
		SELECT $SCHEMA.send('m' || :q, '$PAYLOAD'::jsonb);
		SELECT msg_id FROM $SCHEMA.read('m' || :q, 600, 1) \aset
		\if :msg_id = 0
		SELECT bench.note('short', 1);
		\else
		SELECT $SCHEMA.delete('m' || :q, :msg_id::bigint) AS gone \gset
		\if not :gone
		SELECT bench.note('repeat', 1);
		\endif
		\endif
	SQL
}

# All queues together hold what they began with and what was not read again.
w13_verify() {
	local want="$((QUEUES * 10 + WANT_SHORT)) 0" said
	said=$(sql "$DATABASE" "SELECT * FROM bench.many_rows('$SCHEMA', $QUEUES);")
	[ "$said" = "$want" ] || VERDICT="$said messages and leases instead of $want"
	said=$(sql "$DATABASE" "SELECT coalesce(sum(n), 0) FROM bench.notes WHERE kind = 'repeat';")
	[ "$said" = 0 ] || VERDICT="$said messages delivered twice"
	[ "$SIDE" = hot ] || return 0
	said=$(sql "$DATABASE" "SELECT count(*) FROM generate_series(1, $QUEUES) i, pgmq.check_queue('m' || i);")
	[ "$said" = 0 ] || VERDICT="check_queue has $said complaints"
}

w13_memory() {
	blank_row
	TOTAL_BYTES=$(sql "$DATABASE" "SELECT (sum(allocated_size) - pg_size_bytes(current_setting('pgmq.ring_memory'))) / current_setting('pgmq.max_hot_queues')::integer
		FROM pg_shmem_allocations WHERE name LIKE 'pgmq %';" | cut -d. -f1)
	write_row memory queue
}
