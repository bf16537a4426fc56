# Breaks: a query that finds its rows by the ring, which knows what is there now, under a
# snapshot that is older: rows were deleted, archived, popped, updated, inserted since, by
# transactions with savepoints, prepared ones, rollbacks; by its own transaction, too.
#
# How we know: under one snapshot each query is executed with the custom scan nodes and
# without, and must find the same rows; and most answers came from the ring indeed.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'pgbench tries again from 15 on' if `pgbench --help` !~ /max-tries/;

my $seconds = $ENV{PGMQ_SCAN_SECONDS} // 15;
my $seed = random_seed();
my $node = new_node('scans', conf => "max_prepared_transactions = 20\npgmq.worker_naptime = 100ms\n");

$node->safe_psql('postgres', q{
SELECT pgmq.create('q');
SELECT count(*) FROM pgmq.send_batch('q', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 500) i));
VACUUM ANALYZE pgmq.q_q;
CREATE SEQUENCE by_ring;
CREATE SEQUENCE by_table;

CREATE FUNCTION found(statement text, by_node boolean, ids bigint[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	PERFORM set_config('pgmq.enable_scan', by_node::text, true), set_config('enable_seqscan', (NOT by_node)::text, true);
	EXECUTE statement INTO result USING ids;
	RETURN result;
END $$;

CREATE FUNCTION note_way(statement text, ids bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	plan jsonb;
BEGIN
	PERFORM set_config('pgmq.enable_scan', 'on', true), set_config('enable_seqscan', 'off', true);
	EXECUTE 'EXPLAIN (ANALYZE, FORMAT JSON) ' || statement INTO plan USING ids;
	PERFORM CASE WHEN plan @? '$.**."Table Scans" ? (@ > 0)' THEN nextval('by_table')
		WHEN plan @? '$.**."Table Scans"' THEN nextval('by_ring') END;
END $$;

CREATE FUNCTION same(statement text, ids bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	first text := found(statement, true, ids);
	plain text := found(statement, false, ids);
	again text := found(statement, true, ids);
BEGIN
	IF first IS DISTINCT FROM plain OR again IS DISTINCT FROM plain THEN
		RAISE EXCEPTION 'different rows: % of %', statement, ids
			USING DETAIL = format(E'by node %s\nby scan %s\nagain   %s', first, plain, again);
	END IF;
	PERFORM note_way(statement, ids) WHERE random() < 0.2;
END $$;

-- Every kind of query, about some ids
CREATE FUNCTION all_same(ids bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	row CONSTANT text := $q$format('%s at %s: %s', q.msg_id, q.ctid, q.message)$q$;
	rows CONSTANT text := format($q$SELECT string_agg(%s, E'\n' ORDER BY q.msg_id, q.ctid) FROM $q$, row);
	ordered CONSTANT text := format($q$SELECT string_agg(%s, E'\n') FROM (SELECT ctid, * FROM pgmq.q_q $q$, row);
BEGIN
	PERFORM same(rows || 'pgmq.q_q q WHERE msg_id = ANY ($1)', ids);
	PERFORM same(rows || 'pgmq.q_q q WHERE msg_id = $1[1]', ids);
	PERFORM same(rows || 'unnest($1) k JOIN pgmq.q_q q ON q.msg_id = k', ids);
	-- Leases are not under the snapshot: with this bound they make no difference
	PERFORM same(ordered || $q$WHERE vt <= now() + '1 hour' ORDER BY msg_id) q$q$, ids);
	PERFORM same(ordered || $q$WHERE vt < now() + '1 hour' ORDER BY msg_id DESC LIMIT 20) q$q$, ids);
	PERFORM same(ordered || 'ORDER BY msg_id LIMIT 40) q', ids);
	PERFORM same($q$SELECT concat_ws(' to ', min(msg_id), max(msg_id)) FROM pgmq.q_q WHERE vt <= now() + '1 hour'$q$, ids);
	PERFORM same('SELECT concat_ws('' to '', min(msg_id), max(msg_id)) FROM pgmq.q_q', ids);
	PERFORM same('SELECT count(*) FROM pgmq.q_q', ids);
END $$;

CREATE FUNCTION some_ids() RETURNS bigint[] LANGUAGE sql AS $$
	SELECT array_agg(greatest(1, s.last_value - (random() * 600)::int)) FROM pgmq.q_q_msg_id_seq s, generate_series(1, 8) $$;
});

# Weight and script of each kind of client
my @scripts = (
	[ 5, 'check', q{
\set t random(0, 20000)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1;
SELECT same('SELECT count(*) FROM pgmq.q_q', NULL);
\sleep :t us
SELECT all_same(some_ids());
SELECT pgmq.send('q', '"own"') AS own \gset
SELECT all_same(ARRAY[:own, :own - 1]);
SAVEPOINT s;
DELETE FROM pgmq.q_q WHERE msg_id = :own;
SELECT all_same(ARRAY[:own, :own - 2]);
ROLLBACK TO s;
UPDATE pgmq.q_q SET message = '"changed"' WHERE msg_id = :own;
SELECT all_same(ARRAY[:own]);
SELECT pgmq.delete('q', :own::bigint);
SELECT all_same(some_ids() || :own::bigint);
COMMIT;
} ],
	[ 1, 'check_old', q{
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1;
\sleep 500 ms
SELECT all_same(some_ids());
COMMIT;
} ],
	[ 6, 'send', q{SELECT pgmq.send('q', '1');} ],
	[ 2, 'pop', q{SELECT count(*) FROM pgmq.pop('q', 2);} ],
	[ 2, 'archive', q{SELECT count(*) FROM pgmq.archive('q', (some_ids())[1:2]);} ],
	[ 2, 'delete', q{DELETE FROM pgmq.q_q WHERE msg_id = ANY ((some_ids())[1:2]);} ],
	[ 3, 'update', q{UPDATE pgmq.q_q SET message = to_jsonb(random()) WHERE msg_id = (some_ids())[1];} ],
	[ 2, 'lease', q{SELECT count(*) FROM pgmq.read('q', 0, 5);} ],
	[ 2, 'back', q{
BEGIN;
SELECT pgmq.send('q', '"gone"');
SAVEPOINT s;
DELETE FROM pgmq.q_q WHERE msg_id = ANY ((some_ids())[1:3]);
ROLLBACK TO s;
UPDATE pgmq.q_q SET message = '"gone"' WHERE msg_id = (some_ids())[1];
ROLLBACK;
} ],
	[ 1, 'prepared', q{
\set gid random(1, 1000000000)
BEGIN;
SELECT pgmq.send('q', '"prepared"');
DELETE FROM pgmq.q_q WHERE msg_id = (some_ids())[1];
PREPARE TRANSACTION 'p:gid';
\if :gid % 2 = 1
COMMIT PREPARED 'p:gid';
\else
ROLLBACK PREPARED 'p:gid';
\endif
} ],
	[ 1, 'rewrite', q{
SELECT CASE WHEN random() < 0.05 THEN set_config('x.x', pgmq.purge_queue('q')::text, false) END;
SELECT count(*) FROM pgmq.send_batch('q', array_fill('1'::jsonb, ARRAY[20]));
} ]);

my @files;
foreach (@scripts)
{
	my ($weight, $name, $text) = @$_;
	my $file = $node->basedir . "/$name.sql";

	append_to_file($file, $text);
	push @files, '-f', "$file\@$weight";
}
$node->command_ok(
	[ 'pgbench', '-n', '-c', 8, '-j', 2, '-T', $seconds, "--random-seed=$seed", '--max-tries=100', @files, 'postgres' ],
	'queries by the ring find what a scan of the table finds');

my ($by_ring, $by_table) = map { $node->safe_psql('postgres', "SELECT last_value FROM by_$_") } qw(ring table);
note("$by_ring answers of the ring, $by_table of the table");
cmp_ok($by_ring, '>', 4 * $by_table, 'most answers came from the ring');
queues_are_sound($node, ['q']);

$node->stop;
done_testing();
