# Breaks: the primary is gone, and a streaming standby that has replayed its leases takes
# over; before that, the functions are called on the standby.
#
# How we know: the standby's rows are the primary's, lease columns included, and its WAL
# replay compares pages (wal_consistency_checking; not after generic records, whose mask
# keeps hint bits); on the standby reading and writing verbs fail with 25006; after the
# promotion no message comes before an acknowledged lease has lapsed, none is missing.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node(
	'primary', init => [ allows_streaming => 1 ], conf => qq{
max_connections = 20
shared_buffers = 16MB
pgmq.worker_naptime = 50ms
wal_consistency_checking = 'heap,heap2,btree,sequence'
});

$primary->safe_psql('postgres', q{
	SELECT pgmq.create('orders'), pgmq.create('small');
	SELECT count(*) FROM pgmq.send_batch('orders', (SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(1, 1000) i))});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

# Leases of every kind, deletes and rollbacks, vacuum; on pages the standby has and on new ones
$primary->safe_psql('postgres', q{
	SELECT count(*) FROM pgmq.read('orders', 3600, 100);
	SELECT count(*) FROM pgmq.send_batch('orders', (SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(1001, 3000) i));
	SELECT count(*) FROM pgmq.read('orders', 3600, 200, '{"n": 150}');
	SELECT count(*) FROM pgmq.read('orders', 2, 400);
	SELECT count(*) FROM pgmq.delete('orders', (SELECT array_agg(i::bigint) FROM generate_series(1, 50) i));
	SELECT count(*) FROM pgmq.archive('orders', (SELECT array_agg(i::bigint) FROM generate_series(51, 60) i));
	SELECT count(*) FROM pgmq.set_vt('orders', (SELECT array_agg(i::bigint) FROM generate_series(61, 70) i), 7200);
	BEGIN; SELECT count(*) FROM pgmq.read('orders', 3600, 500); ROLLBACK;
	BEGIN; SELECT count(*) FROM pgmq.read('orders', 3600, 5); SAVEPOINT s; SELECT count(*) FROM pgmq.read('orders', 3600, 500); ROLLBACK TO s; COMMIT;
	SELECT count(*) FROM pgmq.pop('orders', 50);
	SELECT pgmq.send('small', '{}') FROM generate_series(1, 10);
	VACUUM pgmq.q_orders;
	SELECT count(*) FROM pgmq.read('orders', 3600, 10)});

sub table_of
{
	my ($node, $name) = @_;

	return $node->safe_psql('postgres', "SELECT * FROM pgmq.$name ORDER BY msg_id");
}

$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
is(table_of($standby, $_), table_of($primary, $_), "$_ on the standby is as on the primary") foreach qw(q_orders a_orders q_small);

# ---- on the standby ----

foreach my $call (
	"send('orders', '{}')",                "send_batch('orders', ARRAY['{}'::jsonb])",
	"read('orders', 60, 1)",               "read('orders', 60, 1, '{\"n\": 1}')",
	"read_with_poll('orders', 60, 1, 1)",  "pop('orders')",
	"delete('orders', 100)",               "delete('orders', ARRAY[100])",
	"archive('orders', 100)",              "archive('orders', ARRAY[100])",
	"set_vt('orders', 100, 0)",            "set_vt('orders', ARRAY[100], 0)",
	"create('new')",                       "drop_queue('orders')",
	"purge_queue('orders')")
{
	my ($status, $out, $err) = $standby->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT pgmq.$call");
	like($err, qr/ERROR:  25006/, "a standby refuses $call");
}

# (not total_messages: the log is ahead of a sequence)
my $metrics = "SELECT queue_length, queue_visible_length, newest_msg_age_sec IS NOT NULL FROM pgmq.metrics('orders')";
is($standby->safe_psql('postgres', $metrics), $primary->safe_psql('postgres', $metrics), 'a standby tells metrics');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM pgmq.metrics_all()'), 2, 'and those of all queues');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM pgmq.list_queues()'), 2, 'and lists queues');

# ---- promotion ----

my $leases = q{SELECT msg_id, read_ct, vt FROM pgmq.q_orders WHERE vt > now() + interval '10 min' ORDER BY msg_id};
my $leased = $primary->safe_psql('postgres', $leases);
$primary->safe_psql('postgres', q{SELECT pgmq.read('small', 3, 4)});
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush'));
$primary->stop('immediate');
$standby->promote;

is($standby->safe_psql('postgres', $leases), $leased, 'acknowledged leases have survived');
is($standby->safe_psql('postgres', q{
		SELECT count(*) FROM pgmq.q_small s WHERE vt > now();
		SELECT string_agg(msg_id::text, ',') FROM pgmq.read('small', 60, 6)}),
	"4\n5,6,7,8,9,10", 'what is leased is passed over');
is($standby->safe_psql('postgres', q{
		CREATE TEMP TABLE before AS SELECT msg_id, vt FROM pgmq.q_small;
		SELECT msg_id, r.last_read_at >= b.vt, r.last_read_at < b.vt + interval '500 ms'
		FROM pgmq.read_with_poll('small', 60, 1, 20, 20000) r JOIN before b USING (msg_id)}),
	"1|t|t", 'a lease lapses on the new primary and wakes who waits for it');
is($standby->safe_psql('postgres', qq{
		CREATE TEMP TABLE held AS $leases;
		CREATE TEMP TABLE got AS SELECT * FROM pgmq.read('orders', 60, 100000);
		SELECT count(*) FROM got JOIN held USING (msg_id);
		SELECT count(*) FROM pgmq.q_orders WHERE vt <= now()}), "0\n0", 'everything else is delivered, nothing leased is');
is($standby->safe_psql('postgres', q{
		SELECT send > 3000 FROM pgmq.send('orders', '{}');
		SELECT msg_id > 3000 FROM pgmq.pop('orders')}), "t\nt", 'the new primary goes on');
queues_are_sound($standby, [qw(orders small)], 'after the promotion');

# A ring that was used before the end of recovery would be stale: restart and compare again
$standby->restart;
is($standby->safe_psql('postgres', $leases), $leased, 'leases are there after a restart, too');
queues_are_sound($standby, [qw(orders small)], 'after a restart');
foreach my $node ($primary, $standby)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal|inconsistent page/, 'no process was lost on the ' . $node->name);
}
$standby->stop;
done_testing();
