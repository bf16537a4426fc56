# W12: kill -9 of the whole server with a backlog of which half is leased at the head.
#
#   recovery     from the start of the server until it accepts a connection, roughly
#   first-read   from then until the first message is read
#   rebuild      from then until metrics() answers without delay, that is, until the
#                ring is whole; messages of the table a second
#   drained      space once everything is popped or deleted, without a VACUUM of ours:
#                when the table was down to 2 % of what it was, or after W12_PATIENCE
#                seconds
#
# Space and time are in the row's table_bytes and seconds.

WORKLOAD_SYNC=off

W12_PATIENCE=30
[ "$QUICK" = 0 ] || W12_PATIENCE=5
W12_QUICK_MS=5 # metrics() has not waited

w12_title() {
	echo "kill -9 at $BACKLOG messages, half of them leased: first read, rebuild, disk after drain"
}

w12_cells() {
	local n
	for n in $BACKLOG; do
		echo "$n 1 1"
	done
}

w12_cell() {
	local n=$CELL
	[ "$SIDE" != floor ] || return 0
	[ "$SIDE" = hot ] || [ "$n" -le 1000000 ] || return 0
	queue_create bench
	queue_fill bench "$n"
	queue_lease bench $((n / 2))
	queue_settle bench
	sql "$DATABASE" 'CHECKPOINT;'
	crash_server
	w12_restart "$n"
	w12_drain "$n"
}

seconds_since() {
	awk -v a="$1" -v b="$(date +%s.%N)" 'BEGIN { printf "%.4f", b - a }'
}

# All by one session, the first that is let in: it prints the message that it got, and
# the seconds until then and until the ring is whole.
w12_session() {
	cat <<-SQL
		SELECT clock_timestamp() AS start \gset
		SELECT msg_id FROM $SCHEMA.read('bench', 86400, 1) \gset
		SELECT extract(epoch FROM clock_timestamp() - :'start') AS read_seconds \gset
		SELECT :msg_id, :read_seconds,
			CASE WHEN '$SIDE' = 'hot' THEN extract(epoch FROM bench.first_quick_metrics('$SCHEMA', 'bench', $W12_QUICK_MS) - :'start') ELSE 0 END;
	SQL
}

w12_restart() {
	local n=$1 start tries got read_seconds rebuild_seconds
	start=$(date +%s.%N)
	server_ctl -W start 2>"$SCRATCH/logs/start.err" # warns of the killed one's files
	for ((tries = 0; tries < 100000; tries++)); do
		! w12_session | sql "$DATABASE" >"$SCRATCH/session" 2>"$SCRATCH/logs/session.err" || break
		grep -q 'connection to server' "$SCRATCH/logs/session.err" # else it was let in, and failed
	done
	read -r got read_seconds rebuild_seconds <"$SCRATCH/session"
	note_postmaster
	[ "$got" = $((n / 2 + 1)) ] || VERDICT="the first read after the crash got \"$got\" instead of $((n / 2 + 1))"
	count_leased bench 1

	blank_row
	SECONDS_TAKEN=$(awk -v all="$(seconds_since "$start")" -v last="$read_seconds $rebuild_seconds" '
		BEGIN { split(last, s, " "); printf "%.4f", all - (s[2] > 0 ? s[2] : s[1]) }')
	footprint_now bench
	PEAK_BYTES=$TABLE_BYTES
	write_row "$n-recovery" start
	SECONDS_TAKEN=$read_seconds
	P50=$(awk -v s="$read_seconds" 'BEGIN { printf "%d", s * 1e6 }') P99=$P50 LONGEST=$P50
	write_row "$n-first-read" message
	[ "$SIDE" = hot ] || return 0
	MOVED=$n SECONDS_TAKEN=$rebuild_seconds P50=0 P99=0 LONGEST=0
	write_row "$n-rebuild" message
}

w12_drain() {
	local start
	queue_verify bench
	start=$(date +%s.%N)
	blank_row
	for ((;;)); do
		footprint_now bench
		SECONDS_TAKEN=$(seconds_since "$start")
		[ $((TABLE_BYTES * 50)) -gt "$PEAK_BYTES" ] && [ "${SECONDS_TAKEN%.*}" -lt "$W12_PATIENCE" ] || break
		sleep 0.2
	done
	write_row "$1-drained" drain
}
