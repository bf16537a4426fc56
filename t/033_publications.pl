# Breaks: a server whose queues are published is lost, and its subscriber takes over.  The
# queues were made and filled before wal_level was logical and before there was any
# publication; what subscribes is a hot queue, a heap queue or a plain table.
#
# How we know: after every kind of call the subscriber's rows are the publisher's, in all
# columns that are published, whichever replica identity, column list, row filter or kind of
# publication; nobody who publishes gets an error that a heap queue (the SQL-only pgmq's
# table) would not give; and after the failover every message that the publisher had is
# read on the subscriber, none before its lease is over.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = qq{
pgmq.worker_naptime = 50ms
wal_retrieve_retry_interval = 100ms
max_logical_replication_workers = 12
max_sync_workers_per_subscription = 4
max_worker_processes = 24
max_replication_slots = 20
max_wal_senders = 20
};
my $publisher = new_node('publisher', init => [ allows_streaming => 1 ], conf => $conf);
my $subscriber = new_node('subscriber', conf => "wal_level = replica\n$conf");
my $has_filters = major_version($publisher) >= 15;

# ---- the queues ----

# name => what is published, and how
#   before: on the publisher, before the publication
#   kind: what the publication says of the table (column list, row filter)
#   with: the publication's parameters
#   shown, where: what of the publisher's rows the subscriber is to have
my %cases = (
	hot_to_hot => {},
	hot_to_heap => { storage => 'heap' },
	hot_to_plain => { storage => 'plain' },
	full_to_hot => { before => 'ALTER TABLE pgmq.q_full_to_hot REPLICA IDENTITY FULL' },
	full_to_keyless => {
		before => 'ALTER TABLE pgmq.q_full_to_keyless REPLICA IDENTITY FULL',
		storage => 'keyless' },
	by_index => {
		before => 'CREATE UNIQUE INDEX by_index ON pgmq.q_by_index (msg_id, enqueued_at);
			ALTER TABLE pgmq.q_by_index REPLICA IDENTITY USING INDEX by_index' },
	$has_filters ? (
		filtered => { kind => 'WHERE (msg_id % 2 = 0)', where => 'msg_id % 2 = 0' },
		columns => { kind => '(msg_id, vt, message)', shown => 'msg_id, vt, message' }) : (),
	inserts => { with => "WITH (publish = 'insert')", storage => 'plain' });

my %storage_of = (
	plain => 'CREATE TABLE pgmq.q_%1$s (msg_id bigint PRIMARY KEY, read_ct int, enqueued_at timestamptz,
		last_read_at timestamptz, vt timestamptz, message jsonb, headers jsonb)',
	keyless => 'CREATE TABLE pgmq.q_%1$s (msg_id bigint, read_ct int, enqueued_at timestamptz,
		last_read_at timestamptz, vt timestamptz, message jsonb, headers jsonb)',
	heap => "SET pgmq.queue_storage = heap; SELECT pgmq.create('%1\$s')",
	hot => "SELECT pgmq.create('%1\$s')");

# Twenty messages: never read, leased in place, read and lapsed, delayed
sub fill
{
	my ($database, $queue) = @_;

	return $publisher->safe_psql($database, qq{
SELECT pgmq.create('$queue');
SELECT count(*) FROM pgmq.send_batch('$queue',
	(SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(1, 18) i),
	(SELECT array_agg(CASE WHEN i % 3 = 0 THEN '{"x-pgmq-group": "A"}'::jsonb END) FROM generate_series(1, 18) i));
SELECT pgmq.send('$queue', '{"n": 19}', 3600), pgmq.send('$queue', '{"n": 20}', '{"h": 1}', 3600);
SELECT count(*) FROM pgmq.read('$queue', 3600, 4);
SELECT count(*) FROM pgmq.read('$queue', 0, 2);
SELECT count(*) FROM pgmq.set_vt('$queue', 20, 7200);
});
}

