# Blocked consumers, and how long after its time each message reached one. Sourced by
# bench/run.
#
# bench.due says when a message could be had at the earliest, bench.receipts when a
# client had it: the instant of the statement that follows the read, so the way to the
# client and back is part of the latency.

# One call: sleep until there are messages (as long as pgbench lives), note them. The first
# notes nothing, so that the statement that does is prepared when it is timed.
consumer_script() {
	local qty=$1
	cat <<-SQL
		\set got 0
		\if :is_new = 1
		SELECT '{}' AS ids, 1 AS got \gset
		\set is_new 0
		\else
		SELECT coalesce(array_agg(msg_id), '{}') AS ids, count(*) AS got FROM $SCHEMA.read_with_poll('bench', 3600, $qty, 600, 100) \gset
		\endif
		\if :got > 0
		INSERT INTO bench.receipts SELECT unnest(:ids::bigint[]), clock_timestamp();
		\endif
	SQL
}

# consumers_begin N QTY: so many consumers of queue "bench", all asleep
consumers_begin() {
	local n=$1 qty=$2 threads=$1
	[ "$threads" -le "$(nproc)" ] || threads=$(nproc)
	sql "$DATABASE" 'TRUNCATE bench.due, bench.receipts;'
	consumer_script "$qty" >"$SCRATCH/consumer.sql"
	beside consumer "$DATABASE" -c "$n" -j "$threads" -T 86400 -D is_new=1 -f "$SCRATCH/consumer.sql"
	await_sessions consumer "$n" active
}

consumers_end() {
	end_background consumer
}

# receipts_schedule QUEUE N SECONDS LEAD: send N messages that become readable evenly
# over so many seconds, the first one LEAD seconds after the last was sent; begins to
# measure then
receipts_schedule() {
	local queue=$1 n=$2
	sql "$DATABASE" "CALL bench.schedule('$SCHEMA', '$queue', $n, $3, $4, '$PAYLOAD');"
	WANT_READY[$queue]=$((WANT_READY[$queue] + n))
	counters_begin
}

# receipts_await QUEUE N [SECONDS]: until N messages have arrived, a minute at most; sets
# what write_row wants. Does not look in the first SECONDS: that would be measured, too.
receipts_await() {
	local queue=$1 n=$2 tries arrived=0
	sleep "${3:-0}"
	for ((tries = 0; tries < (RUN_SECONDS + 60) * 10; tries++)); do
		arrived=$(sql "$DATABASE" 'SELECT count(*) FROM bench.receipts;')
		[ "$arrived" -lt "$n" ] || break
		sleep 0.1
	done
	counters_end "$queue"
	count_leased "$queue" "$arrived"
	CALLS=$arrived MOVED=$arrived USEFUL_CALLS=0 DRIFT=0
	[ "$arrived" = "$n" ] || VERDICT="$arrived messages arrived instead of $n"
	read -r SECONDS_TAKEN P50 P99 LONGEST < <(sql "$DATABASE" 'SELECT * FROM bench.receipt_latencies();')
}
