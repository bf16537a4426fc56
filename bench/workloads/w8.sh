# W8: grouped reads. A call sends to a random group, reads one message by group
# and deletes it, so the depth stays.
#
# Cells by groups and messages in each: few, many, and one group that all clients
# want. There most reads find their group taken and bring nothing ("short", not
# counted as moved); what is missing in the other cells was held by others too.

WORKLOAD_SAMPLING=1

W8_MANY=10000x100
[ "$QUICK" = 0 ] || W8_MANY=1000x50

w8_title() {
	echo "send + read_grouped + delete, qty 1, at a steady depth; a call is the three statements"
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

# The floor knows no groups. The SQL design looks at every message in each call:
# a million of them take too long to wait for.
w8_cell() {
	local n_groups=${CELL%x*} per_group=${CELL#*x}
	[ "$SIDE" != floor ] || return 0
	[ "$SIDE" = hot ] || [ $((n_groups * per_group)) -le 10000 ] || return 0
	queue_create bench
	queue_fill_groups bench "$n_groups" "$per_group"
	queue_settle bench
	w8_script "$n_groups" | stage "read_grouped" bench cycle
}
