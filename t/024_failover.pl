# Breaks: the primary, again and again, under load.  Its synchronous standby takes over, a
# cascading standby follows the new one, and the old primary comes back as a standby by
# pg_rewind.  In turns the primary is lost by kill -9, the standby is promoted while the
# primary still runs, and the primary is shut down in order.
#
# How we know: each client writes to a file what was acknowledged to it (ReplicaLedger.pm).
# On the new primary nothing of it is missing: messages, deletes, archived ones, prepared
# transactions; no message is delivered before an acknowledged lease of it has lapsed; ring
# and table agree; and all three servers end with the same pages.
#
# PGMQ_FAILOVER_ROUNDS sets the number of failovers.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use PgmqReplica;
use PgmqTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use ReplicaLedger;
use Test::More;

my $n_rounds = $ENV{PGMQ_FAILOVER_ROUNDS} // 3;

random_seed();

# Checksums, because a lease changes pages beside the usual ways; pg_rewind wants them, too
my $primary = new_node(
	'a', init => [ allows_streaming => 1, extra => ['--data-checksums'] ], conf => replay_check() . q{
synchronous_commit = on
wal_keep_size = 1GB
max_wal_size = 64MB
max_connections = 30
wal_retrieve_retry_interval = 100ms
pgmq.worker_naptime = 100ms
});
my $has_pages = has_extension($primary, 'pageinspect');
my @tables = qw(pgmq.q_orders pgmq.a_orders);

$primary->safe_psql('postgres', $ReplicaLedger::setup . ($has_pages ? '; CREATE EXTENSION pageinspect' : ''));
$primary->backup('base');
my $standby = new_standby('b', $primary, 'base');
$standby->backup('base');
my $cascade = new_standby('c', $standby, 'base');
my @all = ($primary, $standby, $cascade);
my $ledger = ReplicaLedger->new($primary->basedir);

# What of the clients' reads does not get to the standby is not acknowledged either
sub make_synchronous
{
	my ($node) = @_;

	$node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '*'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
	  or die $node->name . ' has no synchronous standby';
	$node->safe_psql('postgres', 'SELECT pg_current_xact_id()'); # its reply ends the waiting of others
	return;
}

# In turns: by kill -9, by a promotion that it does not hear of, in order
sub lose_primary
{
	my ($how) = @_;

	if ($how == 1)
	{
		crash($primary);
		$standby->promote;
	}
	elsif ($how == 2)
	{
		$standby->promote;
		$primary->stop('immediate');
	}
	else
	{
		$primary->stop('fast');
		$standby->promote;
	}
	$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'no promotion';
	return;
}

# The old primary forgets what nobody else has, and follows the new primary's standby
sub rejoin
{
	my ($node, $new_primary, $source) = @_;
	my $conf = $node->data_dir . '/postgresql.conf';
	my $kept = slurp_file($conf);

	$new_primary->safe_psql('postgres', 'CHECKPOINT'); # pg_rewind looks for its timeline
	run_ok('pg_rewind', '--target-pgdata', $node->data_dir, '--source-server', $new_primary->connstr('postgres'));
	unlink $conf;
	append_to_file($conf, $kept);
	$node->append_conf('postgresql.conf', "primary_conninfo = '" . $source->connstr . " application_name=" . $node->name . "'");
	$node->set_standby_mode;
	$node->start;
	return;
}

make_synchronous($primary);

# ---- every acknowledgement waits for the standby ----

# With a standby that never confirms, whatever succeeds must wait, a lease just as a send
my @waiting = (
	"send('slow', '{}')",                    "send_batch('slow', ARRAY['{}'::jsonb])",
	"read('slow', 60, 1)",                   "read('slow', 60, 1, '{\"n\": 20}')",
	"read_with_poll('slow', 60, 1, 1, 100)", "read_grouped('slow', 60, 1)",
	"read_grouped_rr('slow', 60, 1)",        "read_grouped_head('slow', 60, 1)",
	"set_vt('slow', 11, 60)",                "set_vt('slow', ARRAY[12], 60)",
	"pop('slow')",                           "delete('slow', 13)",
	"archive('slow', 14)",                   "send_topic('slow.key', '{}')");

