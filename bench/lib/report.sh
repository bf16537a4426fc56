# The CSV, the progress lines, the header and the summary. Sourced by bench/run.

CSV_COLUMNS=commit,date,pg,workload,cell,sync,clients,qty,payload,side,rep,stage,unit,calls,moved,ran_dry,seconds,per_second,p50_us,p99_us,max_us,drift,wal_bytes,wal_per_unit,wal_fpi,xids,xids_per_unit,dead_tuples,table_bytes,total_bytes,cpu_s_per_1000,verdict

SERIES_COLUMNS=commit,date,pg,workload,cell,sync,clients,qty,payload,side,rep,stage,second,per_second,p50_us,p99_us

git_commit() {
	local id
	id=$(git -C "$TOP_DIR" rev-parse --short=12 HEAD 2>/dev/null) || id=uncommitted
	if [ "$id" != uncommitted ] && [ -n "$(git -C "$TOP_DIR" status --porcelain -- . ':!bench/results' 2>/dev/null)" ]; then
		id=$id-dirty
	fi
	echo "$id"
}

hardware() {
	local cpu memory file_system
	cpu=$(lscpu 2>/dev/null | sed -n 's/^Model name: *//p' | head -1)
	memory=$(awk '/^MemTotal/ { printf "%.1f GB", $2 / 1048576 }' /proc/meminfo)
	file_system=$(df --output=fstype "$PGDATA" 2>/dev/null | tail -1)
	echo "$(nproc) x ${cpu:-unknown processor}, $memory memory, data on $file_system, $(uname -sr)"
}

# Settings that differ from the server's defaults, and those a result hangs on.
settings() {
	sql bench "SELECT '    ' || name || ' = ' || current_setting(name) FROM pg_settings
		WHERE (source = 'configuration file'
			AND name !~ '^(lc_|log_|listen_|unix_socket_dir|DateStyle|TimeZone|default_text|dynamic_lib|extension_|max_connections)')
			OR name IN ('fsync', 'full_page_writes', 'wal_level', 'wal_sync_method', 'data_checksums', 'autovacuum')
			OR name LIKE 'pgmq.%'
		ORDER BY name;"
}

header() {
	echo "# pgmq benchmark, commit $COMMIT, $RUN_DATE"
	echo
	echo "- server: $(sql bench 'SELECT version();')"
	echo "- hardware: $(hardware)"
	echo "- load when started: $(cut -d' ' -f1-3 /proc/loadavg)"
	echo "- protocol: ${SIDES[*]} in turn, $REPS repetitions of $RUN_SECONDS s, payload $PAYLOAD_BYTES B, pgbench -M prepared over a unix socket"
	echo "- one-client cells pinned to one processor: $([ "$PIN" = 1 ] && [ -n "$ALL_CPUS" ] && echo yes || echo no)"
	echo "- settings:"
	echo
	settings
}

report_open() {
	COMMIT=$(git_commit)
	RUN_DATE=$(date -u +%Y%m%dT%H%M%SZ)
	mkdir -p "$RESULTS_DIR"
	CSV=$RESULTS_DIR/$COMMIT-$RUN_DATE.csv
	SUMMARY=${CSV%.csv}.md
	SERIES=${CSV%.csv}.series.csv
	echo "$CSV_COLUMNS" >"$CSV"
	header | tee "$SUMMARY"
}

# Pending rows begin with clients and qty; the rest of what names a row is put round
# them: add_names WORKLOAD REP < pending
add_names() {
	awk -F, -v OFS=, -v run="$COMMIT,$RUN_DATE,$PG_MAJOR,$1,$CELL,$SYNC" -v side="$PAYLOAD_BYTES,$SIDE,$2" '
		{ load = $1 "," $2; sub(/^[^,]*,[^,]*,/, ""); print run, load, side, $0 }'
}

# Append the cell's pending rows to the CSV, a verdict on each. A cell that lost
# or repeated a message scores 0.
report_rows() {
	local workload=$1 rep=$2 verdict=${3//[,\"]/;} row
	add_names "$workload" "$rep" <"$PENDING" | while IFS= read -r row; do
		echo "$row,$verdict" | awk -F, -v OFS=, '$NF != "ok" { $18 = 0 } { print }' >>"$CSV"
		tail -1 "$CSV" | awk -F, '{
			printf "  %-18s sync=%-3s c%-3d q%-3d rep %d %-8s %11.1f %ss/s  p50 %8d us  p99 %8d us  %7.1f B WAL  %s\n",
				$12, $6, $7, $8, $11, $10, $18, $13, $19, $20, $24, $NF }'
	done
	[ -s "$PENDING_SERIES" ] || return 0
	[ -e "$SERIES" ] || echo "$SERIES_COLUMNS" >"$SERIES"
	add_names "$workload" "$rep" <"$PENDING_SERIES" >>"$SERIES"
}

report_close() {
	local workload
	{
		echo
		perl "$BENCH_DIR/lib/summary.pl" "$CSV" <<<"$(
			for workload in "${WORKLOADS[@]}"; do
				echo "$workload|$("${workload}_title")"
			done)"
	} | tee -a "$SUMMARY"
	echo
	echo "raw figures: $CSV"
	echo "summary:     $SUMMARY"
	if awk -F, 'NR > 1 && $NF != "ok" { bad = 1 } END { exit !bad }' "$CSV"; then
		echo "bench/run: some cells failed, see the column verdict" >&2
		exit 1
	fi
}
