# Breaks: databases of every released version of the SQL-only pgmq, with queues, archives,
# leases, bindings, throttles, privileges and objects of users, are updated to this
# version; so is one that is no extension.
#
# How we know: what the tables, sequences and objects of users say is the same before and
# after; the members of the extension are those of a fresh installation; the functions
# work on the old queues, and on the same queues converted.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PgmqVersions;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('upgrade');

$node->safe_psql('postgres', q{CREATE ROLE app; CREATE ROLE auditor; CREATE ROLE keeper; CREATE DATABASE fresh});
$node->safe_psql('fresh', 'CREATE EXTENSION pgmq');

my $has_notifications = $node->safe_psql('fresh', q{SELECT to_regproc('pgmq.notify_queue_listeners') IS NOT NULL}) eq 't';

# ---- what must be equal ----

# Members as a fresh installation has them: functions, types, tables, indexes, constraints
my $members = q{
SET search_path = pg_catalog;
SELECT 'function', p.oid::regprocedure, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
		p.provolatile, p.prosrc, l.lanname, m.objid IS NOT NULL
	FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang LEFT JOIN pg_depend m ON m.objid = p.oid AND m.deptype = 'e'
	WHERE p.pronamespace = 'pgmq'::regnamespace AND p.proname <> 'wrapper' ORDER BY p.oid::regprocedure::text;
SELECT 'column', c.relname, row_number() OVER w, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
		pg_get_expr(d.adbin, d.adrelid) IS NOT NULL
	FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
	WHERE c.relnamespace = 'pgmq'::regnamespace AND (c.relkind = 'c' OR c.relname IN ('meta', 'notify_insert_throttle', 'topic_bindings'))
	WINDOW w AS (PARTITION BY c.oid ORDER BY a.attnum) ORDER BY 2, 3;
SELECT 'index', pg_get_indexdef(indexrelid) FROM pg_index
	WHERE indrelid IN (to_regclass('pgmq.meta'), to_regclass('pgmq.notify_insert_throttle'), to_regclass('pgmq.topic_bindings')) ORDER BY 2;
SELECT 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint
	WHERE conrelid IN (to_regclass('pgmq.meta'), to_regclass('pgmq.notify_insert_throttle'), to_regclass('pgmq.topic_bindings'))
		AND contype <> 'n' ORDER BY 3;
SELECT 'dumped', c FROM pg_extension, unnest(extconfig::regclass[]::text[]) c WHERE extname = 'pgmq' ORDER BY 2;
SELECT 'member', count(*) FROM pg_depend d WHERE d.deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgmq');
SELECT 'monitor', relname, has_table_privilege('pg_monitor', oid, 'SELECT') FROM pg_class
	WHERE relnamespace = 'pgmq'::regnamespace AND relname IN ('meta', 'notify_insert_throttle', 'topic_bindings') ORDER BY 2;
SELECT 'default privileges', count(*) FROM pg_default_acl;
};

# What users have: rows, positions of sequences, and objects
my $state = q{
SELECT 'plain', msg_id, read_ct, enqueued_at, vt, message, headers FROM pgmq.q_plain ORDER BY 2;
SELECT 'mixed', msg_id, read_ct, enqueued_at, vt, message, headers FROM pgmq.q_mixed ORDER BY 2;
SELECT 'unlogged', msg_id, read_ct, enqueued_at, vt, message, headers FROM pgmq.q_un ORDER BY 2;
SELECT 'archive', msg_id, read_ct, enqueued_at, vt, archived_at, message, headers FROM pgmq.a_mixed ORDER BY 2;
SELECT 'sequence', last_value, is_called FROM pgmq.q_mixed_msg_id_seq;
SELECT 'sequence', last_value, is_called FROM pgmq.q_plain_msg_id_seq;
SELECT 'meta', * FROM pgmq.meta ORDER BY 2;
SELECT 'table', c.oid, relname, relpersistence, relowner::regrole, relrowsecurity, amname
	FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.oid::regclass::text ~ '^pgmq.[qa]_' AND c.relkind = 'r' ORDER BY 3;
SELECT 'trigger', tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 2;
SELECT 'policy', tablename, policyname, roles, cmd, qual FROM pg_policies ORDER BY 2;
SELECT 'index', indexdef FROM pg_indexes WHERE schemaname = 'pgmq' AND indexname ~ 'users|vt_idx|pkey|archived' ORDER BY 2;
SELECT 'view', c.oid, c.relname, c.relowner::regrole, c.relacl, c.reloptions, a.attname, format_type(a.atttypid, a.atttypmod)
	FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'v' ORDER BY 3, a.attnum;
SELECT 'rights', has_table_privilege('app', 'pgmq.q_plain', 'INSERT'), has_table_privilege('app', 'pgmq.meta', 'SELECT'),
	has_column_privilege('auditor', 'pgmq.q_plain', 'vt', 'SELECT'), has_column_privilege('auditor', 'pgmq.q_plain', 'message', 'SELECT'),
	has_schema_privilege('app', 'pgmq', 'USAGE');
SELECT 'comment', obj_description('pgmq.q_plain'::regclass), col_description('pgmq.q_plain'::regclass,
	(SELECT attnum FROM pg_attribute WHERE attrelid = 'pgmq.q_plain'::regclass AND attname = 'vt'));
};

