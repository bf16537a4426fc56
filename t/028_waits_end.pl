# Breaks: sessions that wait, for a message, for another's claim, savepoint, row lock or
# prepared transaction, are cancelled, terminated or run into a timeout; so are those they
# wait for; transactions are prepared while others wait, and decided after a crash.
#
# How we know: each wait ends with its error at once; what the waiter had read, deleted and
# sent is everybody's again, what was under a savepoint before the rest; the holder's
# message stays held, and is free when the holder has ended, in whatever way; who waited
# for it goes on.  Sessions that lock a message and sessions that read and delete it, both
# only ever one thing, never end in a deadlock.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('waits_end', conf => "max_prepared_transactions = 10\npgmq.worker_naptime = 100ms\n");

$node->safe_psql('postgres', q{
	SELECT pgmq.create('jobs'), pgmq.create('empty');
	SELECT pgmq.send('jobs', to_jsonb(i)) FROM generate_series(1, 3) i});

# What can be had now, without keeping it
sub available
{
	return $node->safe_psql('postgres', q{
		BEGIN; SELECT string_agg(msg_id::text, ' ' ORDER BY msg_id) FROM pgmq.read('jobs', 60, 100); ROLLBACK});
}

sub session
{
	my ($name) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query_safe("SET application_name = '$name'");
	return $session;
}

# Ends a session whose server process may be gone
sub leave
{
	my ($session) = @_;

	eval { $session->quit };
	return;
}

sub pid_of
{
	my ($name) = @_;

	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = '$name'");
}

sub wait_for_wait
{
	my ($name) = @_;

	$node->poll_query_until('postgres', qq{
		SELECT count(*) = 1 FROM pg_stat_activity
		WHERE application_name = '$name' AND state = 'active' AND wait_event_type IN ('Lock', 'Extension')})
	  or die "$name does not wait";
	return;
}

sub wait_for_end
{
	my ($name) = @_;

	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = '$name'")
	  or die "$name does not end";
	return;
}

# Begins a statement that waits; over() says how it ended
sub begin_wait
{
	my ($session, $statement) = @_;

	$session->query_until(qr/^waiting$/m, "\\echo waiting\n$statement;\n\\echo over :SQLSTATE\n");
	return;
}

sub over
{
	my ($session) = @_;
	my $out = $session->query_until(qr/^over \w+$/m, '');

	$session->{stderr} = '';    # the next query_safe would take the error for its own
	return $out =~ /^over (\w+)$/m ? $1 : '';
}

# ---- what may end a wait: SQLSTATE expected, how it is brought about ----

my %ends = (
	cancel => [ '57014', sub { $node->safe_psql('postgres', 'SELECT pg_cancel_backend(' . pid_of('waiter') . ')') } ],
	terminate => [ undef, sub { $node->safe_psql('postgres', 'SELECT pg_terminate_backend(' . pid_of('waiter') . ')') } ],
	statement_timeout => [ '57014', sub { } ],
	lock_timeout => [ '55P03', sub { } ]);

# A waiter that holds messages of its own: 2 by a read, and under a savepoint 3 by a delete,
# and it has sent one
sub check_wait
{
	my ($what, $statement, $end) = @_;
	my ($sqlstate, $bring_about) = @{ $ends{$end} };
	my $waiter = session('waiter');
	my $name = "$what, $end";

	$waiter->query_safe(q{
		BEGIN; SELECT count(*) FROM pgmq.read('jobs', 60, 1, '2'); SAVEPOINT s;
		SELECT pgmq.delete('jobs', 3); SELECT pgmq.send('jobs', '4')});
	$waiter->query_safe("SET LOCAL $end = '150ms'") if $end =~ /timeout/;
	begin_wait($waiter, $statement);
	if ($end !~ /timeout/)
	{
		wait_for_wait('waiter');
		is(available(), '', "$name: what the waiter holds is held while it waits") if $end eq 'cancel';
	}
	$bring_about->();
	if (defined $sqlstate)
	{
		is(over($waiter), $sqlstate, "$name: the wait ends");
		is(available(), '3', "$name: what was under the savepoint is free");
		$waiter->query_safe(q{ROLLBACK TO s; SELECT pgmq.delete('jobs', 3); SELECT pgmq.set_vt('jobs', 2, 0)});
		is(available(), '', "$name: the transaction goes on");
		$waiter->query_safe('ROLLBACK');
	}
	else
	{
		wait_for_end('waiter');
	}
	is(available(), '2 3', "$name: all that the waiter had is free");
	leave($waiter);
	return;
}

