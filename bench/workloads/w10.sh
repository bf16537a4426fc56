# W10: wake-up. Consumers asleep in read_with_poll, and 20 messages a second for them:
# sent, delayed and maturing, leased and lapsing. Latency is from the instant a message
# could be had (a send's beginning) to the client that has it. And what
# consumers cost who wait for nothing: "idle" counts seconds, so its CPU per 1,000
# are thousandths of a core, and "idle-none" is the server without them.

W10_RATE=20

w10_title() {
	echo "$BLOCKED consumers asleep, $W10_RATE messages a second sent, maturing and lapsing; and idle"
}

w10_cells() {
	local n
	for n in $BLOCKED; do
		echo "asleep $n 1"
	done
}

w10_cell() {
	[ "$SIDE" != floor ] || return 0
	w10_idle
	w10_send
	w10_delay
	w10_lapse
}

w10_idle() {
	queue_create bench
	idle_row idle-none
	consumers_begin "$CLIENTS" 1
	idle_row idle
	consumers_end
}

# What the server uses in RUN_SECONDS of doing nothing
idle_row() {
	blank_row
	sleep 1 # who came and went for the preparation is gone
	counters_begin
	sleep "$RUN_SECONDS"
	counters_end bench
	CALLS=$RUN_SECONDS MOVED=$RUN_SECONDS SECONDS_TAKEN=$RUN_SECONDS
	write_row "$1" second
}

w10_send() {
	local n=$((W10_RATE * RUN_SECONDS))
	consumers_begin "$CLIENTS" 1
	echo "INSERT INTO bench.due SELECT id, at FROM (SELECT clock_timestamp() AS at OFFSET 0) t, $SCHEMA.send('bench', '$PAYLOAD'::jsonb) AS id;" >"$SCRATCH/sender.sql"
	counters_begin
	beside sender "$DATABASE" -c 1 -j 1 -R "$W10_RATE" -t "$n" -f "$SCRATCH/sender.sql"
	wait "$BESIDE_PID"
	WANT_READY[bench]=$((WANT_READY[bench] + n))
	w10_arrivals wake-send "$n"
}

w10_delay() {
	local n=$((W10_RATE * RUN_SECONDS))
	consumers_begin "$CLIENTS" 1
	receipts_schedule bench "$n" "$RUN_SECONDS" 1
	w10_arrivals wake-delay "$n" $((RUN_SECONDS + 1))
}

# The messages are leased by somebody who then lets them lapse one after another.
w10_lapse() {
	local n=$((W10_RATE * RUN_SECONDS))
	queue_fill bench "$n"
	queue_lease bench "$n"
	WANT_READY[bench]=$((WANT_READY[bench] + n)) WANT_LEASED[bench]=$((WANT_LEASED[bench] - n))
	MOST_READS[bench]=2
	consumers_begin "$CLIENTS" 1
	sql "$DATABASE" "CALL bench.let_lapse('$SCHEMA', 'bench', $n, $RUN_SECONDS, 1);"
	counters_begin
	w10_arrivals wake-lapse "$n" $((RUN_SECONDS + 1))
}

w10_arrivals() {
	receipts_await bench "$2" "${3:-0}"
	write_row "$1" message
	consumers_end
}
