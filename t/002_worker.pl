# Breaks: the server is restarted, the launcher is killed or told to do nothing, databases
# are dropped and copied while the worker wants to be in them.
#
# How we know: after a start somebody scans a table that no session has touched, a drained
# table shrinks by itself, no DROP DATABASE or CREATE DATABASE ... TEMPLATE fails, and a
# queue works without the worker.  Neither a session terminated in such a statement, nor
# queues that cannot be served now keep the worker from the others, and where nothing can
# be done none is started.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $n_databases = 30;

my $node = new_node('worker', conf => "pgmq.worker_naptime = 50ms\nautovacuum = off\nlog_min_messages = debug1\n");

sub launcher_pid
{
	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pgmq launcher'");
}

sub wait_for_launcher
{
	my $pid = '';

	wait_until('there is a launcher', sub { $pid = launcher_pid(); $pid ne '' });
	return $pid;
}

# Returns where the log of the restarted server begins
sub set_worker
{
	my ($state) = @_;

	$node->append_conf('postgresql.conf', "pgmq.worker = $state");
	$node->stop;
	my $log_start = -s $node->logfile;
	$node->start;
	return $log_start;
}

# ---- rings are built after a start ----

$node->safe_psql('postgres', q{
	SELECT pgmq.create('early');
	SELECT count(*) FROM pgmq.send_batch('early', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 1000)))});
my $pages = $node->safe_psql('postgres', "SELECT pg_relation_size('pgmq.q_early') / current_setting('block_size')::int");
sub pages_looked_at
{
	my ($queue) = @_;

	return $node->safe_psql('postgres',
		"SELECT coalesce(heap_blks_read + heap_blks_hit, 0) FROM pg_statio_user_tables WHERE relname = 'q_$queue'");
}

set_worker('off');
$node->safe_psql('postgres', 'SELECT pg_stat_reset()');
is(pages_looked_at('early'), 0, 'nobody scans the table without a worker');
set_worker('on');
wait_until('somebody scans the table', sub { pages_looked_at('early') >= $pages });
ok(1, 'the worker builds a ring after a start');
is($node->safe_psql('postgres', "SELECT queue_length FROM pgmq.metrics('early')"), 1000, 'the ring knows all messages');
queues_are_sound($node, ['early'], 'after a start');

# ---- what is gone is vacuumed ----

$node->safe_psql('postgres', q{
	SELECT pgmq.create('drained');
	SELECT count(*) FROM pgmq.send_batch('drained', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 20000)))});
my $size = "SELECT pg_relation_size('pgmq.q_drained')";
my $size_full = $node->safe_psql('postgres', $size);
$node->safe_psql('postgres', "SELECT count(*) FROM pgmq.pop('drained', 20000)");
my $took = wait_until('the drained table has shrunk', sub { $node->safe_psql('postgres', $size) < $size_full / 10 });
cmp_ok($took, '<', 10, "a drained table shrinks by itself, from $size_full bytes in a few seconds");
queues_are_sound($node, ['drained'], 'after the vacuum');

# A few dead rows wait longer, but not for autovacuum
$node->safe_psql('postgres', q{
	SELECT count(*) FROM pgmq.send_batch('drained', (SELECT array_agg(to_jsonb(repeat('x', 1000))) FROM generate_series(1, 500)));
	SELECT count(*) FROM pgmq.pop('drained', 500)});
$took = wait_until('the small remainder is gone', sub { $node->safe_psql('postgres', $size) == 0 });
cmp_ok($took, '<', 20, 'so does one with few dead rows');

# In a short table their room is used again
$node->safe_psql('postgres', q{SELECT pgmq.create('short')});
my ($n_vacuums, $shortest) = ('vacuum_count FROM pg_stat_user_tables WHERE relname = \'q_short\'', 0);
foreach my $round (1 .. 2)
{
	$node->safe_psql('postgres', q{SELECT count(*) FROM pgmq.send_batch('short', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 500)));
		SELECT count(*) FROM pgmq.pop('short', 500)});
	wait_until("the short table is vacuumed, $round", sub { $node->safe_psql('postgres', "SELECT $n_vacuums") == $round });
	my $length = $node->safe_psql('postgres', q{SELECT pg_relation_size('pgmq.q_short')});
	cmp_ok($length, '>', 0, 'a short table is not cut');
	is($length, $shortest, 'nor does it grow') if $round > 1;
	$shortest = $length;
}

# ---- databases come and go under the worker ----

