# Breaks: the database moves: by pg_dump and pg_restore in every form, by pg_basebackup, by
# pg_upgrade and through a restart; and it moves out, to a server whose pgmq is SQL only.
#
# How we know: rows, leases, sequence positions, storage, indexes, privileges, bindings,
# throttles and metadata are the same before and after; queues go on where they were, and
# ring and table agree.
use strict;
use warnings;

use Cwd;
use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PgmqVersions;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('moving', init => [ allows_streaming => 1 ]);
my @queues = qw(hot Mixed heap un converted);

# ---- what is moved ----

my $has_bindings = $node->safe_psql('postgres', q{SELECT to_regclass('pgmq.topic_bindings') IS NOT NULL}) eq 't';
my $has_throttles = $node->safe_psql('postgres', q{SELECT to_regclass('pgmq.notify_insert_throttle') IS NOT NULL}) eq 't';

$node->safe_psql('postgres', 'CREATE ROLE app; CREATE DATABASE source');
$node->safe_psql('source', q{
CREATE EXTENSION pgmq;
SELECT pgmq.create('hot'), pgmq.create('Mixed'), pgmq.create_unlogged('un');
SET pgmq.queue_storage = heap;
SELECT pgmq.create('heap'), pgmq.create('converted');
SELECT pgmq.convert_queue('converted', 'hot');
});
foreach my $queue (@queues)
{
	$node->safe_psql('source', qq{
SELECT count(*) FROM pgmq.send_batch('$queue', (SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(1, 300) i),
	(SELECT array_agg(jsonb_build_object('h', i)) FROM generate_series(1, 300) i));
SELECT count(*) FROM pgmq.read('$queue', 100000, 5);
SELECT count(*) FROM pgmq.read('$queue', 0, 3);
SELECT send FROM pgmq.send('$queue', NULL, 100000);
SELECT pgmq.archive('$queue', ARRAY[6, 7]::bigint[]), pgmq.delete('$queue', 8);
SELECT send FROM pgmq.send('$queue', (SELECT to_jsonb(string_agg(md5(i::text), '')) FROM generate_series(1, 300) i));
BEGIN; SELECT send FROM pgmq.send('$queue', '1'); ROLLBACK;
});
}
$node->safe_psql('source', q{
GRANT USAGE ON SCHEMA pgmq TO app;
GRANT SELECT, INSERT ON pgmq.q_hot TO app;
GRANT SELECT ON pgmq.meta TO app;
GRANT UPDATE (vt) ON pgmq.q_hot TO app;
REVOKE EXECUTE ON FUNCTION pgmq.purge_queue(text) FROM PUBLIC;
ALTER TABLE pgmq.q_hot SET (autovacuum_enabled = off);
CREATE VIEW metrics AS SELECT queue_name, queue_length, queue_visible_length, total_messages FROM pgmq.metrics_all();
});
$node->safe_psql('source', q{INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ('a.*', 'hot'), ('#', 'Mixed')})
  if $has_bindings;
$node->safe_psql('source', q{SELECT pgmq.enable_notify_insert('hot', 1000); SELECT pgmq.enable_notify_insert('Mixed');
	SELECT send FROM pgmq.send('hot', '"notified"')})
  if $has_throttles;

# ---- what must be equal ----

sub contents_of
{
	my ($of, $db) = @_;
	my @contents = map {
		my $table = lc;
		"$_: " . $of->safe_psql($db, qq{
SELECT msg_id, read_ct, enqueued_at, last_read_at, vt, md5(message::text), headers FROM pgmq.q_$table ORDER BY 1;
SELECT msg_id, read_ct, enqueued_at, last_read_at, archived_at, vt, message, headers FROM pgmq.a_$table ORDER BY 1;
SELECT last_value, is_called FROM pgmq.q_${table}_msg_id_seq})
	} @queues;

	push @contents, $of->safe_psql($db, 'SELECT * FROM pgmq.meta ORDER BY 1');
	push @contents, $of->safe_psql($db, 'SELECT * FROM pgmq.topic_bindings ORDER BY 1') if $has_bindings;
	push @contents, $of->safe_psql($db, 'SELECT * FROM pgmq.notify_insert_throttle ORDER BY 1') if $has_throttles;
	return join "\n", @contents;
}

