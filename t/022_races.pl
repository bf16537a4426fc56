# Breaks: two or three sessions meet at instants that chance hardly ever brings about: one
# is stopped at a named point of the code (src/common/failpoint.h) while others go on.
#
# How we know: each race below says what must not happen; in the end ring and table agree,
# and every message can be had.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('races', conf => "pgmq.worker = off\npgmq.ring_memory = 320kB\nautovacuum = off\nstatement_timeout = 120s\n");
my ($status) = $node->psql('postgres', "SET pgmq.failpoint = ''", stderr => \my $ignored);
if ($status != 0)
{
	plan skip_all => 'the library was built without failpoints';
}

# ---- sessions that can be stopped ----

# Each has a time limit, for a query rather than for all
my $holder = $node->background_psql('postgres');
$holder->set_query_timer_restart;
my ($n_locks, $n_marks) = (0, 0);
my @sessions;

sub session
{
	my $psql = $node->background_psql('postgres', on_error_stop => 0);
	my $self = { psql => $psql, pid => $psql->query_safe('SELECT pg_backend_pid()') };

	$psql->set_query_timer_restart;
	push @sessions, $self;
	return $self;
}

# Do it, and tell what came
sub ask
{
	my ($self, $sql) = @_;

	return scalar $self->{psql}->query($sql);
}

# Let it begin, and see to it later
sub begin
{
	my ($self, $sql) = @_;
	my $mark = 'over' . ++$n_marks;

	$self->{mark} = $mark;
	$self->{psql}->query_until(qr/begun/, "\\echo begun\n$sql;\n\\echo $mark\n");
	return;
}

# What it said until its end
sub answer
{
	my ($self) = @_;
	my $text = $self->{psql}->query_until(qr/$self->{mark}/, '');

	$text =~ s/\n?$self->{mark}\n?//;
	return $text;
}

# The session waits for a lock of this kind
sub waits
{
	my ($self, $kind) = @_;

	wait_until("session $self->{pid} waits for $kind", sub {
		return $node->safe_psql('postgres',
			"SELECT count(*) FROM pg_locks WHERE pid = $self->{pid} AND NOT granted AND locktype = '$kind'") > 0;
	});
	return;
}

# stop_at(SESSION, POINTS, SQL): it begins, and stops at the first of the points; give the
# next ones as they are to come
sub stop_at
{
	my ($self, $points, $sql) = @_;
	my @setting;

	$self->{locks} = [];
	foreach my $point (split / /, $points)
	{
		my ($name, $hit) = split /@/, $point;

		push @{ $self->{locks} }, ++$n_locks;
		$holder->query_safe("SELECT pg_advisory_lock($n_locks)");
		push @setting, "$name=wait:$n_locks" . ($hit ? "\@$hit" : '');
	}
	ask($self, "SET pgmq.failpoint = '" . join(', ', @setting) . "'");
	begin($self, $sql);
	waits($self, 'advisory');
	return;
}

# Go on, to the next point if there is one, else to the end; returns what it said then
sub go_on
{
	my ($self) = @_;
	my $lock = shift @{ $self->{locks} };

	$holder->query_safe("SELECT pg_advisory_unlock($lock)");
	return answer($self) if !@{ $self->{locks} };
	wait_until("session $self->{pid} comes to the next point", sub {
		return $node->safe_psql('postgres', "SELECT count(*) FROM pg_locks
			WHERE pid = $self->{pid} AND NOT granted AND locktype = 'advisory' AND objid = $self->{locks}[0]") > 0;
	});
	return;
}

# Go on until it waits for another transaction, or is over
sub go_on_to_wait
{
	my ($self) = @_;

	$holder->query_safe("SELECT pg_advisory_unlock($self->{locks}[0])");
	wait_until("session $self->{pid} waits or is over", sub {
		return $node->safe_psql('postgres', "SELECT state = 'idle' OR EXISTS (SELECT FROM pg_locks l
			WHERE l.pid = a.pid AND NOT granted AND locktype = 'transactionid') FROM pg_stat_activity a WHERE pid = $self->{pid}") eq 't';
	});
	return;
}

my $ids = "coalesce(string_agg(msg_id::text, ' ' ORDER BY msg_id), 'none')";

# A grouped read must be given a beginning of the group
sub is_beginning
{
	my ($got, $what) = @_;
	my @got = grep { /\d/ } split / /, $got;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is("@got", join(' ', 1 .. @got), $what);
}

# A queue with n messages in one group, known to its ring
sub create_group
{
	my ($queue, $n) = @_;

	$node->safe_psql('postgres', qq{
		SELECT pgmq.create('$queue');
		SELECT count(*) FROM pgmq.read_grouped('$queue', 0, 1)});
	$node->safe_psql('postgres', send_group($queue, 1, $n)) if $n > 0;
	return;
}

sub send_group
{
	my ($queue, $from, $to) = @_;

	return "SELECT count(*) FROM pgmq.send_batch('$queue', (SELECT array_agg(to_jsonb(i)) FROM generate_series($from, $to) i),
		(SELECT array_agg('{\"x-pgmq-group\": \"a\"}'::jsonb) FROM generate_series($from, $to)))";
}

# What SELECT count(*) says, and who counts
sub counted
{
	my ($self, $queue) = @_;
	my $query = "SELECT count(*) FROM pgmq.q_$queue";
	my ($n_scans) = ask($self, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) $query") =~ /pgmq count.*Table Scans: (\d+)/s;

	die 'no count node' if !defined $n_scans;
	return ask($self, $query) . ($n_scans > 0 ? ' by the table' : ' by the ring');
}

my ($a, $b, $c) = (session(), session(), session());

# ---- the order of a group, while a transaction of many messages ends ----

# Published in several holds of the ring's lock: who sees some of it waits for the rest
create_group('sent', 0);
ask($a, 'BEGIN');
ask($a, send_group('sent', 1, 600));
stop_at($a, 'commit-apply-end', 'COMMIT');
stop_at($b, 'await-publishing', "SELECT $ids FROM pgmq.read_grouped('sent', 60, 1000)");
go_on($a);
is_beginning(go_on($b), 'a group is published as a whole');
queues_are_sound($node, ['sent']);

