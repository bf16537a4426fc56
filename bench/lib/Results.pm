# What the CSVs of bench/run say: rows by what they measured, side and repetition.
#
# A measurement's key is workload, cell, sync, clients, qty, payload and stage. A
# measurement that several files have is taken from the one that was read last, on all
# sides, so that ratios are of neighbours in time.
package Results;

use strict;
use warnings;

my @KEY = qw(workload cell sync clients qty payload stage);

sub new
{
	my ($class, @files) = @_;
	my $self = bless { row => {}, keys => [], sides => {}, payloads => {}, series => [] }, $class;
	$self->_read($_) for @files;
	return $self;
}

# Lines of a CSV without quotes, as hashes
sub read_csv
{
	my $file = shift;
	my @lines;
	open my $in, '<', $file or die "cannot read $file: $!\n";
	chomp(my $first = <$in>);
	my @names = split /,/, $first;
	while (my $line = <$in>)
	{
		chomp $line;
		my %r;
		@r{@names} = split /,/, $line, -1;
		push @lines, \%r;
	}
	close $in;
	return @lines;
}

sub _read
{
	my ($self, $file) = @_;
	for my $r (read_csv($file))
	{
		my $key = join '|', @$r{@KEY};
		my $known = $self->{row}{$key};
		push @{ $self->{keys} }, $key unless $known;
		$self->{row}{$key} = { file => $file } if !$known || $known->{file} ne $file;
		$self->{row}{$key}{side}{ $r->{side} }{ $r->{rep} } = $r;
		$self->{row}{$key}{any} = $r;
		$self->{sides}{ $r->{side} } = $self->{payloads}{ $r->{payload} } = 1;
	}
	(my $series = $file) =~ s/\.csv$/.series.csv/;
	return unless -e $series;
	for my $r (read_csv($series))
	{
		$r->{key} = join '|', @$r{@KEY};
		push @{ $self->{series} }, $r if $self->{row}{ $r->{key} } && $self->{row}{ $r->{key} }{file} eq $file;
	}
}

# One row of each measurement of a workload, in the order in which they were made
sub rows_of
{
	my ($self, $workload) = @_;
	return grep { $_->{workload} eq $workload }
	  map { { %{ $self->{row}{$_}{any} }, key => $_ } } @{ $self->{keys} };
}

sub workloads
{
	my $self = shift;
	my %seen;
	return sort { ($a =~ /(\d+)/ ? $1 : 99) <=> ($b =~ /(\d+)/ ? $1 : 99) }
	  grep { !$seen{$_}++ } map { (split /\|/)[0] } @{ $self->{keys} };
}

# Which of some sides took part, in the order given
sub present
{
	my $self = shift;
	return grep { $self->{sides}{$_} } @_;
}

sub has { my ($self, $key, $side) = @_; return exists $self->{row}{$key} && exists $self->{row}{$key}{side}{$side}; }

# The measurement like this one, but for what is named: at(key, stage => 'x', ...)
sub at
{
	my ($self, $key, %other) = @_;
	my %r = (%{ $self->{row}{$key}{any} }, %other);
	my $exact = join '|', @r{@KEY};
	return $exact if $self->{row}{$exact};
	$r{cell} = '[^|]*';    # cells that have one stage each are compared, too
	my $pattern = join '\|', map { $_ eq 'cell' ? $r{$_} : quotemeta $r{$_} } @KEY;
	my ($found) = grep { /^$pattern$/ } @{ $self->{keys} };
	return $found;
}

sub stages { my ($self, $workload) = @_; my %seen; return grep { !$seen{$_}++ } map { $_->{stage} } $self->rows_of($workload); }

# Values of a column over the repetitions; those of failed ones are 0 in per_second
sub values_of
{
	my ($self, $key, $side, $column) = @_;
	return () unless defined $key && $self->has($key, $side);
	my $reps = $self->{row}{$key}{side}{$side};
	return map { $reps->{$_}{$column} } sort { $a <=> $b } keys %$reps;
}

# Ratios of a column between two (key, side), within each repetition
sub ratios
{
	my ($self, $key_a, $side_a, $key_b, $side_b, $column) = @_;
	return () unless defined $key_b && $self->has($key_a, $side_a) && $self->has($key_b, $side_b);
	my ($of, $over) = ($self->{row}{$key_a}{side}{$side_a}, $self->{row}{$key_b}{side}{$side_b});
	return map { $of->{$_}{$column} / $over->{$_}{$column} }
	  grep { $over->{$_} && $over->{$_}{$column} > 0 } sort { $a <=> $b } keys %$of;
}

sub median
{
	my @v = sort { $a <=> $b } grep { defined $_ && $_ ne '' } @_;
	return undef unless @v;
	return @v % 2 ? $v[ $#v / 2 ] : ($v[ @v / 2 - 1 ] + $v[ @v / 2 ]) / 2;
}

sub median_of { my $self = shift; return median($self->values_of(@_)); }

# What failed, a line each
sub failures
{
	my $self = shift;
	my @failed;
	for my $key (@{ $self->{keys} })
	{
		my $sides = $self->{row}{$key}{side};
		for my $side (sort keys %$sides)
		{
			for my $rep (sort { $a <=> $b } keys %{ $sides->{$side} })
			{
				my $r = $sides->{$side}{$rep};
				push @failed, sprintf '%s %s, sync %s, %s, repetition %d: %s',
				  uc $r->{workload}, $self->name_of($r), $r->{sync}, $side, $rep, $r->{verdict}
				  if $r->{verdict} ne 'ok';
			}
		}
	}
	return @failed;
}

sub name_of
{
	my ($self, $r) = @_;
	my $name = sprintf '%s, %d clients, qty %d', $r->{stage}, $r->{clients}, $r->{qty};
	$name = "$r->{cell}: $name" if $r->{workload} =~ /^w(8|9)$/;
	$name .= ", $r->{payload} B" if keys %{ $self->{payloads} } > 1;
	return $name;
}

sub group_digits
{
	my $n = shift;
	my $text = sprintf $n < 100 ? '%.1f' : '%.0f', $n;
	1 while $text =~ s/^(\d+)(\d{3})/$1,$2/;
	return $text;
}

1;
