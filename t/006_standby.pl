# Breaks: the primary is gone, and a streaming standby that has replayed its leases takes
# over; before that, the functions are called on the standby.
#
# How we know: after each kind of change the standby's pages are the primary's, to the byte
# and to the LSN but for hint bits, lease columns included; its WAL replay compares pages,
# too (wal_consistency_checking; not after generic records, whose mask keeps hint bits).  On
# the standby every function that writes fails with 25006, and those that read answer as on
# the primary; after the promotion no message comes before an acknowledged lease has lapsed,
# none is missing, also for a session that was there before.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqReplica;
use PgmqTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node(
	'primary', init => [ allows_streaming => 1 ], conf => replay_check() . q{
max_connections = 20
shared_buffers = 16MB
pgmq.worker_naptime = 50ms
});
my $has_pages = has_extension($primary, 'pageinspect');

# Messages by hand, for what the functions' own lists would be too long to write
$primary->safe_psql('postgres', q{
	CREATE FUNCTION ids(first int, last int) RETURNS bigint[] LANGUAGE sql AS
		'SELECT array_agg(i::bigint) FROM generate_series(first, last) i';
	CREATE FUNCTION messages(first int, last int) RETURNS jsonb[] LANGUAGE sql AS
		$$SELECT array_agg(jsonb_build_object('n', i, 'even', i % 2 = 0)) FROM generate_series(first, last) i$$;
	CREATE FUNCTION state_of(call text) RETURNS text LANGUAGE plpgsql AS
		$$BEGIN EXECUTE call; RETURN ''; EXCEPTION WHEN OTHERS THEN RETURN sqlstate; END$$;
	CREATE FUNCTION groups(first int, last int) RETURNS jsonb[] LANGUAGE sql AS
		$$SELECT array_agg(jsonb_build_object('x-pgmq-group', i % 10)) FROM generate_series(first, last) i$$;
	SELECT pgmq.create('orders'), pgmq.create('small'), pgmq.create('altered'), pgmq.create_unlogged('scratch');
	SET pgmq.queue_storage = heap;
	SELECT pgmq.create('heap');
	SELECT pgmq.bind_topic('to.#', 'orders'), pgmq.enable_notify_insert('scratch');
	SELECT count(*) FROM pgmq.send_batch('orders', messages(1, 1000), groups(1, 1000));
	SELECT count(*) FROM pgmq.send_batch('heap', messages(1, 100));
	SELECT count(*) FROM pgmq.send_batch('scratch', messages(1, 100))});
$primary->safe_psql('postgres', 'CREATE EXTENSION pageinspect') if $has_pages;
$primary->backup('base');
my $standby = new_standby('standby', $primary, 'base');

# ---- each kind of change ----

# What ON COMMIT does is done after leases were written: this fails there
my $fails_late = q{
	CREATE TEMP TABLE p (i int PRIMARY KEY) ON COMMIT DELETE ROWS; CREATE TEMP TABLE f (i int REFERENCES p);
	BEGIN; SELECT count(*) FROM pgmq.read('orders', 3600, 20); SELECT FROM p; COMMIT};