$node->safe_psql('postgres', 'CREATE DATABASE model');
$node->safe_psql('model', q{CREATE EXTENSION pgmq; SELECT pgmq.create('q')});

# Leaves the worker something to build, to settle and to vacuum, and disconnects
sub make_busy
{
	my ($database) = @_;

	$node->safe_psql($database, q{
		SELECT count(*) FROM pgmq.send_batch('q', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 2000)));
		SELECT count(*) FROM pgmq.pop('q', 1500)});
	return;
}

# A psql that has ended may still be connected for a moment: not what this is about
sub run_alone
{
	my ($database, $sql) = @_;

	wait_until("our sessions have left $database", sub {
			$node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = '$database' AND backend_type = 'client backend'") == 0;
		});
	my ($status, $out, $err) = $node->psql('postgres', $sql);
	return $err;
}

my @errors;
foreach my $i (1 .. $n_databases)
{
	make_busy('model');
	push @errors, run_alone('model', "CREATE DATABASE d$i TEMPLATE model");
	make_busy("d$i");
	make_busy("d$i") if $i % 2;
	push @errors, run_alone("d$i", $i % 3 ? "DROP DATABASE d$i" : "ALTER DATABASE d$i RENAME TO e$i");
	push @errors, run_alone("e$i", "DROP DATABASE e$i") if $i % 3 == 0;
}
is(join("\n", grep { $_ ne '' } @errors), '', "$n_databases databases were copied and dropped in spite of the worker");
is($node->safe_psql('model', "SELECT count(*) FROM pgmq.check_queue('q')"), 0, 'check_queue is clean in the template');

# A failed DROP leaves the worker at work
my $session = $node->background_psql('model');
$session->query_safe('SELECT 1');
isnt($node->psql('postgres', 'DROP DATABASE model'), 0, 'a database in use cannot be dropped');
$session->quit;
$node->safe_psql('model', "SELECT count(*) FROM pgmq.pop('q', 1000000)");
wait_until('the table in the other database has shrunk', sub { $node->safe_psql('model', "SELECT pg_relation_size('pgmq.q_q')") == 0 });
ok(1, 'the worker goes on in a database that could not be dropped');

# A session that is terminated inside CREATE DATABASE leaves nothing paused
my $blocker = $node->background_psql('postgres');
foreach my $i (1 .. 17)
{
	$blocker->query_safe('BEGIN; LOCK pg_database IN SHARE MODE');
	my $creator = $node->background_psql('postgres', on_error_stop => 0);
	$creator->query_until(qr/^start$/m, "\\echo start\nCREATE DATABASE copy TEMPLATE model;\n");
	$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '^CREATE DATABASE copy' AND wait_event_type = 'Lock'})
	  or die 'CREATE DATABASE does not wait';
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^CREATE DATABASE copy'});
	$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE query ~ '^CREATE DATABASE copy'});
	$blocker->query_safe('ROLLBACK');
	eval { $creator->quit };
}
$blocker->quit;
make_busy('model');
$node->safe_psql('model', "SELECT count(*) FROM pgmq.pop('q', 1000000)");
wait_until('the table in the template has shrunk', sub { $node->safe_psql('model', "SELECT pg_relation_size('pgmq.q_q')") == 0 });
ok(1, 'the worker goes on in a database whose copying was terminated');
is(run_alone('model', 'DROP DATABASE model'), '', 'and that can be dropped');

# ---- what cannot be served now keeps nobody waiting ----

sub n_workers { return scalar(() = slurp_file($node->logfile) =~ /starting background worker process "pgmq worker/g); }

# No worker is started for twenty naps
sub is_quiet
{
	my ($when) = @_;
	my $n;

	wait_until("no worker runs, $when", sub { $n = n_workers(); $node->safe_psql('postgres', 'SELECT pg_sleep(0.3)'); n_workers() == $n });
	$node->safe_psql('postgres', 'SELECT pg_sleep(0.7)');
	return is(n_workers() - $n, 0, "no worker is started in vain $when");
}

$node->safe_psql('postgres', q{
	SELECT pgmq.create('copied'), pgmq.create('changed');
	SELECT count(*) FROM pgmq.send_batch('copied', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 1000)))});
