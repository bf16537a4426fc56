# Breaks: a queue is converted between heap and hot, again and again, while producers and
# consumers, functions and plain SQL, work on it; and the server crashes after a conversion.
#
# How we know: every message that was sent was acknowledged once or is still there, no two
# leases of a message overlap, no client saw an error, and ring and table agree.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PgmqVersions;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{PGMQ_CONVERT_SECONDS} // 8;
my $seed = random_seed();
my $node = new_node('convert', conf => "pgmq.worker_naptime = 100ms\n");

sub storage
{
	my ($queue) = @_;

	return $node->safe_psql('postgres', qq{SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam
		WHERE c.oid = 'pgmq.q_$queue'::regclass});
}

# ---- conversions under load ----

$node->safe_psql('postgres', q{
SET pgmq.queue_storage = heap;
SELECT pgmq.create('c');
CREATE UNLOGGED TABLE sent (msg_id bigint);
CREATE UNLOGGED TABLE gone (msg_id bigint);
CREATE UNLOGGED TABLE leases (msg_id bigint, taken timestamptz, until timestamptz);
CREATE SEQUENCE conversions;
CREATE FUNCTION convert_c() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pgmq.convert_queue('c', CASE nextval('conversions') % 2 WHEN 1 THEN 'hot' ELSE 'heap' END);
END $$;
INSERT INTO sent SELECT send_batch FROM pgmq.send_batch('c', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 500) i));
-- Enough, for later, that hot to heap goes on beside the queue's users
INSERT INTO sent SELECT send_batch FROM pgmq.send_batch('c',
	(SELECT array_agg(jsonb_build_object('later', repeat('x', 200))) FROM generate_series(1, 10000) i), '2200-01-01'::timestamptz);
});

my @scripts = (
	[ 4, 'send', q{
\set r random(1, 8)
BEGIN;
INSERT INTO sent SELECT send FROM pgmq.send('c', '{"sent": true}');
\if :r = 1
ROLLBACK;
\else
COMMIT;
\endif
} ],
	[ 4, 'read', q{
\set r random(1, 8)
BEGIN;
INSERT INTO leases SELECT msg_id, last_read_at, vt FROM pgmq.read('c', 1, 3);
\if :r = 1
ROLLBACK;
\else
COMMIT;
\endif
} ],
	[ 2, 'pop', q{
\set r random(1, 8)
BEGIN;
INSERT INTO gone SELECT msg_id FROM pgmq.pop('c', 2);
\if :r = 1
ROLLBACK;
\else
COMMIT;
\endif
} ],
	[ 1, 'acknowledge', q{
\set id random(1, 500)
INSERT INTO gone SELECT pgmq.delete('c', ARRAY[:id]);
SELECT pgmq.archive('c', ARRAY[:id + 1]::bigint[]);
} ],
	[ 1, 'poll', q{
INSERT INTO leases SELECT msg_id, last_read_at, vt FROM pgmq.read_with_poll('c', 1, 1, 1, 10);
} ],
	[ 1, 'sql', q{
WITH c AS (SELECT msg_id FROM pgmq.q_c WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT 1 FOR UPDATE SKIP LOCKED),
	d AS (DELETE FROM pgmq.q_c q USING c WHERE q.msg_id = c.msg_id RETURNING q.msg_id)
	INSERT INTO gone SELECT msg_id FROM d;
} ]);

my @files = map {
	my ($weight, $name, $text) = @$_;
	my $file = $node->basedir . "/$name.sql";
	append_to_file($file, $text);
	('-f', "$file\@$weight")
} @scripts;
my $converter = $node->basedir . '/convert.sql';
append_to_file($converter, "\\set pause random(50, 300)\nSELECT convert_c();\n\\sleep :pause ms\n");

my $clients = IPC::Run::start(
	[ $node->installed_command('pgbench'), '-n', '-c', 8, '-j', 2, '-T', $seconds, "--random-seed=$seed", @files,
		'-h', $node->host, '-p', $node->port, 'postgres' ], '>', \my $out, '2>', \my $err);
$node->command_ok([ 'pgbench', '-n', '-c', 1, '-T', $seconds, '-f', $converter, 'postgres' ], 'the queue is converted');
$clients->finish;
is($clients->result(0), 0, 'all clients got through') or diag($err);
unlike($err, qr/ERROR/, 'no client saw an error');
cmp_ok($node->safe_psql('postgres', 'SELECT last_value FROM conversions'), '>=', 6, 'there and back several times');

