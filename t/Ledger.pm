# What clients wrote down (LedgerClient.pm) against what the tables hold, whenever nobody
# is at work.
#
#	new(queues), read_log(slot, file) for each client, check(tables), and so on.
#
# What is known of a message, by queue and key:
#
#	sent		yes, maybe, no
#	gone		how an acknowledged removal took it: d, a, p; gone_at: when that was known
#	id, ct, end	its last lease as found in the table by the last check: read_ct, vt
#	not_before	before it was read: the earliest time it may be
#	at			read_ct -> last_read_at of acknowledged leases since
#	ends		read_ct -> client -> vt that the lease got from it last
#	maybe_ct	read_ct -> vt of leases that may have been
#	bound		a set_vt of unknown outcome may have moved the end to no earlier than this
#	removals	[transaction, how] of unknown outcome
#
# A check decides what was unknown, since the table tells, and holds it against the clients
# from then on.
package Ledger;

use strict;
use warnings;

use List::Util qw(min sum0);

sub new
{
	my ($class, @queues) = @_;

	return bless {
		queues => \@queues, offset => {}, open => {}, messages => {}, gone => {},
		prepared => {}, deciding => {}, missing => {}, leased => {}, unknown => [], reads_unknown => {}, pops_unknown => {},
		problems => [], figures => {} }, $class;
}

sub count
{
	my ($self, $what, $n) = @_;

	$self->{figures}{$what} += $n // 1;
	return;
}

sub complain
{
	my ($self, $what) = @_;

	push @{ $self->{problems} }, $what;
	return;
}

# ---- reading ledgers ----

