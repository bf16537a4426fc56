# Breaks: everything, again and again, at random moments under a random mixed load: the
# server by kill -9 of all its processes, of the postmaster (orphaned backends go on for a
# moment), of a backend, of our worker, of an auxiliary process, in the middle of recovery;
# by immediate and fast stops; clients by kill -9, their statements by cancels, their
# sessions by termination.  Some rounds run with a pool for a fraction of the messages,
# prepared transactions are left over from round to round.
#
# How we know: each client keeps a ledger outside the database (LedgerClient.pm) of what it
# is about to do and of what the server acknowledged.  After every round, with nobody at
# work, the tables must agree with all ledgers (Ledger.pm): no acknowledged send is lost and
# nothing is there that was not sent; what was removed does not come back; what was rolled
# back left no trace; no message was delivered before an acknowledged lease had ended, and
# none is found with another lease than the last acknowledged one; a transaction of unknown
# outcome happened as a whole or not at all; what is prepared stays so until it is decided.
# What is ready can be read, and ring and table agree.  At the end the queues are drained
# through the functions, and deliver each message that is left exactly once.
#
# PGMQ_CRASH_ROUNDS   number of rounds
# PGMQ_CRASH_SECONDS  ends the loop earlier if they take longer
# PGMQ_CRASH_STOP=1   ends it with the first round that fails
# PGMQ_CRASH_BATCH    size of large batches; the backlog gets a few times as long
# PGMQ_CRASH_CONF     more settings, separated by semicolons
# PGMQ_TEST_SEED      repeats the choice of faults and statements, not their timing
#
# The figures are printed at the end, and left in crash_loop.txt in the folder of the
# test's data.  scripts/mutants shows what this test notices, t/023_ledger.pl what Ledger.pm
# complains of.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Ledger;
use LedgerClient;
use List::Util qw(sum0);
use PgWire;
use PgmqTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $n_rounds = $ENV{PGMQ_CRASH_ROUNDS} // 50;
my $max_seconds = $ENV{PGMQ_CRASH_SECONDS};
my $n_clients = 6;
my $large_batch = $ENV{PGMQ_CRASH_BATCH} // 300;
my @queues = @LedgerClient::queues;
my $seed = random_seed();

