# Options of bench/run and their defaults. Sourced by bench/run; sets globals only.

usage() {
	cat <<-'TEXT'
		usage: bench/run [WORKLOAD ...] [OPTION ...]

		WORKLOAD is W1, W2, W3, W6, W8; without one, all of them.

		  --quick            one repetition, short and small; to see that it works
		  --reps N           repetitions of each cell (3; quick 1)
		  --seconds N        length of one measurement (10; quick 2)
		  --clients "N ..."  client counts instead of the workload's own (qty 1 cells)
		  --sync on|off|both synchronous_commit (both)
		  --payload N        bytes of a message's JSON text (200)
		  --preload N        messages in the queue before W2 reads (1000000; quick 100000)
		  --leased N         messages leased at the head for W6 (500000; quick 50000)
		  --sides "S ..."    of hot heap floor upstream ("hot heap floor")
		  --without-hot      the same as --sides "heap floor"
		  --upstream FILE    also measure the SQL-only pgmq, from its SQL file
		  --sampling R       share of calls whose latency is logged (0.2; W6, W8 1)
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
	REPS='' RUN_SECONDS='' PRELOAD='' LEASED=''
	CLIENTS_OVERRIDE='' SAMPLING='' PAYLOAD_BYTES=200
	SYNC_MODES=(off on)
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

add_workload() {
	local name=${1,,}
	[ -f "$BENCH_DIR/workloads/$name.sh" ] || die "there is no workload \"$1\""
	WORKLOADS+=("$name")
}

set_sync() {
	case $1 in
		on | off) SYNC_MODES=("$1") ;;
		both) SYNC_MODES=(off on) ;;
		*) die "--sync takes on, off or both" ;;
	esac
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
		--clients) CLIENTS_OVERRIDE=$2 ;;
		--sync) set_sync "$2" ;;
		--payload) need_number "$1" "$2"; PAYLOAD_BYTES=$2 ;;
		--preload) need_number "$1" "$2"; PRELOAD=$2 ;;
		--leased) need_number "$1" "$2"; LEASED=$2 ;;
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
		: "${REPS:=1}" "${RUN_SECONDS:=2}" "${PRELOAD:=100000}" "${LEASED:=50000}"
	else
		: "${REPS:=3}" "${RUN_SECONDS:=10}" "${PRELOAD:=1000000}" "${LEASED:=500000}"
	fi
}

all_workloads() {
	local file
	for file in "$BENCH_DIR"/workloads/w*.sh; do
		basename "$file" .sh
	done | sort -V
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