sub objects_of
{
	my ($of, $db) = @_;

	return $of->safe_psql($db, q{
SELECT c.relname, amname, relpersistence, reloptions FROM pg_class c LEFT JOIN pg_am a ON a.oid = relam
	WHERE relnamespace = 'pgmq'::regnamespace AND relkind IN ('r', 'S') ORDER BY 1;
SELECT indexdef FROM pg_indexes WHERE schemaname = 'pgmq' ORDER BY 1;
SELECT c.relname, a.grantee::regrole, a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
	WHERE relnamespace = 'pgmq'::regnamespace ORDER BY 1, a.grantee::regrole::text, 3;
SELECT c.relname, t.attname, a.grantee::regrole, a.privilege_type FROM pg_attribute t JOIN pg_class c ON c.oid = attrelid, aclexplode(attacl) a
	WHERE relnamespace = 'pgmq'::regnamespace ORDER BY 1, 2, a.grantee::regrole::text, 4;
SELECT has_schema_privilege('app', 'pgmq', 'USAGE'), has_function_privilege('app', 'pgmq.purge_queue(text)', 'EXECUTE');
SELECT tgrelid::regclass, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgrelid::regclass::text, 2;
SELECT extversion, extconfig::regclass[] FROM pg_extension WHERE extname = 'pgmq';
SELECT count(*) FROM metrics;
});
}

my $contents = contents_of($node, 'source');
my $objects = objects_of($node, 'source');
like($objects, qr/^q_hot\|pgmq\|p/m, 'a hot queue moves');

sub all_is_there
{
	my ($of, $db, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(contents_of($of, $db), $contents, "$what: rows, sequences and metadata");
	is(objects_of($of, $db), $objects, "$what: storage, indexes, privileges, triggers");
	return;
}

# The queue goes on: what is leased stays leased, ids continue; takes one id of each queue
sub queues_go_on
{
	my ($of, $db, $what, $ids_taken) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	foreach my $queue (@queues)
	{
		my $more = $has_throttles && $queue eq 'hot' ? 1 : 0;
		my $last = 303 + $more + ($ids_taken // 0);
		is($of->safe_psql($db, qq{
BEGIN;
SELECT msg_id, read_ct, message ->> 'n', headers FROM pgmq.read('$queue', 60, 2);
SELECT queue_length, queue_visible_length, total_messages FROM pgmq.metrics('$queue');
SELECT send FROM pgmq.send('$queue', '1');
SELECT * FROM pgmq.check_queue('$queue');
ROLLBACK;
SELECT * FROM pgmq.check_queue('$queue')}),
			join("\n", qw(9|1|9|{"h":9} 10|1|10|{"h":10}), join('|', 299 + $more, 291 + $more, $last), $last + 1) =~ s/"h":/"h": /gr,
			"$what: $queue goes on");
	}
	return;
}

# ---- dump and restore ----

my $dir = $node->basedir;

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/custom.dump", 'source' ], 'pg_dump -Fc');
$node->safe_psql('postgres', 'CREATE DATABASE custom');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', 'custom', "$dir/custom.dump" ], 'pg_restore');
all_is_there($node, 'custom', 'custom format');
queues_go_on($node, 'custom', 'custom format');

$node->command_ok([ 'pg_dump', '-Fd', '-j', 2, '-f', "$dir/folder.dump", 'source' ], 'pg_dump -Fd -j');
$node->safe_psql('postgres', 'CREATE DATABASE parallel');
# Side by side it does not wait for pgmq.meta before what references it (doc/migrating.md)
my ($list) = run_command([ 'pg_restore', '-l', "$dir/folder.dump" ]);
my @late = grep { /TABLE DATA pgmq (topic_bindings|notify_insert_throttle) / } split /\n/, $list;
is(scalar @late, 2, 'two tables reference pgmq.meta');
append_to_file("$dir/first.list", join("\n", grep { !/TABLE DATA pgmq (topic_bindings|notify_insert_throttle) / } split /\n/, $list) . "\n");
append_to_file("$dir/then.list", join("\n", @late) . "\n");
$node->command_ok([ 'pg_restore', '--exit-on-error', '-j', 2, '-L', "$dir/first.list", '-d', 'parallel', "$dir/folder.dump" ], 'pg_restore -j');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-L', "$dir/then.list", '-d', 'parallel', "$dir/folder.dump" ], 'and then what references pgmq.meta');
all_is_there($node, 'parallel', 'in parallel');
queues_go_on($node, 'parallel', 'in parallel');

$node->command_ok([ 'pg_dump', '-f', "$dir/plain.sql", 'source' ], 'plain pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE plain');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-1', '-d', 'plain', '-f', "$dir/plain.sql" ], 'and psql, in one transaction');
all_is_there($node, 'plain', 'plain');
$node->command_ok([ 'pg_dump', '-f', "$dir/again.sql", 'plain' ], 'a dump of the copy');
sub without_keys { return slurp_file($_[0]) =~ s/^\\(un)?restrict .*$//mgr }
is(without_keys("$dir/again.sql"), without_keys("$dir/plain.sql"), 'is the dump of the original');

# ---- the way out: a server whose pgmq is SQL only ----

# Dumps of servers before 15 say SET default_table_access_method, which can be edited.
my ($help) = run_command([ 'pg_dump', '--help' ]);
if ($help =~ /no-table-access-method/)
{
	$node->command_ok([ 'pg_dump', '--no-table-access-method', '-f', "$dir/out.sql", 'source' ], 'dump without access methods');
}
else
{
	my $text = slurp_file("$dir/plain.sql");
	$text =~ s/^SET default_table_access_method = .*$//mg;
	append_to_file("$dir/out.sql", $text);
}
unlike(slurp_file("$dir/out.sql"), qr/default_table_access_method = pgmq|USING pgmq\b/, 'no hot storage in it');

# The stand-in of a server with the SQL-only pgmq: its extension is there already
make_version($node, 'out', '1.13.1');
append_to_file("$dir/out2.sql", slurp_file("$dir/out.sql") =~ s/^CREATE SCHEMA pgmq;$//mr);
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'out', '-f', "$dir/out2.sql" ], 'restored beside the SQL-only pgmq');
is(contents_of($node, 'out'), $contents, 'way out by a dump: rows, sequences and metadata');
my $storage = q{SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE amname = 'pgmq'};
is($node->safe_psql('out', $storage), '0', 'and nothing is hot');

# What a hot queue has not, and a heap queue should have
my $add_indexes = q{
DO $$
DECLARE
	t record;
BEGIN
	FOR t IN SELECT c.oid, c.relname FROM pg_class c WHERE c.relnamespace = 'pgmq'::regnamespace
		AND c.relkind = 'r' AND c.relname LIKE 'q\_%'
	LOOP
		IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = t.oid AND indisprimary) THEN
			EXECUTE format('ALTER TABLE pgmq.%I ADD PRIMARY KEY (msg_id)', t.relname);
		END IF;
		EXECUTE format('CREATE INDEX IF NOT EXISTS %I ON pgmq.%I (vt)', t.relname || '_vt_idx', t.relname);
	END LOOP;
END $$};
my $indexes = q{SELECT string_agg(indexname, ' ' ORDER BY indexname COLLATE "C") FROM pg_indexes WHERE tablename LIKE 'q\_%'};
my $heap_indexes = join ' ', map { my $t = lc; ("q_${t}_pkey", "q_${t}_vt_idx") } sort { lc $a cmp lc $b } @queues;
$node->safe_psql('out', $add_indexes);
is($node->safe_psql('out', $indexes), $heap_indexes, 'the indexes are added by hand');

# With our library on the other side convert_queue adds them.
$node->safe_psql('postgres', 'CREATE DATABASE heaps');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'heaps', '-f', "$dir/out.sql" ], 'restored without access methods');
is($node->safe_psql('heaps', $storage), '0', 'nothing is hot');
$node->safe_psql('heaps', join ';', map { "SELECT pgmq.convert_queue('$_', 'heap')" } @queues);
is($node->safe_psql('heaps', $indexes), $heap_indexes, 'convert_queue adds the indexes');
queues_go_on($node, 'heaps', 'as heap queues');