my %statements = (
	delete => q{SELECT pgmq.delete('jobs', 1)},
	archive => q{SELECT pgmq.archive('jobs', ARRAY[1]::bigint[])},
	set_vt => q{SELECT pgmq.set_vt('jobs', 1, 0)},
	DELETE => q{DELETE FROM pgmq.q_jobs WHERE msg_id = 1},
	UPDATE => q{UPDATE pgmq.q_jobs SET message = '0' WHERE msg_id = 1},
	LOCK => q{SELECT FROM pgmq.q_jobs WHERE msg_id = 1 FOR UPDATE});

# Who holds message 1, and the statements whose wait for it is ended
my @holders = (
	[ 'a claim', q{SELECT count(*) FROM pgmq.read('jobs', 60, 1, '1')}, sort keys %statements ],
	[ 'a savepoint\'s claim', q{SAVEPOINT s; SELECT count(*) FROM pgmq.read('jobs', 60, 1, '1')}, qw(archive set_vt UPDATE) ],
	[ 'a row lock', q{SELECT count(*) FROM (SELECT FROM pgmq.q_jobs WHERE msg_id = 1 FOR UPDATE) l}, qw(delete set_vt) ],
	[ 'a delete', q{SELECT pgmq.delete('jobs', 1)}, qw(archive set_vt) ]);

foreach my $row (@holders)
{
	my ($what, $hold, @names) = @$row;
	my $holder = session('holder');

	$holder->query_safe("BEGIN; $hold");
	foreach my $name (@names)
	{
		check_wait("$name waits for $what", $statements{$name}, $_) foreach sort keys %ends;
	}
	$holder->query_safe('ROLLBACK');
	leave($holder);
	is(available(), '1 2 3', "$what: free after its rollback");
	queues_are_sound($node, ['jobs'], $what);
}

# ---- sleeping for a message ----

$node->safe_psql('postgres', q{BEGIN; SELECT pgmq.delete('jobs', 1); PREPARE TRANSACTION 'held'});
foreach my $function (qw(read_with_poll read_grouped_with_poll))
{
	check_wait($function, "SELECT * FROM pgmq.$function('empty', 60, 1, 60, 60000)", $_)
	  foreach qw(cancel statement_timeout terminate);
}
check_wait('delete waits for a prepared transaction', $statements{delete}, $_) foreach sort keys %ends;
check_wait('set_vt waits for a prepared transaction', $statements{set_vt}, $_) foreach qw(cancel terminate);
$node->safe_psql('postgres', "ROLLBACK PREPARED 'held'");
is(available(), '1 2 3', 'free when the prepared transaction is rolled back');

# None of them is left in the queue of waiters: the next one is given the message
my $next = session('waiter');
begin_wait($next, "SELECT 'got', msg_id FROM pgmq.read_with_poll('empty', 60, 1, 60, 60000)");
wait_for_wait('waiter');
$node->safe_psql('postgres', "SELECT pgmq.send('empty', '1')");
is(over($next), '00000', 'a sleeper after those that were ended is woken');
leave($next);

# ---- the holder is ended ----

# Ends a session that holds message 1 as described, while another waits to delete it: that
# one goes on, and is rolled back
sub check_holder
{
	my ($what, $setting, $hold, $end) = @_;
	my ($holder, $waiter) = (session('holder'), session('waiter'));
	my $pid = pid_of('holder');

	$waiter->query_safe('BEGIN');
	$holder->query_safe($setting) if $setting;
	$holder->query_safe(qq{BEGIN; SELECT pgmq.send('jobs', '5'); SELECT pgmq.delete('jobs', 2); $hold});
	begin_wait($waiter, $statements{delete});
	$end->($holder, $pid);
	is(over($waiter), '00000', "$what: who waits for it goes on");
	wait_for_end('holder') if $what !~ /rolls back/;
	is(available(), '2 3', "$what: what it had is free");
	$waiter->query_safe('ROLLBACK');
	leave($_) foreach $waiter, $holder;
	is(available(), '1 2 3', "$what: nothing is left of it");
	queues_are_sound($node, ['jobs'], $what);
	return;
}

my $claim = q{SELECT count(*) FROM pgmq.read('jobs', 60, 1, '1')};
my $deep = 'SAVEPOINT a; SAVEPOINT b; ' . $claim . q{; SAVEPOINT c; SELECT pgmq.set_vt('jobs', 1, 60)};

