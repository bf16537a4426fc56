# Breaks: there are many times more messages than the pool has room for (64 kB, about
# 1,024 ring slots), and what fills it is not what consumers want.
#
# How we know: several concurrent readers note in a table what they got.  Every message
# that could be had was read exactly once, each reader got ascending ids where nothing
# came back or matured meanwhile, nobody got an error, and what is asked for by id is
# found whether it has a slot or not.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $n_readers = 4;

random_seed();
my $node = new_node('pool', conf => "pgmq.ring_memory = 64kB\npgmq.worker_naptime = 100ms\n");

$node->safe_psql('postgres', q{
CREATE TABLE seen (queue text, reader int, call int, place bigint, msg_id bigint, read_ct int);

-- n messages, all visible
CREATE FUNCTION fill(queue text, n int) RETURNS bigint LANGUAGE sql AS
	'SELECT count(*) FROM pgmq.send_batch($1, (SELECT array_agg(jsonb_build_object(''n'', i)) FROM generate_series(1, $2) i))';

-- Read until all readers together have seen `expected` messages of the queue.  A share of
-- the reads is rolled back.
CREATE PROCEDURE drain(queue text, reader int, qty int, verb text, expected int, rolled_back float8)
LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
	call int := 0;
BEGIN
	LOOP
		call := call + 1;
		WITH got AS (SELECT * FROM pgmq.read(queue, 3600, qty) WITH ORDINALITY),
			noted AS (INSERT INTO seen SELECT queue, reader, call, ordinality, msg_id, read_ct FROM got)
			SELECT array_agg(msg_id) INTO ids FROM got;
		IF random() < rolled_back THEN
			ROLLBACK;
			CONTINUE;
		END IF;
		IF verb = 'delete' THEN
			PERFORM pgmq.delete(queue, ids);
		ELSIF verb = 'archive' THEN
			PERFORM pgmq.archive(queue, ids);
		END IF;
		COMMIT;
		IF ids IS NULL THEN
			EXIT WHEN (SELECT count(*) FROM seen s WHERE s.queue = drain.queue) >= expected;
			PERFORM pg_sleep(0.01);
		END IF;
	END LOOP;
END $$;
});

# Statements run at the same time, each in a session of its own; their errors
sub run_together
{
	my (@statements) = @_;
	my @runs;

	foreach my $sql (@statements)
	{
		my ($out, $err) = ('', '');
		my $run = IPC::Run::start(
			[ 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c', $sql ],
			'>', \$out, '2>', \$err, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
		push @runs, [ $run, \$err ];
	}
	$_->[0]->finish foreach @runs;
	return join('', map { ${ $_->[1] } } @runs);
}

sub readers
{
	my ($queue, $qty, $verb, $expected, $rolled_back) = @_;

	$rolled_back //= 0;
	return map { "CALL drain('$queue', $_, $qty, '$verb', $expected, $rolled_back)" } 1 .. $n_readers;
}

# What readers saw of a queue: how many messages, repeated ones, ones out of order
sub seen
{
	my ($queue) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT count(*), count(*) - count(DISTINCT msg_id), count(*) FILTER (WHERE read_ct <> 1)
		FROM seen WHERE queue = '$queue'});
}

sub out_of_order
{
	my ($queue, $within) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT count(*) FROM (
			SELECT msg_id < lag(msg_id) OVER (PARTITION BY $within ORDER BY call, place) AS is_late
			FROM seen WHERE queue = '$queue') s
		WHERE is_late});
}

sub drain_all
{
	my ($queue, $expected, $what, @statements) = @_;
	my $start = time();

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(run_together(@statements), '', "$what: no errors");
	note(sprintf('%s: %.1f s', $what, time() - $start));
	is(seen($queue), "$expected|0|0", "$what: each of $expected messages was read once");
	return;
}

# ---- all visible: consumed, then only leased ----

$node->safe_psql('postgres', q{SELECT pgmq.create('visible'); SELECT fill('visible', 20000)});
queues_are_sound($node, ['visible'], 'with most messages cold');
drain_all('visible', 20000, 'a long queue', readers('visible', 10, 'delete', 20000));
is(out_of_order('visible', 'reader'), 0, 'a long queue: every reader got ascending ids');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pgmq.q_visible'), 0, 'a long queue: all were deleted');
queues_are_sound($node, ['visible'], 'drained');

# Leases that outnumber the slots are not forgotten
$node->safe_psql('postgres', q{SELECT pgmq.create('leased'); SELECT fill('leased', 10000)});
drain_all('leased', 10000, 'leases that fill the pool', readers('leased', 50, 'keep', 10000));
is(out_of_order('leased', 'reader'), 0, 'leases that fill the pool: every reader got ascending ids');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pgmq.read('leased', 60, 10)}), 0, 'nothing leased is delivered again');
queues_are_sound($node, [ 'leased', 'visible' ], 'with leases only');

