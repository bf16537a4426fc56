# The private server: built for, started, and removed by one run. Sourced by
# bench/run. Everything it makes is below SCRATCH, which goes at exit.

PG_CONFIG=${PG_CONFIG:-pg_config}

# Run a command as the user that the server runs as: it refuses to be root.
as_server_user() {
	if [ "$(id -u)" -eq 0 ]; then
		runuser -u "${BENCH_USER:-postgres}" -- "$@"
	else
		"$@"
	fi
}

find_programs() {
	BINDIR=$("$PG_CONFIG" --bindir)
	PKGLIBDIR=$("$PG_CONFIG" --pkglibdir)
	SHAREDIR=$("$PG_CONFIG" --sharedir)
	PG_MAJOR=$("$PG_CONFIG" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
	[ -x "$BINDIR/pgbench" ] || die "no pgbench in $BINDIR"
	if [ "$(id -u)" -eq 0 ]; then
		id "${BENCH_USER:-postgres}" >/dev/null 2>&1 ||
			die "the server cannot run as root: name a user in BENCH_USER"
	fi
}

make_scratch() {
	SCRATCH=$(mktemp -d "$SCRATCH_PARENT/pgmq-bench.XXXXXX")
	mkdir "$SCRATCH/socket" "$SCRATCH/logs"
	if [ "$(id -u)" -eq 0 ]; then
		chown "${BENCH_USER:-postgres}" "$SCRATCH" "$SCRATCH/socket"
	fi
	chmod 755 "$SCRATCH"
}

# make, quietly; its output is shown when it fails.
quiet_make() {
	local log=$SCRATCH/logs/make.log
	if ! make PG_CONFIG="$PG_CONFIG" with_llvm=no "$@" >"$log" 2>&1; then
		tail -20 "$log" >&2
		die "make $* failed"
	fi
}

build_floor() {
	mkdir "$SCRATCH/floor"
	quiet_make -C "$SCRATCH/floor" -f "$BENCH_DIR/floor/Makefile"
}

build_extension() {
	[ -f "$TOP_DIR/Makefile" ] || die "this checkout has no Makefile; try --without-hot"
	DESTDIR=$SCRATCH/dest
	mkdir "$SCRATCH/build"
	quiet_make -C "$SCRATCH/build" -f "$TOP_DIR/Makefile"
	quiet_make -C "$SCRATCH/build" -f "$TOP_DIR/Makefile" install DESTDIR="$DESTDIR"
}

# Settings that let the server find the extension outside its own folders.
destdir_settings() {
	if [ "$PG_MAJOR" -ge 18 ]; then
		echo "extension_control_path = '$DESTDIR$SHAREDIR:\$system'"
	elif "$BINDIR/postgres" --describe-config 2>/dev/null | grep '^extension_destdir' >/dev/null; then
		echo "extension_destdir = '$DESTDIR'"
	else
		die "this server has no extension_destdir: install the extension and use --system"
	fi
	echo "dynamic_library_path = '$DESTDIR$PKGLIBDIR:\$libdir'"
}

# The ring has room for every message of these workloads, and as much again; what
# happens without that room is a question for W14.
ring_megabytes() {
	# shellcheck disable=SC2086
	echo $(($(largest_of $PRELOAD $BACKLOG) * 128 / 1048576 + 512))
}

extension_settings() {
	has_side hot || return 0
	echo "shared_preload_libraries = 'pgmq'"
	echo "pgmq.ring_memory = $(ring_megabytes)MB"
	[ "$INSTALL" = system ] || destdir_settings
}

# A measurement must see neither a checkpoint nor a full-page image of one: the
# harness checkpoints before it fills a queue, and nothing else does.
base_settings() {
	cat <<-'CONF'
		fsync = on
		full_page_writes = on
		shared_buffers = 2GB
		max_wal_size = 16GB
		checkpoint_timeout = 1h
		max_connections = 300
		autovacuum = on
		jit = off
		track_io_timing = off
	CONF
}

all_settings() {
	local extra
	base_settings
	extension_settings
	for extra in ${EXTRA_SETTINGS[@]+"${EXTRA_SETTINGS[@]}"}; do
		echo "${extra%%=*} = '${extra#*=}'"
	done
}

make_cluster() {
	PGDATA=$SCRATCH/data
	as_server_user "$BINDIR/initdb" -D "$PGDATA" -U bench -A trust -E UTF8 --locale=C \
		--no-sync >"$SCRATCH/logs/initdb.log" 2>&1 || die "initdb failed: see $SCRATCH/logs/initdb.log"
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$SCRATCH/socket'"
		all_settings
	} >>"$PGDATA/postgresql.conf"
}

# server_ctl ARGUMENT...: pg_ctl on this server
server_ctl() {
	(cd "$SCRATCH" && as_server_user "$BINDIR/pg_ctl" -D "$PGDATA" -l "$PGDATA/server.log" -s "$@")
}

note_postmaster() {
	POSTMASTER=$(head -1 "$PGDATA/postmaster.pid")
}

start_server() {
	find_programs
	make_scratch
	if has_side floor; then
		build_floor
	fi
	if has_side hot && [ "$INSTALL" = build ]; then
		build_extension
	fi
	make_cluster
	server_ctl -w start || { tail -20 "$PGDATA/server.log" >&2; die "the server does not start"; }
	note_postmaster
	export PGHOST=$SCRATCH/socket PGUSER=bench
}

# server_with SETTING=VALUE: restart with another setting until the cell ends
server_with() {
	touch "$SCRATCH/unusual"
	server_ctl -w -m fast -o "-c $1" restart
	note_postmaster
}

# Whatever a cell did to the server, go on with the usual one.
server_as_usual() {
	if [ -e "$SCRATCH/unusual" ]; then
		server_ctl -w -m fast stop || true
		server_ctl -w start
		rm "$SCRATCH/unusual"
	fi
	note_postmaster
}

# kill -9 of the postmaster and all its children. Comes back when they are gone;
# start it again with server_ctl.
crash_server() {
	local pids pid
	touch "$SCRATCH/unusual"
	pids="$POSTMASTER $(pgrep -P "$POSTMASTER" | xargs)"
	# shellcheck disable=SC2086
	kill -9 $pids 2>/dev/null || true
	for pid in $pids; do
		while kill -0 "$pid" 2>/dev/null; do
			sleep 0.01
		done
	done
}

# Ends the server and, unless asked to keep it, removes everything of it.
stop_server() {
	local status=$?
	trap - EXIT
	if [ -n "${POSTMASTER:-}" ]; then
		server_ctl -m immediate stop || true
	fi
	if [ -n "${SCRATCH:-}" ]; then
		if [ "$KEEP" = 1 ]; then
			echo "kept: $SCRATCH" >&2
		else
			rm -rf "$SCRATCH"
		fi
	fi
	exit "$status"
}

# SQL from stdin, or from the arguments, on a database; unaligned rows on stdout.
sql() {
	local database=$1
	shift
	if [ $# -gt 0 ]; then
		printf '%s\n' "$@" | sql "$database"
	else
		PGOPTIONS='-c synchronous_commit=off -c client_min_messages=warning' \
			"$BINDIR/psql" -X -q -A -t -F ' ' -v ON_ERROR_STOP=1 -d "$database" -f -
	fi
}
