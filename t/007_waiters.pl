# Breaks: consumers sleep in read_with_poll with a poll interval far longer than they may
# wait; some are cancelled or killed just as they were given a turn.
#
# How we know: the time between the commit of a send (or the moment a delay or a lease
# ends) and a consumer's last_read_at is measured by the server's clock; of 20 messages for
# 20 sleepers each is read once and each sleeper gets one; sleepers leave no trace in xids
# or in WAL.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $n_consumers = 20;
my $prompt_ms = 100;    # the median of several tries must be below
my $n_tries = 5;

my $node = new_node('waiters', conf => "max_connections = 60\npgmq.worker = off\nautovacuum = off\n");

$node->safe_psql('postgres', q{
	SELECT pgmq.create('jobs'), pgmq.create('other');
	CREATE FUNCTION ms_since(timestamptz) RETURNS int LANGUAGE sql AS
		'SELECT (extract(epoch FROM clock_timestamp() - $1) * 1000)::int'});

# A session that sleeps in a blocking read for up to `seconds`
sub start_consumer
{
	my ($name, $seconds, $queue) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query_safe("SET application_name = '$name'");
	send_read($session, $seconds, $queue);
	return $session;
}

sub send_read
{
	my ($session, $seconds, $queue) = @_;

	$queue //= 'jobs';
	send_poll($session, "read_with_poll('$queue', 60, 1, $seconds, 5000)");
	return;
}

# Any of the polling functions
sub send_poll
{
	my ($session, $call) = @_;

	$session->query_until(qr/^asleep$/m, qq{\\echo asleep
SELECT 'got', msg_id, last_read_at FROM pgmq.$call;
\\echo over
});
	return;
}

# "got|id|time", or nothing where the read ended without a message
sub result_of
{
	my ($session) = @_;
	my $out = $session->query_until(qr/^over$/m, '');

	return $out =~ /^(got\|.*)$/m ? $1 : '';
}

sub wait_for_sleepers
{
	my ($n, $names) = @_;

	$node->poll_query_until('postgres', qq{
		SELECT count(*) = $n FROM pg_stat_activity
		WHERE application_name ~ '$names' AND state = 'active' AND wait_event_type = 'Extension'})
	  or die "there are not $n sleepers";
	return;
}

# Milliseconds from a moment to the time in a result
sub ms_after
{
	my ($moment, $result) = @_;
	my ($got, $id, $at) = split /\|/, $result;

	return 1e9 if !defined $at;
	return $node->safe_psql('postgres', "SELECT round(extract(epoch FROM '$at'::timestamptz - '$moment'::timestamptz) * 1000)");
}

# ---- what wakes a sleeper, and how fast ----

# Each try: put a consumer to sleep and trigger what should wake it; the trigger returns the
# moment from which it may be awake
sub check_latency
{
	my ($what, $limit_ms, $trigger, $prepare) = @_;
	my @ms;

	foreach my $try (1 .. $n_tries)
	{
		$prepare->() if $prepare;
		my $consumer = start_consumer('one', 30);
		wait_for_sleepers(1, '^one$');
		my $moment = $trigger->();
		my $result = result_of($consumer);
		push @ms, ms_after($moment, $result);
		$consumer->quit;
		$node->safe_psql('postgres', 'SELECT pgmq.purge_queue(\'jobs\')');
	}
	note("$what: @ms ms");
	cmp_ok(median(@ms), '<', $limit_ms, "$what wakes a consumer at once");
	ok(!(grep { $_ < -1 } @ms), "and not before");
	return;
}

check_latency('the commit of a send', $prompt_ms, sub {
		return (split /\n/, $node->safe_psql('postgres', q{
			SELECT clock_timestamp();
			SELECT count(*) FROM pgmq.send('jobs', '{}')}))[0];
	});
check_latency('a delay that ends', $prompt_ms, sub {
		return (split /\n/, $node->safe_psql('postgres', q{
			SELECT count(*) FROM pgmq.send('jobs', '{}', clock_timestamp() + interval '400 ms');
			SELECT vt FROM pgmq.q_jobs}))[1];
	});
check_latency('a lease that lapses', $prompt_ms, sub {
		return (split /\n/, $node->safe_psql('postgres', q{
			BEGIN;
			SELECT count(*) FROM pgmq.send('jobs', '{}');
			SELECT count(*) FROM pgmq.read('jobs', 1, 1);
			COMMIT;
			SELECT vt FROM pgmq.q_jobs}))[2];
	});
