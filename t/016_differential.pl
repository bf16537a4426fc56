# Breaks: nothing by intent.  Random calls of every function, with ordinary and with strange
# arguments, plain SQL on the queues' tables, transactions, savepoints, prepared transactions
# and maintenance, in one session and in two that take turns, in a pool that holds all
# messages and in one that does not.
#
# How we know: a database with hot queues and one with heap queues get the same calls, in
# lockstep and at the same (injected) time.  Every answer is equal: rows, errors, SQLSTATEs,
# notices; and so are the tables, after every few calls.  The ring agrees with its table.
#
# PGMQ_TEST_SEED repeats a run, PGMQ_DIFFERENTIAL_CALLS says how many calls to make.  The
# statements of a run are kept in the log folder, for psql.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use DifferentialCalls;
use PgmqTest;
use PostgreSQL::Test::Utils;
use PsqlPair;
use Test::More;
use Time::HiRes qw(time);

my $n_calls = $ENV{PGMQ_DIFFERENTIAL_CALLS} // 105_000;
my $lines_between_snapshots = 80;

my $seed = random_seed();
my ($calls, $n_done, $script, @history);

# ---- what a session does next ----

# A session: its pair of psql, how deep in savepoints, how many statements of its
# transaction are left
sub new_session
{
	my ($node, $name, %options) = @_;
	my $pair = PsqlPair->new($node, $name, 'hot', 'heap');
	my $session = { name => $name, pair => $pair, depth => 0, left => 0, prepared => 0, %options };

	compare($session, q{SET timezone = 'UTC';}, $calls->set_clock . ';');
	# Who would wait for another gets an error.  Alone there is nobody, but for the commits of
	# transactions that notify, which take turns over all databases.
	compare($session, q{SET lock_timeout = '3ms';}) if !$options{inside};
	return $session;
}

# The next statement or statements of a session
sub next_lines
{
	my ($session) = @_;

	if ($session->{prepared} && ($session->{depth} == 0) && rand() < 0.4)
	{
		$session->{prepared} = 0;
		return (one_of('COMMIT', 'ROLLBACK') . " PREPARED :'gid'");
	}
	return next_in_transaction($session) if $session->{depth} > 0;
	return begin($session) if rand() < 0.12;
	return $calls->upkeep if rand() < 0.01;
	return a_call();
}

# Statements for run(), which commits and rolls back between them
sub lines_inside
{
	my ($n) = @_;

	return map {
		my $choice = rand();
		$choice < 0.1 ? 'COMMIT'
		  : $choice < 0.15 ? ('ROLLBACK', $calls->set_clock)
		  : $choice < 0.25 ? $calls->pass_time
		  : a_call()
	} 1 .. $n;
}

sub a_call
{
	$n_done++;
	return $calls->call;
}

sub begin
{
	my ($session) = @_;

	$session->{depth} = 1;
	$session->{left} = 1 + int rand 9;
	return 'BEGIN' if !$session->{may_isolate} || $session->{prepared} || rand() < 0.8;
	$session->{is_isolated} = 1;
	return 'BEGIN ' . one_of('ISOLATION LEVEL REPEATABLE READ', 'ISOLATION LEVEL SERIALIZABLE', 'READ ONLY');
}

# A rollback takes a step of the clock back; so it is set again.
sub next_in_transaction
{
	my ($session) = @_;

	return end_transaction($session) if $session->{left}-- <= 0;
	if ($session->{depth} > 1 && rand() < 0.25)
	{
		my $savepoint = 's' . $session->{depth}--;
		return ("ROLLBACK TO $savepoint", "RELEASE $savepoint", $calls->set_clock) if rand() < 0.6;
		return "RELEASE $savepoint";
	}
	return 'SAVEPOINT s' . ++$session->{depth} if rand() < 0.15;
	return a_call();
}

sub end_transaction
{
	my ($session) = @_;

	$session->{depth} = 0;
	if (!$session->{prepared} && !delete $session->{is_isolated} && rand() < 0.1)
	{
		$session->{prepared} = 1;
		return ("PREPARE TRANSACTION :'gid'", $calls->set_clock);
	}
	return (one_of('COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK'), $calls->set_clock);
}

sub one_of { return DifferentialCalls::one_of(@_) }

# ---- doing and comparing ----

# Send lines to both databases; dies at the first difference
sub compare
{
	my ($session, @lines) = @_;

	return compare_answers($session, [ $session->{pair}->ask(@lines) ], @lines);
}

sub compare_inside
{
	my ($session, @lines) = @_;

	return compare_answers($session, [ $session->{pair}->ask_inside(@lines) ], 'CALL run()', @lines);
}

