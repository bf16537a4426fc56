# One cell on one side: prepare, measure its stages, drain and count, write rows.
# Sourced by bench/run.
#
# A workload file wN.sh defines
#   wN_title    one line
#   wN_cells    a line per cell: name, clients, messages per call
#   wN_cell     prepares queues with queue_..., then calls stage one or more times;
#               it finds SIDE, SCHEMA, CELL, CLIENTS and QTY set
#   wN_target   one line for the summary, what a good result is
# A cell that does not apply to a side returns without a stage.

ALL_CPUS=$(taskset -p -c $$ 2>/dev/null | sed 's/.*: //' || true)

# Client counts for qty-1 cells: the option's, or the workload's own.
clients_or() {
	if [ -n "$CLIENTS_OVERRIDE" ]; then
		echo "$CLIENTS_OVERRIDE"
	else
		echo "$*"
	fi
}

# Prefix of the command that runs pgbench; pins the server too. See pin_server.
PIN_PREFIX=()
pin_for() {
	PIN_PREFIX=()
	[ "$PIN" = 1 ] && [ -n "$ALL_CPUS" ] || return 0
	if [ "$1" -eq 1 ]; then
		pin_server "${ALL_CPUS%%[-,]*}"
		PIN_PREFIX=(taskset -c "${ALL_CPUS%%[-,]*}")
	else
		pin_server "$ALL_CPUS"
	fi
}

# WAL position in bytes, next transaction id, full-page images so far.
server_counters() {
	sql "$DATABASE" "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_snapshot_xmax(pg_current_snapshot()), wal_fpi FROM pg_stat_wal;"
}

# Dead tuples by the statistics, bytes of the table, bytes with indexes and TOAST.
queue_footprint() {
	sql "$DATABASE" "SELECT pg_stat_get_dead_tuples(t), pg_relation_size(t), pg_total_relation_size(t) FROM bench.table_of('$SCHEMA', '$1') AS t;"
}

# Run the script in $SCRATCH/script.sql; sets CALLS and TOOK_SECONDS.
run_pgbench() {
	local out=$SCRATCH/logs/pgbench.out threads=$CLIENTS sync=$SYNC
	[ "$threads" -le "$(nproc)" ] || threads=$(nproc)
	rm -f "$SCRATCH"/logs/latency.*
	if ! PGOPTIONS="-c synchronous_commit=$sync" timeout $((RUN_SECONDS * 3 + 60)) \
		${PIN_PREFIX[@]+"${PIN_PREFIX[@]}"} \
		"$BINDIR/pgbench" -n -M prepared -c "$CLIENTS" -j "$threads" -T "$RUN_SECONDS" \
		-l --log-prefix="$SCRATCH/logs/latency" --sampling-rate="$STAGE_SAMPLING" \
		-f "$SCRATCH/script.sql" "$DATABASE" >"$out" 2>&1; then
		echo "pgbench: $(grep -m1 -E 'ERROR|FATAL|error|aborted' "$out" || tail -1 "$out")" >&2
		return 1
	fi
	CALLS=$(awk '/actually processed/ { sub(/\/.*/, "", $NF); print $NF }' "$out")
	TOOK_SECONDS=$(awk -v calls="$CALLS" '/^tps/ { printf "%.4f", ($3 > 0) ? calls / $3 : 0 }' "$out")
}

# How many messages the stage's calls moved, by its effect, and what that leaves
# the queue with; sets MOVED, and USEFUL_CALLS where the queue ran dry.
account() {
	local queue=$1 effect=$2 want=$((CALLS * QTY)) short=0
	MOVED=$want USEFUL_CALLS=0
	if [ "$SIDE" = floor ]; then
		account_floor "$queue" "$effect"
		return
	fi
	case $effect in
		lease | pop)
			if [ "$want" -gt "${WANT_READY[$queue]}" ]; then
				MOVED=${WANT_READY[$queue]}
				USEFUL_CALLS=$((MOVED / QTY))
			fi
			;;
	esac
	case $effect in
		send) WANT_READY[$queue]=$((WANT_READY[$queue] + want)) ;;
		lease) count_leased "$queue" "$MOVED" ;;
		pop) WANT_READY[$queue]=$((WANT_READY[$queue] - MOVED)) ;;
		cycle)
			short=$(sql "$DATABASE" "SELECT coalesce(sum(n), 0) FROM bench.notes WHERE kind = 'short';")
			WANT_READY[$queue]=$((WANT_READY[$queue] + short))
			MOVED=$((want - short))
			;;
		poll) MOVED=$CALLS ;;
	esac
}

account_floor() {
	local queue=$1 effect=$2
	case $effect in
		send) WANT_READY[$queue]=$((WANT_READY[$queue] + MOVED)) ;;
		lease) WANT_READS[$queue]=$((WANT_READS[$queue] + MOVED)) ;;
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