my @changes = (
	[ 'a read', "SELECT count(*) FROM pgmq.read('orders', 3600, 100)" ],
	[ 'messages on new pages', "SELECT count(*) FROM pgmq.send_batch('orders', messages(1001, 3000), groups(1001, 3000))" ],
	[ 'a conditional read', "SELECT count(*) FROM pgmq.read('orders', 3600, 200, '{\"even\": true}')" ],
	[ 'a short lease', "SELECT count(*) FROM pgmq.read('orders', 2, 100)" ],
	[ 'the first lease after a checkpoint', "CHECKPOINT; SELECT count(*) FROM pgmq.read('orders', 3600, 10)" ],
	[ 'reads by group', q{
		SELECT count(*) FROM pgmq.read_grouped('orders', 3600, 5);
		SELECT count(*) FROM pgmq.read_grouped_rr('orders', 3600, 5);
		SELECT count(*) FROM pgmq.read_grouped_head('orders', 3600, 5)} ],
	[ 'deletes', "SELECT count(*) FROM pgmq.delete('orders', ids(1, 50)); SELECT pgmq.delete('orders', 51)" ],
	[ 'archives', "SELECT count(*) FROM pgmq.archive('orders', ids(52, 60)); SELECT pgmq.archive('orders', 61)" ],
	[ 'extended leases', q{
		SELECT count(*) FROM pgmq.set_vt('orders', ids(62, 70), 7200);
		SELECT count(*) FROM pgmq.set_vt('orders', 71, '2200-01-01'::timestamptz);
		SELECT count(*) FROM pgmq.set_vt('orders', 72, -10)} ],
	[ 'a rollback', "BEGIN; SELECT count(*) FROM pgmq.read('orders', 3600, 500); SELECT pgmq.send('orders', '{}'); ROLLBACK" ],
	[ 'a savepoint', q{
		BEGIN; SELECT count(*) FROM pgmq.read('orders', 3600, 5); SAVEPOINT s; SELECT count(*) FROM pgmq.read('orders', 3600, 500);
		ROLLBACK TO s; SELECT count(*) FROM pgmq.send('orders', '{}'); COMMIT} ],
	[ 'messages taken', "SELECT count(*) FROM pgmq.pop('orders', 50)" ],
	[ 'a large message, and its lease', q{
		SELECT pgmq.send('small', (SELECT to_jsonb(string_agg(md5(i::text), '')) FROM generate_series(1, 20000) i));
		SELECT msg_id FROM pgmq.read('small', 0, 10)} ],
	[ 'row locks beside leases', q{
		BEGIN; SELECT FROM pgmq.q_orders WHERE msg_id BETWEEN 700 AND 750 FOR UPDATE;
		SAVEPOINT s; SELECT FROM pgmq.q_orders WHERE msg_id BETWEEN 740 AND 760 FOR NO KEY UPDATE;
		SELECT count(*) FROM pgmq.read('orders', 3600, 300); COMMIT} ],
	[ 'an update by hand', "UPDATE pgmq.q_orders SET message = '{}', vt = now() WHERE msg_id % 7 = 0" ],
	[ 'a prepared transaction', q{
		BEGIN; SELECT count(*) FROM pgmq.read('orders', 3600, 20); SELECT pgmq.send('orders', '{}'); SELECT count(*) FROM pgmq.delete('orders', ids(80, 85));
		PREPARE TRANSACTION 'p'} ],
	[ 'its commit', "COMMIT PREPARED 'p'" ],
	[ 'one that is rolled back', q{
		BEGIN; SELECT count(*) FROM pgmq.read('orders', 3600, 20); SELECT pgmq.send('orders', '{}'); PREPARE TRANSACTION 'p';
		ROLLBACK PREPARED 'p'; SELECT count(*) FROM pgmq.read('orders', 3600, 30)} ],
	[ 'a vacuum', "VACUUM pgmq.q_orders; SELECT count(*) FROM pgmq.read('orders', 3600, 10)" ],
	[ 'a freeze', "VACUUM FREEZE pgmq.q_orders; SELECT count(*) FROM pgmq.read('orders', 3600, 10)" ],
	[ 'an index', "CREATE INDEX i ON pgmq.q_orders (enqueued_at); SELECT count(*) FROM pgmq.read('orders', 3600, 10); SELECT pgmq.send('orders', '{}')" ],
	[ 'an index over a lease column', "CREATE INDEX j ON pgmq.q_orders (vt); SELECT count(*) FROM pgmq.read('orders', 3600, 10); DROP INDEX pgmq.j" ],
	[ 'a clustered table', "CLUSTER pgmq.q_orders USING i; SELECT count(*) FROM pgmq.read('orders', 3600, 10)" ],
	[ 'a rewritten table', "VACUUM FULL pgmq.q_orders; SELECT count(*) FROM pgmq.read('orders', 3600, 10)" ],
	[ 'a column more', q{
		SELECT pgmq.send('altered', '{}'); SELECT count(*) FROM pgmq.read('altered', 3600, 1);
		ALTER TABLE pgmq.q_altered ADD COLUMN more int DEFAULT random() * 10; SELECT pgmq.set_vt('altered', 1, 60)} ],
	[ 'a rewrite that carries a lease along', q{
		BEGIN; SELECT pgmq.send('altered', '{}'); SELECT count(*) FROM pgmq.read('altered', 3600, 1);
		ALTER TABLE pgmq.q_altered ALTER COLUMN more TYPE bigint USING more + 1; COMMIT} ],
	[ 'an unlogged queue made logged', q{
		SELECT pgmq.create_unlogged('now_logged'); SELECT count(*) FROM pgmq.send_batch('now_logged', messages(1, 200));
		SELECT count(*) FROM pgmq.read('now_logged', 3600, 10);
		BEGIN; SELECT count(*) FROM pgmq.read('now_logged', 3600, 10); ALTER TABLE pgmq.q_now_logged SET LOGGED; COMMIT;
		SELECT count(*) FROM pgmq.read('now_logged', 3600, 10)} ],
	[ 'a queue made and used at once', q{
		BEGIN; SELECT pgmq.create('at_once'); SELECT count(*) FROM pgmq.send_batch('at_once', messages(1, 200));
		SELECT count(*) FROM pgmq.read('at_once', 3600, 10); SAVEPOINT s; TRUNCATE pgmq.q_at_once; ROLLBACK TO s;
		SELECT count(*) FROM pgmq.read('at_once', 3600, 10); COMMIT} ],
	[ 'one emptied and used at once', q{
		BEGIN; SELECT count(*) FROM pgmq.read('at_once', 3600, 10); TRUNCATE pgmq.q_at_once;
		SELECT count(*) FROM pgmq.send_batch('at_once', messages(1, 200)); SELECT count(*) FROM pgmq.read('at_once', 3600, 10); COMMIT} ],
	[ 'a lease whose transaction fails late', $fails_late ],
	[ 'and which is taken back', "SELECT count(*) FROM pgmq.read('orders', 3600, 3)" ],
	[ 'a heap queue made hot', "SELECT pgmq.convert_queue('heap', 'hot'); SELECT count(*) FROM pgmq.read('heap', 3600, 10)" ],
	[ 'and a heap queue again', "SELECT pgmq.convert_queue('heap', 'heap'); SELECT count(*) FROM pgmq.read('heap', 3600, 10)" ],
	[ 'a purged queue', "SELECT pgmq.purge_queue('small'); SELECT pgmq.send('small', '{}') FROM generate_series(1, 10)" ],
	[ 'a new queue', "SELECT pgmq.create('new'); SELECT pgmq.send('new', '{}'); SELECT count(*) FROM pgmq.read('new', 60, 1)" ],
	[ 'and one gone', "SELECT pgmq.drop_queue('new')" ]);