balance_books($node, 'SELECT msg_id FROM pgmq.q_c UNION ALL SELECT msg_id FROM pgmq.a_c UNION ALL SELECT msg_id FROM gone',
	'after conversions under load');
is($node->safe_psql('postgres', q{SELECT last_value >= (SELECT max(msg_id) FROM sent) FROM pgmq.q_c_msg_id_seq}), 't',
	'the sequence went on');
cmp_ok($node->safe_psql('postgres', q{SELECT pg_relation_size('pgmq.q_c') / 8192}), '>=', 256, 'the table was large all the time');
queues_are_sound($node, ['c']);

# ---- a conversion survives a crash ----

foreach my $to (qw(hot heap hot))
{
	$node->safe_psql('postgres', qq{SELECT pgmq.convert_queue('c', '$to'); SELECT pgmq.send('c', '"$to"')});
	my $before = $node->safe_psql('postgres', 'SELECT * FROM pgmq.q_c ORDER BY 1');
	crash($node);
	$node->start;
	is(storage('c'), $to eq 'hot' ? 'pgmq' : 'heap', "after a crash the queue is $to");
	is($node->safe_psql('postgres', 'SELECT * FROM pgmq.q_c ORDER BY 1'), $before, 'with the same messages');
	queues_are_sound($node, ['c'], "$to, after a crash");
}

# ---- senders wait for the switch only ----

$node->safe_psql('postgres', q{
SET pgmq.queue_storage = heap;
SELECT pgmq.create('big');
INSERT INTO pgmq.q_big (vt, message) SELECT now(), to_jsonb(i) FROM generate_series(1, 100000) i});
is($node->safe_psql('postgres', q{
CREATE TEMP TABLE f AS SELECT pg_relation_filenode('pgmq.q_big') AS before;
SELECT pgmq.convert_queue('big', 'hot');
SELECT before = pg_relation_filenode('pgmq.q_big') FROM f}), "\nt", 'heap to hot rewrites no row');
# Hot to heap, beside a consumer that holds messages
my $indexes = q{SELECT string_agg(format('%s %s %s', indexrelid::regclass, indisvalid, indisprimary), ',' ORDER BY indexrelid::regclass::text)
	FROM pg_index WHERE indrelid = 'pgmq.q_big'::regclass};
my $converting = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pgmq conversion'};
my $conversion_waits = q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'pgmq conversion' AND wait_event_type = 'Lock'};
my $reader = $node->background_psql('postgres');
$reader->query_safe(q{BEGIN; SELECT count(*) FROM pgmq.read('big', 60, 10)});
my ($status, undef, $message) = $node->psql('postgres', q{SET lock_timeout = '100ms'; SELECT pgmq.convert_queue('big', 'heap')});
like($message, qr/lock timeout/, 'who holds messages is waited for, as long as lock_timeout says');
is($node->safe_psql('postgres', q{SELECT send FROM pgmq.send('big', '1')}), '100001', 'and then nobody waits');
$reader->query_safe('COMMIT');
wait_until('the conversion has cleaned up', sub { $node->safe_psql('postgres', $converting) == 0 });
is($node->safe_psql('postgres', $indexes), '', 'it leaves no index behind');
is(storage('big'), 'pgmq', 'and the queue hot');

# begin_conversion(): a session in which the queue is being converted to heap
sub begin_conversion
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query_until(qr/started/, "\\echo started\nSELECT pgmq.convert_queue('big', 'heap');\n\\echo converted\n");
	wait_until('the conversion waits', sub { $node->safe_psql('postgres', $conversion_waits) eq 't' });
	return $session;
}

my $pid_of_caller = q{FROM pg_stat_activity WHERE query LIKE '%convert_queue%' AND backend_type = 'client backend' AND pid <> pg_backend_pid()};
$reader->query_safe(q{BEGIN; SELECT count(*) FROM pgmq.read('big', 60, 10)});
my $session = begin_conversion();
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) $pid_of_caller");
wait_until('the statement is cancelled', sub { $node->safe_psql('postgres', "SELECT count(*) $pid_of_caller AND state = 'active'") == 0 });
$reader->query_safe('COMMIT');
wait_until('so is the conversion', sub { $node->safe_psql('postgres', $converting) == 0 });
is($node->safe_psql('postgres', $indexes), '', 'a cancelled conversion leaves no index behind');
$session->quit;

