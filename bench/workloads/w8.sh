# W8: grouped reads. The first one of a queue has the ring learn the groups ("first").
# Then cycles: a call sends to a random group, reads one message by group and deletes it,
# so the depth stays. Then read_grouped alone ("call"), whose leases have no length, so
# that all find the same.
#
# Cells by groups and messages in each: few, many, and one group that all clients
# want. There most reads find their group taken and bring nothing ("short", not
# counted as moved); what is missing in the other cells was held by others too.

WORKLOAD_SAMPLING=1

W8_MANY=10000x100
[ "$QUICK" = 0 ] || W8_MANY=1000x50

w8_title() {
	echo "read_grouped, qty 1, alone; and send + read_grouped + delete at a steady depth, a call being the three statements"
}

w8_cells() {
	local clients
	for clients in $(clients_or 1 8); do
		echo "30x200 $clients 1"
	done
	for clients in $(clients_or 8); do
		echo "$W8_MANY $clients 1"
		echo "1x6000 $clients 1"
	done
}

# Others may hold the groups for a moment
w8_call_script() {
	cat <<-SQL
		\set msg_id 0
		SELECT msg_id FROM $SCHEMA.read_grouped('bench', 0, 1) \aset
		\if :msg_id = 0
		SELECT bench.note('short', 1);
		\endif
	SQL
}

w8_script() {
	local n_groups=$1
	cat <<-SQL
		\set grp random(1, $n_groups)
		\set msg_id 0
		SELECT $SCHEMA.send('bench', '$PAYLOAD'::jsonb, jsonb_build_object('x-pgmq-group', 'group ' || :grp));
		SELECT msg_id FROM $SCHEMA.read_grouped('bench', 600, 1) \aset
	SQL
	acknowledge_script
}

# One call; what it reads is the first that the cycles delete.
w8_first() {
	local -a PGBENCH_ARGS=(-t 1)
	local CLIENTS=1
	w8_call_script | stage "first" bench poll
}

# The floor knows no groups. The SQL design looks at every message in each call:
# a million of them take too long to wait for.
w8_cell() {
	local n_groups=${CELL%x*} per_group=${CELL#*x}
	[ "$SIDE" != floor ] || return 0
	[ "$SIDE" = hot ] || [ $((n_groups * per_group)) -le 10000 ] || return 0
	queue_create bench
	queue_fill_groups bench "$n_groups" "$per_group"
	queue_settle bench
	w8_first
	w8_script "$n_groups" | stage "read_grouped" bench cycle
	w8_call_script | stage "call" bench glance
}