foreach my $hold ([ 'a claim', $claim ], [ 'a claim under savepoints', $deep ], [ 'a delete', $statements{delete} ])
{
	check_holder("the holder of $hold->[0] is terminated", '', $hold->[1], sub {
		wait_for_wait('waiter');
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($_[1])") });
	check_holder("the holder of $hold->[0] is idle for too long", q{SET idle_in_transaction_session_timeout = '300ms'},
		$hold->[1], sub { });
	check_holder("the holder of $hold->[0] takes too long", q{SET transaction_timeout = '1s'}, $hold->[1], sub { })
	  if major_version($node) >= 17;
}

# ---- prepared while another waits, decided before and after a crash ----

# More subtransactions than other sessions can look up in memory; every other one undone
my $subtransactions = q{DO $$ BEGIN FOR i IN 1 .. 100 LOOP BEGIN
	PERFORM pgmq.send('jobs', '6'); PERFORM pgmq.set_vt('jobs', 2, 60); PERFORM 1 / (i % 2);
	EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$};

sub rows
{
	return $node->safe_psql('postgres', q{
		SELECT count(*), string_agg(msg_id || ':' || (vt > now()), ' ' ORDER BY msg_id) FILTER (WHERE msg_id <= 3),
			count(*) FILTER (WHERE message = '6')
		FROM pgmq.q_jobs});
}

sub prepare_with_waiter
{
	my ($wanted) = @_;
	my ($holder, $waiter) = (session('holder'), session('waiter'));

	$holder->query_safe("BEGIN; $claim; SAVEPOINT s; $statements{delete}; ROLLBACK TO s; $subtransactions");
	$waiter->query_safe('BEGIN');
	begin_wait($waiter, $statements{delete});
	wait_for_wait('waiter');
	$holder->query_safe("PREPARE TRANSACTION 'held'");
	wait_for_wait('waiter');
	is(available(), '3', "$wanted: what is prepared is held");
	leave($holder);
	return $waiter;
}

foreach my $decision (qw(ROLLBACK COMMIT))
{
	my $waiter = prepare_with_waiter("$decision PREPARED");

	if ($decision eq 'ROLLBACK')
	{
		$node->safe_psql('postgres', "ROLLBACK PREPARED 'held'");
		is(over($waiter), '00000', 'who waited before it was prepared goes on when it is rolled back');
		$waiter->query_safe('ROLLBACK');
		is(rows(), '3|1:false 2:false 3:false|0', 'rolled back: as it was');
		is(available(), '1 2 3', 'rolled back: free');
		leave($waiter);
		$waiter = prepare_with_waiter('crash, ROLLBACK PREPARED');
	}
	$node->stop('immediate');
	leave($waiter);
	$node->start;
	is(available(), '3', "$decision, after a crash: what is prepared is held");
	queues_are_sound($node, ['jobs'], "prepared, after a crash");
	$node->safe_psql('postgres', "$decision PREPARED 'held'");
	is(rows(), $decision eq 'COMMIT' ? '53|1:true 2:true 3:false|50' : '3|1:false 2:false 3:false|0',
		"$decision PREPARED after a crash: as decided");
	like(available(), $decision eq 'COMMIT' ? qr/^3( \d+){50}$/ : qr/^1 2 3$/, "$decision PREPARED after a crash: free as decided");
}

# ---- waiting for a lock, and for whoever claims the message before we have it ----

$node->safe_psql('postgres', q{
	ALTER DATABASE postgres SET deadlock_timeout = '50ms';
	SELECT pgmq.create('one'); SELECT pgmq.send('one', '1')});
my ($lock, $read) = map { PostgreSQL::Test::Utils::tempdir() . "/$_.sql" } qw(lock read);
append_to_file($lock, "BEGIN; SELECT FROM pgmq.q_one WHERE msg_id = 1 FOR UPDATE; COMMIT;\n");
append_to_file($read, "BEGIN; SELECT FROM pgmq.read('one', 0, 1); SELECT pgmq.delete('one', 1); ROLLBACK;\n");
$node->command_ok([ 'pgbench', '-n', '-c', '6', '-T', '4', '-h', $node->host, '-p', $node->port,
		'-f', "$lock\@2", '-f', $read, 'postgres' ], 'lockers and readers of one message get on');
unlike(slurp_file($node->logfile), qr/deadlock detected/, '... without deadlocks');

queues_are_sound($node, [qw(jobs empty one)]);
unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'no process was lost');
$node->stop;
done_testing();
