# Breaks: consumers that use the functions and consumers that use plain SQL work on one
# queue at once, with rollbacks, savepoints, prepared transactions, updates and deletes by
# hand, and DDL on the table in between.
#
# How we know: every committed lease is logged in its own transaction.  No two leases of
# one message overlap, whichever way they were taken; ring and table agree at the end; and
# the counts add up: what was sent is in the queue, in the archive, or was deleted.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'pgbench tries again from 15 on' if `pgbench --help` !~ /max-tries/;

my $seconds = $ENV{PGMQ_MIXED_SECONDS} // 15;

my $seed = random_seed();
my $node = new_node('mixed', conf => "max_prepared_transactions = 20\npgmq.worker_naptime = 100ms\n");

$node->safe_psql('postgres', q{
SELECT pgmq.create('m');
CREATE UNLOGGED TABLE leases (msg_id bigint, taken timestamptz, until timestamptz, way text);
CREATE UNLOGGED TABLE gone (msg_id bigint);
SELECT count(*) FROM pgmq.send_batch('m', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 300) i));
});

# Weight and script of each kind of client
my @scripts = (
	[ 4, 'functions', q{
\set r random(1, 10)
BEGIN;
INSERT INTO leases SELECT msg_id, last_read_at, vt, 'function' FROM pgmq.read('m', 1, 3);
\if :r = 1
ROLLBACK;
\else
COMMIT;
\endif
} ],
	[ 3, 'sql', q{
\set r random(1, 10)
BEGIN;
WITH c AS (SELECT msg_id FROM pgmq.q_m WHERE vt <= clock_timestamp()
		ORDER BY msg_id LIMIT 3 FOR UPDATE SKIP LOCKED),
	u AS (UPDATE pgmq.q_m m SET vt = clock_timestamp() + '1 s', read_ct = read_ct + 1,
			last_read_at = clock_timestamp()
		FROM c WHERE m.msg_id = c.msg_id RETURNING m.msg_id, last_read_at, vt)
	INSERT INTO leases SELECT msg_id, last_read_at, vt, 'sql' FROM u;
\if :r = 1
ROLLBACK;
\else
COMMIT;
\endif
} ],
	[ 1, 'update', q{
\set id random(1, 300)
UPDATE pgmq.q_m SET message = '{"updated": true}' WHERE msg_id = :id;
} ],
	[ 1, 'acknowledge', q{
\set id random(1, 300)
\set r random(1, 4)
BEGIN;
SAVEPOINT s;
\if :r = 1
WITH d AS (DELETE FROM pgmq.q_m WHERE msg_id = :id RETURNING msg_id) INSERT INTO gone SELECT msg_id FROM d;
\elif :r = 2
INSERT INTO gone SELECT d FROM pgmq.delete('m', ARRAY[:id]) d;
\elif :r = 3
SELECT pgmq.set_vt('m', :id::bigint, 0);
ROLLBACK TO s;
\else
SELECT pgmq.archive('m', :id::bigint);
\endif
COMMIT;
} ],
	[ 2, 'send', q{
SELECT pgmq.send('m', '{"sent": true}');
} ],
	[ 1, 'lock', q{
\set id random(1, 300)
BEGIN;
SELECT msg_id FROM pgmq.q_m WHERE msg_id = :id FOR UPDATE SKIP LOCKED;
COMMIT;
} ],
	[ 1, 'prepare', q{
\set r random(1, 2)
BEGIN;
SELECT pgmq.send('m', '{"prepared": true}');
SELECT msg_id FROM pgmq.read('m', 0, 1);
PREPARE TRANSACTION 'p:client_id';
\if :r = 1
COMMIT PREPARED 'p:client_id';
\else
ROLLBACK PREPARED 'p:client_id';
\endif
} ],
	[ 1, 'maintain', q{
\set r random(1, 6)
SELECT pg_advisory_lock(1); -- two CREATE INDEX IF NOT EXISTS at once may fail
\if :r = 1
VACUUM FULL pgmq.q_m;
\elif :r = 2
BEGIN;
TRUNCATE pgmq.q_m;
ROLLBACK;
\elif :r = 3
CREATE INDEX IF NOT EXISTS extra ON pgmq.q_m (enqueued_at);
\elif :r = 4
DROP INDEX IF EXISTS pgmq.extra;
\elif :r = 5
VACUUM pgmq.q_m;
\else
SELECT * FROM pgmq.metrics('m');
\endif
SELECT pg_advisory_unlock(1);
} ]);

