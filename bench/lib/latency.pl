# latency.pl SAMPLING USEFUL_CALLS SECONDS < pgbench log lines
#
# Prints: seconds p50_us p99_us max_us drift
#
# SAMPLING is the share of calls that was logged. Where the queue ran dry, only
# the first USEFUL_CALLS calls moved anything: the rest is left out, and seconds
# is the time until then; otherwise (0) all lines count and SECONDS is passed on.
# Drift is the rate of the last minute over that of the first; in shorter runs,
# of the last quarter over the first.
use strict;
use warnings;

my ($sampling, $useful_calls, $seconds) = @ARGV;
my @calls;    # [completion time, latency], microseconds

while (my $line = <STDIN>)
{
	my (undef, undef, $latency, undef, $epoch, $micros) = split ' ', $line;
	next unless $latency =~ /^\d+$/;
	push @calls, [ $epoch * 1e6 + $micros, $latency ];
}
if (!@calls)
{
	print "$seconds 0 0 0 0\n";
	exit 0;
}

@calls = sort { $a->[0] <=> $b->[0] } @calls;
my $start = $calls[0][0] - $calls[0][1];
if ($useful_calls > 0)
{
	my $keep = int($useful_calls * $sampling);
	$keep = 1 if $keep < 1;
	$#calls = $keep - 1 if $keep < @calls;
	$seconds = sprintf '%.4f', ($calls[-1][0] - $start) / 1e6;
}

sub drift
{
	my $end = $calls[-1][0];
	my $window = ($end - $start) / 4;
	$window = 60e6 if $window > 60e6;
	my $first = grep { $_->[0] <= $start + $window } @calls;
	my $last = grep { $_->[0] > $end - $window } @calls;
	return $first ? $last / $first : 0;
}

my @latencies = sort { $a <=> $b } map { $_->[1] } @calls;

sub percentile
{
	my $share = shift;
	my $index = int($share * $#latencies + 0.5);
	return $latencies[$index];
}

printf "%s %d %d %d %.3f\n", $seconds, percentile(0.50), percentile(0.99), $latencies[-1], drift();