$node->safe_psql('postgres', 'VACUUM FULL pgmq.q_copied');
is_quiet('after VACUUM FULL');
$node->safe_psql('postgres', 'CREATE INDEX copied_id ON pgmq.q_copied (msg_id); CLUSTER pgmq.q_copied USING copied_id');
is_quiet('after CLUSTER');
queues_are_sound($node, ['copied'], 'after it was copied');
$node->safe_psql('postgres', q{
	SELECT pgmq.send('changed', '{}'), pgmq.delete('changed', 1);
	ALTER TABLE pgmq.q_changed ALTER vt TYPE text;
	ALTER TABLE pgmq.q_copied DROP vt});
is_quiet('for tables that are no queues any more');

# Seventy queues wait for a prepared transaction
$node->safe_psql('postgres', "SELECT pgmq.create('held_' || i) FROM generate_series(1, 70) i");
$node->safe_psql('postgres', q{
	BEGIN;
	SELECT count(*) FROM generate_series(1, 70) i, pgmq.send('held_' || i, '{}');
	PREPARE TRANSACTION 'holder'});
$node->safe_psql('postgres', q{
	SELECT pgmq.create('behind');
	SELECT count(*) FROM pgmq.send_batch('behind', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 2000)))});
my $pages_read = pages_looked_at('behind');
$node->safe_psql('postgres', 'ALTER TABLE pgmq.q_behind SET (fillfactor = 90)');
wait_until('the table behind them is scanned', sub { pages_looked_at('behind') > $pages_read });
ok(1, 'queues that wait for a prepared transaction keep no other from being built');
$node->safe_psql('postgres', "ROLLBACK PREPARED 'holder'");
$node->safe_psql('postgres', "SELECT pgmq.drop_queue('held_' || i) FROM generate_series(1, 70) i");

# A table that cannot be read
$node->safe_psql('postgres', q{
	SELECT pgmq.create('broken');
	SELECT pgmq.send('broken', '{}');
	SELECT pgmq.create('whole');
	SELECT count(*) FROM pgmq.send_batch('whole', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, 2000)))});
my $file = $node->data_dir . '/' . $node->safe_psql('postgres', "SELECT pg_relation_filepath('pgmq.q_broken')");
$node->stop;
open(my $table, '+<:raw', $file) or die "$file: $!";
print $table 'X' x 64;
close($table);
$node->start;
$pages_read = pages_looked_at('whole');
$node->safe_psql('postgres', 'ALTER TABLE pgmq.q_whole SET (fillfactor = 90)');
wait_until('the other table is scanned', sub { pages_looked_at('whole') > $pages_read });
like(slurp_file($node->logfile), qr/ERROR:  invalid page in block 0 of relation/, 'the worker has met a broken page');
queues_are_sound($node, ['whole'], 'beside a broken one');
$node->safe_psql('postgres', "SELECT pgmq.drop_queue('broken')");

# ---- without the worker ----

sub queue_works
{
	my ($name, $when) = @_;

	is($node->safe_psql('postgres', qq{
			SELECT pgmq.create('$name');
			SELECT send FROM pgmq.send('$name', '{"n": 1}');
			SELECT send FROM pgmq.send('$name', '{"n": 2}');
			SELECT msg_id, read_ct FROM pgmq.read('$name', 60, 1);
			SELECT pgmq.delete('$name', 1);
			SELECT msg_id FROM pgmq.pop('$name')}),
		"\n1\n2\n1|1\nt\n2", "a queue works $when");
	queues_are_sound($node, [$name], $when);
	return;
}

my $pid = wait_for_launcher();
kill('TERM', $pid);
wait_until('the launcher has gone', sub { launcher_pid() ne $pid });
queue_works('orphan', 'after its launcher was terminated');
isnt(wait_for_launcher(), $pid, 'the launcher comes back');

my $log_start = set_worker('off');
queue_works('alone', 'with pgmq.worker = off');
is($node->safe_psql('postgres', "SELECT count(*) FROM pgmq.read('early', 0, 1000)"), 1000, 'a caller builds the ring');
like(slurp_file($node->logfile), qr/starting background worker process "pgmq worker/, "the log tells of database workers");
unlike(slurp_file($node->logfile, $log_start), qr/starting background worker process "pgmq worker/, 'no database worker was started');

$node->append_conf('postgresql.conf', 'pgmq.worker = on');
$node->reload;
$node->safe_psql('postgres', "SELECT count(*) FROM pgmq.pop('early', 1000)");
wait_until('the worker vacuums again', sub { $node->safe_psql('postgres', "SELECT pg_relation_size('pgmq.q_early')") == 0 });
queues_are_sound($node, [qw(early drained orphan alone)]);
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal/, 'no process was lost');
$node->stop;
done_testing();