# Every verb, on messages of every kind; 1 to 4 are leased, 5 and 6 were
sub work
{
	my ($database, $queue) = @_;

	return $publisher->safe_psql($database, qq{
SELECT pgmq.send('$queue', '{"n": 21}'), pgmq.send('$queue', '{"n": 22}', '{"x-pgmq-group": "B"}', 3600);
SELECT count(*) FROM pgmq.send_batch('$queue', (SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(23, 30) i));
SELECT pgmq.set_vt('$queue', 1, 60), pgmq.set_vt('$queue', 19, 60), pgmq.set_vt('$queue', 17, 60);
SELECT pgmq.read('$queue', 3600, 3);
SELECT pgmq.read('$queue', 3600, 1, '{"n": 12}');
SELECT pgmq.read_grouped_head('$queue', 3600, 1);
BEGIN; SELECT pgmq.read('$queue', 3600, 100), pgmq.delete('$queue', 25); ROLLBACK;
BEGIN; SELECT pgmq.read('$queue', 3600, 1); SAVEPOINT s; SELECT pgmq.read('$queue', 3600, 100); ROLLBACK TO s; COMMIT;
SELECT pgmq.delete('$queue', 2), pgmq.delete('$queue', 13), pgmq.delete('$queue', 20);
SELECT pgmq.delete('$queue', ARRAY[26, 14]);
SELECT pgmq.archive('$queue', 3), pgmq.archive('$queue', 15), pgmq.archive('$queue', 27);
SELECT pgmq.pop('$queue', 2);
UPDATE pgmq.q_$queue SET message = '{"by": "hand"}' WHERE msg_id IN (4, 16, 28);
DELETE FROM pgmq.q_$queue WHERE msg_id IN (18, 29);
INSERT INTO pgmq.q_$queue (vt, message) VALUES (now(), '{"by": "hand"}');
});
}

