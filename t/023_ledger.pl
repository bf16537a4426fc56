# Breaks: the checkers of the crash loop (Ledger.pm) and of the failovers (ReplicaLedger.pm),
# which would have us believe anything if they never complained.
#
# How we know: ledgers and tables made up here, one thing wrong in each, get the complaint
# that belongs to it; and those with nothing wrong get none.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use File::Temp 'tempdir';
use Ledger;
use ReplicaLedger;
use Test::More;

my $dir = tempdir(CLEANUP => 1);
my $n_cases = 0;

# What is in the tables: id, read_ct, last_read_at, vt, intact
sub row { return [ @_[ 0 .. 3 ], $_[4] // 1 ]; }

# Each step: ledgers by client, then tables; the complaints of the last check
sub complaints_of
{
	my (@steps) = @_;
	my $ledger = Ledger->new('q', 'r');
	my @complaints;

	$n_cases++;
	foreach my $step (@steps)
	{
		my %lines = %{ $step->{ledgers} // {} };
		foreach my $slot (sort keys %lines)
		{
			open(my $out, '>>', "$dir/$n_cases.$slot") or die $!;
			print $out map { join("\t", split / /) . "\n" } @{ $lines{$slot} };
			close $out;
			$ledger->read_log($slot, "$dir/$n_cases.$slot");
		}
		@complaints = $ledger->check($step->{live} // {}, $step->{archived} // {}, $step->{prepared} // []);
	}
	return join("\n", @complaints);
}

# One step; the first client's ledger begins with a message that was sent
sub complains
{
	my ($what, $pattern, @steps) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	unshift @{ $steps[0]{ledgers}{1} }, 'N 1', 'A S:q:a:100', 'K 200 S:q:a:100';
	my $complaints = complaints_of(@steps);
	return $pattern eq '' ? is($complaints, '', $what) : like($complaints, qr/^$pattern$/m, $what);
}

my $sent = row(1, 0, undef, 100);
my $leased = 'K 300 L:q:a:1:1:300:900';
my @read = ('A r:q:1', $leased);

# ---- sends ----

complains('a message sent is there', '', { live => { 'q:a' => $sent } });
complains('one that was sent is lost', 'q: lost q:a, 1 in all, and at most 0 .*', {});
complains('one is there, sent by nobody', 'q:b: there, but sent by nobody', { live => { 'q:a' => $sent, 'q:b' => $sent } });
complains('a send that was refused is there', 'q:b: there, but never sent',
	{ ledgers => { 2 => [ 'A S:q:b:100', 'F 57014' ] }, live => { 'q:a' => $sent, 'q:b' => $sent } });
complains('a send of unknown outcome may be there', '',
	{ ledgers => { 2 => ['A S:q:b:100'] }, live => { 'q:a' => $sent, 'q:b' => $sent } });
complains('or not', '', { ledgers => { 2 => ['A S:q:b:100'] }, live => { 'q:a' => $sent } });
complains('but not come and go', 'q: lost q:b.*',
	{ ledgers => { 2 => ['A S:q:b:100'] }, live => { 'q:a' => $sent, 'q:b' => $sent } }, { live => { 'q:a' => $sent } });
complains('nor go and come', 'q:b: there, but never sent',
	{ ledgers => { 2 => ['A S:q:b:100'] }, live => { 'q:a' => $sent } }, { live => { 'q:a' => $sent, 'q:b' => $sent } });
complains('nor happen by half', 'half of a transaction of client 2 happened: q:b was done, r:b was not',
	{ ledgers => { 2 => ['I S:q:b:100 S:r:b:100'] }, live => { 'q:a' => $sent, 'q:b' => $sent } });
complains('a payload has changed', 'q:a: its payload has changed', { live => { 'q:a' => row(1, 0, undef, 100, 0) } });
complains('a delay is shorter than asked for', 'q:a: vt is 99, 100 or later was acknowledged', { live => { 'q:a' => row(1, 0, undef, 99) } });
complains('a client got an error', 'client 2 got error XX000 oops', { ledgers => { 2 => ['E XX000 oops'] }, live => { 'q:a' => $sent } });

# ---- leases ----

complains('a lease is there', '', { ledgers => { 1 => [@read] }, live => { 'q:a' => row(1, 1, 300, 900) } });
complains('a lease is forgotten', 'q:a: read_ct is 0, 1 was acknowledged', { ledgers => { 1 => [@read] }, live => { 'q:a' => $sent } });
complains('a lease ends early', 'q:a: vt is 899, 900 or later was acknowledged',
	{ ledgers => { 1 => [@read] }, live => { 'q:a' => row(1, 1, 300, 899) } });
complains('a lease ends late', 'q:a: vt is 901, not one of .*', { ledgers => { 1 => [@read] }, live => { 'q:a' => row(1, 1, 300, 901) } });
complains('delivered twice at once', 'q:a: delivered twice as read 1, at 300 and 400',
	{ ledgers => { 1 => [@read], 2 => [ 'A r:q:1', 'K 400 L:q:a:1:1:400:900' ] }, live => { 'q:a' => row(1, 1, 300, 900) } });
complains('delivered before its lease had lapsed', 'q:a: read 2 at 899 came 1 us before its time',
	{ ledgers => { 1 => [@read], 2 => [ 'A r:q:1', 'K 899 L:q:a:1:2:899:1900' ] }, live => { 'q:a' => row(1, 2, 899, 1900) } });
complains('delivered after it', '',
	{ ledgers => { 1 => [@read], 2 => [ 'A r:q:1', 'K 901 L:q:a:1:2:901:1900' ] }, live => { 'q:a' => row(1, 2, 901, 1900) } });
complains('delivered before its delay was over', 'q:a: read 1 at 99 came 1 us before its time',
	{ ledgers => { 2 => [ 'A r:q:1', 'K 300 L:q:a:1:1:99:900' ] }, live => { 'q:a' => row(1, 1, 99, 900) } });
complains('across a check: delivered before its lease had lapsed', 'q:a: read 2 at 899 came 1 us before its time',
	{ ledgers => { 1 => [@read] }, live => { 'q:a' => row(1, 1, 300, 900) } },
	{ ledgers => { 2 => [ 'A r:q:1', 'K 899 L:q:a:1:2:899:1900' ] }, live => { 'q:a' => row(1, 2, 899, 1900) } });
complains('across a check: delivered again as the same read', 'q:a: delivered as read 1 at 950; it was read 1 times already',
	{ ledgers => { 1 => [@read] }, live => { 'q:a' => row(1, 1, 300, 900) } },
	{ ledgers => { 2 => [ 'A r:q:1', 'K 950 L:q:a:1:1:950:1900' ] }, live => { 'q:a' => row(1, 1, 300, 900) } });
complains('leased by nobody', 'q: leased by nobody: q:a, 1 in all, and at most 0 .*', { live => { 'q:a' => row(1, 1, 300, 900) } });
complains('leased by a read of unknown outcome', '', { ledgers => { 2 => ['A r:q:1'] }, live => { 'q:a' => row(1, 1, 300, 900) } });
complains('that came early', 'q:a: leased, by nobody who was told, 1 us before its time',
	{ ledgers => { 1 => [@read], 2 => ['A r:q:1'] }, live => { 'q:a' => row(1, 2, 899, 1900) } });
complains('leased by a commit of unknown outcome', '',
	{ ledgers => { 2 => ['I L:q:a:1:1:300:900'] }, live => { 'q:a' => row(1, 1, 300, 900) } });
complains('somebody else was leased it in between', 'q: leased by nobody: q:a, 1 in all.*',
	{ ledgers => { 1 => [ @read, 'A r:q:1', 'K 950 L:q:a:1:3:950:1900' ] }, live => { 'q:a' => row(1, 3, 950, 1900) } });
complains('another message under that id', 'q:a: is 2, was 1', { ledgers => { 1 => [@read] }, live => { 'q:a' => row(2, 1, 300, 900) } });

# ---- set_vt ----

my @moved = ('A v:q:a:500', 'K 310 V:q:a:1:1:500');
complains('a lease was moved', '', { ledgers => { 1 => [ @read, @moved ] }, live => { 'q:a' => row(1, 1, 300, 500) } });
complains('a move is forgotten', 'q:a: vt is 900, not one of 1=500', { ledgers => { 1 => [ @read, @moved ] }, live => { 'q:a' => row(1, 1, 300, 900) } });
complains('read when the moved lease had ended', '',
	{ ledgers => { 1 => [ @read, @moved ], 2 => [ 'A r:q:1', 'K 600 L:q:a:1:2:600:1900' ] }, live => { 'q:a' => row(1, 2, 600, 1900) } });
complains('a move of unknown outcome may have been', '',
	{ ledgers => { 1 => [ @read, 'A v:q:a:500' ] }, live => { 'q:a' => row(1, 1, 300, 520) } });
complains('or not', '', { ledgers => { 1 => [ @read, 'A v:q:a:500' ] }, live => { 'q:a' => row(1, 1, 300, 900) } });
complains('but to no earlier time', 'q:a: vt is 499, 500 or later .*',
	{ ledgers => { 1 => [ @read, 'A v:q:a:500' ] }, live => { 'q:a' => row(1, 1, 300, 499) } });

# ---- removals ----

my @deleted = ('A X:q:a:d', 'K 400 X:q:a:d');
my @archived = ('A X:q:a:a', 'K 400 X:q:a:a');
complains('deleted', '', { ledgers => { 1 => [ @read, @deleted ] } });
complains('deleted, and there', 'q:a: there, but an acknowledged removal \(d\) took it',
	{ ledgers => { 1 => [ @read, @deleted ] }, live => { 'q:a' => row(1, 1, 300, 900) } });
complains('deleted, and there later', 'q:a: there, but was removed \(d\)',
	{ ledgers => { 1 => [ @read, @deleted ] } }, { live => { 'q:a' => row(1, 1, 300, 900) } });
complains('deleted, and delivered later', 'q:a: delivered, but was removed \(d\)',
	{ ledgers => { 1 => [ @read, @deleted ] } }, { ledgers => { 2 => [ 'A r:q:1', 'K 950 L:q:a:1:2:950:1900' ] } });
complains('deleted, and delivered then', 'q:a: read 2 at 950, removed before 400',
	{ ledgers => { 1 => [ @read, @deleted ], 2 => [ 'A r:q:1', 'K 950 L:q:a:1:2:950:1900' ] } });
complains('deleted twice', 'q:a: removed twice, d and d', { ledgers => { 1 => [ @read, @deleted ], 2 => [@deleted] } });
complains('deleted by nobody', 'q: lost q:a, 1 in all.*', { ledgers => { 1 => [@read] } });
complains('one that is there was not found', 'q:a: client 1 did not find it',
	{ ledgers => { 1 => [ @read, 'A X:q:a:d', 'K 400 M:q:a' ] }, live => { 'q:a' => row(1, 1, 300, 900) } });
complains('a delete of unknown outcome may have been', '', { ledgers => { 1 => [ @read, 'A X:q:a:d' ] } });
complains('or not', '', { ledgers => { 1 => [ @read, 'A X:q:a:d' ] }, live => { 'q:a' => row(1, 1, 300, 900) } });
complains('but not by half', 'half of a transaction of client 1 happened: r:b was done, q:a was not',
	{ ledgers => { 1 => [ @read, 'I X:q:a:d S:r:b:100' ] }, live => { 'q:a' => row(1, 1, 300, 900), 'r:b' => $sent } });
complains('archived', '', { ledgers => { 1 => [ @read, @archived ] }, archived => { 'q:a' => row(1, 1, 300, 900) } });
complains('archived, and not in the archive', 'q:a: removed \(a\), and is not in the archive', { ledgers => { 1 => [ @read, @archived ] } });
complains('deleted, and in the archive', 'q:a: removed \(d\), and is in the archive',
	{ ledgers => { 1 => [ @read, @deleted ] }, archived => { 'q:a' => row(1, 1, 300, 900) } });
complains('in both', 'q:a: in the queue and in the archive', { ledgers => { 1 => [ @read, @archived ] },
	live => { 'q:a' => row(1, 1, 300, 900) }, archived => { 'q:a' => row(1, 1, 300, 900) } });
complains('archived by nobody', 'q:a: archived by nobody', { archived => { 'q:a' => $sent } });
complains('popped', '', { ledgers => { 1 => [ 'A x:q:1', 'K 400 X:q:a:p:1:0:100:410' ] } });
complains('popped before its time', 'q:a: popped before 90, due at 100', { ledgers => { 1 => [ 'A x:q:1', 'K 400 X:q:a:p:1:0:100:90' ] } });
complains('popped while leased', 'q:a: popped as read 0, 1 was acknowledged',
	{ ledgers => { 1 => [@read], 2 => [ 'A x:q:1', 'K 400 X:q:a:p:1:0:100:410' ] } });
complains('popped without acknowledgement', '', { ledgers => { 2 => ['A x:q:1'] } });
complains('or lost, for too little was popped', 'q: lost q:a, q:b, 2 in all, and at most 1 .*',
	{ ledgers => { 1 => [ 'A S:q:b:100', 'K 200 S:q:b:100' ], 2 => ['A x:q:1'] } });

# ---- prepared transactions ----

my @prepared = ('P g X:q:a:d S:q:b:100', 'K 400');
complains('prepared: nothing has happened', '', { ledgers => { 2 => [@prepared] }, live => { 'q:a' => $sent }, prepared => ['g'] });
complains('prepared: what was sent is there', 'q:b: there, but sent by nobody',
	{ ledgers => { 2 => [@prepared] }, live => { 'q:a' => $sent, 'q:b' => $sent }, prepared => ['g'] });
complains('a prepared transaction is lost', 'prepared transaction g is lost', { ledgers => { 2 => [@prepared] }, live => { 'q:a' => $sent } });
complains('one is there that nobody prepared', 'prepared transaction h, of which nobody knows', { live => { 'q:a' => $sent }, prepared => ['h'] });
complains('committed', '',
	{ ledgers => { 2 => [@prepared] }, live => { 'q:a' => $sent }, prepared => ['g'] },
	{ ledgers => { 3 => [ 'D g COMMIT', 'K 500' ] }, live => { 'q:b' => $sent } });
complains('rolled back', '',
	{ ledgers => { 2 => [@prepared] }, live => { 'q:a' => $sent }, prepared => ['g'] },
	{ ledgers => { 3 => [ 'D g ROLLBACK', 'K 500' ] }, live => { 'q:a' => $sent } });
complains('committed, and nothing has happened', 'q:a: there, but an acknowledged removal \(d\) took it',
	{ ledgers => { 2 => [@prepared] }, live => { 'q:a' => $sent }, prepared => ['g'] },
	{ ledgers => { 3 => [ 'D g COMMIT', 'K 500' ] }, live => { 'q:a' => $sent } });
complains('rolled back, and it has happened', 'q:b: there, but never sent',
	{ ledgers => { 2 => [@prepared] }, live => { 'q:a' => $sent }, prepared => ['g'] },
	{ ledgers => { 3 => [ 'D g ROLLBACK', 'K 500' ] }, live => { 'q:b' => $sent } });
complains('a decision of unknown outcome', '',
	{ ledgers => { 2 => [@prepared] }, live => { 'q:a' => $sent }, prepared => ['g'] },
	{ ledgers => { 3 => ['D g COMMIT'] }, live => { 'q:b' => $sent } });

# ---- failovers ----

# What is said of message 7, there with this key, after these lines of a client's log
sub replica_complaint
{
	my ($key, @lines) = @_;
	my $ledger = ReplicaLedger->new(tempdir(CLEANUP => 1));

	$ledger->note({ from => 0 }, split / /) foreach @lines;
	return $ledger->check_row(7, $key && { key => $key, ct => 0, at => '', vt => 0 }) // '';
}

is(replica_complaint('1.0.5', 'X 7 1.0.5'), '7: rolled back but there', 'a send that was rolled back is there');
is(replica_complaint('2.0.1', 'X 7 1.0.5', 'S 7 2.0.1'), '', 'its id may have been given to another');
is(replica_complaint('2.0.1', 'X 7 1.0.5'), '', 'whose outcome may be unknown');
is(replica_complaint('1.0.5', 'X 7 1.0.5', 'S 7 2.0.1'), '7: rolled back but there', 'but not to itself');
is(replica_complaint('3.0.1', 'S 7 2.0.1'), '7: is 3.0.1, was 2.0.1', 'a message is not the one that was sent');
is(replica_complaint(undef, 'X 7 1.0.5', 'S 7 2.0.1'), '7: lost', 'a message that was sent is lost');

done_testing();
