# Breaks: the server is gone, or somebody deleted the wrong thing: it is restored from a base
# backup that was taken under load and the archived WAL, up to a point in the past.
#
# How we know: each client writes to a file what was acknowledged to it, and where the WAL
# stood before and after (ReplicaLedger.pm).  A restore up to a position must have all that
# ended before it, nothing that began after it, and of what was in between either all or
# nothing; lease columns included.  At points where nothing was under way (a name, a
# transaction, a time) the tables must be what they were, row by row.  Once the restored
# server is writable, prepared transactions can be ended, no lease is forgotten, ring and
# table agree.
#
# PGMQ_RESTORES sets the number of restores to random positions.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqReplica;
use PgmqTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReplicaLedger;
use Test::More;

my $n_restores = $ENV{PGMQ_RESTORES} // 2;

random_seed();
my $node = new_node(
	'lost', init => [ has_archiving => 1, allows_streaming => 1 ], conf => replay_check() . q{
synchronous_commit = on
max_wal_size = 64MB
pgmq.worker_naptime = 100ms
});
my $ledger = ReplicaLedger->new($node->basedir, with_lsn => 1);
$node->safe_psql('postgres', $ReplicaLedger::setup);

# Run the clients until they have done enough
sub work
{
	my ($tag, $meanwhile) = @_;
	my $enough = $ledger->size + 30_000 + int(rand(30_000));

	$ledger->start($node, $tag);
	$meanwhile->() if $meanwhile;
	wait_until('the clients get on', sub { $ledger->size > $enough || !$ledger->is_running });
	$ledger->end_load($node);
	return;
}

# ---- the past ----

# A point at which nobody works: its name, its transaction (the last that ended), its time
my @points;

sub contents
{
	my ($of) = @_;

	return $of->safe_psql('postgres', q{
		SELECT ctid, * FROM pgmq.q_orders ORDER BY msg_id; SELECT * FROM pgmq.a_orders ORDER BY msg_id});
}

# A time is recognized by the next commit after it.  A lease has no commit record: one that
# was taken after that time but before that commit comes along
sub mark_point
{
	my ($name) = @_;
	my %point = (name => $name, contents => contents($node));

	$point{xid} = $node->safe_psql('postgres', 'SELECT pg_current_xact_id()::xid');
	$point{time} = $node->safe_psql('postgres', 'SELECT clock_timestamp()');
	$node->safe_psql('postgres', "SELECT pg_create_restore_point('$name')");
	my @lease = split /\|/, $node->safe_psql('postgres', q{
		SELECT pg_current_wal_insert_lsn() - '0/0';
		SELECT msg_id, read_ct, us(last_read_at), us(vt) FROM pgmq.read('orders', 3600, 1);
		SELECT pg_current_wal_insert_lsn() - '0/0'}) =~ s/\n/|/gr;
	$ledger->note({ from => shift @lease, to => pop @lease }, 'R', @lease);
	$point{contents_by_time} = contents($node);
	$node->safe_psql('postgres', 'SELECT pg_current_xact_id()');
	push @points, \%point;
	return;
}

my $restorable_from;
work(
	1, sub {
		$node->backup('under_load');
		$restorable_from = $node->safe_psql('postgres', "SELECT pg_current_wal_insert_lsn() - '0/0'");
	});
mark_point('early');
work(2);
mark_point('middle');
work(3);
archive_wal($node);
is(join("\n", $ledger->problems($node)), '', "$ledger->{n} acknowledged, none broken");
queues_are_sound($node, ['orders'], 'on the server that will be lost');
$node->stop('immediate');

# ---- restores ----

# A restored server that has stopped at its target, not yet writable
sub restore
{
	my ($name, $target) = @_;
	my $restored = PostgreSQL::Test::Cluster->new($name);

	$restored->init_from_backup($node, 'under_load', has_restoring => 1, standby => 0);
	$restored->append_conf('postgresql.conf', "$target\nrecovery_target_action = pause\narchive_mode = off\n");
	$restored->start;
	$restored->poll_query_until('postgres', q{SELECT pg_get_wal_replay_pause_state() = 'paused'})
	  or die "$name does not come to its target";
	return $restored;
}

# From here on it is a server as any other
sub goes_on
{
	my ($restored, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $out, $err) = $restored->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT pgmq.read('orders', 60, 1)");
	like($err, qr/ERROR:  25006/, "$what: no read while it is in recovery");
	$restored->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
	$restored->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die "$what: not writable";
	$restored->safe_psql('postgres', "$_ PREPARED '" . join('', $restored->safe_psql('postgres', 'SELECT min(gid) FROM pg_prepared_xacts')) . "'")
	  foreach map { $_ % 2 ? 'COMMIT' : 'ROLLBACK' } 1 .. $restored->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts');
	is($restored->safe_psql('postgres', q{
		CREATE TEMP TABLE waiting AS SELECT msg_id FROM pgmq.q_orders WHERE vt > now() + interval '1 min';
		CREATE TEMP TABLE got AS SELECT * FROM pgmq.read('orders', 600, 1000000);
		SELECT count(*) FROM got JOIN waiting USING (msg_id);
		SELECT count(*) FROM pgmq.q_orders WHERE vt < (SELECT min(last_read_at) FROM got);
		SELECT send > (SELECT max(msg_id) FROM (SELECT msg_id FROM pgmq.q_orders UNION ALL SELECT msg_id FROM pgmq.a_orders) m) FROM pgmq.send('orders', '{}')}),
		"0\n0\nt", "$what: leases hold, everything else is delivered, new messages get new ids");
	queues_are_sound($restored, ['orders'], $what);
	$restored->stop;
	unlike(slurp_file($restored->logfile), qr/PANIC|TRAP|signal (?:6|11)|inconsistent page/, "$what: no process was lost");
	return;
}

sub agrees_with_ledger
{
	my ($restored, $what) = @_;
	my $lsn = $restored->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() - '0/0'");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", $ledger->problems($restored, $lsn)), '', "$what: agrees with the ledger");
}

foreach my $way (qw(name xid time))
{
	my $point = $points[ $way eq 'time' ? 0 : int(rand(@points)) ];
	my $what = "to the $way of \"$point->{name}\"";
	my $restored = restore("by_$way", "recovery_target_$way = '$point->{$way}'");

	is(contents($restored), $point->{ $way eq 'time' ? 'contents_by_time' : 'contents' }, "$what: every row is as it was");
	agrees_with_ledger($restored, $what);
	goes_on($restored, $what);
}

# Between two operations of a client, and somewhere between two such positions
my @lsns = grep { $_ > $restorable_from } sort { $a <=> $b } @{ $ledger->{lsn} };
foreach my $i (1 .. $n_restores)
{
	my $k = int(rand(@lsns - 1));
	my $lsn = $i % 2 ? $lsns[$k] : int($lsns[$k] + rand($lsns[ $k + 1 ] - $lsns[$k]));
	my $hex = sprintf('%X/%X', $lsn >> 32, $lsn & 0xffffffff);
	my $restored = restore("by_lsn_$i", "recovery_target_lsn = '$hex'\nrecovery_target_inclusive = off");

	agrees_with_ledger($restored, "to $hex");
	goes_on($restored, "to $hex");
}
done_testing();
