# Breaks: what a server has a limited number or amount of is used up: worker slots, rings,
# the lock table, connections, room for a file, temporary files, memory of a backend; and
# messages are as large as they can be.
#
# How we know: what cannot be done fails with the server's own error, and leaves no trace:
# afterwards every message is where it was, nobody holds what a failed transaction held,
# and ring and table agree.  What needs none of it goes on.
#
# PGMQ_EXHAUSTION_MB is the size of the largest message (16; jsonb ends at 255).  From 100
# on, what is too large for the server is tried, too: that takes minutes.
# PGMQ_SMALL_DISK is an empty folder on a file system of a few MB, which the server may use.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $n_queues = 100;
my $n_rings = 40;
my $largest_mb = $ENV{PGMQ_EXHAUSTION_MB} // 16;

random_seed();

# The launchers of ours and of logical replication take both worker slots
my $node = new_node(
	'exhaustion', conf => qq{
max_worker_processes = 2
max_connections = 40
max_wal_senders = 0
max_prepared_transactions = 0
max_locks_per_transaction = 10
autovacuum = off
pgmq.worker_naptime = 100ms
pgmq.max_hot_queues = $n_rings
});

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub sum_of
{
	my ($condition, @queues) = @_;

	return sql('SELECT ' . join(' + ', map { "(SELECT count(*) FROM pgmq.q_q$_ $condition)" } @queues));
}

sub leased { return sum_of('WHERE vt > now() AND read_ct > 0', @_); }

sub messages { return sum_of('', @_); }

# The error of a statement
sub error_of
{
	my ($sql, $session) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-v', 'VERBOSITY=verbose' ]);

	return $err;
}

# ---- no worker can be started; fewer rings than queues ----

sql("SELECT pgmq.create('q' || i) FROM generate_series($_, $_ + 9) i") foreach map { 10 * $_ + 1 } 0 .. $n_queues / 10 - 1;
my @all = map { "q$_" } 1 .. $n_queues;
my @some = map { "q$_" } 1, 2, $n_rings - 1 .. $n_rings + 3, $n_queues;
sql(qq{SELECT pgmq.send('q' || i, to_jsonb(i)) FROM generate_series($_, $_ + 9) i}) foreach map { 10 * $_ + 1 } 0 .. $n_queues / 10 - 1;
is(sql(qq{SELECT count(*), sum(r.message::int) FROM (SELECT * FROM generate_series(1, 10) UNION SELECT * FROM generate_series($n_queues - 9, $n_queues)) i(i),
		pgmq.read('q' || i, 0, 5) r}), '20|' . (55 + 10 * $n_queues - 45), 'queues without a ring are read like those with one');
foreach my $queue ('q1', "q$n_queues")
{
	is(sql(qq{SELECT pgmq.send('$queue', '0', 3600), pgmq.send('$queue', '{"a": 1}');
			SELECT msg_id FROM pgmq.set_vt('$queue', 2, 0);
			SELECT msg_id FROM pgmq.read('$queue', 60, 2);
			SELECT msg_id FROM pgmq.read('$queue', 60, 2);
			SELECT queue_length, queue_visible_length FROM pgmq.metrics('$queue');
			SELECT pgmq.archive('$queue', 2), pgmq.delete('$queue', 3);
			SELECT msg_id FROM pgmq.set_vt('$queue', 1, 0)}), "2|3\n2\n1\n2\n3\n3|0\nt|t\n1", "all verbs work on $queue");
}
sql(q{SELECT pgmq.drop_queue('q3')});
sql(qq{SELECT msg_id FROM pgmq.read('q$n_queues', 0, 1)});
queues_are_sound($node, \@some, 'with fewer rings than queues');

# ---- the lock table is full ----

my ($hog, $holder, $waiter) = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
$holder->query_safe(q{BEGIN; SELECT msg_id FROM pgmq.read('q1', 60, 1)});
$waiter->query_safe(q{SELECT pgmq.delete('q1', 100)});

