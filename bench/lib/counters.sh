# What the server has used so far: WAL, transaction ids, CPU, space; and which
# processors it may use. Sourced by bench/run.

ALL_CPUS=$(taskset -p -c $$ 2>/dev/null | sed 's/.*: //' || true)

# CPU seconds used so far by the server's processes, those that ended included.
server_cpu_seconds() {
	{ cat /proc/[0-9]*/stat 2>/dev/null || true; } | awk -v pm="$POSTMASTER" -v hz="$(getconf CLK_TCK)" '
		{ sub(/\(.*\)/, "x") }
		$1 == pm { ticks += $14 + $15 + $16 + $17 }
		$4 == pm { ticks += $14 + $15 }
		END { printf "%.2f\n", ticks / hz }'
}

# While one client is measured, its processes share one processor: otherwise the
# figure is the machine's wake-up between two. Backends inherit the postmaster's.
pin_server() {
	taskset -p -c "$1" "$POSTMASTER" >/dev/null
}

# Prefix of the command that runs pgbench; pins the server too.
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

# Between these two lies what is measured. CPU is looked at inside of the SQL.
counters_begin() {
	read -r WAL_BEGIN XID_BEGIN FPI_BEGIN < <(server_counters)
	CPU_BEGIN=$(server_cpu_seconds)
}

# counters_end QUEUE: sets WAL, XIDS, FPI, CPU, and DEAD, TABLE_BYTES, TOTAL_BYTES
counters_end() {
	local wal xid fpi
	CPU=$(awk -v a="$CPU_BEGIN" -v b="$(server_cpu_seconds)" 'BEGIN { printf "%.2f", b - a }')
	read -r wal xid fpi < <(server_counters)
	WAL=$((wal - WAL_BEGIN)) XIDS=$((xid - XID_BEGIN)) FPI=$((fpi - FPI_BEGIN))
	footprint_now "$1"
}

footprint_now() {
	read -r DEAD TABLE_BYTES TOTAL_BYTES < <(queue_footprint "$1")
}
