# Breaks: the server stops at once while prepared transactions have sent, leased, deleted,
# archived, popped and extended messages; only then are they committed or rolled back.
#
# How we know: until a prepared transaction is decided nobody gets what it has touched and
# everybody gets the rest; afterwards each message is where the decision puts it, in the
# ring as in the table, whether the ring was there all the time or rebuilt.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('prepared', conf => "pgmq.worker_naptime = 50ms\n");

# Messages 1 to 6 touched by the prepared transaction, 7 and 8 left, 9 and 10 sent by it
sub prepare
{
	my ($queue) = @_;

	$node->safe_psql('postgres', qq{
		SELECT pgmq.create('$queue');
		SELECT pgmq.send('$queue', jsonb_build_object('n', i)) FROM generate_series(1, 8) i;
		BEGIN;
		SELECT pgmq.read('$queue', 3600, 2);
		SELECT pgmq.delete('$queue', 3);
		SELECT pgmq.archive('$queue', 4);
		SELECT pgmq.set_vt('$queue', 5, 3600);
		SELECT pgmq.read('$queue', 0, 1);
		SELECT pgmq.delete('$queue', 6);
		SELECT pgmq.send('$queue', '{"n": 9}');
		SELECT pgmq.send('$queue', '{"n": 10}', 3600);
		PREPARE TRANSACTION '$queue'});
	return;
}

# id and read_ct of what can be had now, without keeping it
sub available
{
	my ($queue) = @_;

	return $node->safe_psql('postgres', qq{
		BEGIN; SELECT msg_id || ':' || read_ct FROM pgmq.read('$queue', 60, 100) ORDER BY msg_id; ROLLBACK});
}

sub rows
{
	my ($queue) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT string_agg(msg_id || ':' || read_ct || ':' || (vt > now()), ' ' ORDER BY msg_id) FROM pgmq.q_$queue;
		SELECT string_agg(msg_id::text, ' ' ORDER BY msg_id) FROM pgmq.a_$queue});
}