# Session locks outlive the error
$hog->query('SELECT count(pg_advisory_lock(i)) FROM generate_series(1, 1000000) i');
like($hog->{stderr}, qr/out of shared memory/, 'a session has all the locks there are');
$hog->{stderr} = '';
$waiter->query(q{SELECT pgmq.delete('q1', 1)});
like($waiter->{stderr}, qr/ERROR:  out of shared memory/, 'who must wait for a claim gets an error');
$waiter->{stderr} = '';
$waiter->quit;

# New sessions need a few
$hog->query_safe('SELECT count(pg_advisory_unlock(i)) FROM generate_series(1, 12) i');
is(sql(q{SELECT pgmq.send('q2', '{}'); SELECT msg_id FROM pgmq.read('q2', 0, 2)}), "2\n1\n2", 'who uses few tables goes on');
like(error_of(qq{DO \$\$ BEGIN FOR i IN 4 .. $n_queues LOOP PERFORM pgmq.send('q' || i, '{}'); END LOOP; END \$\$}),
	qr/ERROR:  53200: out of shared memory/, 'too many queues in a transaction are an error');
my ($status, $out, $err) = $node->psql('postgres', qq{
BEGIN;
DO \$\$
DECLARE
	n_failed int := 0;
	done text := '';
BEGIN
	FOR i IN REVERSE $n_queues - 1 .. 4 LOOP
		BEGIN
			PERFORM pgmq.read('q' || i, 3600, 1);
			done := done || ' q' || i;
		EXCEPTION WHEN out_of_memory THEN
			n_failed := n_failed + 1;
			EXIT WHEN n_failed = 20;
		END;
	END LOOP;
	RAISE NOTICE 'done:%', done;
END \$\$;
COMMIT});
is($status, 0, 'a transaction goes on after the error in a savepoint') or diag($err);
my @done = ($err =~ /done:(.*)/ ? $1 : '') =~ /q(\d+)/g;
cmp_ok(scalar @done, '>', 1, 'having read from several queues');
$holder->query_safe('ROLLBACK');
$holder->quit;
$hog->quit;
is(messages(4 .. 40), 37, 'nothing is left of what failed');
my @not_done = grep { my $i = $_; !grep { $_ == $i } @done } $n_queues - 25 .. $n_queues - 1;
is(leased(@done), scalar @done, 'whose messages are leased');
is(leased(@not_done), 0, 'and no others');
is(sql(q{SELECT msg_id FROM pgmq.read('q1', 0, 1)}), 1, 'the claimed message is free');
queues_are_sound($node, [ map { "q$_" } 1, 2, @done[ 0 .. 1 ], @not_done[ 0 .. 1 ] ], 'after the lock table was full');

# ---- all connections wait for messages ----

my $waiting = $node->basedir . '/wait.sql';
append_to_file($waiting, "SELECT pgmq.pop('q2', 1) FROM (SELECT msg_id FROM pgmq.read_with_poll('q2', 0, 1, 60, 50)) m;\n");
sql(q{SELECT pgmq.purge_queue('q2')});
my $n_waiters = 30;
my $waiters = IPC::Run::start([ $node->installed_command('pgbench'), '-n', '-c', $n_waiters, '-j', 1, '-t', 1, '-f', $waiting,
		'-h', $node->host, '-p', $node->port, 'postgres' ], '>', \my $waiters_out, '2>', \my $waiters_err);
$node->poll_query_until('postgres', "SELECT count(*) = $n_waiters FROM pg_stat_activity WHERE query ~ 'read_with_poll' AND wait_event_type IS NOT NULL AND state = 'active' AND pid <> pg_backend_pid()")
  or die 'the waiters do not wait';
sql(qq{SELECT count(*) FROM generate_series(1, $n_waiters - 10) i, pgmq.send('q2', to_jsonb(i))});
sql(q{SELECT pgmq.send('q2', '{}')}) foreach 1 .. 10;
$waiters->finish;
is($waiters->full_result(0), 0, 'all waiters got through') or diag($waiters_err);
unlike($waiters_err, qr/ERROR/, 'without an error');
queues_are_sound($node, ['q2'], 'after many waited');

# ---- limits of one backend ----

