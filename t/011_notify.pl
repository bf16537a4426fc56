# Breaks: senders of a queue with notifications on commit, roll back, fail after they have
# notified, stop in the middle of their commit, and meet each other and a crash.
#
# How we know: a session that listens hears of each committed message unless its listeners
# were told less than a throttle's interval ago, and of no other.  "Hears" is what its psql
# has printed when it has run one more query: a commit signals listeners before it returns.
use strict;
use warnings;

use File::Copy;
use FindBin;
use IPC::Run;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# Build the module that makes commits fail or wait, and have it called after ours
my $build = PostgreSQL::Test::Utils::tempdir;
copy("$FindBin::RealBin/late_failure/$_", $build) for qw(Makefile late_failure.c);
my $errors = '';
IPC::Run::run([ 'make', '-s', '-C', $build ], '>', '/dev/null', '2>', \$errors)
  or die "could not build the test module: $errors";

my $node = new_node('notify', conf => "max_connections = 40\nmax_prepared_transactions = 5\n");
my $path = $node->safe_psql('postgres', 'SHOW dynamic_library_path');

$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'late_failure, pgmq'
dynamic_library_path = '$build:$path'
});
$node->restart;

my $hour = 3_600_000;
my $listener;

sub start_listener
{
	my (@queues) = @_;

	$listener = $node->background_psql('postgres');
	$listener->query_safe(qq{LISTEN "pgmq.q_$_.INSERT"}) for @queues;
	return;
}

# Names of the queues that were told of since the last call, one for each notification
sub heard
{
	my $out = $listener->query('SELECT 1');

	return join(' ', $out =~ /Asynchronous notification "pgmq\.q_(.*?)\.INSERT" received/g);
}

# hears(SQL, QUEUES, WHAT): after SQL these queues are heard of
sub hears
{
	my ($sql, $queues, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', $sql);
	return is(heard(), $queues, $what);
}

sub create
{
	my ($queue, $storage, $interval) = @_;

	$node->safe_psql('postgres', qq{
		SET client_min_messages = warning; SET pgmq.queue_storage = $storage;
		SELECT pgmq.create('$queue'), pgmq.enable_notify_insert('$queue', $interval)});
	return;
}

start_listener(qw(hot heap Mixed mixed));

foreach my $q (qw(hot heap))
{
	create($q, $q, $hour);
	my $send = "SELECT pgmq.send('$q', '1')";

	# The throttle, and its row as users may change it
	hears($send, $q, "$q: the first message is told of");
	hears("$send; SELECT pgmq.send_batch('$q', '{1,2}'); INSERT INTO pgmq.q_$q (vt) VALUES (now())",
		'', "$q: those that follow are not");
	hears("SELECT pgmq.update_notify_insert('$q', $hour); $send; $send", $q, "$q: told again after update_notify_insert");
	hears("UPDATE pgmq.notify_insert_throttle SET last_notified_at = '-infinity'; $send; $send", $q, "$q: and after an UPDATE");
	hears("UPDATE pgmq.notify_insert_throttle SET last_notified_at = 'infinity'; $send", '', "$q: never after infinity");
	hears("UPDATE pgmq.notify_insert_throttle SET last_notified_at = now() - interval '10 s', throttle_interval_ms = 60000; $send",
		'', "$q: not before the interval is over");
	hears("UPDATE pgmq.notify_insert_throttle SET throttle_interval_ms = 1000; $send", $q, "$q: but once it is");
	hears("BEGIN; SELECT pgmq.update_notify_insert('$q', 0); $send; COMMIT; $send", "$q $q", "$q: our own change counts");

	# Rollback and savepoints, with every commit told of from here on
	hears("BEGIN; $send; ROLLBACK", '', "$q: a rolled back send is not");
	hears("BEGIN; SAVEPOINT a; $send; ROLLBACK TO a; COMMIT", '', "$q: nor to a savepoint");
	hears("BEGIN; SAVEPOINT a; SAVEPOINT b; $send; RELEASE b; ROLLBACK TO a; SAVEPOINT c; COMMIT", '', "$q: nor after a release");
	hears("BEGIN; SAVEPOINT a; $send; RELEASE a; SAVEPOINT b; $send; ROLLBACK TO b; COMMIT", $q, "$q: one that was released is");
	hears("DO \$\$ BEGIN PERFORM pgmq.send('$q', '1'); RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END \$\$", '', "$q: none from a caught exception");
	hears("BEGIN; $send; $send; SELECT pgmq.send_batch('$q', '{1,2,3}'); NOTIFY \"pgmq.q_$q.INSERT\"; COMMIT", $q, "$q: once for a transaction");

	# Delays
	hears("SELECT pgmq.send('$q', '\"late\"', clock_timestamp() + interval '10 ms')", $q, "$q: a delayed message is told of when it is sent");
	wait_until('the delay is over', sub {
		$node->safe_psql('postgres', qq{SELECT count(*) FROM pgmq.q_$q WHERE message = '"late"' AND vt < clock_timestamp()}) });
	is(heard(), '', "$q: and not when it is ready");

	# Without an interval the row is stamped where it is
	my $row = "SELECT ctid FROM pgmq.notify_insert_throttle WHERE queue_name = '$q'";
	my $before = $node->safe_psql('postgres', $row);
	hears("$send;" x 50, join(' ', ($q) x 50), "$q: each of 50 messages");
	is($node->safe_psql('postgres', $row), $before, "$q: leave no dead row");

	# Two-phase commit
	my ($status, $out, $err) = $node->psql('postgres', "BEGIN; $send; PREPARE TRANSACTION 'p'");
	like($err, qr/cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY/, "$q: one that would notify cannot be prepared");
	hears("SELECT pgmq.update_notify_insert('$q', $hour); $send; BEGIN; $send; PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'",
		$q, "$q: one that would not can");

	# Isolation
	foreach my $level ('REPEATABLE READ', 'SERIALIZABLE')
	{
		hears("SELECT pgmq.update_notify_insert('$q', $hour); BEGIN ISOLATION LEVEL $level; $send; COMMIT; $send", $q, "$q: $level");
	}
	$node->safe_psql('postgres', "SELECT pgmq.disable_notify_insert('$q')");
	hears($send, '', "$q: silent when disabled");
}
queues_are_sound($node, ['hot', 'heap']);

# Names keep their case in the channel, whatever the sender says
create('Mixed', 'hot', 0);
hears("SELECT pgmq.send('Mixed', '1'); SELECT pgmq.send('mixed', '2'); SELECT pgmq.send('MIXED', '3')", 'Mixed Mixed Mixed', 'mixed case');
create('hot', 'hot', 0);
hears("BEGIN; SELECT pgmq.send('mixed', '1'); SELECT pgmq.send('hot', '1'); COMMIT", 'Mixed hot', 'two queues in a transaction');

# A commit that fails after it has notified has not; the next one does
sub commit_late
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "BEGIN; $sql; SET LOCAL late_failure.fail = on; COMMIT");

	like($err, qr/late failure/, "the commit of \"$sql\" fails late");
	return;
}