# Given back in several holds: the first message last
create_group('extended', 310);
ask($a, "SELECT count(*) FROM pgmq.read_grouped('extended', 3600, 300)");
ask($a, 'BEGIN');
ask($a, "SELECT count(*) FROM (SELECT pgmq.set_vt('extended', i, 0) FROM generate_series(300, 1, -1) i) x");
stop_at($a, 'commit-apply-end', 'COMMIT');
is_beginning(ask($b, "SELECT $ids FROM pgmq.read_grouped('extended', 60, 1000)"), 'a group is ready again from its beginning');
go_on($a);
queues_are_sound($node, ['extended']);

create_group('undone', 4);
ask($a, 'BEGIN; SAVEPOINT s');
ask($a, "SELECT pgmq.delete('undone', i) FROM generate_series(3, 1, -1) i");
stop_at($a, 'release-end', 'ROLLBACK TO s');
is_beginning(ask($b, "BEGIN; SELECT $ids FROM pgmq.read_grouped('undone', 60, 1000); ROLLBACK"), 'ROLLBACK TO gives a group back from its beginning');
go_on($a);
ask($a, 'COMMIT');
queues_are_sound($node, ['undone']);

# Decided by another session: whoever settles the messages one by one
foreach my $n (2, 5)
{
	my $queue = "prepared_$n";

	create_group($queue, 0);
	ask($a, 'BEGIN');
	ask($a, send_group($queue, 1, $n));
	ask($a, "PREPARE TRANSACTION '$queue'");
	stop_at($b, 'take-heads-begin', "SELECT $ids FROM pgmq.read_grouped('$queue', 60, 1000)");
	ask($a, "COMMIT PREPARED '$queue'");
	stop_at($a, 'settle-end', "SELECT queue_length FROM pgmq.metrics('$queue')");
	is_beginning(go_on($b), "$n messages of a prepared transaction come into their group from its beginning");
	go_on($a);
	queues_are_sound($node, [$queue]);

	$queue = "unprepared_$n";
	create_group($queue, $n + 1);
	ask($a, 'BEGIN');
	ask($a, "SELECT count(*) FROM (SELECT pgmq.delete('$queue', i) FROM generate_series(1, $n) i) x");
	ask($a, "PREPARE TRANSACTION '$queue'");
	stop_at($b, 'take-heads-begin', "SELECT $ids FROM pgmq.read_grouped('$queue', 60, 1000)");
	ask($a, "ROLLBACK PREPARED '$queue'");
	stop_at($a, 'settle-end', "SELECT queue_length FROM pgmq.metrics('$queue')");
	is_beginning(go_on($b), "$n messages of a prepared transaction come back into their group from its beginning");
	go_on($a);
	queues_are_sound($node, [$queue]);
}

# Changed before anybody settles it: it keeps its group back like any message that is held
foreach my $change ('UPDATE pgmq.q_%s SET message = message WHERE msg_id = 1', 'DELETE FROM pgmq.q_%s WHERE msg_id = 1')
{
	my $queue = 'held_' . ++$n_marks;

	create_group($queue, 0);
	ask($a, 'BEGIN');
	ask($a, send_group($queue, 1, 3));
	ask($a, "PREPARE TRANSACTION '$queue'");
	ask($a, "COMMIT PREPARED '$queue'");
	ask($a, 'BEGIN; ' . sprintf($change, $queue));
	is(ask($b, "SELECT $ids FROM pgmq.read_grouped('$queue', 60, 10)"), 'none', 'a change of its first message keeps a group back');
	ask($a, 'ROLLBACK');
	is(ask($b, "SELECT $ids FROM pgmq.read_grouped('$queue', 60, 10)"), '1 2 3', 'until it is undone');
	queues_are_sound($node, [$queue]);
}

# What is settled meanwhile is waited for, not looked for in the whole table
create_group('brief', 3);
ask($a, 'BEGIN');
ask($a, send_group('brief', 4, 5));
ask($a, q{PREPARE TRANSACTION 'brief'});
ask($b, 'BEGIN');
stop_at($b, 'take-heads-begin', "SELECT $ids FROM pgmq.read_grouped('brief', 60, 1000)");
ask($a, q{COMMIT PREPARED 'brief'});
ask($a, q{SELECT queue_length FROM pgmq.metrics('brief')});
is_beginning(go_on($b), 'a group is read to its end');
is(ask($b, q{SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'q_brief'}), 0, 'by its ring');
ask($b, 'COMMIT');
queues_are_sound($node, ['brief']);

# ---- a slot's number is another message's by now ----

