# Breaks: an error is raised at each failpoint of the source that allows one, in the middle
# of each kind of work.
#
# How we know: the session learns of it and works on; what it had been told before is
# there, what failed has left no trace, to the microsecond of every lease; nothing is held
# any more: ring and table agree, and every ready message is to be had at once.
#
# PGMQ_ERROR_POINTS=all takes every point in every step of every scenario that reaches it;
# PGMQ_ERROR_ONLY is a pattern of points.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use CrashScenarios;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $all = ($ENV{PGMQ_ERROR_POINTS} // '') eq 'all';
my $only = $ENV{PGMQ_ERROR_ONLY} // '';
my %points = failpoints();

plan skip_all => 'no list of failpoints' if !%points;
my $node = crash_node('error_points');
my ($status) = $node->psql('postgres', "SET pgmq.failpoint = ''", stderr => \my $err);
if ($status != 0)
{
	plan skip_all => 'the library was built without failpoints';
}

my %scenarios = scenarios();
my $postmaster = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
my ($n, $start) = (0, time());
my %tried;

foreach my $name (sort keys %scenarios)
{
	my $scenario = $scenarios{$name};

	learn($node, $scenario, "learn_$name");
	foreach my $point (grep { $points{$_}{kind} eq 'error' && /$only/ } sort keys %{ $scenario->{steps_of} })
	{
		my @steps = sort { $a <=> $b } keys %{ $scenario->{steps_of}{$point} };

		# Another one each time, unless all are wanted; and in two scenarios at most
		next if !$all && ($tried{$point} // 0) >= 2;
		@steps = ($steps[ $n % @steps ]) if !$all;
		$tried{$point}++;
		foreach my $step (@steps)
		{
			my $queue = 'q' . ++$n;
			my $run = run_stopped($node, $scenario, $queue, $step, "$point=error");
			my $what = "error at $point in step $step of $name";

			# The server decides about a prepared transaction, and drops a database, before
			# the transaction that was to do it commits
			my $may_be_done = $scenario->{steps}[ $step - 1 ] =~ /^(?:COMMIT|ROLLBACK) PREPARED|^DROP DATABASE/;
			my $problem = check_outcome($node, $scenario, $queue, $run->{acknowledged}, $may_be_done);

			$problem ||= "it was not raised: $run->{error}" if $run->{error} !~ /failure at point "$point"/;
			is($problem, '', $what) or diag($run->{error});
		}
	}
}
note(sprintf('%d errors, %.2f s each', $n, (time() - $start) / $n));
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $postmaster, 'the server was there all the time');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal|leak|while in (?:START|COMMIT|ABORT)|WARNING:  (?!"?wal_level|some useless|could not)/,
	'no process was lost, and nothing leaked');
$node->stop;
done_testing();