foreach my $q (qw(hot heap))
{
	create($q, $q, $hour);
	my $send = "SELECT pgmq.send('$q', '1')";

	commit_late($send);
	is(heard(), '', "$q: a send that failed late is not told of");
	hears($send, $q, "$q: the next one is, though its time was taken");
	hears($send, '', "$q: and then no more");

	# The same while somebody locks the row, which is not stamped then
	my $locker = $node->background_psql('postgres');
	$locker->query_safe("BEGIN; UPDATE pgmq.notify_insert_throttle SET last_notified_at = to_timestamp(0); COMMIT; BEGIN; SELECT 1 FROM pgmq.notify_insert_throttle FOR UPDATE");
	commit_late($send);
	is(heard(), '', "$q: a send that failed late is not told of, the row being locked");
	hears($send, $q, "$q: the next one is");
	hears($send, '', "$q: and then no more, without a stamp");
	is($node->safe_psql('postgres', "SELECT last_notified_at = to_timestamp(0) FROM pgmq.notify_insert_throttle WHERE queue_name = '$q'"),
		't', "$q: there is none");
	$locker->query_safe('COMMIT');
	$locker->quit;

	# Another one stops in its commit: nobody waits for it for long, and nobody counts on it
	foreach my $fails ('on', 'off')
	{
		my $holder = $node->background_psql('postgres');
		my $stuck = $node->background_psql('postgres', on_error_stop => 0);

		$node->safe_psql('postgres', "SELECT pgmq.update_notify_insert('$q', $hour)");
		$holder->query_safe('SELECT pg_advisory_lock(1)');
		$stuck->query_until(qr/^stuck$/m, "BEGIN; $send; SET LOCAL late_failure.lock = 1; SET LOCAL late_failure.fail = $fails;\n\\echo stuck\nCOMMIT;\n\\echo over\n");
		$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'advisory'})
		  or die 'the commit does not stop';
		hears($send, $q, "$q: a send tells if the one whose turn it is takes too long");
		$holder->query_safe('SELECT pg_advisory_unlock(1)');
		$stuck->query_until(qr/^over$/m, '');
		is(heard(), $fails eq 'on' ? '' : $q, "$q: that one does if it commits (fails: $fails)");
		$node->safe_psql('postgres', $send);
		heard();
		hears($send, '', "$q: the throttle is in force again");
		$_->quit for $holder, $stuck;
	}
}
queues_are_sound($node, ['hot', 'heap']);

