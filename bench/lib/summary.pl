# summary.pl CSV < workload lines "name|title": the Markdown summary of a run.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Results;
use Tables;
use Targets;

my $results = Results->new($ARGV[0]);
my $targets = Targets->new("$FindBin::Bin/../targets");

while (my $line = <STDIN>)
{
	chomp $line;
	my ($name, $title) = split /\|/, $line, 2;
	my @rows = $results->rows_of($name) or next;
	print "\n## ", uc $name, ": $title\n", Tables::rates($results, @rows),
	  Tables::compared($results, $targets->{compare}{$name}, @rows),
	  Tables::costs($results, @rows), Tables::targets($results, $targets, $name);
}
print Tables::failures($results);
