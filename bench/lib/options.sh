# Options of bench/run and their defaults. Sourced by bench/run; sets globals only.

usage() {
	cat <<-'TEXT'
		usage: bench/run [WORKLOAD ...] [OPTION ...]

		WORKLOAD is one of W1 .. W14, WQ; without one, or as "all", all of them.

		  --quick            one repetition, short and small; to see that it works
		  --reps N           repetitions of each cell (3; quick 1)
		  --seconds N        length of one measurement (10; quick 1)
		  --clients "N ..."  client counts instead of the workload's own (qty 1 cells)
		  --sync on|off|both synchronous_commit (both; quick off)
		  --payload N        bytes of a message's JSON text (200)

		Sizes:
		  --preload N        messages before W2 reads, W4 archives (1000000; quick 50000)
		  --leased N         leased at the head for W6, WQ (500000; quick 20000)
		  --backlog "N ..."  backlogs of W5, W12; W11, W14 take the largest
		                     ("100000 1000000"; quick "10000 50000")
		  --delayed N        delayed ahead of live traffic for W7 (1000000; quick 20000)
		  --rate "N ..."     messages a second offered by W9 ("500 2000"; quick 500)
		  --blocked "N ..."  consumers asleep in W10 ("1 50 200"; quick "1 20")
		  --queues N         queues of W11, W13 (1000; quick 50)

		What is measured, and where:
		  --sides "S ..."    of hot heap floor upstream ("hot heap floor")
		  --without-hot      the same as --sides "heap floor"
		  --upstream FILE    also measure the SQL-only pgmq, from its SQL file
		  --sampling R       share of calls whose latency is logged (0.2; more where calls are few)
		  --destdir DIR      use the extension installed under DIR
		  --system           use the extension installed in the server
		                     (default: build this checkout into the scratch folder)
		  --set NAME=VALUE   a server setting more; may be repeated
		  --scratch DIR      where to put the scratch folder ($TMPDIR or /tmp)
		  --results DIR      where to write the CSV and its summary (bench/results)
		  --no-pin           do not pin one-client cells to one processor
		  --keep             leave the scratch folder in place

		Environment: PG_CONFIG, BENCH_USER (the server's user when run as root: postgres).
	TEXT
}

die() {
	echo "bench/run: $*" >&2
	exit 2
}

set_defaults() {
	QUICK=0 KEEP=0 PIN=1
	REPS='' RUN_SECONDS='' PRELOAD='' LEASED='' BACKLOG='' DELAYED='' RATES='' BLOCKED='' QUEUES=''
	CLIENTS_OVERRIDE='' SAMPLING='' PAYLOAD_BYTES=200
	SYNC_MODES=() SYNC_CHOSEN=0
	SIDES=(hot heap floor)
	UPSTREAM_SQL=''
	INSTALL=build DESTDIR=''
	SCRATCH_PARENT=${TMPDIR:-/tmp}
	RESULTS_DIR=$BENCH_DIR/results
	EXTRA_SETTINGS=()
	WORKLOADS=()
}

need_number() {
	[[ $2 =~ ^[1-9][0-9]*$ ]] || die "$1 needs a positive number, got \"$2\""
}

need_numbers() {
	[[ $2 =~ ^[1-9][0-9]*(\ +[1-9][0-9]*)*$ ]] || die "$1 needs positive numbers, got \"$2\""
}

add_workload() {
	local name=${1,,}
	if [ "$name" = all ]; then
		mapfile -t -O ${#WORKLOADS[@]} WORKLOADS < <(all_workloads)
		return
	fi
	[ -f "$BENCH_DIR/workloads/$name.sh" ] || die "there is no workload \"$1\""
	WORKLOADS+=("$name")
}

set_sync() {
	case $1 in
		on | off) SYNC_MODES=("$1") ;;
		both) SYNC_MODES=(off on) ;;
		*) die "--sync takes on, off or both" ;;
	esac
	SYNC_CHOSEN=1
}