# Many at once: about one notification per interval, none of them lost
my $interval = 200;
my $script = PostgreSQL::Test::Utils::tempdir . '/send.sql';
PostgreSQL::Test::Utils::append_to_file($script, q{
\set end random(1, 5)
BEGIN;
SELECT pgmq.send('hot', '1');
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
});
foreach my $preloaded (1, 0)
{
	my $name = $preloaded ? 'preloaded' : 'not preloaded';

	if (!$preloaded)
	{
		$listener->quit;
		$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
		$node->restart;
		start_listener('hot');
	}
	$node->safe_psql('postgres', "SELECT pgmq.update_notify_insert('hot', $interval)");
	my $start = time();
	$node->command_ok([ 'pgbench', '-n', '-c', '8', '-j', '2', '-T', '2', '-f', $script, 'postgres' ], "$name: eight senders");
	my $intervals = (time() - $start) * 1000 / $interval;
	my $n = split(/ /, heard());
	cmp_ok($n, '>=', 3, "$name: told of again and again");
	# without turns in shared memory those that commit at the same moment all tell
	cmp_ok($n, '<=', ($preloaded ? 2 : 8) * ($intervals + 1), "$name: no more often than the throttle allows");
	hears("SELECT pgmq.update_notify_insert('hot', $hour); SELECT pgmq.send('hot', '1'); SELECT pgmq.send('hot', '1')",
		'hot', "$name: sequentially exact");
}
$listener->quit;

# A crash empties the unlogged table: nobody is told until it is enabled again
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pgmq'");
$node->stop('immediate');
$node->start;
start_listener('hot');
hears("SELECT pgmq.send('hot', '1')", '', 'silent after a crash');
is($node->safe_psql('postgres', q{
	SELECT count(*) FROM pgmq.notify_insert_throttle;
	SELECT count(*) FROM pg_trigger WHERE tgrelid = 'pgmq.q_hot'::regclass AND NOT tgisinternal}),
	"0\n1", 'the triggers stay, the rows do not');
hears("SELECT pgmq.enable_notify_insert('hot', $hour); SELECT pgmq.send('hot', '1')", 'hot', 'told again when enabled');

# Dump and restore
$node->safe_psql('postgres', 'CREATE DATABASE copy');
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'dump');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'copy' ], 'restore');
my $state = q{
	SELECT queue_name, throttle_interval_ms, last_notified_at FROM pgmq.notify_insert_throttle;
	SELECT tgrelid::regclass, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgrelid::regclass::text COLLATE "C"};
is($node->safe_psql('copy', $state), $node->safe_psql('postgres', $state), 'throttles and triggers are restored');

# What is sent before the extension goes in the same transaction is no problem
$node->safe_psql('copy', q{BEGIN; SELECT pgmq.send('heap', '1'), pgmq.send('hot', '1'); DROP EXTENSION pgmq CASCADE; COMMIT});

# The extension cannot go while a queue notifies
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', q{
	SET client_min_messages = warning; SET pgmq.queue_storage = heap; CREATE EXTENSION pgmq;
	SELECT pgmq.create('told'), pgmq.create('silent'), pgmq.enable_notify_insert('told')});
my ($status, $out, $err) = $node->psql('other', 'DROP EXTENSION pgmq');
like($err, qr/trigger_notify_queue_insert_listeners on table pgmq\.q_told depends on function pgmq\.notify_queue_listeners\(\)/, 'DROP EXTENSION is refused');
$node->safe_psql('other', 'DROP EXTENSION pgmq CASCADE');
is($node->safe_psql('other', q{
	SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'pgmq'::regnamespace AND relkind = 'r';
	SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal}),
	"a_silent a_told q_silent q_told\n0", 'CASCADE takes the triggers, not the queues');

queues_are_sound($node, ['hot', 'heap', 'mixed']);
$listener->quit;
$node->stop;
done_testing();