# Message 1 loses its slot; A's scan sees its row, B deletes that row, A gives it a slot and
# claims it, B commits and takes the slot away, and message 2 gets it.
foreach my $last (qw(take-ready-end refuse-begin terminated))
{
	my $queue = 'number_' . $last =~ tr/-/_/r;
	my $reader = session();

	$node->safe_psql('postgres', "SELECT pgmq.create('$queue'), pgmq.send('$queue', '1')");
	$node->safe_psql('postgres', "ALTER TABLE pgmq.q_$queue SET (fillfactor = 50)");
	ask($reader, 'BEGIN');
	stop_at($reader, 'scan-page-after ' . ($last =~ /refuse/ ? $last : 'take-ready-end'), "SELECT $ids FROM pgmq.read('$queue', 60, 1)");
	ask($b, "BEGIN; DELETE FROM pgmq.q_$queue WHERE msg_id = 1");
	go_on($reader);
	ask($b, 'COMMIT');
	ask($c, "SELECT pgmq.send('$queue', '2')");
	if ($last eq 'terminated')
	{
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($reader->{pid})");
		wait_until('it has gone', sub { $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $reader->{pid}") == 0 });
		$holder->query_safe("SELECT pg_advisory_unlock($reader->{locks}[0])");
		@sessions = grep { $_ != $reader } @sessions;
	}
	else
	{
		go_on($reader);
		ask($reader, 'ROLLBACK');
	}
	queues_are_sound($node, [$queue], $last);
	is(ask($b, "SELECT $ids FROM pgmq.read('$queue', 60, 10)"), '2', "$last: the message that got the slot is there");
}

# B's delete is committed, but the ring does not know: A takes the slot away, then B looks for it
$node->safe_psql('postgres', q{SELECT pgmq.create('forgotten'), pgmq.send('forgotten', '1')});
$node->safe_psql('postgres', 'ALTER TABLE pgmq.q_forgotten SET (fillfactor = 50)');
stop_at($a, 'scan-page-after forget-begin forget-end', "SELECT $ids FROM pgmq.read('forgotten', 60, 1)");
ask($b, 'BEGIN; DELETE FROM pgmq.q_forgotten WHERE msg_id = 1');
stop_at($b, 'commit-begin', 'COMMIT');
go_on($a);
go_on($a);
ask($c, q{SELECT pgmq.send('forgotten', '2')});
go_on($b);
is(go_on($a), 'none', 'a deleted message is not delivered, nor one that was sent after the call');
queues_are_sound($node, ['forgotten']);
is(ask($c, "SELECT $ids FROM pgmq.read('forgotten', 60, 10)"), '2', 'which is there for the next');

# ---- committed, and not in the ring yet ----

# A scan, and a consumer, come before the sender
foreach my $how ('COMMIT', 'ROLLBACK')
{
	my $queue = lc "known_$how";

	$node->safe_psql('postgres', "SELECT pgmq.create('$queue')");
	$node->safe_psql('postgres', "ALTER TABLE pgmq.q_$queue SET (fillfactor = 50)");
	stop_at($a, 'commit-begin', "SELECT pgmq.send('$queue', '1')");
	is(ask($b, "BEGIN; SELECT $ids FROM pgmq.read('$queue', 3600, 1)"), '1', 'a message is read before its sender has published it');
	ask($b, 'COMMIT') if $how eq 'COMMIT';
	go_on($a);
	is(ask($c, "SELECT $ids FROM pgmq.read('$queue', 60, 1)"), 'none', 'and is not published as ready then');
	ask($b, 'ROLLBACK') if $how eq 'ROLLBACK';
	queues_are_sound($node, [$queue], $how);
	is(ask($c, "SELECT $ids FROM pgmq.read('$queue', 60, 1)"), $how eq 'COMMIT' ? 'none' : '1', "and goes by the $how of its reader");
}

# By id it can be had, too: who sees it must be able to delete it
foreach my $verb ("delete('%s', 1)", "archive('%s', 1)", "delete('%s', ARRAY[1])", "set_vt('%s', 1, 60)")
{
	my $queue = 'unpublished_' . ++$n_marks;
	my $call = sprintf($verb, $queue);

	$node->safe_psql('postgres', "SELECT pgmq.create('$queue')");
	stop_at($a, 'commit-begin', "SELECT pgmq.send('$queue', '1')");
	is(ask($b, "SELECT $ids FROM pgmq.q_$queue"), '1', 'the message is committed');
	stop_at($b, 'await-publishing', "SELECT count(*), count(*) FILTER (WHERE x::text <> 'f') FROM pgmq.$call x");
	go_on($a);
	is(go_on($b), '1|1', "$call finds it");
	queues_are_sound($node, [$queue]);
}

# Plain SQL waits for the sender
$node->safe_psql('postgres', q{SELECT pgmq.create('changed')});
stop_at($a, 'commit-begin', q{SELECT pgmq.send('changed', '1')});
begin($b, q{UPDATE pgmq.q_changed SET message = '"new"' RETURNING message});
waits($b, 'transactionid');
go_on($a);
is(answer($b), '"new"', 'an update waits for the sender');
queues_are_sound($node, ['changed']);

# ---- deleted between a scan's look at the page and its word to the ring ----

# The deleter finds no slot to hold.  Where he is prepared then, nobody tells the ring
foreach my $decision (qw(COMMIT ROLLBACK))
{
	my $queue = lc "between_$decision";

	$node->safe_psql('postgres', "SELECT pgmq.create('$queue'), pgmq.send('$queue', '1')");
	$node->safe_psql('postgres', "ALTER TABLE pgmq.q_$queue SET (fillfactor = 50)");
	stop_at($a, 'scan-page-after', "SELECT $ids FROM pgmq.read('$queue', 0, 1)");
	ask($b, "BEGIN; DELETE FROM pgmq.q_$queue WHERE msg_id = 1; PREPARE TRANSACTION '$queue'");
	go_on($a);
	ask($b, "$decision PREPARED '$queue'");
	is(ask($c, "SELECT queue_length FROM pgmq.metrics('$queue')"), $decision eq 'COMMIT' ? 0 : 1, "the length after $decision PREPARED");
	queues_are_sound($node, [$queue], $decision);
	is(ask($c, "SELECT $ids FROM pgmq.read('$queue', 60, 1)"), $decision eq 'COMMIT' ? 'none' : '1', 'and what can be had');
}

# His own reads by group do not find it in their way, whatever the scan has made of it; and
# nobody else's find it gone
foreach my $found ('before', 'after')
{
	my $queue = "own_$found";

	create_group($queue, 3);
	$node->safe_psql('postgres', "ALTER TABLE pgmq.q_$queue SET (fillfactor = 50)");
	stop_at($a, "scan-page-$found", "SELECT $ids FROM pgmq.read('$queue', 0, 1)");
	ask($b, "BEGIN; SAVEPOINT s; DELETE FROM pgmq.q_$queue WHERE msg_id = 1");
	go_on($a);
	is(ask($b, "SELECT $ids FROM pgmq.read_grouped('$queue', 60, 1)"), '2', "the deleter reads on, deleted $found the scan's look");
	is(ask($c, "SELECT $ids FROM pgmq.read_grouped('$queue', 60, 1)"), 'none', 'others do not');
	ask($b, 'ROLLBACK TO s; COMMIT');
	is(ask($c, "SELECT $ids FROM pgmq.read_grouped('$queue', 60, 1)"), '1', 'until the delete is undone');
	queues_are_sound($node, [$queue]);
}

# The deleter settles the slot that he did not find, and takes the delete back
foreach my $undo ('ROLLBACK', 'ROLLBACK TO s; COMMIT')
{
	my $queue = 'settled_' . ++$n_marks;

	$node->safe_psql('postgres', "SELECT pgmq.create('$queue')");
	$node->safe_psql('postgres', "ALTER TABLE pgmq.q_$queue SET (fillfactor = 50)");
	$node->safe_psql('postgres', "BEGIN; SELECT pgmq.send('$queue', '1'); PREPARE TRANSACTION '$queue'");
	$node->safe_psql('postgres', "SELECT count(*) FROM (SELECT pgmq.send('$queue', '1') FROM generate_series(1, 2)) x");
	stop_at($a, 'scan-page-after', "SELECT $ids FROM pgmq.read('$queue', 0, 1)");
	ask($b, "COMMIT PREPARED '$queue'");
	ask($b, "BEGIN; SAVEPOINT s; DELETE FROM pgmq.q_$queue WHERE msg_id = 1");
	go_on($a);
	is(ask($b, "SELECT queue_length FROM pgmq.metrics('$queue')"), 2, 'its deleter does not count it');
	is(ask($b, "SELECT $ids FROM pgmq.read('$queue', 0, 10)"), '2 3', 'nor read it');
	ask($b, $undo);
	is(ask($c, "SELECT $ids FROM pgmq.read('$queue', 60, 10)"), '1 2 3', "it is there after $undo");
	queues_are_sound($node, [$queue], $undo);
}

# A slot comes while the deleter goes on without, and is claimed before he tells the ring
$node->safe_psql('postgres', q{SELECT pgmq.create('stolen'), pgmq.send('stolen', '1')});
$node->safe_psql('postgres', 'ALTER TABLE pgmq.q_stolen SET (fillfactor = 50)');
stop_at($a, 'scan-page-after', "SELECT $ids FROM pgmq.read('stolen', 0, 1)");
ask($b, 'BEGIN');
stop_at($b, 'guard-stands@2', 'DELETE FROM pgmq.q_stolen WHERE msg_id = 1');
go_on($a);
ask($c, 'BEGIN');
stop_at($c, 'take-ready-end', "SELECT $ids FROM pgmq.read('stolen', 60, 1)");
go_on($b);
ask($b, 'ROLLBACK');
is(go_on($c), '1', 'who claimed a message while its deletion came and went has it');
is(ask($a, "SELECT $ids FROM pgmq.read('stolen', 60, 1)"), 'none', 'and nobody else');
ask($c, 'COMMIT');
queues_are_sound($node, ['stolen']);

# ---- taken back, and not in the ring yet ----

foreach my $how ('COMMIT', 'ROLLBACK')
{
	my $queue = lc "aborted_$how";

	$node->safe_psql('postgres', "SELECT pgmq.create('$queue'), pgmq.send('$queue', '1')");
	ask($a, "BEGIN; SELECT pgmq.delete('$queue', 1)");
	stop_at($a, 'abort-begin', 'ROLLBACK');
	ask($b, "BEGIN; DELETE FROM pgmq.q_$queue WHERE msg_id = 1");
	go_on($a);
	is(ask($c, "SELECT $ids FROM pgmq.read('$queue', 60, 1)"), 'none', 'what another has deleted meanwhile is not given back');
	ask($b, $how);
	queues_are_sound($node, [$queue], $how);
	is(ask($c, "SELECT $ids FROM pgmq.read('$queue', 60, 1)"), $how eq 'COMMIT' ? 'none' : '1', "and goes by the $how of the other");
}

# ---- a lease is on its page, and its session is terminated ----

$node->safe_psql('postgres', q{SELECT pgmq.create('late'), pgmq.send('late', '1')});
my $victim = session();
stop_at($victim, 'pre-commit-leased', q{SELECT msg_id FROM pgmq.read('late', 3600, 1)});
is(ask($b, "SELECT $ids FROM (SELECT msg_id FROM pgmq.q_late FOR UPDATE SKIP LOCKED) x"), 'none', 'the message is held');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($victim->{pid})");
@sessions = grep { $_ != $victim } @sessions;
wait_until('it has gone', sub { $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid = $victim->{pid}") == 0 });
$holder->query_safe("SELECT pg_advisory_unlock($victim->{locks}[0])");
is(ask($b, 'SELECT read_ct, last_read_at IS NULL, vt <= now() FROM pgmq.q_late'), '0|t|t', 'queries see it as it was');

# One session restores the page, another wants the message meanwhile
stop_at($a, 'restore-page-before restore-page-after undo-done-end', q{SELECT queue_length FROM pgmq.metrics('late')});
is(ask($b, "SELECT $ids FROM pgmq.read('late', 60, 1)"), 'none', 'nobody reads it while its page is restored');
begin($b, q{SELECT pgmq.delete('late', 1)});
go_on($a);
is(ask($c, "SELECT $ids FROM pgmq.read('late', 60, 1)"), 'none', 'nor before the ring says so');
go_on($a);
is(answer($b), 't', 'who waits to delete it gets it then');
go_on($a);
queues_are_sound($node, ['late']);

# ---- what was found undecided is undecided once more, for another reason ----

# A means to take back a lease that failed.  B does, and leases the message; that lease is
# extended, and the extension fails: what A knew from before must not reach the page
$node->safe_psql('postgres', q{SELECT pgmq.create('again'), pgmq.send('again', '1')});
ask($c, q{SET pgmq.failpoint = 'pre-commit-leased=error'});
ask($c, q{SELECT msg_id FROM pgmq.read('again', 3600, 1)});
stop_at($a, 'undo-take-begin', q{SELECT queue_length FROM pgmq.metrics('again')});
is(ask($b, "SELECT $ids FROM pgmq.read('again', 3600, 1)"), '1', 'a message whose lease has failed is leased');
ask($c, q{SET pgmq.failpoint = 'pre-commit-leased=error'});
ask($c, q{SELECT msg_id FROM pgmq.set_vt('again', 1, 7200)});
go_on($a);
is(ask($b, q{SELECT read_ct, vt BETWEEN now() + '3000 s' AND now() + '3600 s' FROM pgmq.q_again}), '1|t', 'and stays so');
queues_are_sound($node, ['again']);

# A has seen that a prepared send was committed.  B settles the message, and its deletion is
# prepared: that is not what A has looked for
foreach my $decision (qw(COMMIT ROLLBACK))
{
	my $queue = lc "anew_$decision";

	$node->safe_psql('postgres', "SELECT pgmq.create('$queue')");
	$node->safe_psql('postgres', "BEGIN; SELECT pgmq.send('$queue', '1'); PREPARE TRANSACTION '$queue'");
	$node->safe_psql('postgres', "COMMIT PREPARED '$queue'");
	stop_at($a, 'settle-begin', "SELECT queue_length FROM pgmq.metrics('$queue')");
	is(ask($b, "BEGIN; SELECT pgmq.delete('$queue', 1); PREPARE TRANSACTION '$queue'"), 't', 'a message is deleted');
	go_on($a);
	is(ask($c, "SELECT queue_length, queue_visible_length FROM pgmq.metrics('$queue')"), '1|1', 'its deletion is not decided');
	ask($c, "$decision PREPARED '$queue'");
	queues_are_sound($node, [$queue], $decision);
	is(ask($c, "SELECT $ids FROM pgmq.read('$queue', 60, 1)"), $decision eq 'COMMIT' ? 'none' : '1', "$decision decides");
}

# A's delete is not listed, because it has altered the table.  While it stands guard over the
# row B rebuilds the ring, is in doubt about the row, and looks at it before it is deleted.  C,
# who began to settle before all that, has the ring rebuilt once more; then B tells it
$node->safe_psql('postgres', q{SELECT pgmq.create('unlisted'), pgmq.send('unlisted', '1'), pgmq.send('unlisted', '2')});
ask($c, q{SELECT queue_length FROM pgmq.metrics('unlisted')});
$node->safe_psql('postgres', q{BEGIN; SELECT pgmq.send('unlisted', '3'); PREPARE TRANSACTION 'unlisted'});
ask($c, 'ALTER TABLE pgmq.q_unlisted SET (fillfactor = 90)');
$node->safe_psql('postgres', q{COMMIT PREPARED 'unlisted'});
ask($a, 'BEGIN; SET LOCAL pgmq.enable_scan = off; ALTER TABLE pgmq.q_unlisted SET (fillfactor = 80)');
stop_at($a, 'guard-stands', 'DELETE FROM pgmq.q_unlisted WHERE msg_id = 1');
stop_at($c, 'settle-begin', "SELECT $ids FROM pgmq.read('unlisted', 60, 1)");
stop_at($b, 'settle-begin@2', q{SELECT queue_length FROM pgmq.metrics('unlisted')});
go_on($a);
ask($a, 'COMMIT');
is(go_on($c), '2', 'the next message is read');
go_on($b);
queues_are_sound($node, ['unlisted']);
is(ask($c, q{SELECT queue_length FROM pgmq.metrics('unlisted')}), '2', 'what is deleted is not counted');

# ---- a group is given back from its end ----

# A took the second message of a group before the first, and gives both back one by one;
# nobody has the third
$node->safe_psql('postgres', q{SELECT pgmq.create('leader')});
$node->safe_psql('postgres', send_group('leader', 1, 3));
ask($b, q{BEGIN; SELECT count(*) FROM pgmq.read_grouped('leader', 60, 10); ROLLBACK});
ask($a, q{BEGIN; SELECT msg_id FROM pgmq.set_vt('leader', 2, 60); SELECT msg_id FROM pgmq.set_vt('leader', 1, 60)});
stop_at($a, 'release-end', 'ROLLBACK');
is(ask($b, "SELECT $ids FROM pgmq.read_grouped('leader', 60, 10)"), 'none', 'the first message comes back last');
go_on($a);
is(ask($b, "SELECT $ids FROM pgmq.read_grouped('leader', 60, 10)"), '1 2 3', 'and then the group is read in order');
queues_are_sound($node, ['leader']);

# The same while what stood before them goes away: which message is the first changes meanwhile
create_group('uncovered', 4);
ask($a, q{BEGIN; SELECT msg_id FROM pgmq.set_vt('uncovered', 2, 60); SELECT msg_id FROM pgmq.set_vt('uncovered', 3, 60)});
ask($b, q{BEGIN; SELECT pgmq.delete('uncovered', 1)});
stop_at($a, 'release-end', 'ROLLBACK');
ask($b, 'COMMIT');
is(ask($c, "SELECT $ids FROM pgmq.read_grouped('uncovered', 60, 10)"), 'none', 'what becomes the first message comes back last, too');
go_on($a);
is(ask($c, "SELECT $ids FROM pgmq.read_grouped('uncovered', 60, 10)"), '2 3 4', 'and then the group is read in order');
queues_are_sound($node, ['uncovered']);

# ---- a row is where another was ----

# The ring has not heard yet that a prepared send was rolled back, nor that another message
# has come where its row was
$node->safe_psql('postgres', q{SELECT pgmq.create('placed'), pgmq.send('placed', '1')});
$node->safe_psql('postgres', q{BEGIN; SELECT pgmq.send('placed', '2'); PREPARE TRANSACTION 'placed'});
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'placed'});
$node->safe_psql('postgres', 'VACUUM pgmq.q_placed');
$node->safe_psql('postgres', q{SELECT pgmq.send('placed', to_jsonb(i)) FROM generate_series(3, 4) i});
is(ask($b, 'SET enable_seqscan = off; SELECT string_agg(msg_id || ctid::text, chr(32)) FROM ' .
		'(SELECT msg_id, ctid FROM pgmq.q_placed WHERE vt <= clock_timestamp() ORDER BY msg_id) x'),
	'1(0,1) 3(0,2) 4(0,3)', 'a query finds it once, in its turn');
ask($b, 'RESET enable_seqscan');
queues_are_sound($node, ['placed']);

# ---- a row is where the table has ended ----

# Nor that a vacuum has cut off the pages of what was prepared.  B knows how long the table was
foreach my $query (
	q{SELECT string_agg(msg_id::text, ' ') FROM (SELECT msg_id FROM pgmq.q_%s WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT 1000) x},
	q{SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('%s', 0, 1000)})
{
	my $queue = 'cut_' . ++$n_marks;

	$node->safe_psql('postgres', qq{SELECT pgmq.create('$queue'), pgmq.send('$queue', '1')});
	$node->safe_psql('postgres', qq{BEGIN; SELECT count(*) FROM pgmq.send_batch('$queue',
		(SELECT array_agg(to_jsonb(i)) FROM generate_series(2, 500) i)); PREPARE TRANSACTION '$queue'});
	ask($b, 'SET enable_seqscan = off');
	is(ask($b, sprintf($query, $queue)), '1', 'what is prepared is not seen');
	$node->safe_psql('postgres', "ROLLBACK PREPARED '$queue'");
	$node->safe_psql('postgres', "VACUUM pgmq.q_$queue");
	is($node->safe_psql('postgres', "SELECT pg_relation_size('pgmq.q_$queue')"), 8192, 'the table is cut');
	is(ask($b, sprintf($query, $queue)), '1', 'nor what is no longer in the table');
	ask($b, 'RESET enable_seqscan');
	queues_are_sound($node, [$queue]);
}

# ---- a scan meets half of what a transaction has sent, and the rest once that is decided ----

# A page has room for some of the rows.  Whoever reads the group must wait for those that the ring takes for
# undecided: A has committed, but publishes only in a moment; or nobody will
foreach my $decision ('COMMIT', 'COMMIT PREPARED')
{
	my $queue = 'halves_' . ++$n_marks;

	create_group($queue, 0);
	ask($a, 'BEGIN');
	ask($a, "SELECT count(*) FROM pgmq.send_batch('$queue', (SELECT array_agg(to_jsonb(i || (SELECT string_agg(md5(i * 100 + j || ''), '')
		FROM generate_series(1, 58) j))) FROM generate_series(1, 6) i), (SELECT array_agg('{\"x-pgmq-group\": \"a\"}'::jsonb) FROM generate_series(1, 6)))");
	ask($a, "PREPARE TRANSACTION '$queue'") if $decision ne 'COMMIT';
	ask($c, "ALTER TABLE pgmq.q_$queue SET (fillfactor = 90)");
	stop_at($b, 'scan-page-before@2', "SELECT $ids FROM pgmq.read_grouped('$queue', 60, 10)");
	if ($decision eq 'COMMIT')
	{
		stop_at($a, 'commit-begin', 'COMMIT');
		go_on_to_wait($b);
		go_on($a);
	}
	else
	{
		ask($a, "COMMIT PREPARED '$queue'");
		go_on_to_wait($b);
	}
	is(answer($b), '1 2 3 4 5 6', "a group that was met in halves is read from its beginning, $decision");
	queues_are_sound($node, [$queue], $decision);
}