# ---- the way out, where it is ----

$node->safe_psql('postgres', 'CREATE DATABASE leaving TEMPLATE source');
is(contents_of($node, 'leaving'), $contents, 'a copied database');
my ($status, undef, $err) = $node->psql('leaving', 'DROP EXTENSION pgmq');
like($err, qr/view metrics depends on/, 'the extension is not dropped while somebody depends on it');
cmp_ok($node->safe_psql('leaving', $storage), '>', 0, 'and hot queues stay hot then');
$node->safe_psql('leaving', q{
SELECT pgmq.convert_queue(queue_name, 'heap') FROM pgmq.meta;
CREATE TABLE saved_meta AS TABLE pgmq.meta;
});
$node->safe_psql('leaving', 'CREATE TABLE saved_bindings AS SELECT pattern, queue_name, bound_at FROM pgmq.topic_bindings')
  if $has_bindings;
$node->safe_psql('leaving', 'CREATE TABLE saved_throttles AS TABLE pgmq.notify_insert_throttle') if $has_throttles;
$node->safe_psql('leaving', 'DROP VIEW metrics; DROP EXTENSION pgmq CASCADE');
is($node->safe_psql('leaving', q{SELECT count(*) FROM pg_am WHERE amname = 'pgmq';
	SELECT count(*) FROM pg_tables WHERE tablename ~ '^[qa]_(hot|mixed|heap|un|converted)$'}), "0\n10",
	'without the extension all queues and archives are there');
