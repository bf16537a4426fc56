# Markdown tables of results, for the summary of a run and for the report.
#
# Medians over the repetitions, with the spread (highest less lowest, in percent
# of the median). Ratios are taken pair by pair within a repetition; their median
# is shown with the lowest and highest pair. A repetition whose verdict is not ok
# counts as 0. "dry" marks a rate that was taken until the queue had no more.
package Tables;

use strict;
use warnings;
use Results;
use Targets;

sub line { return '| ' . join(' | ', @_) . " |\n"; }

# The first columns (2, or as many as said) are text
sub head
{
	my ($n_text, @names) = @_;
	return "\n" . line(@names) . line(('---') x $n_text, ('---:') x (@names - $n_text));
}

sub number
{
	my $v = shift;
	return $v >= 100 ? Results::group_digits($v) : sprintf $v < 10 ? '%.3g' : '%.1f', $v;
}

sub spread
{
	my ($format, @values) = @_;
	my @v = sort { $a <=> $b } @values;
	return '-' unless @v;
	my $text = $format->(Results::median(@v));
	$text .= sprintf ' (%s .. %s)', $format->($v[0]), $format->($v[-1]) if @v > 1;
	return $text;
}

sub _rate
{
	my ($results, $key, $side) = @_;
	my @v = sort { $a <=> $b } $results->values_of($key, $side, 'per_second');
	return '-' unless @v;
	my $m = Results::median(@v);
	return '0' unless $m > 0;
	my $text = Results::group_digits($m);
	$text .= ' dry' if grep { $_ } $results->values_of($key, $side, 'ran_dry');
	$text .= sprintf ' (%.0f %%)', 100 * ($v[-1] - $v[0]) / $m if @v > 1;
	return $text;
}

sub _median
{
	my ($results, $key, $side, $column, $format) = @_;
	my $m = $results->median_of($key, $side, $column);
	return defined $m ? sprintf($format, $m) : '-';
}

sub _ratio
{
	my $results = shift;
	return spread(sub { my $v = shift; sprintf $v < 10 ? '%.2f' : $v < 100 ? '%.1f' : '%.0f', $v }, $results->ratios(@_));
}

# In a run too short for two minutes of its own, drift says little; below this, nothing.
sub _drift
{
	my ($results, $key, $side) = @_;
	my $seconds = $results->median_of($key, $side, 'seconds') // 0;
	return $seconds >= 20 ? _median($results, $key, $side, 'drift', '%.2f') : '-';
}

sub rates
{
	my ($results, @rows) = @_;
	my @shown = $results->present(qw(hot heap upstream floor));
	my @rivals = $results->{sides}{hot} ? $results->present(qw(heap upstream floor)) : ();
	my $text = head(2, 'cell', 'sync', (map { "$_ /s" } @shown), (map { "hot / $_" } @rivals));
	for my $r (@rows)
	{
		$text .= line(
			$results->name_of($r), $r->{sync},
			(map { _rate($results, $r->{key}, $_) } @shown),
			(map { _ratio($results, $r->{key}, 'hot', $r->{key}, $_, 'per_second') } @rivals));
	}
	return $text;
}

sub costs
{
	my ($results, @rows) = @_;
	my $text = head(3, 'cell', 'sync', 'side', 'p50 us', 'p99 us', 'max us', 'WAL B', 'FPI',
		'xids', 'dead', 'table MB', 'total MB', 'CPU s/1000', 'seconds', 'drift');
	for my $r (@rows)
	{
		for my $side (grep { $results->has($r->{key}, $_) } qw(hot heap upstream floor))
		{
			my @place = ($results, $r->{key}, $side);
			my @bytes = map { ($results->median_of($r->{key}, $side, $_) // 0) / 1048576 } qw(table_bytes total_bytes);
			$text .= line(
				$results->name_of($r), $r->{sync}, $side,
				(map { _median(@place, $_, '%d') } qw(p50_us p99_us max_us)),
				_median(@place, 'wal_per_unit', '%.1f'),
				_median(@place, 'wal_fpi', '%d'),
				_median(@place, 'xids_per_unit', '%.3f'),
				_median(@place, 'dead_tuples', '%d'),
				(map { sprintf '%.1f', $_ } @bytes),
				_median(@place, 'cpu_s_per_1000', '%.4f'),
				_median(@place, 'seconds', '%.3g'),
				_drift(@place));
		}
	}
	return $text;
}

# Stages that differ only in the first word of their name, e.g. leased against clean.
sub compared
{
	my ($results, $words, @rows) = @_;
	return '' unless $words;
	my ($first, $second) = @$words;
	my @shown = $results->present(qw(hot heap upstream));
	my @first = grep { $_->{stage} =~ /^\Q$first\E-/ } @rows or return '';
	my $text = head(2, "$first against $second", 'sync', (map { ("$_ p50", "$_ rate") } @shown));
	for my $r (@first)
	{
		my $other = $results->at($r->{key}, stage => $r->{stage} =~ s/^\Q$first\E-/$second-/r) or next;
		$text .= line(
			$results->name_of($r), $r->{sync},
			map {
				(_ratio($results, $r->{key}, $_, $other, $_, 'p50_us'),
				 _ratio($results, $r->{key}, $_, $other, $_, 'per_second'))
			} @shown);
	}
	return $text;
}

# Each target of a workload for each measurement that it is about
sub targets
{
	my ($results, $targets, $workload) = @_;
	my $text = '';
	for my $rule ($targets->rules_of($workload))
	{
		for my $o (Targets::outcomes($results, $rule))
		{
			$text .= line($rule->{what}, $results->name_of($o->{row}), $o->{row}{sync}, $o->{limit},
				spread(\&number, @{ $o->{values} }), $o->{met} ? 'yes' : '**no**');
		}
	}
	return $text eq '' ? '' : head(3, 'target', 'cell', 'sync', 'limit', 'measured', 'met') . $text;
}

sub failures
{
	my @failed = (shift)->failures;
	return @failed ? "\n## Cells that score 0\n\n" . join('', map { "- $_\n" } @failed)
	  : "\nEvery cell was drained and counted: no message lost, repeated or altered.\n";
}

1;