$reader->query_safe(q{BEGIN; SELECT count(*) FROM pgmq.read('big', 60, 10)});
$session = begin_conversion();
is($node->safe_psql('postgres', q{SELECT send FROM pgmq.send('big', '2')}), '100002', 'senders go on beside a conversion');
is($node->safe_psql('postgres', q{SELECT msg_id FROM pgmq.read('big', 60, 1)}), '31', 'so do consumers');
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pgmq conversion'});
$reader->query_safe('COMMIT');
wait_until('its worker has ended', sub { $node->safe_psql('postgres', $converting) == 0 });
$session->quit;
like(slurp_file($node->logfile), qr/the conversion of table "q_big" was terminated/, 'the end of its worker is reported');
is(storage('big'), 'pgmq', 'and leaves the queue hot');
is($node->safe_psql('postgres', $indexes), 'pgmq.q_big_pkey f f', 'with what was made');
is($node->safe_psql('postgres', q{SELECT msg_id FROM pgmq.read('big', 60, 1)}), '32', 'which harms nobody');
$node->safe_psql('postgres', q{SELECT pgmq.convert_queue('big', 'hot')});
is($node->safe_psql('postgres', $indexes), '', 'and is dropped when the queue is to be hot');

# The server crashes in the middle of one
$reader->query_safe(q{BEGIN; SELECT count(*) FROM pgmq.read('big', 60, 10)});
$session = begin_conversion();
crash($node);
$_->{run}->finish foreach $session, $reader;
$node->start;
is(storage('big'), 'pgmq', 'after a crash in a conversion the queue is hot');
is($node->safe_psql('postgres', q{SELECT count(*), count(last_read_at), min(msg_id) FILTER (WHERE vt <= now()) FROM pgmq.q_big}),
	'100002|32|33', 'and has its messages');
queues_are_sound($node, ['big']);

$reader = $node->background_psql('postgres');
$reader->query_safe(q{BEGIN; SELECT count(*) FROM pgmq.read('big', 60, 10)});
$session = begin_conversion();
my $second = begin_conversion();
$reader->query_safe('COMMIT');
$reader->quit;
wait_until('the conversion is done', sub { storage('big') eq 'heap' });
$_->quit foreach $session, $second;
wait_until('its worker has gone', sub { $node->safe_psql('postgres', $converting) == 0 });
my $heap_indexes = 'pgmq.q_big_pkey t t,pgmq.q_big_vt_idx t f';
is($node->safe_psql('postgres', $indexes), $heap_indexes, 'two conversions at once are one');
is($node->safe_psql('postgres', q{SELECT count(*), count(last_read_at), min(last_read_at) > '2000-01-01' FROM pgmq.q_big}), '100002|42|t',
	'what was never read says NULL');
is($node->safe_psql('postgres', q{SELECT contype, conname FROM pg_constraint WHERE conrelid = 'pgmq.q_big'::regclass AND contype = 'p'}),
	'p|q_big_pkey', 'the key is the primary key');
$node->safe_psql('postgres', q{SELECT pgmq.convert_queue('big', 'hot')});
is($node->safe_psql('postgres', q{SELECT min(msg_id), max(msg_id) FROM pgmq.read('big', 60, 5)}), '43|47',
	'what was leased stays leased');
queues_are_sound($node, ['big']);

# In a transaction, or after one's own changes, it is a rewrite, and undone with the rest
is($node->safe_psql('postgres', qq{BEGIN; SELECT send > 100002 FROM pgmq.send('big', '3'); SELECT pgmq.convert_queue('big', 'heap'); $indexes; ROLLBACK; $indexes}),
	"t\n\n$heap_indexes\n", 'a conversion in a transaction is part of it');
is($node->safe_psql('postgres', q{DO $$ BEGIN PERFORM pgmq.send('big', '4'); PERFORM pgmq.convert_queue('big', 'heap'); END $$}), '',
	'so is one after a send in the same statement');
is(storage('big'), 'heap', 'and is made');
$node->safe_psql('postgres', q{SELECT pgmq.convert_queue('big', 'hot')});
queues_are_sound($node, ['big']);

