# The sides of a comparison and the message they all carry. Sourced by bench/run.
#
#   hot       pgmq queues on this checkout's access method
#   heap      the SQL design, sql/heap_queue.sql
#   upstream  the SQL-only pgmq, in a database of its own
#   floor     a table and C functions, floor/
#
# Workload files find the side in use in these globals, set by use_side: SIDE,
# DATABASE, SCHEMA.

use_side() {
	SIDE=$1
	case $SIDE in
		hot) DATABASE=bench SCHEMA=pgmq ;;
		heap) DATABASE=bench SCHEMA=bench_heap ;;
		floor) DATABASE=bench SCHEMA=bench_floor ;;
		upstream) DATABASE=bench_upstream SCHEMA=pgmq ;;
	esac
}

create_sides() {
	make_payload
	sql postgres 'CREATE DATABASE bench;'
	sql bench <"$BENCH_DIR/sql/harness.sql"
	if has_side heap; then
		sql bench <"$BENCH_DIR/sql/heap_queue.sql"
	fi
	if has_side floor; then
		{
			echo "\\set module '$SCRATCH/floor/pgmq_floor'"
			cat "$BENCH_DIR/floor/floor.sql"
		} | sql bench
	fi
	if has_side hot; then
		sql bench 'CREATE EXTENSION pgmq;' || die "CREATE EXTENSION pgmq failed; try --without-hot"
	fi
	if has_side upstream; then
		sql postgres 'CREATE DATABASE bench_upstream;'
		sql bench_upstream <"$BENCH_DIR/sql/harness.sql"
		sql bench_upstream <"$UPSTREAM_SQL" >/dev/null
	fi
}

# PAYLOAD: a JSON document of PAYLOAD_BYTES that no compression makes smaller,
# the same in every run. BATCH_PAYLOAD: SQL for an array of n of them.
make_payload() {
	PAYLOAD=$(awk -v bytes="$PAYLOAD_BYTES" 'BEGIN {
		letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
		seed = 20011
		text = "{\"id\": 1, \"data\": \""
		for (i = length(text) + 2; i < bytes; i++) {
			seed = (seed * 16807) % 2147483647
			text = text substr(letters, 1 + seed % 62, 1)
		}
		print text "\"}"
	}')
}

batch_payload() {
	awk -v n="$1" -v doc="$PAYLOAD" 'BEGIN {
		for (i = 1; i <= n; i++)
			list = list (i > 1 ? "," : "") "\047" doc "\047"
		print "ARRAY[" list "]::jsonb[]"
	}'
}
