# Stages: one pgbench script, measured once, and the row it gives. Sourced by
# bench/run. Workloads that measure in another way set the globals that write_row
# names and call it themselves.

# Client counts for qty-1 cells: the option's, or the workload's own.
clients_or() {
	if [ -n "$CLIENTS_OVERRIDE" ]; then
		echo "$CLIENTS_OVERRIDE"
	else
		echo "$*"
	fi
}

# How long pgbench runs, instead of RUN_SECONDS, how fast, and with which variables;
# a workload sets it for the stages that follow.
PGBENCH_ARGS=()

# More settings for pgbench's sessions, as PGOPTIONS.
SESSION_OPTIONS=''

# Run the script in $SCRATCH/script.sql; sets CALLS and TOOK_SECONDS.
run_pgbench() {
	local out=$SCRATCH/logs/pgbench.out threads=$CLIENTS
	local -a args=(-T "$RUN_SECONDS")
	[ "$threads" -le "$(nproc)" ] || threads=$(nproc)
	[ ${#PGBENCH_ARGS[@]} -eq 0 ] || args=("${PGBENCH_ARGS[@]}")
	rm -f "$SCRATCH"/logs/latency.*
	if ! PGOPTIONS="-c synchronous_commit=$SYNC $SESSION_OPTIONS" timeout $((RUN_SECONDS * 3 + STAGE_PATIENCE)) \
		${PIN_PREFIX[@]+"${PIN_PREFIX[@]}"} \
		"$BINDIR/pgbench" -n -M prepared --random-seed=20011 -c "$CLIENTS" -j "$threads" "${args[@]}" \
		-l --log-prefix="$SCRATCH/logs/latency" --sampling-rate="$STAGE_SAMPLING" \
		-f "$SCRATCH/script.sql" "$DATABASE" >"$out" 2>&1; then
		echo "pgbench: $(grep -m1 -E 'ERROR|FATAL|error|aborted' "$out" || tail -1 "$out")" >&2
		return 1
	fi
	CALLS=$(awk '/actually processed/ { sub(/\/.*/, "", $NF); print $NF }' "$out")
	TOOK_SECONDS=$(awk -v calls="$CALLS" '/^tps/ { printf "%.4f", ($3 > 0) ? calls / $3 : 0 }' "$out")
}

# Seconds beyond three times RUN_SECONDS after which pgbench is given up.
STAGE_PATIENCE=60

# Units of the notes that clients left since the last look.
notes_of() {
	sql "$DATABASE" "WITH taken AS (DELETE FROM bench.notes WHERE kind = '$1' RETURNING n) SELECT coalesce(sum(n), 0) FROM taken;"
}

# How many messages the stage's calls moved, by its effect, and what that leaves
# the queue with; sets MOVED, and USEFUL_CALLS where the queue ran dry.
account() {
	local queue=$1 effect=$2 want=$((CALLS * QTY))
	MOVED=$want USEFUL_CALLS=0
	if [ "$SIDE" = floor ]; then
		account_floor "$queue" "$effect"
		return
	fi
	case $effect in
		lease | pop) account_until_dry "${WANT_READY[$queue]}" ;;
		cycle | drain | many | archive | glance) MOVED=$((want - $(notes_of short))) ;;
	esac
	case $effect in
		send) WANT_READY[$queue]=$((WANT_READY[$queue] + want)) ;;
		lease) count_leased "$queue" "$MOVED" ;;
		pop | drain) WANT_READY[$queue]=$((WANT_READY[$queue] - MOVED)) ;;
		archive) count_archived "$queue" "$MOVED" ;;
		cycle) WANT_READY[$queue]=$((WANT_READY[$queue] + want - MOVED)) ;;
		many) WANT_SHORT=$((WANT_SHORT + want - MOVED)) ;;
		glance) count_glances "$queue" "$MOVED" ;;
		poll) MOVED=$CALLS ;;
	esac
}

# Leases of no length: how often each message had one is not known.
count_glances() {
	local queue=$1 n=$2
	WANT_READS[$queue]=$((WANT_READS[$queue] + n))
	MOST_READS[$queue]=$((MOST_READS[$queue] + n))
}

account_until_dry() {
	local there=$1
	if [ "$MOVED" -gt "$there" ]; then
		MOVED=$there
		USEFUL_CALLS=$((MOVED / QTY))
	fi
}

count_archived() {
	local queue=$1 n=$2
	WANT_LEASED[$queue]=$((WANT_LEASED[$queue] - n))
	WANT_READS[$queue]=$((WANT_READS[$queue] - n))
	WANT_ARCHIVED[$queue]=$((WANT_ARCHIVED[$queue] + n))
}