# A scan looked before A's message came and ends before A can publish it, so A does not know what
# became of it.  C has begun to read by then, and B sends another message of the group
create_group('belated', 1);
ask($c, "SELECT msg_id FROM pgmq.set_vt('belated', 1, 3600)");
ask($c, 'ALTER TABLE pgmq.q_belated SET (fillfactor = 90)');
ask($c, "UPDATE pgmq.q_belated SET headers = NULL");
stop_at($b, 'scan-page-after', q{SELECT queue_length FROM pgmq.metrics('belated')});
ask($a, 'BEGIN');
ask($a, send_group('belated', 2, 2));
stop_at($a, 'commit-begin', 'COMMIT');
go_on($b);
stop_at($c, 'take-heads-begin', "SELECT $ids FROM pgmq.read_grouped('belated', 60, 10)");
go_on($a);
# As it were an hour ago: C knows what time it is
ask($b, q{SELECT pgmq.send('belated', '3', '{"x-pgmq-group": "a"}', clock_timestamp() - '1 hour'::interval)});
unlike(go_on($c), qr/^3/, 'what is published late keeps its group back');
is(ask($c, "SELECT $ids FROM pgmq.q_belated WHERE msg_id > 1"), '2 3', 'and is there');
queues_are_sound($node, ['belated']);

