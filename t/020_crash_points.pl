# Breaks: the process of a session ends as by kill -9, at each failpoint of the source in
# turn, in the middle of each kind of work.  The postmaster ends the others and starts afresh.
#
# How we know: what the session had been told before is there, to the microsecond of every
# lease; what it was in the middle of is there as a whole or not at all; ring and table
# agree, every ready message is to be had in order, and all of them at last.  Each point in
# the source's list is reached by one of the scenarios, or named below with the reason.
#
# PGMQ_CRASH_POINTS=all takes every point in every step of every scenario that reaches it;
# PGMQ_CRASH_ONLY is a pattern of points.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use CrashScenarios;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $all = ($ENV{PGMQ_CRASH_POINTS} // '') eq 'all';
my $only = $ENV{PGMQ_CRASH_ONLY};
my %points = failpoints();

plan skip_all => 'no list of failpoints' if !%points;
my $node = crash_node('crash_points');
my ($status) = $node->psql('postgres', "SET pgmq.failpoint = ''", stderr => \my $err);
plan skip_all => 'the library was built without failpoints' if $status != 0;


# ---- what can be reached where ----

# Points that no session reaches alone, and where they are tried
my %elsewhere = (
	map({ $_ => 't/022_races.pl' } qw(forget-begin forget-end ring-publish-known await-publishing)),
	map({ $_ => 't/047_count_log.pl' } qw(renew-logs-begin renew-logs-end)),
	map({ $_ => 't/002, without a crash' } qw(forget-name-begin forget-name-end)),
	map({ $_ => 'the worker, below' } qw(worker-ready-before worker-ready-after worker-vacuum-before
		  worker-vacuum-after vacuum-before vacuum-after note-vacuum-begin note-vacuum-end)));

my %scenarios = scenarios();
my @trials;
my %reached;

foreach my $name (sort keys %scenarios)
{
	learn($node, $scenarios{$name}, "learn_$name");
	foreach my $point (keys %{ $scenarios{$name}{steps_of} })
	{
		push @{ $reached{$point} }, map { [ $name, $_ ] } sort { $a <=> $b } keys %{ $scenarios{$name}{steps_of}{$point} };
	}
}
is(join("\n", grep { !$reached{$_} && !$elsewhere{$_} } sort keys %points), '',
	'every point of the source is reached by a scenario');

# ---- a session ends ----

my $n = 0;
my $start = time();
foreach my $point (grep { !defined $only || /$only/ } sort keys %reached)
{
	my @places = @{ $reached{$point} };

	# Another one each time, unless all are wanted
	@places = ($places[ $n % @places ]) if !$all;
	foreach my $place (@places)
	{
		my ($name, $step) = @$place;
		my $queue = 'q' . ++$n;
		my $run = run_stopped($node, $scenarios{$name}, $queue, $step, "$point=crash");
		my $what = "crash at $point in step $step of $name";

		like($run->{error}, qr/server closed the connection unexpectedly|SSL connection|terminat/, "$what: the session has ended")
		  or diag($run->{error});
		is_up($node);
		is(check_outcome($node, $scenarios{$name}, $queue, $run->{acknowledged}, 1), '', "$what: nothing lost, nothing early, nothing half")
	}
}
note(sprintf('%d crashes, %.2f s each', $n, (time() - $start) / $n));

# ---- the worker ends, and the next one, until the setting is gone ----

$node->append_conf('postgresql.conf', "pgmq.worker = on\npgmq.worker_naptime = 10ms\n");
$node->reload;
foreach my $point (grep { $elsewhere{$_} && $elsewhere{$_} =~ /worker/ } sort keys %points)
{
	my $queue = 'w' . ++$n;
	my $log_from = -s $node->logfile;

	$node->safe_psql('postgres', qq{
		SELECT pgmq.create('$queue');
		SELECT count(*) FROM pgmq.send_batch('$queue', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 1002) i));
		SELECT count(*) FROM pgmq.read('$queue', 3600, 1);
		ALTER SYSTEM SET pgmq.failpoint = '$point=crash';
		SELECT pg_reload_conf()});
	# A rebuild is wanted, or a vacuum
	$node->psql('postgres', $point =~ /ready/ ? "ALTER TABLE pgmq.q_$queue SET (fillfactor = 50)" :
		  "SELECT count(*) FROM pgmq.delete('$queue', (SELECT array_agg(i::bigint) FROM generate_series(2, 1001) i))",
		stderr => \my $ignored, stdout => \my $deleted);
	wait_until("the worker ends at $point",
		sub { slurp_file($node->logfile, $log_from) =~ /background worker "pgmq worker".*was terminated by signal 9/ });
	remove_setting($node, 'pgmq.failpoint');
	kill('HUP', $node->{_pid});
	wait_until('no worker ends any more', sub { (answer_of($node, 'SHOW pgmq.failpoint') // 'down') eq '' });
	is_up($node);
	is($node->safe_psql('postgres', qq{
		SELECT count(*) FROM pgmq.delete('$queue', (SELECT array_agg(i::bigint) FROM generate_series(2, 1001) i));
		SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('$queue', 0, 10);
		SELECT string_agg(msg_id::text, ' ' ORDER BY msg_id) FROM pgmq.q_$queue}) =~ s/^\d+\n//r,
		"1002\n1 1002", "the worker crashed at $point: what is leased stays leased, the rest is there");
	queues_are_sound($node, [$queue], "after a crash at $point");
}

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|leak|while in (?:START|COMMIT|ABORT)/, 'no other failure, and nothing leaked');
$node->stop;
done_testing();
