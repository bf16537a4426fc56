# Two sessions of psql on two databases that get the same lines: what each of them answers
# to every line, and where the answers differ.
#
# psql echoes what it is told (-a) before it does it, so the line before an answer says what
# the question was; errors come with their SQLSTATE.
package PsqlPair;

use strict;
use warnings;

use IPC::Open3;

# What differs between two databases that agree, or says more than the API promises
my $noise = qr/^(?:LOCATION:|CONTEXT:|DETAIL:  (?:Failing row|Reason code)|HINT:|STATEMENT:|LINE \d+:|\s+\^|SQL statement "|PL\/pgSQL function)/;

# new(NODE, NAME, DATABASE, DATABASE): psql's variable gid is a name for transactions that
# are prepared, of which there is one list for all databases
sub new
{
	my ($class, $node, $name, @databases) = @_;
	my $self = bless { n_sent => 0, parts => [] }, $class;

	foreach my $database (@databases)
	{
		my ($in, $out);
		my $pid = open3($in, $out, undef,
			'psql', '-XAtqa', '-v', 'VERBOSITY=verbose', '-P', 'null=NULL',
			'-v', "gid=$database:$name", '-d', $node->connstr($database));
		push @{ $self->{parts} }, { pid => $pid, in => $in, out => $out };
	}
	return $self;
}

# ask(LINES): for each line a pair of answers
sub ask
{
	my ($self, @lines) = @_;
	my @answers;

	my $end = '--end of ' . ++$self->{n_sent} . '--';
	my $text = join('', map { "/*$_*/ $lines[$_]\n" } 0 .. $#lines) . "\\warn $end\n";
	die "too much at once for a pipe" if length($text) > 60_000;
	foreach my $part (@{ $self->{parts} })
	{
		syswrite($part->{in}, $text) == length($text) or die "psql does not listen: $!";
	}
	foreach my $part (@{ $self->{parts} })
	{
		push @answers, split_answers(read_until($part->{out}, $end), scalar @lines);
	}
	return map { [ $answers[0][$_], $answers[1][$_] ] } 0 .. $#lines;
}

# ask_inside(LINES): the same, by one call of the procedure run(); a first pair tells what
# was not an answer to any of them
sub ask_inside
{
	my ($self, @lines) = @_;
	my ($pair) = $self->ask('CALL run(ARRAY[' . join(', ', map { s/'/''/gr =~ s/(.*)/'$1'/r } @lines) . '], NULL);');
	my ($hot, $heap) = map { [ split /^=====\n/m, $_, -1 ] } @$pair;

	return map { [ $hot->[$_] // 'none', $heap->[$_] // 'none' ] } 0 .. @lines;
}

sub read_until
{
	my ($out, $end) = @_;
	my $text = '';

	until ($text =~ /(?:^|\n)\Q$end\E\n\z/)
	{
		sysread($out, $text, 65536, length($text)) or die "psql has gone: $text";
	}
	return $text;
}

# The text that follows each echoed line
sub split_answers
{
	my ($text, $n) = @_;
	my @answers = ('') x $n;
	my $current;

	foreach my $line (split /\n/, $text)
	{
		last if $line =~ /^\\warn --end of/;
		if ($line =~ /^\/\*(\d+)\*\/ /)
		{
			$current = $1;
		}
		elsif ($line !~ $noise)
		{
			$line =~ s/"(?:\w+):(\w+)"/"$1"/; # gid
			$line =~ s/ received from server process with PID \d+\.//;
			$answers[$current] .= "$line\n";
		}
	}
	return \@answers;
}

sub quit
{
	my ($self) = @_;

	foreach my $part (@{ $self->{parts} })
	{
		close $part->{in};
		waitpid($part->{pid}, 0);
	}
	return;
}

1;
