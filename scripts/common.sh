# shellcheck shell=bash
# Shared by the scripts of this folder: find or install what a build needs, build
# in a private copy, configure a server that uses it.  Sourced, not run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The caller's language, make options and server are not ours
unset "${!LC_@}" LANGUAGE CDPATH MAKEFLAGS MFLAGS MAKELEVEL
unset PGHOST PGPORT PGUSER PGDATABASE PGSERVICE PGOPTIONS PGDATA
export LANG=C.UTF-8

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# ---- what must be there ----

# A pg_config counts only with the server, its headers and PGXS beside it.
usable_pg_config() {
	command -v "$1" >/dev/null &&
		[ -x "$("$1" --bindir)/postgres" ] &&
		[ -e "$("$1" --includedir-server)/postgres.h" ] &&
		[ -e "$("$1" --pgxs)" ]
}

find_pg_config() {
	local candidate
	if [ -n "${PG_CONFIG:-}" ]; then
		usable_pg_config "$PG_CONFIG" || die "PG_CONFIG=$PG_CONFIG lacks the server, its headers or PGXS"
		return
	fi
	for candidate in /usr/lib/postgresql/15/bin/pg_config pg_config /usr/lib/postgresql/*/bin/pg_config; do
		if usable_pg_config "$candidate"; then
			PG_CONFIG=$candidate
			return
		fi
	done
	return 1
}

have_tools() {
	find_pg_config || return 1
	command -v gcc >/dev/null && command -v make >/dev/null || return 1
	[ "$1" = build ] || perl -MIPC::Run -MTest::More -e 1 2>/dev/null
}

# require build|test: sets PG_CONFIG, PG_BIN and PG_MAJOR; what is missing is
# installed if we are root on Debian.
require() {
	local version packages
	if ! have_tools "$1"; then
		case $(. /etc/os-release && echo "${ID:-}-${VERSION_ID:-}") in
			debian-13) version=17 ;;
			debian-14 | debian-) version=18 ;;
			*) version=15 ;;
		esac
		packages="postgresql-$version postgresql-server-dev-$version libipc-run-perl gcc libc6-dev make perl"
		[ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "please install: $packages"
		echo "Installing $packages"
		# shellcheck disable=SC2086 # a list of words
		apt_install $packages || die "could not install: $packages"
		have_tools "$1" || die "still incomplete after installing: $packages"
	fi
	PG_CONFIG=$(realpath -s "$(command -v "$PG_CONFIG")")
	PG_BIN=$("$PG_CONFIG" --bindir)
	PG_MAJOR=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
	[ "$1" != test ] || offer_partman
}

# Tests of partitioned queues want pg_partman.  Without it they are skipped; say so.
offer_partman() {
	local package=postgresql-$PG_MAJOR-partman share
	share=$("$PG_CONFIG" --sharedir)
	[ ! -e "$share/extension/pg_partman.control" ] || return 0
	# Debian's package is of use to Debian's server only
	if [ "$share" = "/usr/share/postgresql/$PG_MAJOR" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "Installing $package"
		! apt_install "$package" || return 0
	fi
	echo "Without pg_partman ($package) its tests are skipped"
}

apt_install() {
	local log
	log=$(mktemp)
	if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } \
		>"$log" 2>&1 </dev/null; then
		tail -n 20 "$log" >&2
		return 1
	fi
	rm "$log"
}

# ---- who does it ----

# The server refuses to run as root: root lends the work to a system user.
as_owner() {
	if [ "$(id -u)" != 0 ]; then
		"$@"
		return
	fi
	id -u pgmq-test >/dev/null 2>&1 ||
		useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pgmq-test
	runuser -u pgmq-test -- env HOME=/nonexistent "$@"
}

# give_owner CHOWN_ARGUMENT...: what root made becomes the system user's
give_owner() {
	[ "$(id -u)" != 0 ] || chown "$(as_owner id -u):$(as_owner id -g)" "$@"
}

# ---- a private installation ----

# Debian's servers, and all from version 18, find extensions outside their own folders.
has_extension_path() {
	[ "$PG_MAJOR" -ge 18 ] || grep -qa extension_destdir "$PG_BIN/postgres"
}

# copy_sources DIR: what a build and its tests need, without what an earlier build left,
# which make would take for its own
copy_sources() {
	local part
	rm -rf "$1"
	mkdir -p "$1"
	for part in Makefile pgmq.control test.conf src sql expected specs t; do
		[ ! -e "$root/$part" ] || cp -R --preserve=timestamps "$root/$part" "$1/"
	done
	find "$1" -name '*.o' -delete
	chmod -R u+rwX,go+rX "$1"
}

# build_private DIR [VARIABLE=VALUE...]: copy the sources to DIR/tree, build in
# DIR/build, install below DIR/dest.  Run again, it compiles only what changed.
build_private() {
	local dir=$1
	shift
	copy_sources "$dir/tree"
	rm -rf "$dir/dest"
	mkdir -p "$dir/build"
	give_owner "$dir"
	give_owner -R "$dir/tree" "$dir/build"
	as_owner test -w "$dir/build" || die "user $(as_owner id -un) cannot write below $dir"
	private_make "$dir" -j"$(nproc)" "$@"
	if has_extension_path; then
		private_make "$dir" install DESTDIR="$dir/dest" "$@"
	else # a server its user built: the extension has to go where the server is
		make -s -C "$dir/build" -f "$dir/tree/Makefile" PG_CONFIG="$PG_CONFIG" install "$@"
	fi
}

# private_make DIR ARGUMENT...: make in DIR/build, for at most $limit_seconds, with the
# library $preload before all others if there is one
private_make() {
	local dir=$1
	shift
	as_owner timeout --kill-after=10 "${limit_seconds:-300}" \
		${preload:+env LD_PRELOAD="$preload"} make -s -C "$dir/build" -f "$dir/tree/Makefile" PG_CONFIG="$PG_CONFIG" "$@"
}

# server_paths DIR: settings by which a server finds what is below DIR/dest
server_paths() {
	has_extension_path || return 0
	echo "dynamic_library_path = '$1/dest$("$PG_CONFIG" --pkglibdir):\$libdir'"
	if [ "$PG_MAJOR" -ge 18 ]; then
		echo "extension_control_path = '$1/dest$("$PG_CONFIG" --sharedir):\$system'"
	else
		echo "extension_destdir = '$1/dest'"
	fi
}

# stop_servers DIR: stop every server whose data is below DIR
stop_servers() {
	local pid_file
	find "$1" -name postmaster.pid 2>/dev/null | while read -r pid_file; do
		as_owner "$PG_BIN/pg_ctl" -D "$(dirname "$pid_file")" -m immediate -w -t 10 stop >/dev/null 2>&1 || true
	done
}
