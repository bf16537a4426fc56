# Breaks: the server is started without shared_preload_libraries, so that hot tables have
# no ring, and then with it again.
#
# How we know: every verb gives on the hot table what it gives on a heap queue, two
# sessions are never given the same message, and once the library is preloaded again the
# ring says what the table says.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('preload', conf => "pgmq.ring_memory = 1MB\n");

sub set_preload
{
	my ($libraries) = @_;

	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$libraries'");
	$node->restart;
	return;
}

sub storage_of
{
	my ($queue) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.oid = 'pgmq.q_$queue'::regclass});
}

# Every verb once, on a queue of eight messages with ids from 1 on
my $verbs = q{
	SELECT 'send', send FROM pgmq.send('%1$s', '{"n": 8}');
	SELECT 'read', msg_id, read_ct, message, last_read_at IS NOT NULL, vt > now() + interval '50 s' FROM pgmq.read('%1$s', 60, 2);
	SELECT 'read_if', msg_id, read_ct FROM pgmq.read('%1$s', 60, 5, '{"n": 4}');
	SELECT 'poll', msg_id, read_ct FROM pgmq.read_with_poll('%1$s', 60, 1, 1, 10);
	SELECT 'set_vt', msg_id, read_ct, vt <= clock_timestamp() FROM pgmq.set_vt('%1$s', 1, 0);
	SELECT 'again', msg_id, read_ct FROM pgmq.read('%1$s', 60, 1);
	SELECT 'delete', pgmq.delete('%1$s', 1), pgmq.delete('%1$s', 99);
	SELECT 'archive', pgmq.archive('%1$s', 2), pgmq.archive('%1$s', 2);
	SELECT 'pop', msg_id, read_ct, last_read_at FROM pgmq.pop('%1$s');
	BEGIN; SELECT 'rolled back', msg_id, read_ct FROM pgmq.read('%1$s', 60, 1); ROLLBACK;
	SELECT 'released', msg_id, read_ct FROM pgmq.read('%1$s', 60, 1);
	SELECT 'length', queue_length, queue_visible_length, total_messages FROM pgmq.metrics('%1$s');
	SELECT 'row', msg_id, read_ct, message, headers, last_read_at IS NULL FROM pgmq.q_%1$s ORDER BY msg_id;
	SELECT 'archived', msg_id, read_ct, message, last_read_at IS NULL FROM pgmq.a_%1$s;
};

sub run_verbs
{
	my ($queue) = @_;

	return $node->safe_psql('postgres', sprintf($verbs, $queue));
}

foreach my $queue (qw(hot plain))
{
	my $storage = $queue eq 'hot' ? 'hot' : 'heap';
	$node->safe_psql('postgres', qq{
		SET pgmq.queue_storage = $storage;
		SELECT pgmq.create('$queue');
		SELECT pgmq.send('$queue', jsonb_build_object('n', i)) FROM generate_series(1, 7) i});
}
$node->safe_psql('postgres', q{
	SELECT pgmq.create('kept');
	SELECT count(*) FROM pgmq.send_batch('kept', (SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(1, 100) i));
	SELECT count(*) FROM pgmq.read('kept', 3600, 10)});
is(storage_of('hot'), 'pgmq', 'with the library preloaded a queue is hot');

# ---- without ----

set_preload('');
my $hot = run_verbs('hot');
my $plain = run_verbs('plain');
is($hot, $plain, 'without preload a hot table works as a heap queue does');
like($hot, qr/^row\|8/m, 'and does something');
$node->safe_psql('postgres', q{SELECT pgmq.create('fresh'); SELECT pgmq.send('fresh', '{}')});
is(storage_of('fresh'), 'heap', 'a queue created without preload is a heap queue');
is($node->safe_psql('postgres', q{SELECT min(msg_id), max(msg_id), count(*) FROM pgmq.read('kept', 60, 5)}),
	'11|15|5', 'leases made before are kept');

# What one session holds another does not get
my $one = $node->background_psql('postgres');
is($one->query_safe("BEGIN; SELECT msg_id FROM pgmq.read('kept', 60, 3)"), "16\n17\n18", 'one session reads');
is($node->safe_psql('postgres', q{SELECT msg_id FROM pgmq.read('kept', 60, 2)}), "19\n20", 'another gets what comes after');
is($node->safe_psql('postgres', q{SELECT pgmq.delete('kept', 30)}), 't', 'and deletes');
$one->query_safe('ROLLBACK');
$one->quit;
is($node->safe_psql('postgres', q{SELECT msg_id FROM pgmq.read('kept', 60, 2)}), "16\n17", 'what is rolled back is had again');

my ($status, $out, $err) = $node->psql('postgres', "SELECT pgmq.metrics('kept')");
is($err, '', 'settings of the shared memory that are left in the configuration disturb nobody');
queues_are_sound($node, [qw(hot plain kept fresh)], 'without preload');
like(slurp_file($node->logfile), qr/pgmq.*shared_preload_libraries/, 'the log says why hot queues are slow');

# The extension is dropped; its queues stay
$node->safe_psql('postgres', 'CREATE DATABASE leaving TEMPLATE postgres');
$node->safe_psql('leaving', 'DROP EXTENSION pgmq');
is($node->safe_psql('leaving', q{SELECT count(*), count(last_read_at), min(msg_id) FROM pgmq.q_kept;
	SELECT string_agg(indexrelid::regclass::text, ',' ORDER BY 1) FROM pg_index WHERE indrelid = 'pgmq.q_kept'::regclass}),
	"99|19|1\npgmq.q_kept_pkey,pgmq.q_kept_vt_idx", 'without preload, too, DROP EXTENSION leaves heap queues');

# ---- with it again ----

set_preload('pgmq');
is($node->safe_psql('postgres', q{SELECT queue_length, queue_visible_length FROM pgmq.metrics('kept')}), '99|80',
	'preloaded again, the ring counts what the table has');
is($node->safe_psql('postgres', q{SELECT min(msg_id), max(msg_id), count(*) FROM pgmq.read('kept', 60, 100)}), '18|100|80',
	'and hands out what is visible');
is($node->safe_psql('postgres', q{
		SELECT send FROM pgmq.send('kept', '{}');
		SELECT msg_id FROM pgmq.pop('kept');
		SELECT msg_id FROM pgmq.pop('fresh')}), "101\n101\n1", 'all queues go on');
queues_are_sound($node, [qw(hot plain kept fresh)], 'preloaded again');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal/, 'no process was lost');
$node->stop;
done_testing();