account_floor() {
	local queue=$1 effect=$2
	case $effect in
		send) WANT_READY[$queue]=$((WANT_READY[$queue] + MOVED)) ;;
		lease | extend) WANT_READS[$queue]=$((WANT_READS[$queue] + MOVED)) ;;
		poll) MOVED=$CALLS ;;
	esac
}

# Calls are cheap to log where they are few: batches, and whatever W6 meets.
default_sampling() {
	if [ "$QTY" -ge 100 ]; then
		echo 1
	else
		echo "${WORKLOAD_SAMPLING:-0.2}"
	fi
}

# Sets SECONDS_TAKEN, P50, P99, LONGEST, DRIFT from pgbench's log, and keeps the
# time series where the workload wants one.
read_latencies() {
	local name=$1
	read -r SECONDS_TAKEN P50 P99 LONGEST DRIFT < <(
		cat "$SCRATCH"/logs/latency.* |
			perl "$BENCH_DIR/lib/latency.pl" "$STAGE_SAMPLING" "$USEFUL_CALLS" "$TOOK_SECONDS")
	if [ "${WORKLOAD_SERIES:-0}" = 1 ]; then
		cat "$SCRATCH"/logs/latency.* |
			perl "$BENCH_DIR/lib/series.pl" "$STAGE_SAMPLING" "$QTY" "$name" |
			sed "s/^/$CLIENTS,$QTY,/" >>"$PENDING_SERIES"
	fi
}

# stage NAME QUEUE EFFECT: measure the pgbench script on stdin once.
# EFFECT says what a call does to the queue:
#   send, lease, pop            QTY messages, lease and pop fewer where there are no more
#   archive                     archives QTY leased messages; notes tell which were gone
#   cycle                       sends, reads and deletes QTY messages
#   drain                       pops QTY messages; notes tell how many did not come
#   many                        a cycle somewhere in many queues, whose books are in
#                               WANT_SHORT
#   extend                      moves the vt of QTY leased messages
#   glance                      reads QTY messages for no time; notes tell how many did not come
#   poll                        nothing; calls are counted
stage() {
	local name=$1 queue=$2 effect=$3
	cat >"$SCRATCH/script.sql"
	STAGE_SAMPLING=${SAMPLING:-$(default_sampling)}
	pin_for "$CLIENTS"
	counters_begin
	run_pgbench
	sleep 0.2 # the backends' statistics arrive as they exit
	counters_end "$queue"
	account "$queue" "$effect"
	read_latencies "$name"
	[ "$USEFUL_CALLS" = 0 ] || CPU=''
	write_row "$name" "$([ "$effect" = poll ] && echo call || echo message)"
}

# write_row STAGE UNIT: a row from CLIENTS, QTY, CALLS, MOVED, USEFUL_CALLS (0: not dry),
# SECONDS_TAKEN, P50, P99, LONGEST, DRIFT and what counters_end sets; CPU may be empty.
write_row() {
	awk -v OFS=, -v load="$CLIENTS,$QTY" -v name="$1" -v unit="$2" -v calls="$CALLS" -v moved="$MOVED" \
		-v dry="$USEFUL_CALLS" -v seconds="$SECONDS_TAKEN" -v p50="$P50" -v p99="$P99" -v longest="$LONGEST" \
		-v drift="$DRIFT" -v wal="$WAL" -v fpi="$FPI" -v xids="$XIDS" \
		-v dead="$DEAD" -v tab="$TABLE_BYTES" -v total="$TOTAL_BYTES" -v cpu="$CPU" 'BEGIN {
			n = (moved > 0) ? moved : 1
			print load, name, unit, calls, moved, (dry > 0), seconds,
				(seconds > 0) ? sprintf("%.1f", moved / seconds) : 0, p50, p99, longest, drift,
				wal, sprintf("%.1f", wal / n), fpi, xids, sprintf("%.4f", xids / n),
				dead, tab, total, (cpu == "") ? "" : sprintf("%.4f", cpu * 1000 / n)
		}' >>"$PENDING"
}

# For rows that are no run of pgbench: everything that write_row wants, as nothing.
blank_row() {
	CALLS=1 MOVED=1 USEFUL_CALLS=0 SECONDS_TAKEN=0 P50=0 P99=0 LONGEST=0 DRIFT=0
	WAL=0 XIDS=0 FPI=0 CPU='' DEAD=0 TABLE_BYTES=0 TOTAL_BYTES=0
}

# drain_stage NAME QUEUE: pop all that is ready, QTY a call, each client an equal share.
# However long it takes, it goes on to the end.
drain_stage() {
	local -a PGBENCH_ARGS=(-t $((WANT_READY[$2] / QTY / CLIENTS)))
	local STAGE_PATIENCE=3600
	drain_script "$2" | stage "$1" "$2" drain
}