# Without pageinspect the rows must do
sub standby_is_equal
{
	my ($when) = @_;
	my @tables = split /\n/, ask($primary, q{
		SELECT oid::regclass FROM pg_class WHERE relnamespace = 'pgmq'::regnamespace AND relname ~ '^[qa]_' AND relkind = 'r' AND relpersistence = 'p' ORDER BY 1});

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return pages_are_equal($primary, $standby, \@tables, $when) if $has_pages;
	catch_up($primary, $standby);
	my @rows = map { my $node = $_; join "\n", map { ask($node, "SELECT ctid, * FROM $_") } @tables } ($primary, $standby);
	return is($rows[1], $rows[0], "rows are those of the primary $when");
}

foreach my $change (@changes)
{
	my ($name, $sql) = @$change;

	if ($sql eq $fails_late)
	{
		my ($status, $out, $err) = $primary->psql('postgres', $sql);
		like($err, qr/unsupported ON COMMIT and foreign key combination/, "$name does so");
	}
	else
	{
		ask($primary, $sql);
	}
	standby_is_equal("after $name");
}

# ---- on the standby ----

# A call of every function of ours, with arguments it might get; triggers and the handler apart
sub calls
{
	my ($queue) = @_;

	return split /\n/, $primary->safe_psql('postgres', qq{
		SELECT format('%s(%s)', proname, (SELECT string_agg(
			CASE format_type(type, NULL)
				WHEN 'text' THEN CASE WHEN proname ~ 'topic' AND i = 1 OR proname ~ 'routing' THEN '''to.x''' WHEN proargnames[i] ~ 'interval' THEN '''1''' WHEN proargnames[i] = 'storage' THEN '''heap''' ELSE '''$queue''' END
				WHEN 'bigint' THEN '100::bigint' WHEN 'bigint[]' THEN '''{100}''::bigint[]'
				WHEN 'jsonb' THEN '''{}''::jsonb' WHEN 'jsonb[]' THEN 'ARRAY[''{}''::jsonb]'
				WHEN 'integer' THEN '1' WHEN 'boolean' THEN 'false' WHEN 'timestamp with time zone' THEN 'now()' END, ', ' ORDER BY i)
			FROM unnest(proargtypes::oid[]) WITH ORDINALITY a(type, i)))
		FROM pg_proc WHERE pronamespace = 'pgmq'::regnamespace AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'table_am_handler'::regtype) ORDER BY 1});
}

