# SVG plots of results, drawn by gnuplot.
package Plots;

use strict;
use warnings;
use Results;

my %COLOUR = (hot => '#c0392b', heap => '#2c6fbb', upstream => '#2e8b57', floor => '#999999');
my @SIDES = qw(hot heap upstream floor);

sub new
{
	my ($class, $folder) = @_;
	return bless { folder => $folder, drawn => [] }, $class;
}

# What gnuplot must not take for markup
sub _text { my $t = shift; $t =~ s/([_^@&{}"\\])/ /g; return $t; }

# _draw NAME TITLE SETTINGS CURVES: curves are [label, style, lines of data]
sub _draw
{
	local $_;
	my ($self, $name, $title, $settings, @curves) = @_;
	open my $gnuplot, '|-', 'gnuplot' or die "cannot run gnuplot: $!\n";
	print $gnuplot "set terminal svg size 900,420 dynamic font 'sans-serif,12' background '#ffffff'\n",
	  "set output '$self->{folder}/$name.svg'\n",
	  "set title \"", _text($title), "\"\nset grid ytics lc rgb '#dddddd'\nset key outside right top\nset border 3\nset tics nomirror\n",
	  map({ "$_\n" } @$settings);
	print $gnuplot "\$d$_ << END\n", @{ $curves[$_][2] }, "END\n" for 0 .. $#curves;
	print $gnuplot 'plot ', join(', ', map { "\$d$_ $curves[$_][1] title \"" . _text($curves[$_][0]) . '"' } 0 .. $#curves), "\n";
	close $gnuplot or die "gnuplot failed with $name\n";
	push @{ $self->{drawn} }, $name;
	return $name;
}

# Bars in groups: a group for each measurement, a bar for each side and column.
# Columns are [name, colour's share]; values of 0 are left out, the axis is logarithmic.
sub _bars
{
	my ($self, $results, $name, $title, $unit, $columns, @rows) = @_;
	my @curves;
	for my $side ($results->present(@SIDES))
	{
		for my $column (@$columns)
		{
			my @values = map { $results->median_of($_->{key}, $side, $column) } @rows;
			next unless grep { defined $_ && $_ > 0 } @values;
			my $density = @$columns == 1 ? 0.9 : $column eq $columns->[0] ? 0.9 : 0.35;
			my @lines = map {
				sprintf "\"%s\" %s\n", _text(_short($results, $rows[$_])),
				  defined $values[$_] && $values[$_] > 0 ? $values[$_] : 'NaN'
			} 0 .. $#rows;
			my $label = @$columns == 1 ? $side : "$side " . ($column =~ s/_.*//r);
			push @curves, [ $label, "using 2:xtic(1) with histograms fs solid $density lc rgb '$COLOUR{$side}'", \@lines ];
		}
	}
	return unless @rows && @curves;
	return $self->_draw($name, $title,
		[ 'set style data histograms', 'set style histogram clustered gap 1.5', 'set boxwidth 0.95 relative',
			"set ylabel '$unit'", 'set logscale y', 'set xtics rotate by -35 font ",10"', 'set bmargin 9', 'set rmargin 18' ],
		@curves);
}

sub _short
{
	my ($results, $r) = @_;
	my $text = "$r->{stage} c$r->{clients} $r->{sync}";
	$text = "$r->{cell} $text" if $r->{workload} =~ /^w(8|9)$/;
	$text .= " $r->{payload}B" if keys %{ $results->{payloads} } > 1;
	return $text;
}

# Throughput, latency and WAL of a workload; returns the names of what was drawn
sub workload
{
	my ($self, $results, $w) = @_;
	return if $w eq 'w12';    # a second here, another there: no rates
	my @rows = grep { $_->{unit} =~ /^(message|call)$/ } $results->rows_of($w);
	my @timed = grep { $_->{p50_us} > 0 } @rows;
	my @moving = grep { $_->{unit} eq 'message' } @rows;
	my $title = uc $w;
	my @drawn;
	push @drawn, $self->_bars($results, "$w-rate", "$title: throughput", 'per second', ['per_second'], @rows)
	  if $w ne 'w10';    # what is offered
	push @drawn, $self->_bars($results, "$w-latency", "$title: latency, p50 and p99", 'microseconds', [ 'p50_us', 'p99_us' ], @timed);
	push @drawn, $self->_bars($results, "$w-wal", "$title: WAL per message", 'bytes', ['wal_per_unit'], @moving)
	  if $w ne 'w9';     # most of it the bystander's
	return @drawn;
}

# Lines of a column over a number that x_of finds in a row; a line for each side and
# what line_of calls it
sub _lines
{
	my ($self, $results, $name, $title, $x_label, $x_of, $line_of, $column, @rows) = @_;
	my (%points, @order, %side_of);
	for my $row (@rows)
	{
		for my $side (grep { $results->has($row->{key}, $_) } $results->present(@SIDES))
		{
			my $x = $x_of->($row) // next;
			my $label = "$side " . $line_of->($row);
			push @order, $label unless $points{$label};
			$side_of{$label} = $side;
			my $value = $results->median_of($row->{key}, $side, $column);
			$points{$label}{$x} = $value if $value > 0;
		}
	}
	my %dash;
	my @curves = map {
		my $p = $points{$_};
		my $dash = ++$dash{ $side_of{$_} };
		[ $_, "using 1:2 with linespoints lw 2 dt $dash pt 7 ps 0.6 lc rgb '$COLOUR{ $side_of{$_} }'",
			[ map { "$_ $p->{$_}\n" } sort { $a <=> $b } keys %$p ] ]
	} grep { keys %{ $points{$_} } > 1 } @order;
	return unless @curves;
	return $self->_draw($name, $title,
		[ "set xlabel '$x_label'", "set ylabel '" . ($column eq 'seconds' ? 'seconds' : 'per second') . "'", 'set logscale xy', 'set rmargin 32' ], @curves);
}

sub over_clients
{
	my ($self, $results, $w) = @_;
	return if $w =~ /^w1[02]$/;    # clients are asleep, or one
	my @rows = grep { $_->{qty} == 1 } $results->rows_of($w);
	return $self->_lines($results, "$w-clients", uc($w) . ': throughput over clients', 'clients',
		sub { $_[0]{clients} }, sub { "$_[0]{stage} $_[0]{sync}" }, 'per_second', @rows);
}

sub over_backlog
{
	my ($self, $results, $w) = @_;
	my $what = $w eq 'w12' ? 'seconds' : 'per_second';
	return $self->_lines($results, "$w-backlog", uc($w) . ': ' . ($w eq 'w12' ? 'seconds' : 'throughput') . ' over backlog', 'messages',
		sub { $_[0]{stage} =~ /^(\d+)-/ ? $1 : undef }, sub { ($_[0]{stage} =~ s/^\d+-//r) . " $_[0]{sync}" }, $what,
		$results->rows_of($w));
}

# What the series say, a line for each stage, side and repetition's median
sub over_time
{
	my ($self, $results, $w, $sync, $what) = @_;
	my (%points, @order, %side_of);
	for my $s (grep { $_->{workload} eq $w && $_->{sync} eq $sync } @{ $results->{series} })
	{
		my $label = join ' ', $s->{side}, ($w eq 'w9' ? $s->{cell} : ()), $s->{stage};
		push @order, $label unless $points{$label};
		$side_of{$label} = $s->{side};
		push @{ $points{$label}{ $s->{second} } }, $s->{$what};
	}
	my %dash;
	my @curves = map {
		my $p = $points{$_};
		my $dash = ++$dash{ $side_of{$_} };
		[ $_, "using 1:2 with lines lw 2 dt $dash lc rgb '$COLOUR{ $side_of{$_} }'",
			[ map { sprintf "%s %s\n", $_, Results::median(@{ $p->{$_} }) || 'NaN' } sort { $a <=> $b } keys %$p ] ]
	} grep { keys %{ $points{$_} } > 2 } @order;
	return unless @curves;
	my %about = (per_second => [ 'rate', 'throughput over time', 'per second' ], p99_us => [ 'p99', 'p99 over time', 'microseconds' ]);
	my ($short, $title, $unit) = @{ $about{$what} };
	return $self->_draw("$w-time-$short-$sync", uc($w) . ": $title, synchronous_commit $sync",
		[ "set xlabel 'seconds'", "set ylabel '$unit'", 'set logscale y', 'set rmargin 32' ], @curves);
}

1;