# One by one, absent ones among them, without a scan of the table by SQL
is($node->safe_psql('postgres', q{
		BEGIN;
		SELECT count(*) FROM generate_series(4, 800, 8) i WHERE pgmq.delete('leased', i);
		SELECT count(*) FROM generate_series(4, 800, 80) i WHERE pgmq.delete('leased', i) OR pgmq.delete('leased', 1000000 + i);
		SELECT pg_stat_get_xact_numscans('pgmq.q_leased'::regclass);
		ROLLBACK}),
	"100\n0\n0", 'cold messages are deleted by id without a scan by SQL');

# By id, whether they have a slot or not
is($node->safe_psql('postgres', q{
		SELECT count(*) FROM pgmq.delete('leased', (SELECT array_agg(i::bigint) FROM generate_series(1, 10000, 4) i));
		SELECT count(*) FROM pgmq.archive('leased', (SELECT array_agg(i::bigint) FROM generate_series(2, 10000, 4) i));
		SELECT count(*) FROM pgmq.set_vt('leased', (SELECT array_agg(i::bigint) FROM generate_series(3, 10000, 4) i), 0);
		SELECT count(*), min(msg_id), max(msg_id), bool_and(read_ct = 2) FROM pgmq.read('leased', 60, 10000);
		SELECT count(*) FROM pgmq.read('leased', 60, 10000);
		SELECT count(*) FROM pgmq.q_leased;
		SELECT count(*) FROM pgmq.a_leased}),
	"2500\n2500\n2500\n2500|3|9999|t\n0\n5000\n2500", 'delete, archive and set_vt find cold messages');
queues_are_sound($node, ['leased'], 'after the verbs by id');
$node->safe_psql('postgres', q{SELECT pgmq.purge_queue('leased')});

# ---- what nobody can have yet fills the pool ----

$node->safe_psql('postgres', q{
	SELECT pgmq.create('future');
	SELECT count(*) FROM generate_series(1, 5000) i, pgmq.send('future', '{}', 86400 + i % 100);
	SELECT fill('future', 2000)});
drain_all('future', 2000, 'behind the far future', readers('future', 10, 'archive', 2000));
is(out_of_order('future', 'reader'), 0, 'behind the far future: every reader got ascending ids');
is($node->safe_psql('postgres', q{
		SELECT msg_id FROM pgmq.set_vt('future', 4321, 0);
		SELECT msg_id FROM pgmq.read('future', 60, 10);
		SELECT pgmq.delete('future', 17);
		SELECT pgmq.archive('future', 4999);
		SELECT msg_id FROM pgmq.set_vt('future', 17, 0)}),
	"4321\n4321\nt\nt", 'a message of the far future is found by id');
queues_are_sound($node, ['future']);
$node->safe_psql('postgres', q{SELECT pgmq.purge_queue('future')});

# ---- neither leases nor delays that fill the pool send reads to SQL ----

is($node->safe_psql('postgres', q{
		SELECT pgmq.create('crowded');
		SELECT count(*) FROM generate_series(1, 5000) i, pgmq.send('crowded', '{}', 86400 + i % 100);
		SELECT fill('crowded', 5000);
		CREATE TABLE scans (n bigint);
		DO $$ BEGIN
			FOR i IN 1 .. 500 LOOP
				PERFORM pgmq.read('crowded', 3600, 10);
				INSERT INTO scans SELECT pg_stat_get_xact_numscans('pgmq.q_crowded'::regclass);
				COMMIT;
			END LOOP;
		END $$;
		SELECT sum(n), (SELECT count(*) FROM pgmq.q_crowded WHERE read_ct = 1) FROM scans}),
	"\n5000\n5000\n0|5000", 'what fills the pool gives way to what can be read');
queues_are_sound($node, ['crowded']);
$node->safe_psql('postgres', q{SELECT pgmq.purge_queue('crowded')});

# ---- visible, delayed and far future mixed; senders, rollbacks ----

$node->safe_psql('postgres', q{SELECT pgmq.create('mixed')});
my @senders = map {
	my $session = $_;
	qq{DO \$\$ BEGIN
		FOR i IN 1 .. 5000 LOOP
			PERFORM pgmq.send('mixed', '{}', CASE WHEN i % 10 = 0 THEN 86400 WHEN i % 3 = 0 THEN 1 + i % 3 ELSE 0 END);
			IF i % 20 = 0 THEN COMMIT; END IF;
		END LOOP;
	END \$\$}
} 1 .. 4;
drain_all('mixed', 18000, 'all kinds mixed', @senders, readers('mixed', 10, 'delete', 18000, 0.05));
is($node->safe_psql('postgres', 'SELECT count(*) FROM pgmq.q_mixed WHERE vt > now() AND read_ct = 0'), 2000,
	'all kinds mixed: the far future is still there');
