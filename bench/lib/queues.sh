# What a workload may do to a queue on each side, and what the queue must hold
# afterwards. Sourced by bench/run.
#
# The books, by queue name: WANT_READY messages that nobody leased, WANT_LEASED
# that somebody has, WANT_READS leases in all, no message more often than
# MOST_READS; WANT_ARCHIVED that went to the archive.

declare -A WANT_READY WANT_LEASED WANT_READS MOST_READS WANT_ARCHIVED

queue_create() {
	local queue=$1
	sql "$DATABASE" "SELECT $SCHEMA.create('$queue');" >/dev/null
	WANT_READY[$queue]=0 WANT_LEASED[$queue]=0 WANT_READS[$queue]=0 MOST_READS[$queue]=1 WANT_ARCHIVED[$queue]=0
}

queue_drop() {
	sql "$DATABASE" "SELECT $SCHEMA.drop_queue('$1');" >/dev/null
	queue_unchecked "$1"
}

# Leave a queue out of the count at the end.
queue_unchecked() {
	unset "WANT_READY[$1]"
}

queue_fill() {
	local queue=$1 n=$2
	[ "$n" -gt 0 ] || return 0
	sql "$DATABASE" "CALL bench.fill('$SCHEMA', '$queue', $n, '$PAYLOAD');"
	WANT_READY[$queue]=$((WANT_READY[$queue] + n))
}

# So many messages in each of so many groups, dealt out in turn.
queue_fill_groups() {
	local queue=$1 n_groups=$2 per_group=$3
	sql "$DATABASE" "CALL bench.fill_groups('$SCHEMA', '$queue', $n_groups, $per_group, '$PAYLOAD');"
	WANT_READY[$queue]=$((WANT_READY[$queue] + n_groups * per_group))
}

# Messages delayed by a day: by the books they are with the leased ones, which
# the drain deletes by id, but nobody read them.
queue_fill_delayed() {
	local queue=$1 n=$2
	[ "$n" -gt 0 ] || return 0
	sql "$DATABASE" "CALL bench.fill('$SCHEMA', '$queue', $n, '$PAYLOAD', 86400);"
	WANT_LEASED[$queue]=$((WANT_LEASED[$queue] + n))
}

queue_top_up() {
	queue_fill "$1" $(($2 - WANT_READY[$1]))
}

queue_lease() {
	local queue=$1 n=$2
	sql "$DATABASE" "CALL bench.lease('$SCHEMA', '$queue', $n);"
	count_leased "$queue" "$n"
}

# Vacuum and analyze, so that autovacuum has no reason to come by, and the SQL
# design meets neither dead rows nor missing statistics it can be spared.
queue_settle() {
	sql "$DATABASE" "VACUUM (ANALYZE) $SCHEMA.q_$1;"
}

count_leased() {
	local queue=$1 n=$2
	WANT_READY[$queue]=$((WANT_READY[$queue] - n))
	WANT_LEASED[$queue]=$((WANT_LEASED[$queue] + n))
	WANT_READS[$queue]=$((WANT_READS[$queue] + n))
}

# What the hot queue says of itself: 'ok', or how many complaints.
queue_self_check() {
	[ "$SIDE" = hot ] || { echo ok; return; }
	sql "$DATABASE" "SELECT CASE count(*) WHEN 0 THEN 'ok' ELSE 'check_queue has ' || count(*) || ' complaints: ' || min(c::text) END FROM pgmq.check_queue('$1') AS c;"
}

# Drain a queue through its own functions and compare with what it should hold.
queue_verdict() {
	local queue=$1 said
	if [ "$SIDE" = floor ]; then
		sql "$DATABASE" "SELECT bench.floor_verdict('$SCHEMA', '$queue', $((WANT_READY[$queue] + WANT_LEASED[$queue])), ${WANT_READS[$queue]});"
		return
	fi
	said=$(queue_self_check "$queue")
	if [ "$said" = ok ]; then
		sql "$DATABASE" "CALL bench.drain('$SCHEMA', '$queue', '$PAYLOAD');"
		said=$(sql "$DATABASE" "SELECT bench.verdict('$SCHEMA', '$queue', ${WANT_READY[$queue]}, ${WANT_LEASED[$queue]}, ${WANT_READS[$queue]}, ${MOST_READS[$queue]}, ${WANT_ARCHIVED[$queue]});")
	fi
	if [ "$said" = ok ]; then
		said=$(queue_self_check "$queue")
	fi
	echo "$said"
}

# Drain and count now; what is wrong goes into the cell's verdict.
queue_verify() {
	local queue=$1 said
	said=$(queue_verdict "$queue")
	[ "$said" = ok ] || VERDICT="$queue: $said"
	queue_unchecked "$queue"
}

# many_queues N EACH: queues m1 .. mN with so many messages each; they are not in the
# books
many_queues() {
	sql "$DATABASE" "CALL bench.many_queues('$SCHEMA', $1, $2, '$PAYLOAD');" "VACUUM (ANALYZE);"
}
