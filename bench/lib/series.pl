# series.pl SAMPLING UNITS_PER_CALL STAGE < pgbench log lines
#
# What a stage did over time: a line "stage,second,per_second,p50_us,p99_us" for each
# interval of a second, or of a hundredth of the run where that is longer. SAMPLING
# is the share of calls that was logged. The last interval is left out unless it
# is a whole one.
use strict;
use warnings;

my ($sampling, $units, $stage) = @ARGV;
my (@calls, %latencies);

while (my $line = <STDIN>)
{
	my (undef, undef, $latency, undef, $epoch, $micros) = split ' ', $line;
	push @calls, [ $epoch + $micros / 1e6, $latency ] if $latency =~ /^\d+$/;
}
exit 0 unless @calls;

@calls = sort { $a->[0] <=> $b->[0] } @calls;
my ($start, $end) = ($calls[0][0] - $calls[0][1] / 1e6, $calls[-1][0]);
my $width = int(($end - $start) / 100 + 0.999) || 1;
push @{ $latencies{ int(($_->[0] - $start) / $width) } }, $_->[1] for @calls;

my $n_whole = int(($end - $start) / $width + 0.02) || 1;
for my $i (0 .. $n_whole - 1)
{
	my @v = sort { $a <=> $b } @{ $latencies{$i} // [] };
	printf "%s,%d,%.1f,%d,%d\n", $stage, $i * $width, @v * $units / $sampling / $width,
	  @v ? $v[ int(0.50 * $#v + 0.5) ] : 0, @v ? $v[ int(0.99 * $#v + 0.5) ] : 0;
}