# with_limit(NAME, VALUE, SQL): what a session says to SQL while its process has this limit
sub with_limit
{
	my ($name, $value, $sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');

	$session->query_safe(q{SELECT count(*) FROM pgmq.q_full; SELECT * FROM pgmq.metrics('full')});
	$value = $value->($pid) if ref $value;
	IPC::Run::run([ 'prlimit', '--pid', $pid, "--$name=$value:" ]) or die 'prlimit failed';
	$session->{stderr} = '';
	$session->query($sql);
	my $said = $session->{stderr};
	$session->{stderr} = '';
	is($session->query_safe('SELECT pg_backend_pid()'), $pid, "the session lives on with $name $value");
	$session->quit;
	return $said;
}

sub fingerprint { return sql(q{SELECT count(*), sum(msg_id), sum(read_ct), sum(hashtext(message::text)), count(*) FILTER (WHERE vt > now()) FROM pgmq.q_full}); }

my $sent = q{SELECT count(*) FROM pgmq.send_batch('full', (SELECT array_agg(jsonb_build_object('k', (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 50) j)))
	FROM generate_series(1, %d) i))};
sql(q{SELECT pgmq.drop_queue('q4'), pgmq.drop_queue('q5')});
sql(q{SELECT pgmq.create('full')});
sql(sprintf($sent, 3000));
my $before = fingerprint();

SKIP:
{
	skip 'no prlimit', 1 unless IPC::Run::run([ 'sh', '-c', 'command -v prlimit' ], '>', '/dev/null');

	# A file may have 17 MB: more than a segment of WAL
	like(with_limit('fsize', 17 << 20, sprintf($sent, 12000)), qr/ERROR:  could not (extend|write)/, 'a table that cannot grow is an error');
	is(fingerprint(), $before, 'of which nothing is left');
	queues_are_sound($node, ['full'], 'after the disk was full');
	is(with_limit('fsize', 17 << 20, q{SELECT count(*) FROM pgmq.read('full', 1, 3000); SELECT pgmq.delete('full', 1); SELECT pgmq.send('full', '{}')}) =~ /ERROR/, '',
		'who needs no room goes on');
	sql(q{SELECT count(*) FROM pgmq.set_vt('full', ARRAY(SELECT msg_id FROM pgmq.q_full), 0)});
	$before = fingerprint();

	# Memory: a little more each time, so that it ends elsewhere
	foreach my $sql (sprintf($sent, 3000), q{SELECT count(*) FROM pgmq.read('full', 60, 3000)}, q{SET work_mem = '1GB'; SELECT count(*) FROM (SELECT * FROM pgmq.pop('full', 3000)) p},
		q{SELECT count(*) FROM pgmq.archive('full', ARRAY(SELECT msg_id FROM pgmq.q_full))},
		q{SELECT count(*) FROM pgmq.read('full', 60, 3000); SELECT count(*) FROM pgmq.delete('full', ARRAY(SELECT msg_id FROM pgmq.q_full))})
	{
		my $n_refused = 0;
		foreach my $kb (100, 500, 1500, 5000)
		{
			my $said = with_limit('as', sub {
					my ($kb_used) = slurp_file("/proc/$_[0]/status") =~ /VmSize:\s+(\d+) kB/;
					return ($kb_used + $kb) * 1024;
				}, "BEGIN; $sql; SELECT repeat('x', 100000000) IS NULL; COMMIT");
			$n_refused += $said =~ /out of memory/;
			is(fingerprint(), $before, "\"$sql\" with $kb kB leaves no trace");
		}
		cmp_ok($n_refused, '>', 0, 'memory was short');
		queues_are_sound($node, ['full'], 'after memory was short');
	}
}

