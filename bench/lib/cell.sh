# One cell on one side: prepare, measure its stages, drain and count, write rows.
# Sourced by bench/run.
#
# A workload file wN.sh defines
#   wN_title    one line
#   wN_cells    a line per cell: name, clients, messages per call
#   wN_cell     prepares queues with queue_..., then calls stage one or more times;
#               it finds SIDE, SCHEMA, CELL, CLIENTS and QTY set
# and may define WORKLOAD_SAMPLING, WORKLOAD_SERIES=1, WORKLOAD_SYNC ("off": no need for "on")
# A cell that does not apply to a side returns without a stage. What it finds wrong
# goes into VERDICT.

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
	local workload=$1 queue
	VERDICT=ok
	set -E
	trap 'echo "${FUNCNAME[0]}: $BASH_COMMAND" >&2' ERR
	wait_for_server
	sql "$DATABASE" 'TRUNCATE bench.notes;' 'CHECKPOINT;'
	"${workload}_cell"
	for queue in "${!WANT_READY[@]}"; do
		queue_verify "$queue"
	done
	echo "$VERDICT" >"$SCRATCH/verdict"
}

drop_queues() {
	local table
	sql "$DATABASE" "SELECT substr(relname, 3) FROM pg_class WHERE relnamespace = '$SCHEMA'::regnamespace AND relkind = 'r' AND relname LIKE 'q\\_%';" |
		while read -r table; do
			echo "SELECT $SCHEMA.drop_queue('$table');"
		done | sql "$DATABASE" >/dev/null
}

# What a failed body may have left running, and another server than it began with.
clean_up_cell() {
	server_as_usual
	end_background
	drop_queues || echo "bench/run: dropping the queues of $SIDE failed" >&2
}

# The body runs as a job of its own, so that whatever fails in it ends it, and
# nothing but it.
cell_on_side() {
	local workload=$1 rep=$6 verdict
	CELL=$2 CLIENTS=$3 QTY=$4
	use_side "$5"
	PENDING=$SCRATCH/pending.csv PENDING_SERIES=$SCRATCH/pending.series
	: >"$PENDING"
	: >"$PENDING_SERIES"
	(cell_body "$workload") 2>"$SCRATCH/logs/cell.err" &
	if wait $!; then
		verdict=$(cat "$SCRATCH/verdict")
	else
		verdict="failed: $(head -1 "$SCRATCH/logs/cell.err")"
		[ -s "$PENDING" ] || echo "$CLIENTS,$QTY,$CELL,message$(printf ',0%.0s' {1..18})" >"$PENDING"
	fi
	report_rows "$workload" "$rep" "$verdict"
	clean_up_cell
}