# stage NAME QUEUE EFFECT: measure the pgbench script on stdin once.
# EFFECT says what a call does to the queue: send, lease, pop, cycle (send, read
# and delete QTY messages) or poll (nothing).
stage() {
	local name=$1 queue=$2 effect=$3
	local wal0 xid0 fpi0 wal1 xid1 fpi1 cpu0 cpu1 dead table_bytes total_bytes
	local busy_seconds p50 p99 longest drift
	cat >"$SCRATCH/script.sql"
	STAGE_SAMPLING=${SAMPLING:-$(default_sampling)}

	pin_for "$CLIENTS"
	read -r wal0 xid0 fpi0 < <(server_counters)
	cpu0=$(server_cpu_seconds)
	run_pgbench
	sleep 0.2 # the backends' statistics arrive as they exit
	cpu1=$(server_cpu_seconds)
	read -r wal1 xid1 fpi1 < <(server_counters)
	read -r dead table_bytes total_bytes < <(queue_footprint "$queue")

	account "$queue" "$effect"
	read -r busy_seconds p50 p99 longest drift < <(
		cat "$SCRATCH"/logs/latency.* |
			perl "$BENCH_DIR/lib/latency.pl" "$STAGE_SAMPLING" "$USEFUL_CALLS" "$TOOK_SECONDS")

	awk -v OFS=, -v name="$name" -v effect="$effect" -v calls="$CALLS" -v moved="$MOVED" \
		-v dry="$USEFUL_CALLS" -v seconds="$busy_seconds" -v p50="$p50" -v p99="$p99" -v longest="$longest" \
		-v drift="$drift" -v wal=$((wal1 - wal0)) -v fpi=$((fpi1 - fpi0)) -v xids=$((xid1 - xid0)) \
		-v dead="$dead" -v tab="$table_bytes" -v total="$total_bytes" \
		-v cpu="$(awk -v a="$cpu0" -v b="$cpu1" 'BEGIN { printf "%.2f", b - a }')" 'BEGIN {
			n = (moved > 0) ? moved : 1
			print name, (effect == "poll" ? "call" : "message"), calls, moved, (dry > 0), seconds,
				(seconds > 0) ? sprintf("%.1f", moved / seconds) : 0, p50, p99, longest, drift,
				wal, sprintf("%.1f", wal / n), fpi, xids, sprintf("%.4f", xids / n),
				dead, tab, total, (dry > 0) ? "" : sprintf("%.4f", cpu * 1000 / n)
		}' >>"$PENDING"
}

# A cell that crashed the server should cost that cell, not those after it.
wait_for_server() {
	local tries
	for ((tries = 0; tries < 60; tries++)); do
		"$BINDIR/pg_isready" -q && return 0
		sleep 1
	done
	echo "the server does not answer" >&2
	return 1
}

# Measures and verifies; its exit status and messages are the verdict on failure.
cell_body() {
	local workload=$1 queue said verdict=ok
	set -E
	trap 'echo "${FUNCNAME[0]}: $BASH_COMMAND" >&2' ERR
	wait_for_server
	sql "$DATABASE" 'TRUNCATE bench.notes;' 'CHECKPOINT;'
	"${workload}_cell"
	for queue in "${!WANT_READY[@]}"; do
		said=$(queue_verdict "$queue")
		[ "$said" = ok ] || verdict="$queue: $said"
	done
	echo "$verdict" >"$SCRATCH/verdict"
}

drop_queues() {
	local table
	sql "$DATABASE" "SELECT substr(relname, 3) FROM pg_class WHERE relnamespace = '$SCHEMA'::regnamespace AND relkind = 'r' AND relname LIKE 'q\\_%';" |
		while read -r table; do
			queue_drop "$table"
		done
}

# The body runs as a job of its own, so that whatever fails in it ends it, and
# nothing but it.
cell_on_side() {
	local workload=$1 rep=$6 verdict
	CELL=$2 CLIENTS=$3 QTY=$4
	use_side "$5"
	PENDING=$SCRATCH/pending.csv
	: >"$PENDING"
	(cell_body "$workload") 2>"$SCRATCH/logs/cell.err" &
	if wait $!; then
		verdict=$(cat "$SCRATCH/verdict")
	else
		verdict="failed: $(head -1 "$SCRATCH/logs/cell.err")"
		[ -s "$PENDING" ] || echo "$CELL,message$(printf ',0%.0s' {1..18})" >"$PENDING"
	fi
	report_rows "$workload" "$rep" "$verdict"
	drop_queues || echo "bench/run: dropping the queues of $SIDE failed" >&2
}