sub check_undecided
{
	my ($queue, $when) = @_;

	is(available($queue), "7:1\n8:1", "$queue, $when: only what was not touched is to be had");
	is($node->safe_psql('postgres', "SELECT queue_length FROM pgmq.metrics('$queue')"), 8,
		"$queue, $when: uncommitted changes are not counted");
	queues_are_sound($node, [$queue], $when);

	# A verb on a touched message waits for the decision
	my ($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '200ms'; SELECT pgmq.delete('$queue', 1)");
	like($err, qr/statement timeout/, "$queue, $when: deleting what it has leased waits");
	return;
}

sub check_committed
{
	my ($queue, $when) = @_;

	is(rows($queue), "1:1:true 2:1:true 5:0:true 7:0:false 8:0:false 9:0:false 10:0:true\n4",
		"$queue, $when: the table has what was committed");
	is(available($queue), "7:1\n8:1\n9:1", "$queue, $when: what was sent is to be had");
	is($node->safe_psql('postgres', "SELECT queue_length, queue_visible_length FROM pgmq.metrics('$queue')"),
		'7|3', "$queue, $when: it is counted");
	queues_are_sound($node, [$queue], $when);
	return;
}

sub check_rolled_back
{
	my ($queue, $when) = @_;

	is(rows($queue), join(' ', map { "$_:0:false" } 1 .. 8) . "\n",
		"$queue, $when: the table is as before");
	is(available($queue), join("\n", map { "$_:1" } 1 .. 8), "$queue, $when: everything is to be had again");
	queues_are_sound($node, [$queue], $when);
	return;
}

# A sleeping consumer is woken by the decision, though its session tells nobody
sub decide
{
	my ($queue, $decision) = @_;
	my $consumer = $node->background_psql('postgres');
	my $wanted = $decision eq 'COMMIT' ? 9 : 1;

	$consumer->query_safe("BEGIN; SELECT count(*) FROM pgmq.read('$queue', 60, 100)");
	$consumer->query_until(qr/asleep/, "\\echo asleep\nSELECT 'got', msg_id FROM pgmq.read_with_poll('$queue', 60, 1, 30, 30000);\n");
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE query LIKE '%read_with_poll(''$queue''%' AND wait_event_type = 'Extension'");
	$node->safe_psql('postgres', "$decision PREPARED '$queue'");
	like($consumer->query_until(qr/got\|\d+/, ''), qr/got\|$wanted$/m, "$queue: $decision PREPARED gives a waiting consumer message $wanted");
	$consumer->query_safe('ROLLBACK');
	$consumer->quit;
	return;
}

# ---- while the server runs ----

prepare($_) foreach qw(live_commit live_rollback);
check_undecided($_, 'undecided') foreach qw(live_commit live_rollback);
decide('live_commit', 'COMMIT');
check_committed('live_commit', 'committed');
decide('live_rollback', 'ROLLBACK');
check_rolled_back('live_rollback', 'rolled back');

# ---- across a crash ----

prepare($_) foreach qw(late_commit late_rollback done_commit done_rollback);
$node->safe_psql('postgres', "COMMIT PREPARED 'done_commit'");
$node->safe_psql('postgres', "ROLLBACK PREPARED 'done_rollback'");
$node->stop('immediate');
$node->start;
check_committed($_, 'after a crash') foreach qw(done_commit live_commit);
check_rolled_back($_, 'after a crash') foreach qw(done_rollback live_rollback);
check_undecided($_, 'undecided after a crash') foreach qw(late_commit late_rollback);
decide('late_commit', 'COMMIT');
check_committed('late_commit', 'committed after a crash');
decide('late_rollback', 'ROLLBACK');
check_rolled_back('late_rollback', 'rolled back after a crash');

# ---- decided while no ring is there ----

prepare($_) foreach qw(again_commit again_rollback);
$node->stop('immediate');
$node->append_conf('postgresql.conf', "pgmq.worker = off");
$node->start;
$node->safe_psql('postgres', "COMMIT PREPARED 'again_commit'");
$node->safe_psql('postgres', "ROLLBACK PREPARED 'again_rollback'");
check_committed('again_commit', 'decided before its ring was built');
check_rolled_back('again_rollback', 'decided before its ring was built');

# Sizes of the pool and of the list do not matter: many messages in one transaction
$node->safe_psql('postgres', q{
	SELECT pgmq.create('many');
	SELECT count(*) FROM pgmq.send_batch('many', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 5000)));
	BEGIN;
	SELECT count(*) FROM pgmq.read('many', 3600, 2000);
	SELECT count(*) FROM pgmq.pop('many', 1000);
	SELECT count(*) FROM pgmq.send_batch('many', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 1000)));
	PREPARE TRANSACTION 'many'});
is($node->safe_psql('postgres', q{
		BEGIN; SELECT count(*), min(msg_id), max(msg_id) FROM pgmq.read('many', 60, 10000); ROLLBACK}), '2000|3001|5000',
	'many messages: only what was not touched is to be had');
$node->safe_psql('postgres', "COMMIT PREPARED 'many'");
is($node->safe_psql('postgres', q{SELECT count(*), min(msg_id), max(msg_id) FROM pgmq.read('many', 60, 10000)}), '3000|3001|6000',
	'many messages: what was sent is to be had');
queues_are_sound($node, [qw(live_commit live_rollback late_commit late_rollback done_commit done_rollback again_commit again_rollback many)]);
# Committed, and deleted by a transaction that rolls back before anybody has settled it: the
# message is in its group again
$node->append_conf('postgresql.conf', "pgmq.worker = off\n");
$node->reload;
$node->safe_psql('postgres', q{
	SELECT pgmq.create('groups');
	SELECT pgmq.send('groups', '1', '{"x-pgmq-group": "a"}'::jsonb);
	SELECT pgmq.read_grouped('groups', 0, 1);
	BEGIN; SELECT pgmq.send('groups', '2', '{"x-pgmq-group": "b"}'::jsonb); PREPARE TRANSACTION 'group'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'group'});
$node->safe_psql('postgres', q{BEGIN; DELETE FROM pgmq.q_groups WHERE msg_id = 2; ROLLBACK});
is($node->safe_psql('postgres', q{SELECT msg_id FROM pgmq.read_grouped_head('groups', 0, 10)}), "1\n2",
	'a message that a transaction has inserted by PREPARE keeps its group when its delete is undone');
queues_are_sound($node, ['groups']);

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal/, 'no process was lost');
$node->stop;
done_testing();