# Deleted by B, who found it by a scan, before A publishes it: that is B's to decide
$node->safe_psql('postgres', q{SELECT pgmq.create('overtaken')});
$node->safe_psql('postgres', 'ALTER TABLE pgmq.q_overtaken SET (fillfactor = 50)');
stop_at($a, 'commit-begin', q{SELECT pgmq.send('overtaken', '1')});
is(ask($b, q{SELECT queue_length FROM pgmq.metrics('overtaken')}), '1', 'a message is known before it is published');
is(ask($b, q{BEGIN; SELECT pgmq.delete('overtaken', 1); PREPARE TRANSACTION 'overtaken'}), 't', 'and deleted');
go_on($a);
is(ask($c, "SELECT $ids FROM pgmq.read('overtaken', 60, 1)"), 'none', 'its sender does not make it ready again');
ask($c, q{COMMIT PREPARED 'overtaken'});
is(ask($c, q{SELECT queue_length FROM pgmq.metrics('overtaken')}), 0, 'nor is it counted');
queues_are_sound($node, ['overtaken']);

# A takes its delete back; before it can say so B deletes the row, which is not listed because it
# has altered the table, and C has the ring rebuilt
$node->safe_psql('postgres', q{SELECT pgmq.create('revoked'), pgmq.send('revoked', '1')});
ask($a, q{BEGIN; SELECT pgmq.delete('revoked', 1)});
stop_at($a, 'abort-begin', 'ROLLBACK');
ask($b, 'BEGIN; SET LOCAL pgmq.enable_scan = off; ALTER TABLE pgmq.q_revoked SET (fillfactor = 80)');
ask($b, 'DELETE FROM pgmq.q_revoked WHERE msg_id = 1');
ask($b, 'COMMIT');
ask($c, q{SELECT queue_length FROM pgmq.metrics('revoked')});
go_on($a);
is(ask($c, q{SELECT queue_length FROM pgmq.metrics('revoked')}), 0, 'what outlived a rebuild is looked at when it is given back');
queues_are_sound($node, ['revoked']);