# ---- tables from before 1.10: columns change places, and what hangs on them follows ----

my $describe = q{
SELECT attname, attacl, attstorage, attcompression, attstattarget, attnotnull, col_description(attrelid, attnum) FROM pg_attribute
	WHERE attrelid = 'pgmq.q_old'::regclass AND attnum > 0 ORDER BY 1;
SELECT pg_get_indexdef(indexrelid), obj_description(indexrelid) FROM pg_index
	WHERE indrelid = 'pgmq.q_old'::regclass AND NOT indisprimary AND indexrelid::regclass::text !~ 'vt_idx' ORDER BY 1;
SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'pgmq.q_old'::regclass;
SELECT policyname, roles FROM pg_policies WHERE tablename = 'q_old';
SELECT reloptions, relacl, 'pgmq.q_old'::regclass::oid FROM pg_class WHERE oid = 'pgmq.q_old'::regclass;
SELECT msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers FROM pgmq.q_old ORDER BY 1;
SELECT prrelid::regclass FROM pg_publication_rel;
};

make_queue($node, 'postgres', '1.10.0', 'old', is_upgraded => 1);
$node->safe_psql('postgres', q{
CREATE ROLE reader;
INSERT INTO pgmq.q_old (vt, message, headers) SELECT now(), jsonb_build_object('n', i), '{"h": 2}' FROM generate_series(1, 50) i;
UPDATE pgmq.q_old SET vt = '2200-01-01', last_read_at = now(), read_ct = 1 WHERE msg_id < 5;
GRANT SELECT (vt, message), UPDATE (last_read_at) ON pgmq.q_old TO reader WITH GRANT OPTION;
GRANT SELECT (headers) ON pgmq.q_old TO PUBLIC;
GRANT INSERT ON pgmq.q_old TO reader;
COMMENT ON COLUMN pgmq.q_old.headers IS 'about the message';
CREATE INDEX users_headers ON pgmq.q_old ((headers ->> 'h')) WHERE message IS NOT NULL;
COMMENT ON INDEX pgmq.users_headers IS 'by header';
CREATE INDEX users_gin ON pgmq.q_old USING gin (message);
ALTER TABLE pgmq.q_old ALTER COLUMN message SET STORAGE EXTERNAL, ALTER COLUMN vt SET STATISTICS 77;
ALTER TABLE pgmq.q_old SET (fillfactor = 70);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER users_trigger BEFORE INSERT ON pgmq.q_old FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE POLICY users_policy ON pgmq.q_old TO reader;
CREATE PUBLICATION users_publication FOR TABLE pgmq.q_old WITH (publish = 'insert');
CREATE VIEW users_view AS SELECT msg_id, message FROM pgmq.q_old;
});
my $before = $node->safe_psql('postgres', $describe);
($status, undef, $message) = $node->psql('postgres', q{SELECT pgmq.convert_queue('old', 'hot')});
like($message, qr/users_view/, 'a view over the columns is named');
$node->safe_psql('postgres', 'DROP VIEW users_view; CREATE STATISTICS users_statistics ON vt, read_ct FROM pgmq.q_old');
($status, undef, $message) = $node->psql('postgres', q{SELECT pgmq.convert_queue('old', 'hot')});
like($message, qr/cannot convert queue table "q_old": it has statistics object "users_statistics"/, 'so are statistics');
is($node->safe_psql('postgres', $describe), $before, 'and nothing is changed');
$node->safe_psql('postgres', 'DROP STATISTICS users_statistics');
$node->psql('postgres', q{SELECT pgmq.convert_queue('old', 'hot')});
is(storage('old'), 'pgmq', 'without them the table becomes hot');
is($node->safe_psql('postgres', $describe), $before, 'all that hung on columns is as it was');
is($node->safe_psql('postgres', q{SELECT msg_id FROM pgmq.read('old', 60, 1); SELECT pgmq.archive('old', 5::bigint);
	SELECT msg_id, message, headers, last_read_at > enqueued_at FROM pgmq.a_old}),
	"5\nt\n5|{\"n\": 5}|{\"h\": 2}|t", 'and it works, with the old archive');
queues_are_sound($node, ['old']);

unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'no assertion failed');
$node->stop;
done_testing();