like(error_of(q{SET work_mem = '64kB'; SET temp_file_limit = '1MB'; SELECT count(*) FROM pgmq.read('full', 60, 3000)}),
	qr/ERROR:  53400: temporary file size exceeds "?temp_file_limit/, 'a result that may not be written is an error');
is(fingerprint(), $before, 'of which nothing is left');
is(sql(q{SELECT count(*) FROM pgmq.read('full', 0, 3000)}), 3000, 'all messages are free');
queues_are_sound($node, ['full'], 'after temp_file_limit');

# ---- a disk that is full ----

SKIP:
{
	skip 'PGMQ_SMALL_DISK names no small file system', 1 unless $ENV{PGMQ_SMALL_DISK};
	my $batch = sprintf($sent =~ s/'full'/'small'/r, 100);
	my ($n_sent, $said) = (100, '');

	sql("CREATE TABLESPACE small LOCATION '$ENV{PGMQ_SMALL_DISK}'");
	sql(q{SELECT pgmq.create('small')});
	sql('ALTER TABLE pgmq.q_small SET TABLESPACE small');
	sql($batch);
	sql('VACUUM pgmq.q_small');	# whose maps need room, too
	foreach my $round (1, 2)
	{
		$n_sent += 100 while ($said = error_of($batch)) eq '';
		like($said, qr/ERROR:  53100: could not extend file/, 'a full disk is an error');
		cmp_ok($n_sent, '>', 0, "$n_sent messages found room");
		is(sql(q{SELECT queue_length FROM pgmq.metrics('small')}), $n_sent, 'they are there, and no others');
		is(sql(q{SELECT count(*) FROM pgmq.read('small', 0, 1000000)}), $n_sent, 'all can be leased');
		is(sql(q{SELECT count(*) FROM pgmq.archive('small', ARRAY(SELECT msg_id FROM pgmq.q_small ORDER BY msg_id LIMIT 10))}), 10, 'archived');
		is(sql(q{SELECT count(*) FROM pgmq.pop('small', 1000000)}), $n_sent - 10, 'and popped');
		queues_are_sound($node, ['small'], 'on a full disk');
		sql('VACUUM pgmq.q_small') if $round == 1;
		$n_sent = 0;
	}
	sql(q{SELECT pgmq.drop_queue('small')});
	sql('DROP TABLESPACE small');
}

# ---- queues that come and go in a session ----

my ($plans_before, $plans_after) = split /\n/, sql(q{
SET client_min_messages = warning;
SET pgmq.fast_path = off;
CREATE PROCEDURE come_and_go(n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM pgmq.create('passing');
		PERFORM pgmq.send('passing', '{}'), pgmq.read('passing', 0, 1), pgmq.delete('passing', 1);
		PERFORM pgmq.drop_queue('passing');
		COMMIT;
	END LOOP;
END $$;
CALL come_and_go(5);
SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'SPI Plan';
CALL come_and_go(40);
SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'SPI Plan'});
cmp_ok($plans_after, '<', $plans_before + 80, "plans of dropped queues do not pile up: $plans_before, then $plans_after");

# ---- large messages ----

sql(q{SELECT pgmq.drop_queue('q6'), pgmq.drop_queue('q7')});
sql(q{SELECT pgmq.create('large')});
is(sql(qq{SELECT pgmq.send('large', to_jsonb(repeat('x', $largest_mb << 20)), jsonb_build_object('h', repeat('y', $largest_mb << 20)))}), 1, "a message of $largest_mb MB, and as much in its headers");
is(sql(q{SELECT length(message::text) >> 20, length(headers->>'h') >> 20 FROM pgmq.read('large', 0, 1)}), "$largest_mb|$largest_mb", 'is read');
like(error_of(q{SELECT pgmq.send('large', to_jsonb(repeat('x', 300 << 20)))}), qr/ERROR:  54000/, 'one of 300 MB is an error') if $largest_mb >= 100;
like(error_of(q{SELECT count(*) FROM pgmq.send_batch('large', (SELECT array_agg(to_jsonb(repeat('x', 250 << 20))) FROM generate_series(1, 5)))}),
	qr/ERROR:  (54000|53200|XX000)/, 'so is an array of more than 1 GB') if $largest_mb >= 100;
is(sql(q{SELECT length(message::text) >> 20 FROM pgmq.pop('large', 2)}), $largest_mb, 'the large one is popped');
is(sql(q{SELECT queue_length FROM pgmq.metrics('large')}), 0, 'and gone');
queues_are_sound($node, ['large']);

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal (6|11)|WARNING/, 'no process was lost, no leak was reported');
$node->stop;
done_testing();