# A reads its own message and gives back what it took behind it, while B begins to read by group:
# the message has no group yet, but is nobody's
$node->safe_psql('postgres', q{SELECT pgmq.create('returned')});
ask($a, q{BEGIN; SELECT pgmq.send('returned', '1')});
ask($c, q{SELECT pgmq.send('returned', '2')});
stop_at($a, 'take-ready-end', "SELECT $ids FROM pgmq.read('returned', 60, 1)");
stop_at($b, 'keep-groups-end', "SELECT $ids FROM pgmq.read_grouped('returned', 60, 10)");
is(go_on($a), '1', 'a transaction reads what it has sent');
is(go_on($b), '2', 'and what it has given back is there for others');
ask($a, 'COMMIT');
queues_are_sound($node, ['returned']);

# ---- the ring knows better than it says ----

# B finds no slot to hold, for A's scan comes between; C looks at the message while B's
# deletion is prepared and decided.  Until C has looked the ring has a message too many
$node->safe_psql('postgres', q{SELECT pgmq.create('doubted'), pgmq.send('doubted', '1')});
$node->safe_psql('postgres', 'ALTER TABLE pgmq.q_doubted SET (fillfactor = 50)');
stop_at($a, 'scan-page-after', "SELECT $ids FROM pgmq.read('doubted', 0, 1)");
ask($b, 'BEGIN');
stop_at($b, 'guard-stands@2', 'DELETE FROM pgmq.q_doubted WHERE msg_id = 1');
go_on($a);
is(counted($a, 'doubted'), '1 by the ring', 'a message is counted');
stop_at($c, 'take-ready-end', "SELECT $ids FROM pgmq.read('doubted', 60, 1)");
go_on($b);
ask($b, q{PREPARE TRANSACTION 'doubted'});
is(counted($a, 'doubted'), '1 by the table', 'and while its deletion is prepared');
ask($b, q{COMMIT PREPARED 'doubted'});
is(counted($a, 'doubted'), '0 by the table', 'but not once it is deleted, though it is held still');
is(go_on($c), 'none', 'who holds it does not get it');
is(counted($a, 'doubted'), '0 by the ring', 'and then the ring can tell');
queues_are_sound($node, ['doubted']);