add_version($node, 'leaving', '1.13.1');
$node->safe_psql('leaving', 'INSERT INTO pgmq.meta TABLE saved_meta');
$node->safe_psql('leaving', 'INSERT INTO pgmq.topic_bindings (pattern, queue_name, bound_at) TABLE saved_bindings') if $has_bindings;
$node->safe_psql('leaving', 'INSERT INTO pgmq.notify_insert_throttle TABLE saved_throttles') if $has_throttles;
is(contents_of($node, 'leaving'), $contents, 'the SQL-only pgmq has taken over all there was');
is($node->safe_psql('leaving', $indexes), $heap_indexes, 'with its indexes');

# ... and back again
$node->safe_psql('leaving', q{
DROP TABLE saved_meta;
ALTER EXTENSION pgmq UPDATE;
SELECT pgmq.convert_queue(queue_name, 'hot') FROM pgmq.meta WHERE queue_name <> 'heap'});
is(contents_of($node, 'leaving'), $contents, 'and we again from it');
queues_go_on($node, 'leaving', 'and back');

# ---- the extension is dropped, whatever depends on it ----

$node->safe_psql('postgres', 'CREATE DATABASE dropped TEMPLATE source');
$node->safe_psql('dropped', 'SET client_min_messages = warning; DROP EXTENSION pgmq CASCADE');
is($node->safe_psql('dropped', $indexes), $heap_indexes, 'DROP EXTENSION ... CASCADE leaves heap queues');
is($node->safe_psql('dropped', q{SELECT count(*) FROM pg_event_trigger}), 0, 'and no event trigger');
$node->safe_psql('dropped', 'CREATE EXTENSION pgmq');
$node->safe_psql('dropped', join ';', 'SET client_min_messages = warning', map { "SELECT pgmq.create('$_')" } @queues);
is($node->safe_psql('dropped', q{SELECT queue_length, total_messages FROM pgmq.metrics('Mixed');
	SELECT msg_id, read_ct, message ->> 'n' FROM pgmq.read('Mixed', 60, 1)}), "299|303\n9|1|9",
	'which are adopted by the next pgmq');

# ---- the cluster moves ----

$node->backup('base');
my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($node, 'base');
$copy->start;
# Unlogged tables are emptied, as any recovery does
@queues = grep { $_ ne 'un' } @queues;
$contents = contents_of($node, 'source');
$contents =~ s/^(hot|Mixed)\|\d+\|.*\n?//mg if $has_throttles;	# an unlogged table, too
my $copied = contents_of($copy, 'source');
$copied =~ s/\s+$//;
$contents =~ s/\s+$//;
is($copied, $contents, 'pg_basebackup: rows, sequences and metadata');
is($copy->safe_psql('source', 'SELECT count(*) FROM pgmq.q_un; SELECT * FROM pgmq.check_queue($$un$$)'), '0',
	'the unlogged queue is empty');
$copy->stop;

push @queues, 'un';
$contents = contents_of($node, 'source');
$node->restart;
all_is_there($node, 'source', 'a restart');
queues_go_on($node, 'source', 'a restart');

# ---- pg_upgrade, to a server of the same version ----

SKIP:
{
	chomp(my $bindir = `pg_config --bindir`);
	skip 'no pg_upgrade', 1 unless -x "$bindir/pg_upgrade";
	# It looks for libraries as this does; ours may be found by settings only
	skip 'the library is not in the server\'s own folder', 1 if $node->psql('postgres', q{LOAD '$libdir/pgmq'}) != 0;

	$contents = contents_of($node, 'source');
	$objects = objects_of($node, 'source');
	my $new = PostgreSQL::Test::Cluster->new('new');
	$new->init;
	$new->append_conf('postgresql.conf', "log_statement = none\n");
	$node->safe_psql('postgres', "DROP DATABASE $_") foreach qw(custom parallel plain out heaps leaving dropped);
	$node->stop;
	my $folder = getcwd();
	chdir $new->basedir;
	my @no_sync = `$bindir/pg_upgrade --help` =~ /--no-sync/ ? '--no-sync' : ();
	my $ok = PostgreSQL::Test::Utils::run_log([ "$bindir/pg_upgrade", @no_sync, '-d', $node->data_dir, '-D', $new->data_dir,
		'-b', $bindir, '-B', $bindir, '-s', $new->host, '-p', $node->port, '-P', $new->port ]);
	chdir $folder;
	ok($ok, 'pg_upgrade');
	$new->start;
	all_is_there($new, 'source', 'pg_upgrade');
	queues_go_on($new, 'source', 'pg_upgrade', 1);
	unlike(slurp_file($new->logfile), qr/PANIC|TRAP/, 'no assertion failed');
	$new->stop;
}
unlike(slurp_file($node->logfile), qr/PANIC|TRAP/, 'no assertion failed');
done_testing();
