# Targets (bench/targets) held against results.
package Targets;

use strict;
use warnings;
use Results;

# Lines of the file; "compare" words by workload
sub new
{
	my ($class, $file) = @_;
	my $self = bless { rules => [], compare => {} }, $class;
	open my $in, '<', $file or die "cannot read $file: $!\n";
	while (my $line = <$in>)
	{
		next if $line =~ /^\s*(#|$)/;
		chomp $line;
		my @f = split /\s*\|\s*/, $line;
		if ($f[1] eq 'compare') { $self->{compare}{ $f[0] } = [ split ' ', $f[2] ]; next; }
		die "$file: cannot understand: $line\n" unless @f == 6;
		my %rule;
		@rule{qw(workload what column of over limit)} = @f;
		push @{ $self->{rules} }, \%rule;
	}
	close $in;
	return $self;
}

sub rules_of { my ($self, $workload) = @_; return grep { $_->{workload} eq $workload } @{ $self->{rules} }; }

# A rule's outcomes: for each measurement that it is about a hash of row, values
# (by repetition), value (their median), limit, met
sub outcomes
{
	my ($results, $rule) = @_;
	my ($side, $stage) = split /:/, $rule->{of}, 2;
	my $pattern = $stage =~ s/^N-/(\\d+)-/r;
	my @outcomes;
	for my $row ($results->rows_of($rule->{workload}))
	{
		next unless $row->{stage} =~ /^$pattern$/ && $results->has($row->{key}, $side);
		my @values = grep { $_ ne '' } _values($results, $rule, $row, $side);
		next unless @values;
		push @outcomes, _judge($rule, $row, @values);
	}
	return @outcomes;
}

sub _values
{
	my ($results, $rule, $row, $side) = @_;
	return _drift_or_value($results, $rule, $row, $side) if $rule->{over} eq '-';
	my ($other_side, $other_key) = _over($results, $rule, $row);
	return () if defined $other_key && $other_key eq $row->{key} && $other_side eq $side;
	return $results->ratios($row->{key}, $side, $other_key, $other_side, $rule->{column});
}

# Drift says nothing about a run without two minutes, or a fair part of one
sub _drift_or_value
{
	my ($results, $rule, $row, $side) = @_;
	return () if $rule->{column} eq 'drift' && $row->{stage} !~ /drain/
	  && Results::median($results->values_of($row->{key}, $side, 'seconds')) < 20;
	return $results->values_of($row->{key}, $side, $rule->{column});
}

sub _over
{
	my ($results, $rule, $row) = @_;
	my ($side, $stage) = split /:/, $rule->{over}, 2;
	if ($stage =~ s/\@fewer$//)
	{
		my ($fewer) = sort { $b <=> $a } grep { $_ < $row->{clients} }
		  map { $_->{clients} } grep { $_->{stage} eq $stage } $results->rows_of($row->{workload});
		return ($side, defined $fewer ? $results->at($row->{key}, clients => $fewer) : undef);
	}
	my ($n) = $row->{stage} =~ /^(\d+)-/;
	my ($least) = sort { $a <=> $b } map { /^(\d+)-/ ? $1 : () } $results->stages($row->{workload});
	$stage =~ s/^N0-/$least-/ if defined $least;
	$stage =~ s/^N-/$n-/ if defined $n;
	return ($side, $results->at($row->{key}, stage => $stage));
}

sub _judge
{
	my ($rule, $row, @values) = @_;
	my ($operator, $bound) = $rule->{limit} =~ /^([<>]=?)\s*(.*)$/ or die "no limit: $rule->{limit}\n";
	my $limit = $bound =~ /^payload\s*\+\s*(\d+)$/ ? $row->{payload} + $1 : $bound;
	my $value = Results::median(@values);
	my $failed = $rule->{column} eq 'per_second' && grep { $_ == 0 } @values;
	my $met = !$failed && ($operator eq '>=' ? $value >= $limit : $operator eq '<=' ? $value <= $limit : $value < $limit);
	return { row => $row, values => \@values, value => $value, limit => "$operator $limit", met => $met ? 1 : 0,
		upward => scalar $operator =~ />/ };
}

1;
