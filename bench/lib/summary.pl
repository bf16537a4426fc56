# summary.pl CSV < workload lines "name|title|target|heads": the Markdown summary.
#
# Medians over the repetitions, with the spread (highest less lowest, in percent
# of the median). Ratios are taken pair by pair within a repetition; their median
# is shown with the lowest and highest pair. A repetition whose verdict is not ok
# counts as 0. "dry" marks a rate that was taken until the queue had no more.
use strict;
use warnings;

my ($csv) = @ARGV;
my (%row, @order, %seen_order, %sides);

sub read_csv
{
	open my $in, '<', $csv or die "cannot read $csv: $!\n";
	chomp(my $first = <$in>);
	my @names = split /,/, $first;
	while (my $line = <$in>)
	{
		chomp $line;
		my %r;
		@r{@names} = split /,/, $line, -1;
		my $key = join '|', @r{qw(workload cell sync clients qty stage)};
		push @order, { %r, key => $key } unless $seen_order{$key}++;
		$row{$key}{ $r{side} }{ $r{rep} } = \%r;
		$sides{ $r{side} } = 1;
	}
	close $in;
}

sub median
{
	my @v = sort { $a <=> $b } grep { $_ ne '' } @_;
	return undef unless @v;
	return @v % 2 ? $v[$#v / 2] : ($v[@v / 2 - 1] + $v[@v / 2]) / 2;
}

# All repetitions' values of a column, on one side of one key.
sub values_of
{
	my ($key, $side, $column) = @_;
	my $reps = $row{$key}{$side} or return ();
	return map { $reps->{$_}{$column} } sort { $a <=> $b } keys %$reps;
}

sub group_digits
{
	my $n = shift;
	my $text = sprintf $n < 100 ? '%.1f' : '%.0f', $n;
	1 while $text =~ s/^(\d+)(\d{3})/$1,$2/;
	return $text;
}

sub rate_cell
{
	my ($key, $side) = @_;
	my @v = sort { $a <=> $b } values_of($key, $side, 'per_second');
	return '-' unless @v;
	my $m = median(@v);
	return '0' unless $m > 0;
	my $text = group_digits($m);
	$text .= ' dry' if grep { $_ } values_of($key, $side, 'ran_dry');
	$text .= sprintf ' (%.0f %%)', 100 * ($v[-1] - $v[0]) / $m if @v > 1;
	return $text;
}

sub median_cell
{
	my ($key, $side, $column, $format) = @_;
	my $m = median(values_of($key, $side, $column));
	return defined $m ? sprintf($format, $m) : '-';
}

# In a run too short for two minutes of its own, drift says little; below this, nothing.
sub drift_cell
{
	my ($key, $side) = @_;
	my $seconds = median(values_of($key, $side, 'seconds')) // 0;
	return $seconds >= 20 ? median_cell($key, $side, 'drift', '%.2f') : '-';
}

# Ratio of a column between two (key, side) places, pair by pair.
sub ratios
{
	my ($key_a, $side_a, $key_b, $side_b, $column) = @_;
	my ($a, $b) = ($row{$key_a}{$side_a}, $row{$key_b}{$side_b});
	return () unless $a && $b;
	return map { $a->{$_}{$column} / $b->{$_}{$column} }
	  grep { $b->{$_} && $b->{$_}{$column} > 0 } keys %$a;
}

sub ratio_cell
{
	my @v = sort { $a <=> $b } ratios(@_);
	return '-' unless @v;
	my $format = $v[-1] < 10 ? '%.2f' : $v[-1] < 100 ? '%.1f' : '%.0f';
	my $text = sprintf $format, median(@v);
	$text .= sprintf " ($format .. $format)", $v[0], $v[-1] if @v > 1;
	return $text;
}

sub table_line { return '| ' . join(' | ', @_) . " |\n"; }

sub table_head
{
	my @names = @_;
	print "\n", table_line(@names), table_line('---', '---', ('---:') x (@names - 2));
}

# Which of the sides took part, in the order of presentation.
sub present { return grep { $sides{$_} } @_; }

sub name_of
{
	my $r = shift;
	return sprintf '%s, %d clients, qty %d', $r->{stage}, $r->{clients}, $r->{qty};
}

sub print_rates
{
	my @rows = @_;
	my @shown = present(qw(hot heap upstream floor));
	my @rivals = $sides{hot} ? present(qw(heap upstream floor)) : ();
	table_head('cell', 'sync', (map { "$_ /s" } @shown), (map { "hot / $_" } @rivals));
	for my $r (@rows)
	{
		print table_line(
			name_of($r), $r->{sync},
			(map { rate_cell($r->{key}, $_) } @shown),
			(map { ratio_cell($r->{key}, 'hot', $r->{key}, $_, 'per_second') } @rivals));
	}
}

sub print_costs
{
	my @rows = @_;
	table_head('cell', 'sync', 'side', 'p50 us', 'p99 us', 'max us', 'WAL B', 'FPI',
		'xids', 'dead', 'table MB', 'total MB', 'CPU s/1000', 'drift');
	for my $r (@rows)
	{
		for my $side (present(qw(hot heap upstream floor)))
		{
			next unless $row{ $r->{key} }{$side};
			my @place = ($r->{key}, $side);
			my @bytes = map { $_ / 1048576 } map { median(values_of(@place, $_)) } qw(table_bytes total_bytes);
			print table_line(
				name_of($r), $r->{sync}, $side,
				(map { median_cell(@place, $_, '%d') } qw(p50_us p99_us max_us)),
				median_cell(@place, 'wal_per_unit', '%.1f'),
				median_cell(@place, 'wal_fpi', '%d'),
				median_cell(@place, 'xids_per_unit', '%.3f'),
				median_cell(@place, 'dead_tuples', '%d'),
				(map { sprintf '%.1f', $_ } @bytes),
				median_cell(@place, 'cpu_s_per_1000', '%.4f'),
				drift_cell(@place));
		}
	}
}

# Stages that differ only in the first word of their name, e.g. leased against clean.
sub print_heads
{
	my ($heads, @rows) = @_;
	my ($first, $second) = split ' ', $heads;
	my @shown = present(qw(hot heap upstream));
	return unless @shown;
	table_head("$first against $second", 'sync', (map { ("$_ p50", "$_ rate") } @shown));
	for my $r (grep { $_->{stage} =~ /^\Q$first\E-/ } @rows)
	{
		(my $other = $r->{key}) =~ s/\|\Q$first\E-/|$second-/;
		next unless $row{$other};
		print table_line(
			name_of($r), $r->{sync},
			map {
				(ratio_cell($r->{key}, $_, $other, $_, 'p50_us'),
				 ratio_cell($r->{key}, $_, $other, $_, 'per_second'))
			} @shown);
	}
}

sub print_failures
{
	my @failed;
	for my $r (@order)
	{
		for my $side (sort keys %{ $row{ $r->{key} } })
		{
			for my $rep (values %{ $row{ $r->{key} }{$side} })
			{
				push @failed, sprintf "- %s %s, sync %s, %s, repetition %d: %s\n",
				  uc $r->{workload}, name_of($r), $r->{sync}, $side, $rep->{rep}, $rep->{verdict}
				  if $rep->{verdict} ne 'ok';
			}
		}
	}
	if (@failed) { print "\n## Cells that score 0\n\n", @failed; }
	else { print "\nEvery cell was drained and counted: no message lost, repeated or altered.\n"; }
}

read_csv();
while (my $line = <STDIN>)
{
	chomp $line;
	my ($name, $title, $target, $heads) = split /\|/, $line, -1;
	my @rows = grep { $_->{workload} eq $name } @order;
	next unless @rows;
	print "\n## ", uc $name, ": $title\n\nTarget: $target.\n";
	print_rates(@rows);
	print_heads($heads, @rows) if $heads;
	print_costs(@rows);
}
print_failures();