# A delay was to be prolonged, in vain
$node->safe_psql('postgres', q{SELECT pgmq.create('prolonged'), pgmq.send('prolonged', '1', 3600)});
ask($c, q{SET pgmq.failpoint = 'pre-commit-leased=error'});
ask($c, q{SELECT msg_id FROM pgmq.set_vt('prolonged', 1, 7200)});
stop_at($a, 'restore-page-before', q{SELECT queue_length FROM pgmq.metrics('prolonged')});
is(ask($b, q{SELECT queue_length, queue_visible_length FROM pgmq.metrics('prolonged')}), '1|0',
	'a delayed message is not visible while a failed lease is taken back');
go_on($a);
is(ask($b, q{SELECT queue_length, queue_visible_length FROM pgmq.metrics('prolonged')}), '1|0', 'nor afterwards');
queues_are_sound($node, ['prolonged']);

# ---- no room ----

# A scan has found A's message; by the time that A comes to publish it, its group has no room in
# the pool.  B is about to take the row's lock then, and C to read
create_group('crowded', 0);
ask($a, 'BEGIN');
ask($a, send_group('crowded', 1, 1));
ask($c, 'ALTER TABLE pgmq.q_crowded SET (fillfactor = 50)');
is(ask($c, "SELECT $ids FROM pgmq.read('crowded', 60, 1)"), 'none', 'a message is sent');
$node->safe_psql('postgres', q{SELECT pgmq.create('crowd')});
$node->safe_psql('postgres', send_group('crowd', 1, 6000));
stop_at($a, 'commit-begin', 'COMMIT');
ask($b, 'BEGIN; SET LOCAL pgmq.enable_scan = off');
stop_at($b, 'guard-stands', "SELECT $ids FROM (SELECT msg_id FROM pgmq.q_crowded WHERE vt <= clock_timestamp() FOR UPDATE SKIP LOCKED) x");
go_on($a);
ask($c, q{SELECT count(*) FROM (SELECT pgmq.delete('crowd', i) FROM generate_series(1, 10) i) x});
my $read = ask($c, "BEGIN; SELECT $ids FROM pgmq.read('crowded', 60, 1)");
my $locked = go_on($b);
is(join(' ', sort($read, $locked)), '1 none', "a message that its sender had no room for goes to one of two: $read read, $locked locked");
ask($b, 'COMMIT');
ask($c, 'COMMIT');
queues_are_sound($node, ['crowded']);
$node->safe_psql('postgres', q{SELECT pgmq.drop_queue('crowd')});

# A brings in what had no room, without its groups, for nobody has asked for them; B does so meanwhile
$node->safe_psql('postgres', q{SELECT pgmq.create('ungrouped')});
$node->safe_psql('postgres', q{SELECT count(*) FROM pgmq.send_batch('ungrouped', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 6000) i),
	(SELECT array_agg(jsonb_build_object('x-pgmq-group', i % 2)) FROM generate_series(1, 6000) i))});
$node->safe_psql('postgres', q{
	SET pgmq.failpoint = 'build-begin=error';
	DO $$
	BEGIN
		LOOP
			BEGIN
				EXIT WHEN (SELECT count(*) FROM pgmq.pop('ungrouped')) = 0;
			EXCEPTION WHEN OTHERS THEN
				EXIT;
			END;
		END LOOP;
	END $$});
my $left = $node->safe_psql('postgres', 'SELECT min(msg_id) FROM pgmq.q_ungrouped');
stop_at($a, 'build-add-begin', "SELECT $ids FROM pgmq.read('ungrouped', 60, 1)");
stop_at($b, 'keep-groups-end', "SELECT $ids FROM pgmq.read_grouped('ungrouped', 60, 3)");
is(go_on($a), $left, 'a message is read that had no room');
is(go_on($b), join(' ', $left + 1, $left + 3, $left + 5), 'and others of another group');
queues_are_sound($node, ['ungrouped']);
$node->safe_psql('postgres', q{SELECT pgmq.drop_queue('ungrouped')});

# Nor that B inserts a row with the id and in the place of one whose prepared send was rolled back:
# what the ring takes for undecided then is B's
$node->safe_psql('postgres', q{SELECT pgmq.create('reused'), pgmq.send('reused', '1')});
$node->safe_psql('postgres', q{BEGIN; SELECT pgmq.send('reused', '2'); PREPARE TRANSACTION 'reused'});
$node->safe_psql('postgres', q{ROLLBACK PREPARED 'reused'});
$node->safe_psql('postgres', 'VACUUM pgmq.q_reused');
is(ask($b, q{BEGIN; INSERT INTO pgmq.q_reused (msg_id, vt, message) OVERRIDING SYSTEM VALUE VALUES (2, now(), '"again"') RETURNING ctid}),
	'(0,2)', 'a row is where another was');
is(ask($b, q{SELECT queue_length FROM pgmq.metrics('reused')}), 2, 'who inserts it counts it');
is(ask($c, q{SELECT queue_length FROM pgmq.metrics('reused')}), 1, 'others do not');
ask($b, 'ROLLBACK');
is(ask($c, q{SELECT queue_length FROM pgmq.metrics('reused')}), 1, 'and it goes with its insert');
queues_are_sound($node, ['reused']);