queues_are_sound($node, ['mixed']);

# ---- a message noted as cold gets a slot; what nobody wants comes first ----

# An UPDATE's new row takes the slot that was missing when the message was sent: its id
# is then the lowest cold one and the lowest ready one.
$node->safe_psql('postgres', q{
	SELECT pgmq.create('ballast'), pgmq.create('known_as_cold');
	SELECT fill('ballast', 1500);
	SELECT pgmq.send('known_as_cold', '{}');
	SELECT pgmq.purge_queue('ballast'), pgmq.purge_queue('mixed');
	UPDATE pgmq.q_known_as_cold SET message = '{"updated": true}'});
is($node->safe_psql('postgres', q{SELECT msg_id FROM pgmq.read('known_as_cold', 60, 10)}), 1,
	'a message that was cold and has a slot now is read');

# 300 slots for what does not match, or is locked; the rest of the queue is cold
$node->safe_psql('postgres', q{
	SELECT pgmq.create('behind');
	SELECT fill('ballast', 900);
	SELECT count(*) FROM pgmq.read('ballast', 3600, 900);
	SELECT fill('behind', 2000)});
is($node->safe_psql('postgres', q{
		SELECT msg_id FROM pgmq.read('behind', 0, 3, '{"n": 1800}');
		SELECT msg_id FROM pgmq.read('behind', 0, 3, '{"n": 5}')}),
	"1800\n5", 'a condition finds what lies behind cold messages');
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; SELECT msg_id FROM pgmq.q_behind WHERE msg_id < 1500 FOR UPDATE');
is($node->safe_psql('postgres', q{SELECT min(msg_id), max(msg_id), count(*) FROM pgmq.read('behind', 60, 10)}),
	'1500|1509|10', 'a read finds what lies behind locked messages');
$locker->query_safe('ROLLBACK');
$locker->quit;
queues_are_sound($node, [qw(mixed known_as_cold ballast behind)]);
$node->safe_psql('postgres', q{
	SELECT pgmq.purge_queue('behind'), pgmq.purge_queue('ballast');
	SELECT count(*) FROM generate_series(1, 1500) i, pgmq.send('mixed', '{}', 86400 + i % 10)});

# ---- two queues, one pool, already full of the far future of a third ----

$node->safe_psql('postgres', q{
	SELECT pgmq.create('left'), pgmq.create('right');
	SELECT fill('left', 4000), fill('right', 4000)});
my $start = time();
is(run_together((readers('left', 10, 'delete', 4000))[ 0, 1 ], (readers('right', 10, 'delete', 4000))[ 0, 1 ]),
	'', 'two queues share the pool: no errors');
note(sprintf('two queues: %.1f s', time() - $start));
is(seen($_), '4000|0|0', "two queues share the pool: all of $_ was read once") foreach qw(left right);
is(out_of_order($_, 'reader'), 0, "two queues share the pool: every reader of $_ got ascending ids") foreach qw(left right);

# ---- sleepers, while leases of another queue hold every slot ----

$node->safe_psql('postgres', q{
	SELECT pgmq.purge_queue('mixed');
	SELECT pgmq.create('awaited');
	SELECT fill('ballast', 3000);
	SELECT count(*) FROM pgmq.read('ballast', 3600, 3000)});
foreach my $delay (0, 1)
{
	my $consumer = $node->background_psql('postgres');
	$consumer->query_until(qr/^asleep$/m, qq{\\echo asleep
SELECT 'got', msg_id FROM pgmq.read_with_poll('awaited', 60, 1, 20, 20000);
\\echo over
});
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ 'read_with_poll' AND wait_event_type = 'Extension'");
	my $sent_at = time();
	$node->safe_psql('postgres', "SELECT pgmq.send('awaited', '{}', $delay)");
	like($consumer->query_until(qr/^over$/m, ''), qr/^got/m, "a sleeper gets a message without a slot, delay $delay s");
	cmp_ok(time() - $sent_at, '<', $delay + 1, 'at once');
	$consumer->quit;
	$node->safe_psql('postgres', "SELECT pgmq.purge_queue('awaited')");
}
queues_are_sound($node, [qw(left right mixed visible leased future ballast awaited)]);
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal|ERROR/, 'the log shows no error');
$node->stop;
done_testing();