sub compare_answers
{
	my ($session, $pairs, @lines) = @_;
	my @answers = @$pairs;

	foreach my $i (0 .. $#lines)
	{
		my ($hot, $heap) = @{ $answers[$i] };
		print $script "$lines[$i] -- $session->{name}\n";
		push @history, "$session->{name}: $lines[$i]\n    " . join("\n    ", split /\n/, substr($hot, 0, 600));
		shift @history if @history > 50;
		report($hot, $heap) if $hot ne $heap;
	}
	return map { $_->[0] } @answers;
}

sub report
{
	my ($hot, $heap) = @_;

	diag(join("\n", "The last calls and the hot queue's answers (seed $seed, call $n_done):", @history));
	diag(difference('hot', $hot, $heap), difference('heap', $heap, $hot));
	die "hot and heap differ\n";
}

# The first lines that only this side has
sub difference
{
	my ($name, $this, $other) = @_;
	my %theirs = map { $_ => 1 } split /\n/, $other;
	my @own = grep { !$theirs{$_} } split /\n/, $this;

	splice @own, 10 if @own > 10;
	return join("\n    ", "$name only:", @own) . "\n";
}

# Between transactions: all rows, and what the ring says
sub compare_tables
{
	my ($session) = @_;
	my @snapshots = DifferentialCalls::snapshots();
	my @answers = compare($session, map { "$_;" } @snapshots,
		q{SELECT queue_name, c.* FROM pgmq.meta, pgmq.check_queue(queue_name) c});

	# A transaction that truncated a queue may be prepared
	die "check_queue: $answers[-1]" if $answers[-1] !~ /^(?:|ERROR:  55P03: .*)$/;
	return $calls->learn(@answers);
}

# Time passes for all of them; nobody is between two of its statements
sub pass_time
{
	my (@sessions) = @_;
	my $line = $calls->pass_time . ';';

	compare($_, $line) foreach @sessions;
	return;
}

# Sessions take turns, TURN statements each, until so many calls are made
sub run_calls
{
	my ($until, $turn, @sessions) = @_;
	my $lines = 0;

	while ($n_done < $until)
	{
		pass_time(@sessions) if @sessions > 1 && rand() < 0.1;
		foreach my $session (@sessions)
		{
			if ($session->{inside})
			{
				compare_inside($session, lines_inside($turn));
				$lines += $turn;
				next;
			}
			my @lines = map { (@sessions == 1 && rand() < 0.1 ? $calls->pass_time : (), next_lines($session)) } 1 .. $turn;
			compare($session, map { "$_;" } @lines);
			$lines += @lines;
		}
		next if $lines < $lines_between_snapshots;
		$lines = 0;
		foreach my $session (@sessions)
		{
			compare($session, map { "$_;" } end_transaction($session)) if $session->{depth} > 0;
		}
		compare_tables($_) foreach @sessions;
	}
	foreach my $session (@sessions)
	{
		compare($session, "ROLLBACK;", "ROLLBACK PREPARED :'gid';");
		compare($session, DifferentialCalls::calm_down());
	}
	compare_tables($sessions[0]);
	$_->{pair}->quit foreach @sessions;
	return;
}

# phase(NAME, SHARE of the calls, TURN, SESSION options...)
sub phase
{
	my ($node, $name, $share, $turn, @sessions) = @_;
	my $until = $n_done + $share * $n_calls;

	$calls->{is_alone} = $sessions[0]{inside};
	@history = ();
	open $script, '>', "$PostgreSQL::Test::Utils::log_path/016_$name.sql" or die $!;
	my $start = time();
	my $passed = eval {
		run_calls($until, $turn, map { new_session($node, "$name$_", %{ $sessions[$_] }) } 0 .. $#sessions);
		1;
	};
	diag($@) if !$passed;
	note(sprintf '%s: %.1f s', $name, time() - $start);
	return ok($passed, "$name: hot and heap queues answer alike");
}

# ---- servers ----

sub databases
{
	my ($name, $conf) = @_;
	my $node = new_node($name, conf => "pgmq.worker = off\nautovacuum = off\nmax_prepared_transactions = 10\n" .
		"synchronous_commit = off\nclient_min_messages = notice\nlog_min_messages = fatal\n$conf");

	foreach my $storage ('hot', 'heap')
	{
		$node->safe_psql('postgres', "CREATE DATABASE $storage");
		$node->safe_psql('postgres', "ALTER DATABASE $storage SET pgmq.queue_storage = $storage");
		$node->safe_psql($storage, "CREATE EXTENSION pgmq; $DifferentialCalls::setup");
	}
	return $node;
}

my $node = databases('roomy', '');
my @missing = DifferentialCalls::restrict(sub {
	$node->safe_psql('hot', "SELECT to_regprocedure('$_[0]') IS NOT NULL") eq 't' });
note("not there yet: $_") foreach @missing;

$n_done = 0;
$calls = DifferentialCalls->new;
phase($node, 'inside', 0.82, 80, { inside => 1 });
phase($node, 'alone', 0.1, 40, { may_isolate => 1 });
phase($node, 'turns', 0.04, 1, {}, {});
$node->stop;

$node = databases('tight', "pgmq.ring_memory = 64kB\n");
$calls = DifferentialCalls->new(backlog => 1000);
$node->safe_psql($_, $calls->set_clock . q{; SELECT count(*) FROM pgmq.send_batch('plain', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 2500) i))})
  foreach 'hot', 'heap';
phase($node, 'cold', 0.05, 40, { may_isolate => 1 });
$node->stop;

note("$n_done calls");
cmp_ok($n_done, '>=', $n_calls, 'all calls were made');
done_testing();