my $bindings = q{SELECT pattern, queue_name, bound_at, compiled_regex FROM pgmq.topic_bindings ORDER BY 1};
my $throttles = q{SELECT queue_name, throttle_interval_ms, last_notified_at FROM pgmq.notify_insert_throttle ORDER BY 1};

# ---- what users make ----

sub fill
{
	my ($db, $version, %params) = @_;

	make_queue($node, $db, $version, 'plain', is_upgraded => 1, %params);
	make_queue($node, $db, $version, 'Mixed', %params);
	make_queue($node, $db, $version, 'un', unlogged => 1, %params);
	$node->safe_psql($db, q{
SET client_min_messages = warning;
INSERT INTO pgmq.q_plain (vt, message, headers) SELECT now() - '1 s'::interval, jsonb_build_object('n', i), '{"h": 1}'
	FROM generate_series(1, 20) i;
UPDATE pgmq.q_plain SET read_ct = 3, vt = '2200-01-01' WHERE msg_id IN (2, 3);
DELETE FROM pgmq.q_plain WHERE msg_id = 4;
INSERT INTO pgmq.q_mixed (vt, message) SELECT now(), to_jsonb(i) FROM generate_series(1, 5) i;
INSERT INTO pgmq.q_un (vt, message) SELECT now(), to_jsonb(i) FROM generate_series(1, 3) i;
INSERT INTO pgmq.a_mixed (msg_id, read_ct, vt, message) VALUES (-1, 2, now(), '"old"');
SELECT setval('pgmq.q_mixed_msg_id_seq', 77);

CREATE TABLE seen (msg_id bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen VALUES (NEW.msg_id); RETURN NEW; END';
CREATE TRIGGER users_trigger AFTER INSERT ON pgmq.q_mixed FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE pgmq.q_un ENABLE ROW LEVEL SECURITY;
CREATE POLICY users_policy ON pgmq.q_un TO app USING (message IS NOT NULL);
CREATE INDEX users_index ON pgmq.q_plain ((headers ->> 'h'), msg_id);
GRANT USAGE ON SCHEMA pgmq TO app;
GRANT SELECT, INSERT ON pgmq.q_plain TO app;
GRANT SELECT ON pgmq.meta TO app;
GRANT SELECT (vt, message) ON pgmq.q_plain TO auditor;
COMMENT ON TABLE pgmq.q_plain IS 'for orders';
COMMENT ON COLUMN pgmq.q_plain.vt IS 'visible from';
ALTER TABLE pgmq.a_mixed OWNER TO keeper;

CREATE VIEW reader AS SELECT * FROM pgmq.read('plain', 0, 1);
CREATE VIEW reader_of_reader WITH (security_barrier) AS SELECT msg_id, message, vt FROM reader;
CREATE VIEW popper AS SELECT p.msg_id, p.vt FROM pgmq.pop('un') p;
CREATE VIEW listed AS SELECT queue_name FROM pgmq.list_queues();
GRANT SELECT ON reader TO app;
ALTER VIEW popper OWNER TO keeper;
CREATE FUNCTION wrapper(q text) RETURNS SETOF pgmq.message_record LANGUAGE plpgsql
	AS 'BEGIN RETURN QUERY SELECT * FROM pgmq.read(queue_name := q, vt := 0, qty := 1); END';
REVOKE EXECUTE ON FUNCTION pgmq.purge_queue(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgmq.purge_queue(text) TO app;
REVOKE EXECUTE ON FUNCTION pgmq.create_partitioned FROM PUBLIC;
});
	$node->safe_psql($db, q{CREATE CONSTRAINT TRIGGER trigger_notify_queue_insert_listeners AFTER INSERT ON pgmq.q_plain
		DEFERRABLE FOR EACH ROW EXECUTE FUNCTION pgmq.notify_queue_listeners()}) if $has_notifications && at_least($version, '1.7.0');
	$node->safe_psql($db, q{INSERT INTO pgmq.notify_insert_throttle VALUES ('plain', 1500, '2020-01-01')})
	  if at_least($version, '1.8.0');
	$node->safe_psql($db, q{INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ('orders.*', 'plain'), ('#', 'Mixed')})
	  if at_least($version, '1.11.0');
	return;
}

# ---- what must work afterwards ----

sub try_functions
{
	my ($db, $what) = @_;
	my $got;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$got = $node->safe_psql($db, q{
SELECT send FROM pgmq.send('Mixed', '"new"');
SELECT array_agg(msg_id) FROM seen;
SELECT (r).msg_id, (r).read_ct, (r).message, (r).headers, (r).last_read_at IS NOT NULL FROM pgmq.read('plain', 60, 2) r;
SELECT msg_id, message, last_read_at IS NOT NULL, vt > now() - '1 min'::interval FROM wrapper('plain');
SELECT msg_id, message, vt > now() - '1 min'::interval FROM reader_of_reader;
SELECT msg_id, vt < now() FROM popper;
SELECT pgmq.archive('Mixed', 1), pgmq.archive('plain', ARRAY[5, 6]::bigint[]), pgmq.delete('plain', 7);
SELECT count(*), count(last_read_at) FROM pgmq.a_plain;
SELECT string_agg(queue_name, ' ' ORDER BY queue_name) FROM listed;
SELECT queue_name, queue_length, total_messages FROM pgmq.metrics_all() ORDER BY 1;
SELECT has_function_privilege('app', 'pgmq.purge_queue(text)', 'EXECUTE'),
	has_function_privilege('auditor', 'pgmq.purge_queue(text)', 'EXECUTE'),
	has_function_privilege('app', p.oid, 'EXECUTE') FROM pg_proc p WHERE p.proname = 'create_partitioned';
SET ROLE pg_monitor;
SELECT queue_name, queue_length FROM pgmq.metrics('plain');
SELECT has_table_privilege('pgmq.q_plain', 'SELECT'), has_table_privilege('pgmq.a_mixed', 'SELECT');
});
	is($got, q{78
{78}
1|1|{"n": 1}|{"h": 1}|t
5|1|{"n": 5}|{"h": 1}|t
6|{"n": 6}|t|t
6|{"n": 6}|t
1|t
t|5|t
f|6|f
2|2
Mixed plain un
Mixed|5|78
plain|16|20
un|2|3
t|f|f
plain|16
f|f}, "$what: the functions work");
	return;
}

# ---- every version ----

sub check_update
{
	my ($db, $version, $update) = @_;
	my $what = "from $version";
	my @rows = ($node->safe_psql($db, $state));

	push @rows, $node->safe_psql($db, $throttles) if at_least($version, '1.8.0');
	push @rows, $node->safe_psql($db, $bindings) if at_least($version, '1.11.0');
	my ($status, undef, $err) = $node->psql($db, $update);
	is($status, 0, "$what: updates") or diag($err);
	is($err, '', "$what: without a warning");
	is($node->safe_psql($db, q{SELECT extversion FROM pg_extension WHERE extname = 'pgmq'}),
		$node->safe_psql('fresh', q{SELECT extversion FROM pg_extension WHERE extname = 'pgmq'}), "$what: the version");
	my @after = ($node->safe_psql($db, $state));
	push @after, $node->safe_psql($db, $throttles) if at_least($version, '1.8.0');
	push @after, $node->safe_psql($db, $bindings) if at_least($version, '1.11.0');
	is(join("\n", @after), join("\n", @rows), "$what: rows and objects of users are the same");
	is($node->safe_psql($db, $members), $node->safe_psql('fresh', $members), "$what: members are those of a fresh installation");
	is($node->safe_psql($db, $throttles), 'plain|0|1970-01-01 00:00:00+00', "$what: notifications go on")
	  if $has_notifications && $version =~ /^1\.7\./;
	try_functions($db, $what);
	return;
}

# Conversion of what came from an old version: the same rows, and the fast path
sub check_conversion
{
	my ($db, $version) = @_;
	my $rows = q{SELECT 'plain', msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers FROM pgmq.q_plain ORDER BY 2;}
	  . $state =~ s/'table', c.oid, relname/'table', c.oid, relname LIKE 'q_plain'/r;
	my $before;

	$node->safe_psql($db, 'DROP TRIGGER IF EXISTS trigger_notify_queue_insert_listeners ON pgmq.q_plain')
	  unless $has_notifications;
	$before = $node->safe_psql($db, $rows);
	$node->psql($db, q{SELECT pgmq.convert_queue('plain', 'hot')});
	is($node->safe_psql($db, q{SELECT amname, (SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
			WHERE attrelid = c.oid AND attnum > 0)
		FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = 'pgmq.q_plain'::regclass}),
		'pgmq|msg_id read_ct enqueued_at last_read_at vt message headers', "from $version: converted to hot");
	$node->psql($db, q{SELECT pgmq.convert_queue('plain', 'heap')});
	is($node->safe_psql($db, $rows), $before, "from $version: converted to hot and back, all is the same");
	$node->psql($db, q{SELECT pgmq.convert_queue('plain', 'hot')});
	is($node->safe_psql($db, q{
SELECT msg_id, read_ct FROM pgmq.read('plain', 60, 2);
SELECT pgmq.archive('plain', 8::bigint), pgmq.delete('plain', 9);
SELECT archived_at >= enqueued_at, last_read_at >= enqueued_at, vt > last_read_at, read_ct FROM pgmq.a_plain WHERE msg_id = 8;
SELECT * FROM pgmq.check_queue('plain')}),
		"8|1\n9|1\nt|t\nt|t|t|1", "from $version: the converted queue works");
	return;
}

foreach my $version (@released)
{
	my $db = 'v' . $version =~ s/\./_/gr;

	make_version($node, $db, $version);
	fill($db, $version);
	check_update($db, $version, 'ALTER EXTENSION pgmq UPDATE');
	check_conversion($db, $version) if $version =~ /^1\.(5\.0|9\.0|13\.1)$/;
	$node->safe_psql('postgres', "DROP DATABASE $db");
}

# ---- what cannot be carried over is named, and nothing is changed ----

make_version($node, 'refused', '1.9.0');
$node->safe_psql('refused', 'CREATE TABLE log (m pgmq.message_record)');
my ($status, undef, $err) = $node->psql('refused', 'ALTER EXTENSION pgmq UPDATE');
like($err, qr/column "m" of table public.log holds values of type pgmq.message_record/, 'a column of the old type is refused');
$node->safe_psql('refused', q{DROP TABLE log; CREATE VIEW renamed AS SELECT * FROM pgmq.read('x', 0, 1) AS r(a, b, c, d, e, f)});
($status, undef, $err) = $node->psql('refused', 'ALTER EXTENSION pgmq UPDATE');
like($err, qr/view public.renamed gives the columns of a function other names/, 'so is a view that renames columns');
is($node->safe_psql('refused', q{SELECT extversion FROM pg_extension WHERE extname = 'pgmq';
	SELECT count(*) FROM pg_namespace WHERE nspname = 'pgmq_upgrade'}), "1.9.0\n0", 'and the version stays');
$node->safe_psql('refused', 'DROP VIEW renamed; ALTER EXTENSION pgmq UPDATE');

# ---- an installation that is no extension ----

foreach my $version (qw(1.5.1 1.13.1))
{
	my $db = 'unpackaged_' . $version =~ s/\./_/gr;

	make_without_extension($node, $db, $version);
	fill($db, $version, no_extension => 1);
	$node->safe_psql($db, q{CREATE TABLE pgmq.__pgmq_migrations (name text); INSERT INTO pgmq.__pgmq_migrations VALUES ('1');
		CREATE FUNCTION pgmq.wrapper(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
		CREATE VIEW migrations AS SELECT name FROM pgmq.__pgmq_migrations});
	($status, undef, $err) = $node->psql($db, 'CREATE EXTENSION pgmq');
	like($err, qr/schema pgmq holds a pgmq that is no extension.*HINT:.*VERSION 'unpackaged'/s, "$version: the way is told");
	check_update($db, $version, q{BEGIN; CREATE EXTENSION pgmq VERSION 'unpackaged'; ALTER EXTENSION pgmq UPDATE; COMMIT});
	is($node->safe_psql($db, q{SELECT pgmq.wrapper('mine'), (SELECT count(*) FROM migrations)}), 'mine|1',
		"$version: what users have in the schema is left alone");
	check_conversion($db, "$version, unpackaged");
}
($status, undef, $err) = $node->psql('postgres', q{DROP EXTENSION pgmq; CREATE EXTENSION pgmq VERSION 'unpackaged'});
like($err, qr/schema pgmq holds no SQL-only pgmq/, 'nothing to adopt');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal/, 'no process was lost');
$node->stop;
done_testing();
