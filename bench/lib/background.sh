# Clients that run beside a measurement: blocked consumers, a snapshot that is held,
# somebody else's pgbench. Sourced by bench/run.
#
# Each has an application_name of its own, bench-NAME, by which it is found again.

# beside NAME DATABASE PGBENCH-ARGUMENT...: pgbench in the background
beside() {
	local name=$1 database=$2
	shift 2
	PGAPPNAME=bench-$name PGOPTIONS="-c synchronous_commit=$SYNC" \
		"$BINDIR/pgbench" -n -M prepared "$@" "$database" >"$SCRATCH/logs/$name.out" 2>&1 &
	BESIDE_PID=$!
}

# Wait until so many sessions of that name are in that state (active, ...).
await_sessions() {
	local name=$1 n=$2 state=$3 tries found
	for ((tries = 0; tries < 600; tries++)); do
		found=$(sql "$DATABASE" "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bench-$name' AND state = '$state';")
		[ "$found" -lt "$n" ] || return 0
		sleep 0.1
	done
	echo "only $found of $n sessions of $name are $state" >&2
	return 1
}

# End the sessions of that name, or all that run beside, and wait until they are gone.
end_background() {
	local name=${1:-} tries
	for ((tries = 0; tries < 100; tries++)); do
		[ "$(sql postgres "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'bench-$name%';")" != 0 ] || return 0
		sleep 0.1
	done
}

# A session that keeps a repeatable-read snapshot until release_snapshot, or the
# end of this shell
hold_snapshot() {
	exec 8> >(PGAPPNAME=bench-snapshot exec "$BINDIR/psql" -X -q -d "$DATABASE" >/dev/null 2>&1)
	echo 'BEGIN ISOLATION LEVEL REPEATABLE READ;' >&8
	echo 'SELECT count(*) FROM pg_class;' >&8
	await_sessions snapshot 1 'idle in transaction'
}

release_snapshot() {
	exec 8>&-
	end_background snapshot
}

# A client of pgbench's own tables, in another database, for as long as a stage; its
# rate says how much of the machine was left
bystander_begin() {
	if [ ! -e "$SCRATCH/bystander" ]; then
		sql postgres 'CREATE DATABASE bystander;'
		"$BINDIR/pgbench" -i -q -s 1 bystander >"$SCRATCH/logs/bystander.out" 2>&1
		touch "$SCRATCH/bystander"
	fi
	beside bystander bystander -b simple-update -c 1 -j 1 -T "$RUN_SECONDS"
}

bystander_row() {
	local out=$SCRATCH/logs/bystander.out
	wait "$BESIDE_PID"
	blank_row
	CALLS=$(awk '/actually processed/ { sub(/\/.*/, "", $NF); print $NF }' "$out")
	MOVED=$CALLS
	SECONDS_TAKEN=$(awk -v calls="$CALLS" '/^tps/ { printf "%.4f", calls / $3 }' "$out")
	write_row "$1" call
}