# Run clients of all kinds for a while; none may get an error
sub clients_get_through
{
	my ($what, $for_seconds, @kinds) = @_;
	my @files = map {
		my ($weight, $name, $text) = @$_;
		my $file = $node->basedir . "/$name.sql";
		append_to_file($file, $text);
		('-f', "$file\@$weight")
	} @kinds;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return $node->command_ok(
		[ 'pgbench', '-n', '-c', 10, '-j', 2, '-T', $for_seconds, "--random-seed=$seed", '--max-tries=100', @files, 'postgres' ],
		$what);
}

# "prepare" must leave leases out of the log, so its leases are of no length (vt 0).
clients_get_through('all clients got through', $seconds, @scripts);

is($node->safe_psql('postgres', q{
SELECT count(*), string_agg(DISTINCT before || ' then ' || way, ', ') FROM
	(SELECT *, lag(until) OVER w AS until_before, lag(way) OVER w AS before
		FROM leases WINDOW w AS (PARTITION BY msg_id ORDER BY taken)) l
	WHERE taken < until_before}),
	'0|', 'no two leases of a message overlap');
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT way) FROM leases'), '==', 2,
	'both ways have leased messages');
is($node->safe_psql('postgres', q{
SELECT count(*) FROM (SELECT msg_id FROM pgmq.q_m UNION ALL SELECT msg_id FROM pgmq.a_m
	UNION ALL SELECT msg_id FROM gone) x GROUP BY msg_id HAVING count(*) > 1}),
	'', 'no message is in two places');
is($node->safe_psql('postgres', q{
SELECT count(*) FROM generate_series(1, 300) i WHERE NOT EXISTS
	(SELECT FROM (SELECT msg_id FROM pgmq.q_m UNION ALL SELECT msg_id FROM pgmq.a_m
		UNION ALL SELECT msg_id FROM gone) x WHERE msg_id = i)}),
	'0', 'no message is lost');
is($node->safe_psql('postgres', q{
SELECT queue_length - (SELECT count(*) FROM pgmq.q_m) FROM pgmq.metrics('m')}),
	'0', 'metrics count what the table holds');
queues_are_sound($node, ['m']);

# ---- a reader that looks at a locked row is in nobody's way ----

# Who holds a row's lock takes it again, and changes the row, while readers look at it.
# Two lockers never hold what the other wants: there is nothing to wait for, nor a deadlock.
$node->safe_psql('postgres', q{
SELECT pgmq.create('own');
SELECT count(*) FROM pgmq.send_batch('own', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 10) i))});
clients_get_through(
	'a lock we hold is ours, whoever looks at the row', 3,
	[ 2, 'read_own', q{SELECT count(*) FROM pgmq.read('own', 0, 10);} ],
	[ 1, 'lock_own', q{
\set id random(1, 10)
BEGIN;
SELECT msg_id FROM pgmq.q_own WHERE msg_id = :id FOR UPDATE;
} . q{
SELECT 1 / count(*) FROM (SELECT FROM pgmq.q_own WHERE msg_id = :id FOR UPDATE NOWAIT) l;
SELECT 1 / count(*) FROM (SELECT FROM pgmq.q_own WHERE msg_id = :id FOR UPDATE SKIP LOCKED) l;
} x 10 . q{
UPDATE pgmq.q_own SET read_ct = 0 WHERE msg_id = :id;
COMMIT;
} ]);
queues_are_sound($node, ['own']);

$node->stop;
done_testing();