sub read_log
{
	my ($self, $slot, $file) = @_;

	open(my $in, '<', $file) or die "$file: $!";
	seek($in, $self->{offset}{$slot} // 0, 0);
	while (my $line = <$in>)
	{
		chomp $line;
		$self->note_line($slot, split /\t/, $line);
	}
	$self->{offset}{$slot} = tell($in);
	close($in);
	$self->close_open($slot, 'maybe');
	return;
}

sub note_line
{
	my ($self, $slot, $what, @args) = @_;
	my $open = $self->{open}{$slot};

	if ($what eq 'K') { $self->acknowledge($slot, $open, @args); }
	elsif ($what eq 'F') { $self->close_open($slot, 'no'); }
	elsif ($what eq 'E') { $self->complain("client $slot got error @args"); }
	else
	{
		$self->close_open($slot, 'maybe');
		$self->{open}{$slot} = { what => $what, args => \@args, slot => $slot } if $what ne 'N';
	}
	return;
}

sub acknowledge
{
	my ($self, $slot, $open, $time, @effects) = @_;

	@effects = @{ $open->{args} } if $open->{what} eq 'I';
	$self->count("transactions of kind $open->{what} acknowledged");
	delete $self->{open}{$slot};
	if ($open->{what} eq 'P')
	{
		my ($gid, @prepared) = @{ $open->{args} };
		$self->{prepared}{$gid} = { slot => $slot, effects => \@prepared };
	}
	elsif ($open->{what} eq 'D')
	{
		$self->decided(@{ $open->{args} }, $time);
	}
	else
	{
		$self->apply($slot, $time, $_) foreach @effects;
	}
	return;
}

# An intent without acknowledgement: refused, or unknown
sub close_open
{
	my ($self, $slot, $outcome) = @_;
	my $open = delete $self->{open}{$slot} or return;

	$self->count("transactions of kind $open->{what} " . ($outcome eq 'no' ? 'refused' : 'of unknown outcome'));
	if ($open->{what} eq 'D')
	{
		my ($gid, $verb) = @{ $open->{args} };
		# Nobody else decides; a cancel may come after it was done
		$self->{deciding}{$gid} = $verb;
	}
	elsif ($outcome eq 'maybe' && $open->{what} eq 'P')
	{
		my ($gid, @effects) = @{ $open->{args} };
		$self->{prepared}{$gid} = { slot => $slot, effects => \@effects, is_unknown => 1 };
	}
	elsif ($outcome eq 'maybe')
	{
		$self->apply_unknown($open, $open->{args});
	}
	else
	{
		$self->forget_sends($open->{args});
	}
	return;
}

# What was sent by a transaction that failed, should it turn up
sub forget_sends
{
	my ($self, $effects) = @_;

	foreach (@$effects)
	{
		my ($what, $queue, $key) = split /:/;
		$self->{gone}{"$queue:$key"} = 'never sent' if $what eq 'S';
	}
	return;
}

sub decided
{
	my ($self, $gid, $verb, $time) = @_;
	my $prepared = delete $self->{prepared}{$gid};

	delete $self->{deciding}{$gid};
	$self->count("prepared transactions: $verb");
	if ($verb eq 'COMMIT') { $self->apply($prepared->{slot}, $time, $_) foreach @{ $prepared->{effects} }; }
	else { $self->forget_sends($prepared->{effects}); }
	return;
}

sub message
{
	my ($self, $queue, $key) = @_;
	my $name = "$queue:$key";

	return $self->{messages}{$name} //= { name => $name, queue => $queue, key => $key, sent => 'no', ct => 0 };
}

# ---- effects that were acknowledged ----

my %apply = (
	S => sub {
		my ($self, $message, $slot, $time, $not_before) = @_;
		$message->{sent} = 'yes';
		$message->{not_before} = $not_before;
		$self->count('messages sent');
	},
	L => \&apply_lease,
	V => sub {
		my ($self, $message, $slot, $time, $id, $ct, $vt) = @_;
		$message->{ends}{$ct}{$slot} = $vt;
		$self->count('leases moved');
	},
	X => sub {
		my ($self, $message, $slot, $time, $how, @popped) = @_;
		$self->complain("$message->{name}: removed twice, $message->{gone} and $how") if $message->{gone};
		@$message{qw(gone gone_at)} = ($how, $time);
		$message->{popped} = \@popped if @popped;
		$self->count({ d => 'messages deleted', a => 'messages archived', p => 'messages popped' }->{$how});
	},
	M => sub {
		my ($self, $message, $slot) = @_;
		push @{ $message->{missed_by} }, $slot;
	},
	r => sub { }, x => sub { }, v => sub { });

sub apply
{
	my ($self, $slot, $time, $effect) = @_;
	my ($what, $queue, $key, @rest) = split /:/, $effect;

	return if $what =~ /[rxv]/;
	$apply{$what}->($self, $self->message($queue, $key), $slot, $time, @rest);
	return;
}

sub apply_lease
{
	my ($self, $message, $slot, $time, $id, $ct, $at, $vt) = @_;

	$self->count('messages leased');
	$self->complain("$message->{name}: delivered twice as read $ct, at $message->{at}{$ct} and $at")
	  if $message->{at}{$ct};
	$self->complain("$message->{name}: is $id, was $message->{id}") if $message->{id} && $message->{id} != $id;
	$message->{id} = $id;
	$message->{at}{$ct} = $at;
	# set_vt comes after it in the ledger of the same client, perhaps before it in another
	$message->{ends}{$ct}{$slot} = $vt;
	return;
}

# ---- effects of unknown outcome ----

sub apply_unknown
{
	my ($self, $open, $effects) = @_;
	my $transaction = { slot => $open->{slot}, effects => $effects, evidence => {} };

	foreach (@$effects)
	{
		my ($what, $queue, $key, @rest) = split /:/;
		if ($what eq 'r') { $self->{reads_unknown}{$queue} += $key; next; }
		if ($what eq 'x') { $self->{pops_unknown}{$queue} += $key; next; }
		my $message = $self->message($queue, $key);
		if ($what eq 'S')
		{
			$message->{sent} = 'maybe' if $message->{sent} eq 'no';
			$message->{not_before} = $rest[0];
			$message->{sender} = $transaction;
		}
		elsif ($what eq 'L') { $message->{maybe_ct}{ $rest[1] } = $rest[3]; $message->{ends}{ $rest[1] }{maybe} = $rest[3]; }
		elsif ($what eq 'V') { $message->{ends}{ $rest[1] }{maybe} = $rest[2]; $message->{bound} = min($message->{bound} // $rest[2], $rest[2]); }
		elsif ($what eq 'v') { $message->{bound} = min($message->{bound} // $rest[0], $rest[0]); }
		elsif ($what eq 'X') { push @{ $message->{removals} }, [ $transaction, $rest[0] ]; }
	}
	push @{ $self->{unknown} }, $transaction;
	return;
}

# ---- what is held against the tables ----

# check(live, archived, prepared): hashes by queue:key of [id, read_ct, last_read_at, vt,
# is_intact], and a list of the names of prepared transactions.  Nobody is at work.
sub check
{
	my ($self, $live, $archived, $prepared) = @_;

	$self->check_prepared($prepared);
	foreach my $name (keys %$live, keys %$archived)
	{
		$self->complain("$name: there, but " . ($self->{gone}{$name} // 'sent by nobody')) if !$self->{messages}{$name};
	}
	my @messages = values %{ $self->{messages} };
	$self->decide_presence($_, $live->{ $_->{name} }, $archived->{ $_->{name} }) foreach @messages;
	$self->check_atomic;
	$self->check_pops;
	$self->check_leases($_, $live->{ $_->{name} } // $archived->{ $_->{name} }) foreach @messages;
	$self->check_unexplained;
	$self->settle($_, $live->{ $_->{name} }) foreach @messages;
	@$self{qw(unknown reads_unknown pops_unknown)} = ([], {}, {});
	return splice @{ $self->{problems} };
}

# What is prepared is there, and nothing else
sub check_prepared
{
	my ($self, $there) = @_;
	my %there = map { $_ => 1 } @$there;

	foreach my $gid (sort keys %{ $self->{prepared} })
	{
		my $prepared = $self->{prepared}{$gid};
		my $verb = $self->{deciding}{$gid};
		if ($there{$gid}) { delete $prepared->{is_unknown}; }
		elsif ($verb) { $self->decided($gid, $verb, 0); }
		else
		{
			$self->complain("prepared transaction $gid is lost") if !$prepared->{is_unknown};
			$self->forget_sends($prepared->{effects});
			delete $self->{prepared}{$gid};
		}
	}
	$self->complain("prepared transaction $_, of which nobody knows") foreach grep { !$self->{prepared}{$_} } @$there;
	$self->{deciding} = {};
	return;
}

# Where is it?  Decides what was unknown of its sending and removal.
sub decide_presence
{
	my ($self, $message, $row, $archived) = @_;
	my $name = $message->{name};
	my @removals = @{ $message->{removals} // [] };

	$self->complain("$name: in the queue and in the archive") if $row && $archived;
	$self->complain("$name: its payload has changed") if grep { $_ && !$_->[4] } $row, $archived;
	if ($row || $archived || $message->{gone} || $message->{at})
	{
		$self->complain("$name: delivered, but " . ($self->{gone}{$name} // 'sent by nobody')) if $message->{sent} eq 'no';
		$self->decide_sender($message, 'yes');
	}
	elsif ($message->{sent} eq 'maybe')
	{
		my $removed_by_others = grep { $_->[0] != $message->{sender} } @removals;
		my $removed_by_sender = @removals - $removed_by_others;
		return if $removed_by_sender;    # all or nothing, and we see nothing either way
		$self->decide_sender($message, $removed_by_others ? 'yes' : 'no');
		return if !$removed_by_others;
	}
	return if $message->{sent} eq 'no';
	$self->decide_removal($message, $row, $archived, @removals);
	return;
}

sub decide_sender
{
	my ($self, $message, $sent) = @_;

	return if $message->{sent} ne 'maybe';
	$message->{sent} = $sent;
	$message->{sender}{evidence}{$sent} = $message->{name};
	$self->{gone}{ $message->{name} } = 'never sent' if $sent eq 'no';
	$self->count("unknown sends that were $sent");
	return;
}

sub decide_removal
{
	my ($self, $message, $row, $archived, @removals) = @_;
	my $name = $message->{name};

	if ($row)
	{
		$self->complain("$name: there, but an acknowledged removal ($message->{gone}) took it") if $message->{gone};
		$_->[0]{evidence}{no} = $name foreach @removals;
	}
	elsif (!$message->{gone} && @removals)
	{
		$removals[0][0]{evidence}{yes} = $name if @removals == 1;
		my ($how) = grep { ($_ eq 'a') == !!$archived } map { $_->[1] } @removals;
		$self->complain("$name: is " . ($archived ? '' : 'not ') . 'in the archive, unlike what was tried') if !$how;
		$message->{gone} = $how // 'd';
		$self->count('removals of unknown outcome that were');
	}
	elsif (!$message->{gone})
	{
		$self->miss($message, $archived);
	}
	elsif (($message->{gone} eq 'a') != !!$archived)
	{
		$self->complain("$name: removed ($message->{gone}), and is " . ($archived ? '' : 'not ') . 'in the archive');
	}
	$self->complain("$name: client @{ $message->{missed_by} } did not find it") if $message->{missed_by} && !$message->{gone};
	return;
}

# Nobody is known to have taken it: a pop that was not acknowledged, or it is lost
sub miss
{
	my ($self, $message, $archived) = @_;

	$self->complain("$message->{name}: archived by nobody") if $archived;
	push @{ $self->{missing}{ $message->{queue} } }, $message->{name};
	$message->{gone} = 'p';
	return;
}

sub check_pops
{
	my ($self) = @_;

	foreach my $queue (@{ $self->{queues} })
	{
		my @missing = sort @{ delete $self->{missing}{$queue} // [] };
		my $n = $self->{pops_unknown}{$queue} // 0;
		$self->complain("$queue: lost " . join(', ', @missing[ 0 .. min(9, $#missing) ])
			  . ', ' . scalar(@missing) . " in all, and at most $n popped without acknowledgement")
		  if @missing > $n;
		$self->count('messages popped without acknowledgement', scalar @missing);
	}
	return;
}

sub check_atomic
{
	my ($self) = @_;

	foreach (@{ $self->{unknown} })
	{
		my %evidence = %{ $_->{evidence} };
		$self->complain("half of a transaction of client $_->{slot} happened: $evidence{yes} was done, $evidence{no} was not")
		  if $evidence{yes} && $evidence{no};
	}
	return;
}

# ---- leases ----

# Leases in the order of read_ct: each begins when the one before has ended
sub check_leases
{
	my ($self, $message, $row) = @_;
	my $name = $message->{name};
	my $known_ct = $message->{ct};
	my ($end, $exact) = $self->end_of($message, $known_ct);

	foreach my $ct (sort { $a <=> $b } keys %{ $message->{at} // {} })
	{
		my $at = $message->{at}{$ct};
		$self->complain("$name: delivered as read $ct at $at; it was read $message->{ct} times already") if $ct <= $message->{ct};
		$self->complain("$name: read $ct at $at came " . ($end - $at) . " us before its time") if $at < $end;
		$self->complain("$name: read $ct at $at, removed before $message->{gone_at}")
		  if $message->{gone} && $message->{gone_at} && $at > $message->{gone_at};
		$self->explain($message, $known_ct + 1 .. $ct - 1);
		$self->count('redeliveries after a lease had lapsed') if $ct > 1;
		$known_ct = $ct;
		($end, $exact) = $self->end_of($message, $ct);
	}
	$self->check_row($message, $row, $known_ct, $end, $exact) if $row;
	$self->check_popped($message, $known_ct, $end) if $message->{popped};
	return;
}

# When a lease ends, at the earliest, and the values its end may have
sub end_of
{
	my ($self, $message, $ct) = @_;
	my %ends = %{ $message->{ends}{$ct} // {} };

	$ends{before} = $message->{end} if $ct == $message->{ct} && defined $message->{end} && (!%ends || $ends{maybe});
	if ($ct == 0 && !defined $message->{end} && (!%ends || $ends{maybe}))
	{
		# Sent, and never seen in the table
		return (min($message->{not_before} // 0, $message->{bound} // 9e18, values %ends), undef);
	}
	my $end = min($message->{bound} // 9e18, values %ends);
	return ($end, defined $message->{bound} ? undef : \%ends);
}

# What the table says of the last lease
sub check_row
{
	my ($self, $message, $row, $known_ct, $end, $exact) = @_;
	my ($id, $ct, $at, $vt) = @$row;
	my $name = $message->{name};

	$self->complain("$name: is $id, was $message->{id}") if $message->{id} && $message->{id} != $id;
	if ($ct < $known_ct)
	{
		$self->complain("$name: read_ct is $ct, $known_ct was acknowledged");
	}
	elsif ($ct == $known_ct)
	{
		$self->complain("$name: vt is $vt, $end or later was acknowledged") if $vt < $end;
		$self->complain("$name: vt is $vt, not one of " . join(' ', map { "$_=$exact->{$_}" } sort keys %$exact))
		  if $exact && $vt >= $end && !grep { $_ == $vt } values %$exact;
	}
	else
	{
		$self->complain("$name: leased, by nobody who was told, " . ($end - $at) . ' us before its time') if $at < $end;
		$self->explain($message, $known_ct + 1 .. $ct);
	}
	return;
}

# These times it was read, and nobody was told: count those of which nobody knows at all
sub explain
{
	my ($self, $message, @cts) = @_;
	my $n = grep { !defined $message->{maybe_ct}{$_} } @cts;

	push @{ $self->{leased}{ $message->{queue} } }, [ $message->{name}, $n ] if $n;
	return;
}

sub check_unexplained
{
	my ($self) = @_;

	foreach my $queue (@{ $self->{queues} })
	{
		my @leased = @{ delete $self->{leased}{$queue} // [] };
		my $n = $self->{reads_unknown}{$queue} // 0;
		my $total = sum0(map { $_->[1] } @leased);
		$self->complain("$queue: leased by nobody: " . join(', ', map { $_->[0] } @leased[ 0 .. min(9, $#leased) ])
			  . ", $total in all, and at most $n without acknowledgement")
		  if $total > $n;
		$self->count('messages leased without acknowledgement', $total);
	}
	return;
}

sub check_popped
{
	my ($self, $message, $known_ct, $end) = @_;
	my ($id, $ct, $vt, $before) = @{ $message->{popped} };
	my $name = $message->{name};

	$self->complain("$name: popped before $before, due at $vt") if $vt > $before;
	$self->complain("$name: popped as read $ct, $known_ct was acknowledged") if $ct < $known_ct;
	$self->complain("$name: popped with vt $vt, its lease ends at $end") if $ct == $known_ct && $vt < $end;
	return;
}

# ---- after a check: what the table says is so ----

sub settle
{
	my ($self, $message, $row) = @_;
	my $name = $message->{name};

	if (!$row)
	{
		$self->{gone}{$name} = $message->{gone} && "was removed ($message->{gone})" || 'never sent';
		delete $self->{messages}{$name};
		return;
	}
	delete @$message{qw(at ends maybe_ct bound removals sender missed_by gone gone_at popped)};
	@$message{qw(id ct end)} = @$row[ 0, 1, 3 ];
	return;
}

# All messages of a queue that does not survive a crash
sub forget_queue
{
	my ($self, $queue) = @_;

	foreach (grep { $_->{queue} eq $queue } values %{ $self->{messages} })
	{
		$self->{gone}{ $_->{name} } = 'emptied by a crash';
		delete $self->{messages}{ $_->{name} };
	}
	foreach my $prepared (values %{ $self->{prepared} })
	{
		$prepared->{effects} = [ grep { !/^.:\Q$queue\E:/ } @{ $prepared->{effects} } ];
	}
	return;
}

sub live
{
	my ($self, $queue) = @_;

	return grep { $_->{queue} eq $queue && $_->{sent} eq 'yes' } values %{ $self->{messages} };
}

1;
