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

my $node = new_node('races', conf => "pgmq.worker = off\nautovacuum = off\nstatement_timeout = 120s\n");
my ($status) = $node->psql('postgres', "SET pgmq.failpoint = ''", stderr => \my $ignored);
if ($status != 0)
{
	plan skip_all => 'the library was built without failpoints';
}

# ---- sessions that can be stopped ----

my $holder = $node->background_psql('postgres');
my ($n_locks, $n_marks) = (0, 0);
my @sessions;

sub session
{
	my $psql = $node->background_psql('postgres', on_error_stop => 0);
	my $self = { psql => $psql, pid => $psql->query_safe('SELECT pg_backend_pid()') };

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

my ($a, $b, $c) = (session(), session(), session());

# ---- the order of a group, while a transaction of many messages ends ----

# Published in several holds of the ring's lock: who sees some of it waits for the rest
create_group('sent', 0);
ask($a, 'BEGIN');
ask($a, send_group('sent', 1, 600));
stop_at($a, 'commit-apply-end', 'COMMIT');
begin($b, "SELECT $ids FROM pgmq.read_grouped('sent', 60, 1000)");
waits($b, 'transactionid');
go_on($a);
is_beginning(answer($b), 'a group is published as a whole');
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

$_->{psql}->quit foreach @sessions;
$holder->quit;
$node->stop;
done_testing();