check_latency('a set_vt to now', $prompt_ms, sub {
		return (split /\n/, $node->safe_psql('postgres', q{
			SELECT count(*) FROM pgmq.send('jobs', '{}', 3600);
			SELECT vt FROM pgmq.set_vt('jobs', (SELECT max(msg_id) FROM pgmq.q_jobs), 0)}))[1];
	});
check_latency('a plain UPDATE', $prompt_ms, sub {
		return (split /\n/, $node->safe_psql('postgres', q{
			SELECT count(*) FROM pgmq.send('jobs', '{}', 3600);
			UPDATE pgmq.q_jobs SET vt = clock_timestamp() RETURNING vt}))[1];
	});

# What another session had read is rolled back
my $holder = $node->background_psql('postgres');
check_latency(
	'the rollback of a read', $prompt_ms,
	sub { return $holder->query_safe('SELECT clock_timestamp(); ROLLBACK'); },
	sub {
		$node->safe_psql('postgres', "SELECT count(*) FROM pgmq.send('jobs', '{}')");
		$holder->query_safe("BEGIN; SELECT count(*) FROM pgmq.read('jobs', 60, 1)");
	});
$holder->quit;

# ---- a message that is not for the one who is woken ----

foreach my $try (1 .. $n_tries)
{
	my @others = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 3;
	foreach my $i (0 .. 2)
	{
		$others[$i]->query_safe("SET application_name = 'other$i'");
		send_poll($others[$i], "read_with_poll('jobs', 60, 1, 30, 5000, '{\"for\": $i}')");
		wait_for_sleepers(1, "^other$i\$");
	}
	my $moment = (split /\n/, $node->safe_psql('postgres', q{
		SELECT clock_timestamp();
		SELECT count(*) FROM pgmq.send('jobs', '{"for": 2}')}))[0];
	cmp_ok(ms_after($moment, result_of($others[2])), '<', 1000, 'a message wakes the consumer whose condition it meets');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^other'");
	eval { $_->quit } foreach @others;
	$node->safe_psql('postgres', "SELECT pgmq.purge_queue('jobs')");
}

# Grouped: the second message of a group is readable once the first is gone
foreach my $how ("pgmq.delete('grouped', 1)", "pgmq.archive('grouped', 1)")
{
	$node->safe_psql('postgres', q{
		SELECT pgmq.create('grouped');
		SELECT count(*) FROM pgmq.send_batch('grouped', '{1,2}'::jsonb[]);
		SELECT count(*) FROM pgmq.read_grouped('grouped', 60, 1)});
	my $consumer = $node->background_psql('postgres', on_error_stop => 0);
	$consumer->query_safe("SET application_name = 'grouped'");
	send_poll($consumer, "read_grouped_with_poll('grouped', 60, 1, 30, 5000)");
	wait_for_sleepers(1, '^grouped$');
	my $moment = (split /\n/, $node->safe_psql('postgres', "SELECT clock_timestamp(); SELECT $how"))[0];
	my $result = result_of($consumer);
	like($result, qr/^got\|2\|/, "$how makes the next message of the group readable");
	cmp_ok(ms_after($moment, $result), '<', 1000, 'and wakes a consumer');
	$consumer->quit;
	queues_are_sound($node, ['grouped']);
	$node->safe_psql('postgres', "SELECT pgmq.drop_queue('grouped')");
}

# ---- one message for each ----

sub ids_of
{
	return join(',', sort { $a <=> $b } map { (split /\|/, $_)[1] } grep { $_ ne '' } @_);
}

foreach my $how ('in one transaction', 'in twenty')
{
	my @consumers = map { start_consumer("many$_", 30) } 1 .. $n_consumers;
	wait_for_sleepers($n_consumers, '^many');
	my $first = 1 + $node->safe_psql('postgres', 'SELECT last_value FROM pgmq.q_jobs_msg_id_seq');
	my $moment = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
	$node->safe_psql('postgres', $how eq 'in twenty' ?
		"SELECT pgmq.send('jobs', '{}');" x $n_consumers :
		"SELECT count(*) FROM pgmq.send_batch('jobs', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, $n_consumers)))");
	my @results = map { result_of($_) } @consumers;
	is(ids_of(@results), join(',', $first .. $first + $n_consumers - 1), "$n_consumers messages sent $how: each sleeper got one");
	cmp_ok(median(map { ms_after($moment, $_) } @results), '<', 5 * $prompt_ms, 'soon');
	$_->quit foreach @consumers;
	queues_are_sound($node, ['jobs'], "sent $how");
	$node->safe_psql('postgres', "SELECT pgmq.purge_queue('jobs')");
}