$primary->safe_psql('postgres', q{
	SELECT pgmq.create('slow'), pgmq.bind_topic('slow.*', 'slow');
	SELECT count(*) FROM pgmq.send_batch('slow',
		(SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(1, 20) i),
		(SELECT array_agg(jsonb_build_object('x-pgmq-group', i::text)) FROM generate_series(1, 20) i));
	ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$primary->reload;
$primary->poll_query_until('postgres', q{SELECT current_setting('synchronous_standby_names') = 'nobody'});
my @sessions = map {
	my $result = '';
	{ call => $_, out => \$result, run => IPC::Run::start([ 'psql', '-XAtq', '-d', $primary->connstr('postgres'), '-c', "SELECT pgmq.$_" ], '>', \$result, '2>&1') }
} @waiting;
my $waiters = q{SELECT query FROM pg_stat_activity WHERE wait_event = 'SyncRep'};
$primary->poll_query_until('postgres', "SELECT count(*) = " . @waiting . " FROM ($waiters) w") or diag($primary->safe_psql('postgres', $waiters));
$_->{run}->pump_nb foreach @sessions;
is(join(', ', map { $_->{call} } grep { !$_->{run}->pumpable || ${ $_->{out} } ne '' } @sessions), '', 'every acknowledgement waits for the standby');
make_synchronous($primary);
$_->{run}->finish foreach @sessions;
is(join(', ', map { $_->{call} } grep { ${ $_->{out} } !~ /\A.+\n\z/ } @sessions), '', 'and comes when it has confirmed');
queues_are_sound($primary, ['slow']);

# ---- failovers under load ----

foreach my $round (1 .. $n_rounds)
{
	my $enough = $ledger->size + 15_000 + int(rand(60_000));

	$ledger->start($primary, $round, '-c synchronous_commit=' . qw(on remote_apply remote_write)[ int(rand(3)) ]);
	crash($cascade); # nobody waits for it
	wait_until('the clients get on', sub { $ledger->size > $enough || !$ledger->is_running });
	$cascade->start;
	lose_primary($round % 3);
	$ledger->finish;

	make_synchronous($standby);
	$ledger->finish_prepared($standby);
	is(join("\n", $ledger->problems($standby)), '', "round $round: $ledger->{n} acknowledged, none broken");
	queues_are_sound($standby, ['orders'], "round $round");

	rejoin($primary, $standby, $cascade);
	($primary, $standby, $cascade) = ($standby, $cascade, $primary);
	$standby->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_replication")
	  or die 'the old primary does not come back';
	SKIP:
	{
		skip 'no pageinspect', 2 if !$has_pages;
		pages_are_equal($primary, $_, \@tables, "in round $round") foreach $standby, $cascade;
		end_sessions();
	}
}

# All that was ever leased lapses or is leased still: a last reader gets all the others
is($primary->safe_psql('postgres', qq{
	CREATE TEMP TABLE waiting AS SELECT msg_id FROM pgmq.q_orders WHERE vt > now() + interval '1 min';
	CREATE TEMP TABLE got AS SELECT * FROM pgmq.read('orders', 60, 1000000);
	SELECT count(*) FROM got JOIN waiting USING (msg_id);
	SELECT count(*) FROM pgmq.q_orders WHERE vt < (SELECT min(last_read_at) FROM got)}), "0\n0", 'everything else is delivered, nothing leased is');
queues_are_sound($primary, ['orders'], 'at the end');

# ---- a transaction that was about to commit ----

# Its lease is on its page and on the standby, its commit record is nowhere: it waits for the
# lock of notifiers, which another one holds until its standby confirms.  All it leaves is
# that the message comes late.
$primary->safe_psql('postgres', q{
	SELECT pgmq.create('edge');
	SELECT count(*) FROM pgmq.send_batch('edge', ARRAY['1', '2', '3']::jsonb[]);
	ALTER SYSTEM SET synchronous_standby_names = 'nobody'});
$primary->reload;
$primary->poll_query_until('postgres', q{SELECT current_setting('synchronous_standby_names') = 'nobody'});

sub start_waiting
{
	my ($event, $sql) = @_;
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-d', $primary->connstr('postgres'), '-c', $sql ], '>', \my $out, '2>', \my $err);

	$primary->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = '$event' AND query ~ 'NOTIFY'")
	  or die "nobody waits for $event";
	return $run;
}

my @lost = (start_waiting('SyncRep', 'BEGIN; INSERT INTO load_ends DEFAULT VALUES; NOTIFY first; COMMIT'),
	start_waiting('object', q{BEGIN; SELECT FROM pgmq.read('edge', 5, 1); SELECT FROM pgmq.send('edge', '"never"'); NOTIFY second; COMMIT}));
$primary->safe_psql('postgres', 'SELECT pg_switch_wal()');    # what is written is flushed, and sent
catch_up($primary, $standby);
end_sessions();
crash($primary);
$_->finish foreach @lost;
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'no promotion';
make_synchronous($standby);
is($standby->safe_psql('postgres', q{
	CREATE TEMP TABLE before AS SELECT * FROM pgmq.q_edge;
	SELECT msg_id, message, read_ct FROM before ORDER BY msg_id;
	CREATE TEMP TABLE got AS SELECT * FROM pgmq.read('edge', 60, 10);
	INSERT INTO got SELECT * FROM pgmq.read_with_poll('edge', 60, 1, CASE (SELECT count(*) FROM got) WHEN 3 THEN 0 ELSE 30 END);
	SELECT msg_id, got.last_read_at >= before.vt FROM got JOIN before USING (msg_id) ORDER BY msg_id}),
	"1|1|1\n2|2|0\n3|3|0\n1|t\n2|t\n3|t", 'what was about to commit leaves a message that comes late, and nothing else');
queues_are_sound($standby, ['edge']);
($primary, $standby) = ($standby, $primary);
$_->stop foreach $primary, $standby, $cascade;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP|signal (?:6|11)|inconsistent page|verification failed/, 'no process was lost on ' . $_->name)
  foreach @all;
done_testing();
