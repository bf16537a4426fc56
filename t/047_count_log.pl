# Breaks: a queue is quiet for so long that transaction ids come round: the last one that
# changed how many messages there are, which the ring has noted, seems to lie ahead of every
# snapshot, and count(*) takes its change off again.
#
# How we know: a module moves the server's next transaction id on, a thousand million at a
# time, while the tables are frozen as they must be; the ring lives on.  count(*) is the same
# with and without the scan nodes after each jump, and is answered by the ring again once the
# table was counted.
use strict;
use warnings;

use File::Copy;
use FindBin;
use IPC::Run;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Build the module
my $build = PostgreSQL::Test::Utils::tempdir;
copy("$FindBin::RealBin/xid_jump/$_", $build) for qw(Makefile xid_jump.c);
my $errors = '';
IPC::Run::run([ 'make', '-s', '-C', $build ], '>', '/dev/null', '2>', \$errors)
  or die "could not build the test module: $errors";

my $node = new_node('rounds', conf => "pgmq.worker = off\nautovacuum = off\n");

$node->safe_psql('postgres', qq{
CREATE FUNCTION xid_jump(bigint) RETURNS bigint LANGUAGE c AS '$build/xid_jump.so', 'xid_jump';
UPDATE pg_database SET datallowconn = true});

# On by so many transactions, in steps that no table is too old for
sub jump
{
	my ($n) = @_;

	for (; $n > 0; $n -= 1_000_000_000)
	{
		$node->safe_psql('postgres', 'SELECT xid_jump(' . ($n > 1_000_000_000 ? 1_000_000_000 : $n) . '); SELECT pg_current_xact_id()');
		$node->safe_psql($_, 'VACUUM (FREEZE)') foreach qw(template0 template1 postgres);
	}
	return;
}

# The count with a node, where it comes from, and the count without
sub count_of
{
	my ($queue) = @_;
	my ($n_scans) = $node->safe_psql('postgres', "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT count(*) FROM pgmq.q_$queue") =~
	  /pgmq count.*Table Scans: (\d+)/s;

	die 'no count node' if !defined $n_scans;
	return $node->safe_psql('postgres', counts($queue)) . ($n_scans > 0 ? ' by the table' : ' by the ring');
}

sub counts
{
	my ($queue) = @_;

	return "SELECT count(*) FROM pgmq.q_$queue; SET pgmq.enable_scan = off; SELECT count(*) FROM pgmq.q_$queue; RESET pgmq.enable_scan";
}

# Does a query by msg_id scan the table?
sub looks_up
{
	my ($queue) = @_;

	return $node->safe_psql('postgres', "SET enable_seqscan = off; EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
		SELECT FROM pgmq.q_$queue WHERE msg_id = 1") =~ /Table Scans: 0/ ? 'by the ring' : 'by the table';
}

# The ring is older than what it notes: after a round it looks young, and the note not yet made.
# Nobody counts "left" before, nor looks for rows in "found"
foreach my $queue (qw(seen left found))
{
	$node->safe_psql('postgres', "SELECT pgmq.create('$queue')");
}
jump(500_000_000);
foreach my $queue (qw(seen left found))
{
	$node->safe_psql('postgres', "SELECT pgmq.send('$queue', to_jsonb(i)) FROM generate_series(1, 3) i");
	is(count_of($queue), "3\n3 by the ring", 'a queue is counted by its ring') if $queue eq 'seen';
}
# After a thousand million transactions what was noted is forgotten by who counts
foreach my $round (1 .. 4)
{
	jump(1_000_000_000);
	is(count_of('seen'), "3\n3 by the " . ($round % 2 ? 'table' : 'ring'), "thousand million $round");
	is(count_of('seen'), "3\n3 by the ring", 'and once more');
	is(looks_up('found') . ', ' . looks_up('found'), 'by the table, by the ring', 'rows are found by the ring again') if $round == 2;
}
is(count_of('left'), "3\n3 by the table", 'the next round is told from the one before');
is(count_of('left'), "3\n3 by the ring", 'and once more');

# Whoever forgets what is old meets a sender, whom an older snapshot does not see
jump(2_000_000_000);
my ($holder, $counter, $older) = map { $node->background_psql('postgres') } 1 .. 3;
$older->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my ($status) = $node->psql('postgres', "SET pgmq.failpoint = ''", stderr => \my $ignored);
SKIP:
{
	skip 'the library was built without failpoints', 2 if $status != 0;
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	$counter->query_safe(q{SET pgmq.failpoint = 'renew-logs-begin=wait:1'});
	$counter->query_until(qr/begun/, "\\echo begun\nSELECT count(*) FROM pgmq.q_seen;\n\\echo over\n");
	wait_until('it is about to forget', sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'}) > 0 });
	$node->safe_psql('postgres', q{SELECT pgmq.send('seen', '4')});
	$holder->query_safe('SELECT pg_advisory_unlock(1)');
	$counter->query_until(qr/over/, '');
	is($older->query_safe(counts('seen')), "3\n3", 'an older snapshot does not count what came meanwhile');
	is(count_of('seen'), "4\n4 by the ring", 'others do');
}
$_->quit foreach $holder, $counter, $older;
queues_are_sound($node, [qw(seen left found)]);
$node->stop;
done_testing();