# ---- a turn that is not taken is passed on ----

# The first ten of twenty sleepers are stopped, so that they are given their turns but cannot
# take them; when they run again their reads are cancelled, or their sessions ended
foreach my $how (qw(pg_cancel_backend pg_terminate_backend))
{
	my @consumers = map { start_consumer(sprintf('turn%02d', $_), 30) } 1 .. $n_consumers;
	my $n_ended = $n_consumers / 2;
	wait_for_sleepers($n_consumers, '^turn');
	my @pids = split /\n/, $node->safe_psql('postgres', qq{
		SELECT pid FROM pg_stat_activity WHERE application_name ~ '^turn' ORDER BY application_name LIMIT $n_ended});
	kill('STOP', @pids);
	$node->safe_psql('postgres', "SELECT count(*) FROM pgmq.send_batch('jobs', (SELECT array_agg('{}'::jsonb) FROM generate_series(1, $n_ended)))");
	$node->safe_psql('postgres', "SELECT $how(pid) FROM unnest('{" . join(',', @pids) . "}'::int[]) pid");
	my $moment = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
	kill('CONT', @pids);
	my @results = map { result_of($_) } @consumers[ $n_ended .. $n_consumers - 1 ];
	is((grep { $_ ne '' } @results) + 0, $n_ended, "$how of those whose turn it was: the others get the messages");
	cmp_ok(median(map { ms_after($moment, $_) } @results), '<', 5 * $prompt_ms, 'soon');
	eval { $_->quit } foreach @consumers;
	queues_are_sound($node, ['jobs'], "after $how");
	$node->safe_psql('postgres', "SELECT pgmq.purge_queue('jobs')");
}

# ---- what sleeping costs ----

# How often the idle sessions went to sleep so far
sub count_switches
{
	my $sum = 0;

	return 0 if !-r '/proc/self/status';
	foreach my $pid (split /\n/, $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE application_name ~ '^idle'}))
	{
		$sum += $1 if slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m;
	}
	return $sum;
}

sub sleepers_cost_nothing
{
	my ($what) = @_;
	my $trace = q{SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot())};

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$node->safe_psql('postgres', 'CHECKPOINT');
	my $before = $node->safe_psql('postgres', $trace);
	my $switches = count_switches();
	$node->safe_psql('postgres', 'SELECT pg_sleep(2)');
	is($node->safe_psql('postgres', $trace), $before, "$what use neither xids nor WAL");
	my $wakes = count_switches() - $switches;
	cmp_ok($wakes, '<', 3 * $n_consumers, "and they sleep: $wakes wake-ups in two seconds");
	return;
}

# Those who know that a row is locked must not wake each other for it
$node->safe_psql('postgres', "SELECT pgmq.send('other', '{}')");
my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; SELECT msg_id FROM pgmq.q_other FOR UPDATE');
my @consumers = map { start_consumer("idle$_", 30, 'other') } 1 .. $n_consumers;
wait_for_sleepers($n_consumers, '^idle');
sleepers_cost_nothing("$n_consumers sleepers over a locked row");
$locker->query_safe('DELETE FROM pgmq.q_other; COMMIT');
$locker->quit;
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^idle'");
result_of($_) foreach @consumers;
$_->quit foreach @consumers;

@consumers = map { start_consumer("idle$_", 30, 'other') } 1 .. $n_consumers;
wait_for_sleepers($n_consumers, '^idle');
sleepers_cost_nothing("$n_consumers sleepers");

# With nothing found
my $waited = $node->safe_psql('postgres', q{
	CREATE TEMP TABLE start AS SELECT clock_timestamp() AS at;
	SELECT count(*) FROM pgmq.read_with_poll('jobs', 60, 1, 1, 5000);
	SELECT ms_since(at) BETWEEN 950 AND 1900 FROM start});
is($waited, "0\nt", 'a blocking read gives up at its time, not at its poll interval');
$node->safe_psql('postgres', qq{SELECT pgmq.send('other', '{}') FROM generate_series(1, $n_consumers)});
is((grep { result_of($_) ne '' } @consumers) + 0, $n_consumers, 'all idle sleepers are woken in the end');
$_->quit foreach @consumers;

queues_are_sound($node, [qw(jobs other)]);
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal/, 'no process was lost');
$node->stop;
done_testing();