# Replay compares pages with what they were, leases and all.  wal_log_hints: or a page that was marked all-visible, then
# truncated away and made anew by the time of the crash, is compared while it is empty.
my $node = new_node(
	'crash', conf => qq{
restart_after_crash = on
synchronous_commit = on
max_prepared_transactions = 30
max_wal_size = 64MB
deadlock_timeout = 100ms
pgmq.worker_naptime = 100ms
log_min_messages = warning
log_min_error_statement = panic
wal_log_hints = on
} . replay_check() . join("\n", split /;/, $ENV{PGMQ_CRASH_CONF} // '') . "\n");
my $dir = $node->basedir;

$node->safe_psql('postgres', q{
	SELECT pgmq.create(q) FROM unnest(ARRAY['orders', 'topic_a', 'topic_b', 'groups', 'pops', 'side']) q;
	SELECT pgmq.create_unlogged('scratch');
	SELECT pgmq.bind_topic('topic.*', 'topic_a'), pgmq.bind_topic('topic.both', 'topic_b');
	CREATE FUNCTION us(timestamptz) RETURNS bigint LANGUAGE sql AS
		'SELECT (extract(epoch FROM $1) * 1000000)::bigint'});

my $ledger = Ledger->new(@queues);
my %n_faults;
my @problems;
my ($db, $main_log, $n_started);
my %clients;    # slot -> pid
my $postmaster; # if it is a child of ours
my $slowest_orphan = 0;
my ($n_checked, $longest_backlog) = (0, 0);
my $started_at = time();

sub log_file { return "$dir/client_$_[0].log"; }

sub main_line
{
	syswrite($main_log, join("\t", @_) . "\n") or die "ledger: $!";
	return;
}

open($main_log, '>>', log_file('main')) or die $!;

# ---- clients ----

# A process of its own; its end must not run what ends this one
sub start_client
{
	my ($slot, $backlog_is_long) = @_;
	my $number = ++$n_started;
	my $client_seed = int(rand(1 << 30));
	local $SIG{TERM} = \&LedgerClient::stop;    # it may be told to before it runs
	my $pid = fork() // die "fork: $!";

	if ($pid == 0)
	{
		eval {
			LedgerClient::run(
				host => $node->host, port => $node->port, slot => $slot, round => $number,
				seed => $client_seed, log => log_file($slot), backlog_is_long => $backlog_is_long, large => $large_batch);
			1;
		} or do { print STDERR "client $slot: $@"; POSIX::_exit(1); };
		POSIX::_exit(0);
	}
	$clients{$slot} = $pid;
	return;
}

sub client_is_gone
{
	my ($slot) = @_;

	return 0 if waitpid($clients{$slot}, POSIX::WNOHANG()) == 0;
	push @problems, "client $slot ended with status $?" if $? != 0;
	delete $clients{$slot};
	return 1;
}

# Each ends its transaction; one that does not hangs in the server
sub stop_clients
{
	kill('TERM', values %clients);
	my $deadline = time() + 60;
	until (!%clients)
	{
		client_is_gone($_) foreach keys %clients;
		sleep(0.005);
		next if time() < $deadline;
		push @problems, 'clients ' . join(' ', sort keys %clients) . ' do not end';
		kill('KILL', values %clients);
		$deadline += 60;
	}
	return;
}

sub kill_client
{
	my ($backlog_is_long) = @_;
	my ($slot) = (sort keys %clients)[ rand keys %clients ];

	kill('KILL', $clients{$slot});
	waitpid($clients{$slot}, 0);
	start_client($slot, $backlog_is_long);
	return;
}

# ---- the server ----

# A child of ours, that leaves nothing behind for others to clear away
sub start_postmaster
{
	my $pid;

	waitpid($postmaster, 0) if $postmaster;
	$pid = $postmaster = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', $node->logfile);
		open(STDERR, '>&', \*STDOUT);
		exec('postgres', '-D', $node->data_dir) or POSIX::_exit(1);
	}
	$node->{_pid} = $pid;
	return;
}

# ---- what happens while they work ----

sub connect_to_server
{
	wait_until('the server answers', sub {
		die "the server has ended with status $?" if $postmaster && waitpid($postmaster, POSIX::WNOHANG()) == $postmaster;
		$db = PgWire->new($node->host, $node->port, 'control', statement_timeout => 60_000, lock_timeout => 10_000);
	});
	return;
}

sub one_of_clients
{
	my ($function) = @_;

	$db->ask("SELECT $function(pid) FROM (SELECT pid FROM pg_stat_activity "
		  . "WHERE application_name = 'ledger' ORDER BY random() LIMIT 1) p");
	return;
}

sub our_processes
{
	return map { /^\s*(\d+) .*: pgmq (?:worker|launcher)/ ? $1 : () }
	  split /\n/, `ps -o pid=,args= --ppid $node->{_pid}`;
}

my @small_faults = (
	[ 45, 'statements cancelled', sub { one_of_clients('pg_cancel_backend'); } ],
	[ 25, 'sessions terminated', sub { one_of_clients('pg_terminate_backend'); } ],
	[ 15, 'clients killed (-9)', \&kill_client ],
	[ 10, 'workers terminated', sub { kill('TERM', $_) foreach our_processes(); } ]);

sub one_by_weight
{
	my (@choices) = @_;
	my $at = rand(sum0(map { $_->[0] } @choices));

	foreach (@choices)
	{
		return $_ if ($at -= $_->[0]) < 0;
	}
	return $choices[-1];
}

sub ledger_size { return sum0(map { -s log_file($_) || 0 } 1 .. $n_clients); }

# Until a random amount of work is done; a machine that is busy otherwise does less
sub load
{
	my ($backlog_is_long) = @_;
	my $scale = $large_batch / 300;
	my $enough = ledger_size() + rand(80_000 * $scale);
	my $end = time() + $scale;

	start_client($_, $backlog_is_long) foreach 1 .. $n_clients;
	while (ledger_size() < $enough && time() < $end)
	{
		sleep(0.02 + rand(0.1));
		my $fault = one_by_weight(@small_faults);
		$fault->[2]->($backlog_is_long);
		$n_faults{ $fault->[1] }++;
	}
	return;
}

# ---- how a round ends ----

sub kill_one
{
	my (@pids) = @_;

	return if !@pids;
	kill('KILL', $pids[ rand @pids ]);
	return 1;
}

sub pids_where
{
	my ($condition) = @_;
	my $answer = $db->ask("SELECT pid FROM pg_stat_activity WHERE $condition");

	return map { $_->[0] } @{ $answer->{rows} };
}

sub kill_backend { return kill_one(pids_where("application_name = 'ledger'")); }

# Its children notice, some of them in the middle of a statement
sub kill_postmaster
{
	kill('STOP', $node->{_pid});    # or it starts one more, which nobody waits for
	my @children = children_of($node->{_pid});

	kill('KILL', $node->{_pid});
	my $seconds = wait_until('orphaned backends end', sub { !processes_left(@children, $node->{_pid}) });
	$slowest_orphan = $seconds if $seconds > $slowest_orphan;
	$node->{_pid} = undef;
	return;
}

sub crash_in_recovery
{
	crash($node);
	start_postmaster();
	sleep(rand(0.15));
	crash($node);
	return;
}

sub kill_backends_in_turn
{
	foreach (1 .. 3)
	{
		wait_until('clients are there again', sub {
			connect_to_server() if $db->{is_lost};
			kill_backend();
		});
		sleep(rand(0.3));
	}
	return;
}

# weight, name, what to do, does the server lose its memory, what unlogged queues hold
my @ends = (
	[ 20, 'kill -9 of all processes', sub { crash($node); }, 1 ],
	[ 13, 'kill -9 of the postmaster', \&kill_postmaster, 1 ],
	[ 13, 'kill -9 of a backend', \&kill_backend, 1 ],
	[ 8, 'kill -9 of backends in turn', \&kill_backends_in_turn, 1 ],
	[ 6, 'kill -9 of our worker or launcher', sub { kill_one(our_processes()) || kill_backend(); }, 1 ],
	[ 6, 'kill -9 of an auxiliary process', sub {
		kill_one(pids_where("backend_type IN ('checkpointer', 'background writer', 'walwriter')")); }, 1 ],
	[ 6, 'kill -9 during recovery', \&crash_in_recovery, 1 ],
	[ 10, 'immediate stop', sub { $node->stop('immediate'); }, 1 ],
	[ 9, 'fast stop', sub { $node->stop('fast'); }, 0 ],
	[ 9, 'none', sub { }, 0 ]);

# Stop the clients, bring the server back, wait until none of their transactions is left
sub come_back
{
	my ($fault) = @_;

	stop_clients();
	if (!defined $node->{_pid})
	{
		$node->append_conf('postgresql.conf', 'pgmq.ring_memory = ' . (qw(64kB 64kB 256kB 16MB))[ rand 4 ]);
		start_postmaster();
	}
	# After a crash that the postmaster has to notice first
	wait_until('the server is the next one', sub {
		connect_to_server();
		my $answer = $db->ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ledger'");
		$answer->{fate} eq 'done' && $answer->{rows}[0][0] == 0;
	});
	return;
}

# ---- what the tables say ----

sub rows_by_key
{
	my ($prefix) = @_;
	my %rows;

	foreach my $queue (@queues)
	{
		foreach ($db->rows("SELECT message->>'k', msg_id, read_ct, us(last_read_at), us(vt), "
			  . "CASE WHEN message->>'p' = repeat(message->>'k', (message->>'n')::int) THEN 1 ELSE 0 END "
			  . "FROM pgmq.${prefix}_$queue"))
		{
			my ($key, @row) = @$_;
			push @problems, "$queue:$key: twice in ${prefix}_$queue" if $rows{"$queue:$key"};
			$rows{"$queue:$key"} = \@row;
		}
	}
	return \%rows;
}

# The names of the prepared transactions p that CONDITION holds for
sub prepared
{
	my ($condition) = @_;

	return map { $_->[0] } $db->rows("SELECT gid FROM pg_prepared_xacts p $condition ORDER BY gid");
}

sub check_tables
{
	my ($has_crashed) = @_;

	# With these undecided, nobody can empty the queue
	decide($_) foreach $has_crashed ? prepared(q{WHERE EXISTS (
			SELECT FROM pg_locks own JOIN pg_locks l USING (virtualtransaction)
			WHERE own.transactionid = p.transaction AND own.granted AND l.relation = 'pgmq.q_scratch'::regclass)}) : ();
	$ledger->read_log($_, log_file($_)) foreach 1 .. $n_clients, 'main';
	if ($has_crashed)
	{
		# With "in turn" there may be what was sent between two crashes
		$db->rows('DELETE FROM pgmq.q_scratch');
		$ledger->forget_queue('scratch');
	}
	my $live = rows_by_key('q');
	push @problems, $ledger->check($live, rows_by_key('a'), [ prepared('') ]);
	$n_checked += keys %$live;
	$longest_backlog = keys %$live if keys %$live > $longest_backlog;
	return scalar keys %$live;
}

# What is ready and not locked by a prepared transaction can be had, all of it
sub check_readable
{
	my $queue = $queues[ rand @queues ];

	$db->rows('BEGIN');
	my %ready = map { $_->[0] => 1 } $db->rows(
		"SELECT msg_id FROM pgmq.q_$queue WHERE vt <= clock_timestamp() FOR UPDATE SKIP LOCKED");
	my @read = map { $_->[0] } $db->rows("SELECT msg_id FROM pgmq.read('$queue', 60, 1000000)");
	delete @ready{@read};
	push @problems, "$queue: ready, and not delivered: " . join(' ', sort { $a <=> $b } keys %ready) if %ready;
	$db->rows('ROLLBACK');
	return;
}

sub check_rings
{
	push @problems, map { "check_queue of $_->[0]: $_->[1]" }
	  $db->rows("SELECT q, c::text FROM unnest(ARRAY['side', " . join(', ', map { "'$_'" } @queues)
		  . "]) q, LATERAL pgmq.check_queue(q) c");
	return;
}

# ---- between two rounds ----

sub decide
{
	my ($gid) = @_;
	my $verb = (qw(COMMIT ROLLBACK))[ rand 2 ];

	main_line('D', $gid, $verb);
	$db->rows("$verb PREPARED '$gid'");
	main_line('K', int(time() * 1_000_000));
	return;
}

# What clients that are gone have leased for long is to be had again
sub end_long_leases
{
	my ($queue) = @_;

	$db->rows('BEGIN');
	my %keys = map { @$_ } $db->rows("SELECT msg_id, message->>'k' FROM pgmq.q_$queue "
		  . "WHERE vt > clock_timestamp() + '5 s' FOR UPDATE SKIP LOCKED");
	my @moved = $db->rows("SELECT msg_id, read_ct, us(vt) FROM pgmq.set_vt('$queue', ARRAY["
		  . join(', ', keys %keys) . ']::bigint[], 0)');
	main_line('I', map { join(':', 'V', $queue, $keys{ $_->[0] }, @$_) } @moved);
	$db->rows('COMMIT');
	main_line('K', int(time() * 1_000_000));
	push @problems, "$queue: set_vt did not find all" if @moved != keys %keys;
	return;
}

sub tidy
{
	$db->rows("DELETE FROM pgmq.a_$_") foreach @queues;    # what was checked
	decide($_) foreach grep { rand() < 0.6 } prepared('');
	end_long_leases($_) foreach grep { rand() < 0.4 } @queues;
	# Forgotten in a crash; not to be had while a prepared transaction has sent
	$db->ask("SET lock_timeout = 50");
	$db->ask("SELECT pgmq.enable_notify_insert('topic_a', 10)");
	$db->ask("RESET lock_timeout");
	return;
}

# ---- the loop ----

sub play_round
{
	my ($round, $backlog_is_long) = @_;
	my $end = one_by_weight(@ends);
	my ($weight, $name, $break, $has_crashed) = @$end;

	load($backlog_is_long);
	$n_faults{$name}++;
	$break->();
	come_back();
	my $n_live = check_tables($has_crashed);
	check_readable();
	check_rings();
	is(join("\n", splice(@problems, 0, 20)), '', "round $round: $name, $n_live messages");
	@problems = ();
	tidy();
	return $n_live;
}

# At a time when all delays and leases are over, through the functions
sub drain
{
	my ($queue) = @_;
	my %left = map { $_->{key} => 1 } $ledger->live($queue);
	my %last_of_group;
	my $verb = $queue eq 'groups' ? 'read_grouped' : 'read';

	while (my @read = $db->rows("SELECT msg_id, message->>'k', headers->>'x-pgmq-group' FROM pgmq.$verb('$queue', 3600, 200)"))
	{
		foreach (@read)
		{
			my ($id, $key, $group) = @$_;
			push @problems, "$queue: $key was not to be delivered" if !delete $left{$key};
			next if $queue ne 'groups';
			push @problems, "$queue: $id came late" if ($last_of_group{$group} // 0) > $id;
			$last_of_group{$group} = $id;
		}
		my $ids = 'ARRAY[' . join(', ', map { $_->[0] } @read) . ']::bigint[]';
		push @problems, "$queue: not all could be deleted"
		  if $db->rows("SELECT pgmq.delete('$queue', $ids)") != @read;
	}
	push @problems, "$queue: never delivered: " . join(' ', keys %left) if %left;
	push @problems, "$queue: not empty" if ($db->rows("SELECT count(*) FROM pgmq.q_$queue"))[0][0] != 0;
	return;
}

$node->stop;
start_postmaster();
my ($n_live, $n_played) = (0, 0);
foreach my $round (1 .. $n_rounds)
{
	last if $max_seconds && time() - $started_at > $max_seconds;
	last if $ENV{PGMQ_CRASH_STOP} && !Test::More->builder->is_passing;
	$n_played++;
	connect_to_server() if !$db;
	$n_live = play_round($round, $n_live > 2 * $large_batch + 1000);
}

connect_to_server() if !$db;
decide($_) foreach prepared('');
check_tables(0);
is(join("\n", splice(@problems, 0, 20)), '', 'the last prepared transactions are decided');
$db->rows("SET pgmq.test_clock = '2100-01-01 00:00:00+00'");
drain($_) foreach @queues;
check_rings();
is(join("\n", splice(@problems, 0, 20)), '', 'all that is left is delivered once');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal (6|11)/, 'nothing but our kills ended a process');

# ---- the figures ----

my %figures = %{ $ledger->{figures} };
my $report = join('', map { "$_\n" }
	"seed: $seed", "rounds: $n_played", "clients: $n_clients, large batches of $large_batch", sprintf('seconds: %.0f', time() - $started_at),
	'server: ' . ($db->rows('SHOW server_version'))[0][0],
	'settings: ' . join(', ', 'pgmq.ring_memory 64kB, 256kB or 16MB', map { "$_ = " . ($db->rows("SHOW $_"))[0][0] }
		  qw(synchronous_commit pgmq.synchronous_leases wal_consistency_checking)),
	(map { "fault: $_: $n_faults{$_}" } sort keys %n_faults),
	(map { "ledger: $_: $figures{$_}" } sort keys %figures),
	"check: rows compared: $n_checked", "check: longest backlog: $longest_backlog",
	sprintf('check: seconds until the last orphan had ended, at most: %.2f', $slowest_orphan),
	'result: ' . (Test::More->builder->is_passing ? 'passed' : 'failed'));
append_to_file("$PostgreSQL::Test::Utils::tmp_check/crash_loop.txt", $report);
note($report);
$node->stop;
done_testing();
