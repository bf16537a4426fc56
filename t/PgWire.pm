# A client of the server that knows for certain what became of a statement, as psql does
# not tell: done, refused, or unknown because the connection was lost over it.
#
# The simple query protocol over a Unix socket, one statement at a time, values as text.
package PgWire;

use strict;
use warnings;

use Errno qw(EINTR);
use IO::Socket::UNIX;

# new(HOST, PORT, application_name, settings...): undef if the server is not to be had,
# $PgWire::refusal says why
our $refusal;

sub new
{
	my ($class, $host, $port, $name, %settings) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => "$host/.s.PGSQL.$port");

	$refusal = "no connection: $!";
	return if !$socket;
	my $self = bless { socket => $socket, buffer => '' }, $class;
	my $options = join(' ', map { "-c $_=$settings{$_}" } sort keys %settings);
	my $body = pack('N', 196608)
	  . join('', map { "$_\0" } user => scalar getpwuid($<), database => 'postgres',
		application_name => $name, options => $options)
	  . "\0";
	$self->put(pack('N', length($body) + 4) . $body);
	my $answer = $self->answer;
	$refusal = "$answer->{code} $answer->{message}";
	return $answer->{fate} eq 'done' && !$self->{is_lost} ? $self : undef;
}

sub put
{
	my ($self, $bytes) = @_;

	local $SIG{PIPE} = 'IGNORE';
	while (length $bytes)
	{
		my $n = syswrite($self->{socket}, $bytes);
		next if !defined $n && $! == EINTR;
		return 0 if !defined $n;
		substr($bytes, 0, $n, '');
	}
	return 1;
}

# One message of the server: type and body, or nothing if the connection is lost
sub message
{
	my ($self) = @_;

	while (1)
	{
		if (length $self->{buffer} >= 5)
		{
			my ($type, $length) = unpack('aN', $self->{buffer});
			if (length $self->{buffer} > $length)
			{
				my $body = substr($self->{buffer}, 5, $length - 4);
				substr($self->{buffer}, 0, $length + 1, '');
				return ($type, $body);
			}
		}
		my $n = sysread($self->{socket}, $self->{buffer}, 65536, length $self->{buffer});
		next if !defined $n && $! == EINTR;
		return if !$n;
	}
}

sub row_of
{
	my ($body) = @_;
	my ($n, @values) = unpack('n', $body);
	my $at = 2;

	foreach (1 .. $n)
	{
		my $length = unpack('N', substr($body, $at, 4));
		$at += 4;
		push @values, $length == 0xFFFFFFFF ? undef : substr($body, $at, $length);
		$at += $length if $length != 0xFFFFFFFF;
	}
	return \@values;
}

# fate: 'done' (tag, rows), 'refused' (code, message), or 'lost': no answer, so what was
# asked may have been done or not.  A FATAL error ends the connection and counts as lost.
# What was reported as done is committed, whatever follows.
sub answer
{
	my ($self) = @_;
	my %answer = (fate => 'lost', code => '', message => 'connection lost', rows => []);

	while (my ($type, $body) = $self->message)
	{
		if ($type eq 'D') { push @{ $answer{rows} }, row_of($body); }
		elsif ($type eq 'C') { @answer{qw(fate tag)} = ('done', substr($body, 0, -1)); }
		elsif ($type eq 'E')
		{
			my %field = map { substr($_, 0, 1) => substr($_, 1) } grep { length } split /\0/, $body;
			@answer{qw(code message)} = @field{qw(C M)};
			$answer{fate} = 'refused' if $field{V} eq 'ERROR' && $answer{fate} ne 'done';
			last if $field{V} ne 'ERROR';
		}
		elsif ($type eq 'R' && unpack('N', $body) == 0) { $answer{fate} = 'done'; }
		elsif ($type eq 'Z') { return \%answer; }
	}
	$self->{is_lost} = 1;
	return \%answer;
}

sub ask
{
	my ($self, $sql) = @_;

	# Even what could be sent in part only may have been read as a whole
	$self->put('Q' . pack('N', length($sql) + 5) . "$sql\0");
	return $self->answer;
}

# For statements that must succeed: their rows
sub rows
{
	my ($self, $sql) = @_;
	my $answer = $self->ask($sql);

	die "$answer->{code} $answer->{message}: $sql" if $answer->{fate} ne 'done';
	return @{ $answer->{rows} };
}

1;