# ---- storage that a prepared transaction replaced ----

# Whatever is decided, nobody tells us: no ring may be left that nobody will ever ask for,
# with its slots and with work for the worker
foreach my $decision (qw(COMMIT ROLLBACK))
{
	my $queue = lc "replaced_$decision";

	$node->safe_psql('postgres', "SELECT pgmq.create('$queue')");
	$node->safe_psql('postgres', send_group($queue, 1, 1000));
	$node->safe_psql('postgres', qq{BEGIN; SELECT pgmq.purge_queue('$queue'); SELECT pgmq.send('$queue', '1'); PREPARE TRANSACTION '$queue'});
	$node->safe_psql('postgres', "$decision PREPARED '$queue'");
	is($node->safe_psql('postgres', "SELECT queue_length, queue_visible_length FROM pgmq.metrics('$queue')"),
		$decision eq 'COMMIT' ? '1|1' : '1000|1000', "$decision of a prepared purge");
	queues_are_sound($node, [$queue]);
	$node->safe_psql('postgres', "SELECT pgmq.purge_queue('$queue')");
}
my $log_from = -s $node->logfile;
$node->safe_psql('postgres', "SELECT pgmq.create('roomy')");
$node->safe_psql('postgres', "SET pgmq.failpoint = 'ring-note-cold-begin=log'; " . send_group('roomy', 1, 3600));
unlike(slurp_file($node->logfile, $log_from), qr/ring-note-cold/, 'the pool has room for another queue');
queues_are_sound($node, ['roomy']);

# ---- on the way to sleep ----

my $poll = q{SELECT msg_id, clock_timestamp() - statement_timestamp() < '50 s' FROM pgmq.read_with_poll('%s', 60, 1, 100, 100000)};

$node->safe_psql('postgres', q{SELECT pgmq.create('sleepy')});
stop_at($b, 'sleep-begin', sprintf($poll, 'sleepy'));
ask($a, q{SELECT pgmq.send('sleepy', '1')});
is(go_on($b), '1|t', 'who is about to sleep notices what is published');

# A holds the message for a moment, so B finds nothing; A finds it locked by C and gives it
# back; C ends, and tells nobody
ask($c, q{SELECT pgmq.send('sleepy', '2')});
ask($c, 'BEGIN; SELECT 1 FROM pgmq.q_sleepy WHERE msg_id = 2 FOR UPDATE');
stop_at($a, 'take-ready-end', "SELECT $ids FROM pgmq.read('sleepy', 60, 1)");
stop_at($b, 'sleep-begin', sprintf($poll, 'sleepy'));
is(go_on($a), 'none', 'a locked message is not delivered');
ask($c, 'COMMIT');
is(go_on($b), '2|t', 'who passed over a claim that was given back looks again');
queues_are_sound($node, ['sleepy']);

# ---- asleep ----

# Comes back without a message if nobody wakes it; one that has met a lock looks again by itself
my $doze = q{SELECT msg_id FROM pgmq.%s('%s', 60, 1, 30, 100)};

sub sleeps
{
	my ($self) = @_;

	wait_until("session $self->{pid} sleeps", sub {
		return $node->safe_psql('postgres', "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $self->{pid}") eq 'Extension';
	});
	return;
}

# A is about to take the row's lock when B looks, and lets go of it while B sleeps
foreach my $verb ('read_with_poll', 'read_grouped_with_poll')
{
	my $queue = 'brushed_' . ++$n_marks;

	$node->safe_psql('postgres', "SELECT pgmq.create('$queue'), pgmq.send('$queue', '1')");
	$node->safe_psql('postgres', "BEGIN; SELECT count(*) FROM pgmq.read_grouped('$queue', 60, 1); ROLLBACK") if $verb =~ /grouped/;
	stop_at($a, 'guard-stands', "SELECT msg_id FROM pgmq.q_$queue WHERE msg_id = 1 FOR UPDATE");
	begin($b, sprintf($doze, $verb, $queue));
	sleeps($b);
	is(go_on($a), '1', 'a row is locked, and let go');
	is(answer($b), '1', "$verb: who slept because of that gets the message");
	queues_are_sound($node, [$queue]);
}

# A prepares while B sleeps; when that is decided, nobody tells B
$node->safe_psql('postgres', q{SELECT pgmq.create('decided')});
begin($b, sprintf($doze, 'read_with_poll', 'decided'));
sleeps($b);
$node->safe_psql('postgres', q{BEGIN; SELECT pgmq.send('decided', '1'); PREPARE TRANSACTION 'decided'});
$node->safe_psql('postgres', q{COMMIT PREPARED 'decided'});
is(answer($b), '1', 'who sleeps notices that a prepared transaction is decided');
queues_are_sound($node, ['decided']);

# B's clock has rung, but somebody who does not want the message has made it ready before
my $before = q{SET enable_seqscan = off; SELECT msg_id FROM pgmq.q_%s WHERE vt <= clock_timestamp() ORDER BY msg_id};
foreach my $query ($before, q{SELECT msg_id FROM pgmq.read('%s', 60, 1, '{"other": 1}')},
	q{SELECT msg_id FROM pgmq.read_grouped('%s', 60, 1)}, q{SELECT queue_length FROM pgmq.metrics('%s')})
{
	my $queue = 'matured_' . ++$n_marks;

	# The second of a group whose first is leased
	create_group($queue, 1);
	ask($c, "SELECT msg_id FROM pgmq.set_vt('$queue', 1, 3600)");
	ask($c, qq{SELECT pgmq.send('$queue', '2', '{"x-pgmq-group": "a"}', 1)});
	stop_at($b, 'sleep-look-begin@2', sprintf($doze, 'read_with_poll', $queue));
	wait_until('the delay is over', sub { $node->safe_psql('postgres',
			"SET pgmq.enable_scan = off; SELECT vt <= clock_timestamp() FROM pgmq.q_$queue WHERE msg_id = 2") eq 't' });
	ask($c, sprintf($query, $queue));
	is(go_on($b), '2', "who sleeps gets what has become ready, in spite of $query");
	ask($c, 'RESET enable_seqscan');
	queues_are_sound($node, [$queue]);
}

$_->{psql}->quit foreach @sessions;
$holder->quit;
$node->stop;
done_testing();