# Those that do not write; what the unlogged tables would say nobody can know on a standby
my $reads_only = qr/^(?:_belongs_to_pgmq|_ensure_pg_partman_installed|_extension_exists|_get_\w+|_validate_batch_params|acquire_queue_lock|
	check_queue|detach_archive|format_table_name|list_queues|list_topic_bindings|metrics|test_routing|validate_\w+)\(/x;
my $reads_unlogged = qr/^(?:list_notify_insert_throttles|metrics_all)\(/;

foreach my $queue (qw(orders heap))
{
	my %wrong;

	foreach my $call (calls($queue))
	{
		my $state = ask($standby, "SELECT state_of(\$\$SELECT pgmq.$call\$\$)");
		my $is_nothing = $call =~ /_fifo_index(?!es)/ && $queue eq 'orders'; # a hot queue needs none
		my $expected = $call =~ $reads_unlogged ? '0A000' : $call =~ $reads_only || $is_nothing ? '' : '25006';

		next if $state eq 'P0001' && $call =~ /partition|partman/; # not installed
		$wrong{$call} = $state if $state ne $expected;
	}
	is(join(', ', map { "$_: $wrong{$_}" } sort keys %wrong), '', "a standby answers what only reads, and refuses all that writes, to $queue");
}

# (not total_messages: the log is ahead of a sequence)
foreach my $query (
	"SELECT queue_length, queue_visible_length, newest_msg_age_sec IS NOT NULL FROM pgmq.metrics('orders')",
	"SELECT queue_length, queue_visible_length FROM pgmq.metrics('small')", # a ring made here would be wrong later
	'SELECT * FROM pgmq.list_queues()',
	'SELECT * FROM pgmq.list_topic_bindings()',
	"SELECT * FROM pgmq.test_routing('to.x')",
	'SELECT * FROM pgmq.q_orders WHERE vt <= now() ORDER BY msg_id LIMIT 10',
	'SELECT count(*), sum(read_ct), max(vt) FROM pgmq.q_orders',
	"SELECT message FROM pgmq.a_orders WHERE msg_id = 55",
	"SELECT count(*), sum(msg_id), max(last_read_at) FROM pgmq.q_orders WHERE ctid < '(5,1)'",
	'SELECT count(*), sum(msg_id), max(last_read_at) FROM pgmq.q_orders TABLESAMPLE SYSTEM (100)',
	"SET enable_seqscan = off; SET enable_indexscan = off;
		SELECT count(*), sum(msg_id), max(last_read_at) FROM pgmq.q_orders WHERE enqueued_at > now() - interval '1 day'; RESET ALL; SET jit = off",
	"SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
		SELECT count(*), sum(msg_id), max(last_read_at) FROM pgmq.q_orders; RESET ALL; SET jit = off")
{
	is(ask($standby, $query), ask($primary, $query), "a standby answers $query");
}

# Sequences apart, and what is unlogged
my @dumps = map {
	my $file = $_->basedir . '/dump.sql';
	run_ok('pg_dump', '--no-unlogged-table-data', '--no-sync', '-f', $file, '-d', $_->connstr('postgres'));
	join "\n", grep { !/pg_catalog\.setval|^\\(?:un)?restrict/ } split /\n/, slurp_file($file)
} ($primary, $standby);
ok($dumps[0] eq $dumps[1] && $dumps[1] =~ /COPY pgmq\.q_orders/, 'a dump of the standby is one of the primary');

# ---- promotion ----

# Two transactions are prepared, and a session is in the middle of one
$primary->safe_psql('postgres', q{
	BEGIN; SELECT pgmq.send('small', '"kept"'), pgmq.delete('small', 11); PREPARE TRANSACTION 'kept';
	BEGIN; SELECT pgmq.send('small', '"dropped"'), pgmq.delete('small', 10); PREPARE TRANSACTION 'dropped'});
my $session = $standby->background_psql('postgres');

my $leases = q{SELECT msg_id, read_ct, vt FROM pgmq.q_orders WHERE vt > now() + interval '10 min' ORDER BY msg_id};
my $leased = $primary->safe_psql('postgres', $leases);
$primary->safe_psql('postgres', q{
	SELECT pgmq.create('lapse'), pgmq.send('lapse', '{}');
	SELECT pgmq.read('small', 3600, 3), pgmq.read('lapse', 5, 1)});
catch_up($primary, $standby);
end_sessions();
my $seen = $session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*), sum(msg_id) FROM pgmq.q_small');
$primary->stop('immediate');
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'no promotion';

is($standby->safe_psql('postgres', $leases), $leased, 'acknowledged leases have survived');
is($standby->safe_psql('postgres', q{
		SELECT string_agg(msg_id::text, ',' ORDER BY msg_id) FROM pgmq.q_small s WHERE vt > now();
		SELECT string_agg(msg_id::text, ',') FROM pgmq.read('small', 60, 2)}),
	"2,3,4\n5,6", 'what is leased is passed over');
# (on a slow machine the lease is over before anybody waits for it)
is($standby->safe_psql('postgres', q{
		SELECT string_agg(msg_id::text, ',') FROM pgmq.read('small', 60, 3);
		CREATE TEMP TABLE before AS SELECT vt, clock_timestamp() AS began FROM pgmq.q_lapse;
		SELECT r.last_read_at >= b.vt, r.last_read_at < greatest(b.vt, began) + interval '1 s'
		FROM pgmq.read_with_poll('lapse', 60, 1, 20, 20000) r, before b}),
	"7,8,9\nt|t", 'a lease lapses on the new primary and wakes who waits for it');
is($standby->safe_psql('postgres', q{
		COMMIT PREPARED 'kept'; ROLLBACK PREPARED 'dropped';
		SELECT msg_id, message FROM pgmq.read('small', 0, 10, '"kept"');
		SELECT string_agg(msg_id::text, ',' ORDER BY msg_id) FROM pgmq.q_small WHERE msg_id > 9}),
	qq(12|"kept"\n10,12), 'prepared transactions can be ended');
is($session->query_safe("SELECT count(*), sum(msg_id) FROM pgmq.q_small"), $seen, 'a snapshot from before the promotion holds');
is($session->query_safe("SELECT queue_length FROM pgmq.metrics('small')"), $seen =~ s/\|.*//r, 'also for metrics');
is($session->query_safe("COMMIT; SELECT send > 12 FROM pgmq.send('small', '\"new\"')"), 't', 'and its session writes afterwards');
$session->quit;
is($standby->safe_psql('postgres', qq{
		CREATE TEMP TABLE held AS $leases;
		CREATE TEMP TABLE got AS SELECT * FROM pgmq.read('orders', 60, 100000);
		SELECT count(*) FROM got JOIN held USING (msg_id);
		SELECT count(*) FROM pgmq.q_orders WHERE vt <= now()}), "0\n0", 'everything else is delivered, nothing leased is');
is($standby->safe_psql('postgres', q{
		SELECT send > 3000 FROM pgmq.send('orders', '{}');
		SELECT msg_id > 3000 FROM pgmq.pop('orders')}), "t\nt", 'the new primary goes on');
is($standby->safe_psql('postgres', q{
		SELECT queue_length FROM pgmq.metrics('scratch');
		SELECT count(send) FROM pgmq.send('scratch', '{}'); SELECT count(*) FROM pgmq.read('scratch', 60, 10);
		SELECT count(*) FROM pgmq.list_notify_insert_throttles()}), "0\n1\n1\n0", 'unlogged tables are empty, and work');
queues_are_sound($standby, [qw(orders small scratch)], 'after the promotion');

# A ring that was used before the end of recovery would be stale: restart and compare again
$standby->restart;
is($standby->safe_psql('postgres', $leases), $leased, 'leases are there after a restart, too');
queues_are_sound($standby, [qw(orders small scratch)], 'after a restart');
foreach my $node ($primary, $standby)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal|inconsistent page/, 'no process was lost on the ' . $node->name);
}
$standby->stop;
done_testing();