sub rows
{
	my ($node, $database, $queue, $shown, $where) = @_;

	return $node->safe_psql($database,
		'SELECT ' . ($shown // 'msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers')
		. " FROM pgmq.q_$queue WHERE " . ($where // 'true') . ' ORDER BY msg_id');
}

sub rows_are_equal
{
	my ($database, $queue, $when) = @_;
	my $case = $cases{$queue} // {};

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(rows($subscriber, $database, $queue, $case->{shown}),
		rows($publisher, $database, $queue, $case->{shown}, $case->{where}), "$queue: rows are the publisher's, $when");
}

# ---- made and filled before anything is published ----

fill('postgres', $_) foreach sort keys %cases;
foreach my $name (sort keys %cases)
{
	my $case = $cases{$name};
	$publisher->safe_psql('postgres', $case->{before}) if $case->{before};
	$subscriber->safe_psql('postgres', sprintf($storage_of{ $case->{storage} // 'hot' }, $name));
}
# Half of the publications come before the server can decode anything
my @names = sort keys %cases;
sub publish
{
	foreach my $name (@_)
	{
		my $case = $cases{$name};
		$publisher->safe_psql('postgres', "CREATE PUBLICATION $name FOR TABLE pgmq.q_$name "
			. ($case->{kind} // '') . ' ' . ($case->{with} // ''));
	}
	return;
}
publish(grep { $_ le 'g' } @names);

# Other databases publish all tables, or all of the schema
my @databases = ('everything', $has_filters ? 'schema' : ());
foreach my $database (@databases)
{
	$_->safe_psql('postgres', "CREATE DATABASE $database") foreach $publisher, $subscriber;
	$_->safe_psql($database, 'CREATE EXTENSION pgmq') foreach $publisher, $subscriber;
	fill($database, $_) foreach qw(old mid);
}
$publisher->safe_psql('everything', 'CREATE PUBLICATION p FOR ALL TABLES');
fill('everything', 'new');
$publisher->append_conf('postgresql.conf', 'wal_level = logical');
$publisher->restart;
publish(grep { $_ gt 'g' } @names);
if ($has_filters)
{
	$publisher->safe_psql('schema', 'CREATE PUBLICATION p FOR TABLES IN SCHEMA pgmq');
	fill('schema', 'new');
}

# ---- the initial copy ----

$subscriber->safe_psql($_, "SELECT pgmq.create('old'), pgmq.create('new'); SET pgmq.queue_storage = heap; SELECT pgmq.create('mid')")
	foreach @databases;
my $connstr = $publisher->connstr;
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '$connstr dbname=postgres' PUBLICATION " . join(', ', @names));
# What the SQL-only pgmq's tables could not publish either: meta and bindings have no key
$subscriber->safe_psql($_, "DELETE FROM pgmq.meta; CREATE SUBSCRIPTION sub_$_ CONNECTION '$connstr dbname=$_' PUBLICATION p")
	foreach @databases;

sub wait_for_rows
{
	foreach my $pair ([ 'postgres', 'sub' ], map { [ $_, "sub_$_" ] } @databases)
	{
		my ($database, $subscription) = @$pair;
		$subscriber->poll_query_until($database, q{SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate NOT IN ('r', 's')})
		  or die "no initial copy in $database";
		$publisher->wait_for_catchup($subscription);
	}
	return;
}

wait_for_rows();
rows_are_equal('postgres', $_, 'copied') foreach @names;
foreach my $database (@databases)
{
	rows_are_equal($database, $_, "copied, $database") foreach qw(old mid new);
}

# ---- changes ----

foreach my $name (grep { $_ ne 'inserts' } @names)
{
	work('postgres', $name);
}
foreach my $database (@databases)
{
	work($database, $_) foreach qw(old mid new);
}
wait_for_rows();
rows_are_equal('postgres', $_, 'after changes') foreach grep { $_ ne 'inserts' } @names;
foreach my $database (@databases)
{
	rows_are_equal($database, $_, "after changes, $database") foreach qw(old mid new);
	is($subscriber->safe_psql($database, 'SELECT * FROM pgmq.a_old ORDER BY msg_id'),
		$publisher->safe_psql($database, 'SELECT * FROM pgmq.a_old ORDER BY msg_id'), "so is the archive, $database");
}

# Nothing but inserts: rows arrive as they were sent
my $sent = $publisher->safe_psql('postgres', q{
	SELECT string_agg(send_batch::text, ' ') FROM pgmq.send_batch('inserts', ARRAY['1', '2']::jsonb[])});
$publisher->safe_psql('postgres', q{
	SELECT pgmq.read('inserts', 3600, 100); SELECT pgmq.delete('inserts', 21);
	INSERT INTO pgmq.q_inserts (vt, message) VALUES (now(), '3')});
wait_for_rows();
is($subscriber->safe_psql('postgres', 'SELECT msg_id, read_ct, last_read_at, message FROM pgmq.q_inserts WHERE msg_id > 20 ORDER BY 1'),
	"21|0||1\n22|0||2\n23|0||3", 'what is sent arrives, what is read does not');

$publisher->safe_psql('postgres', "SELECT pgmq.purge_queue('hot_to_heap'), pgmq.purge_queue('full_to_hot'), pgmq.send('full_to_hot', '1')");
wait_for_rows();
rows_are_equal('postgres', $_, 'purged') foreach qw(hot_to_heap full_to_hot);


# ---- the statements that make a table fit to be published, once more ----

# An index over the vt of rows is no identity; neither is a key for a table without one
is($publisher->safe_psql('postgres', q{
SELECT count(*) FROM pg_class c WHERE relname IN ('q_hot_to_hot', 'q_hot_to_heap')
	AND EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)}), 2, 'what is published has a key');
is($publisher->safe_psql('postgres', q{
SELECT count(*) FROM pg_index WHERE indrelid IN ('pgmq.q_inserts'::regclass, 'pgmq.q_by_index'::regclass) AND indisprimary}),
	0, 'where it is for anything');

# A table rewritten by ALTER TABLE, made a heap queue and a hot one again, says NULL as before
$publisher->safe_psql('postgres', q{
ALTER TABLE pgmq.q_full_to_keyless ALTER COLUMN enqueued_at TYPE timestamptz USING enqueued_at + interval '0';
SELECT pgmq.send('full_to_keyless', '1'), pgmq.read('full_to_keyless', 60, 1);
SELECT pgmq.convert_queue('hot_to_hot', 'heap'), pgmq.convert_queue('hot_to_hot', 'hot');
SELECT pgmq.send('hot_to_hot', '1'), pgmq.read('hot_to_hot', 60, 1), pgmq.delete('hot_to_hot', 24);
DELETE FROM pgmq.q_full_to_keyless WHERE msg_id IN (24, 28)});
$subscriber->safe_psql('postgres', q{SELECT pgmq.convert_queue('hot_to_hot', 'heap'), pgmq.convert_queue('hot_to_hot', 'hot')});
wait_for_rows();
rows_are_equal('postgres', $_, 'after rewrites') foreach qw(full_to_keyless hot_to_hot);

# ---- failover ----

# Its last changes, of which we know that they have arrived
$publisher->safe_psql('postgres', q{
SELECT pgmq.send('hot_to_hot', to_jsonb(i)) FROM generate_series(1, 50) i;
SELECT count(*) FROM pgmq.read('hot_to_hot', 3600, 5);
SELECT count(*) FROM pgmq.read('hot_to_hot', 3, 5)});
wait_for_rows();
my %had = map { split /\|/, $_, -1 } split /\n/, $publisher->safe_psql('postgres', q{
SELECT msg_id, CASE WHEN vt < now() + interval '5 s' THEN 'soon' WHEN vt > now() + interval '10 min' THEN 'late' END
	FROM pgmq.q_hot_to_hot});
queues_are_sound($publisher, [ grep { ($cases{$_}{storage} // 'hot') eq 'hot' } @names ], 'on the publisher');
$publisher->stop('immediate');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub');

# Positions of sequences do not come over: an id that is there is refused, not used twice
my ($status, $out, $err) = $subscriber->psql('postgres', q{
SELECT setval('pgmq.q_hot_to_hot_msg_id_seq', (SELECT min(msg_id) FROM pgmq.q_hot_to_hot), false);
SELECT pgmq.send('hot_to_hot', '"too early"')});
like($err, qr/duplicate key value violates unique constraint "q_hot_to_hot_pkey"/, 'a msg_id that is there is not given again');
$subscriber->safe_psql('postgres', q{
SELECT setval('pgmq.q_hot_to_hot_msg_id_seq', (SELECT max(msg_id) FROM pgmq.q_hot_to_hot));
SELECT pgmq.send('hot_to_hot', '"after the failover"')});

# Consumers read all there is, but what is leased for long; what was leased for moments comes late
my %got;
wait_until('what was had is read', sub {
	my @ids = split /\n/, $subscriber->safe_psql('postgres', q{
		CREATE TEMP TABLE before AS SELECT msg_id, vt FROM pgmq.q_hot_to_hot;
		SELECT msg_id || CASE WHEN r.last_read_at < b.vt THEN ' early' ELSE '' END
		FROM before b JOIN pgmq.read('hot_to_hot', 3600, 20) r USING (msg_id)});
	$got{$_}++ foreach @ids;
	return !grep { $had{$_} eq 'soon' && !$got{$_} } keys %had });
is(join(' ', grep { /early/ } keys %got), '', 'none comes before its lease is over');
is(join(' ', grep { $got{$_} > 1 } keys %got), '', 'none comes twice');
is(join(' ', grep { $had{$_} eq 'late' && $got{$_} } keys %had), '', 'what is leased for long stays leased');
is(scalar(grep { !exists $had{$_} } keys %got), 1, 'what was sent afterwards comes, too');

queues_are_sound($subscriber, [ grep { ($cases{$_}{storage} // 'hot') eq 'hot' } @names ], 'on the subscriber');
unlike(slurp_file($_->logfile), qr/PANIC|TRAP|signal/, 'no process was lost on the ' . $_->name) foreach $publisher, $subscriber;
$subscriber->stop;
done_testing();