set_sides() {
	local side
	read -ra SIDES <<<"$1"
	for side in "${SIDES[@]}"; do
		[[ $side =~ ^(hot|heap|floor|upstream)$ ]] || die "there is no side \"$side\""
	done
}

has_side() {
	local side
	for side in "${SIDES[@]}"; do
		[ "$side" = "$1" ] && return 0
	done
	return 1
}

# Options that take a value.
parse_valued_option() {
	case $1 in
		--reps) need_number "$1" "$2"; REPS=$2 ;;
		--seconds) need_number "$1" "$2"; RUN_SECONDS=$2 ;;
		--clients) need_numbers "$1" "$2"; CLIENTS_OVERRIDE=$2 ;;
		--sync) set_sync "$2" ;;
		--payload) need_number "$1" "$2"; PAYLOAD_BYTES=$2 ;;
		--preload) need_number "$1" "$2"; PRELOAD=$2 ;;
		--leased) need_number "$1" "$2"; LEASED=$2 ;;
		--backlog) need_numbers "$1" "$2"; BACKLOG=$2 ;;
		--delayed) need_number "$1" "$2"; DELAYED=$2 ;;
		--rate) need_numbers "$1" "$2"; RATES=$2 ;;
		--blocked) need_numbers "$1" "$2"; BLOCKED=$2 ;;
		--queues) need_number "$1" "$2"; QUEUES=$2 ;;
		--sides) set_sides "$2" ;;
		--upstream) UPSTREAM_SQL=$(realpath "$2"); SIDES+=(upstream) ;;
		--sampling) SAMPLING=$2 ;;
		--destdir) INSTALL=destdir DESTDIR=$(realpath "$2") ;;
		--set) EXTRA_SETTINGS+=("$2") ;;
		--scratch) SCRATCH_PARENT=$(realpath "$2") ;;
		--results) RESULTS_DIR=$(realpath -m "$2") ;;
		*) die "unknown option $1; see bench/run --help" ;;
	esac
}

fill_in_sizes() {
	if [ "$QUICK" = 1 ]; then
		: "${REPS:=1}" "${RUN_SECONDS:=1}" "${PRELOAD:=50000}" "${LEASED:=20000}"
		: "${BACKLOG:=10000 50000}" "${DELAYED:=20000}" "${RATES:=500}" "${BLOCKED:=1 20}" "${QUEUES:=50}"
		[ $SYNC_CHOSEN = 1 ] || SYNC_MODES=(off)
	else
		: "${REPS:=3}" "${RUN_SECONDS:=10}" "${PRELOAD:=1000000}" "${LEASED:=500000}"
		: "${BACKLOG:=100000 1000000}" "${DELAYED:=1000000}" "${RATES:=500 2000}" "${BLOCKED:=1 50 200}" "${QUEUES:=1000}"
		[ $SYNC_CHOSEN = 1 ] || SYNC_MODES=(off on)
	fi
}

all_workloads() {
	local file
	for file in "$BENCH_DIR"/workloads/w*.sh; do
		basename "$file" .sh
	done | sort -V
}

# The largest of some numbers
largest_of() {
	printf '%s\n' "$@" | sort -n | tail -1
}

parse_options() {
	set_defaults
	while [ $# -gt 0 ]; do
		case $1 in
			-h | --help) usage; exit 0 ;;
			--quick) QUICK=1 ;;
			--keep) KEEP=1 ;;
			--no-pin) PIN=0 ;;
			--system) INSTALL=system ;;
			--without-hot) set_sides "heap floor" ;;
			--*)
				[ $# -ge 2 ] || die "$1 needs a value"
				parse_valued_option "$1" "$2"
				shift
				;;
			*) add_workload "$1" ;;
		esac
		shift
	done
	fill_in_sizes
	if [ ${#WORKLOADS[@]} -eq 0 ]; then
		mapfile -t WORKLOADS < <(all_workloads)
	fi
}
