# Breaks: nothing; pg_partman makes the partitions of queues and archives, cares for them
# and drops them with what is in them.  Without pg_partman this test is skipped.
#
# How we know: catalogs and pg_partman's own table say what the API promises, calls go on
# while partitions come and go, and what is dropped leaves nothing in pg_partman's care.
# Versions 4 and 5 of pg_partman name partitions differently, so they are counted only.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('partman', conf => "pgmq.ring_memory = 1MB\nclient_min_messages = warning\n");

plan(skip_all => 'pg_partman is not installed')
  if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_partman'}) eq '0';

sub query { return $node->safe_psql('postgres', $_[0]) }

# What a failing statement says: SQLSTATE and message
sub error_of
{
	my ($sql, %params) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql", %params);

	return $stderr =~ /ERROR:\s+(\w{5}: [^\n]*)/ ? $1 : "no error: $stderr";
}

# The notices and warnings of a statement
sub notices_of
{
	my ($sql) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', "SET client_min_messages = notice;\n$sql");

	return join("\n", $stderr =~ /((?:NOTICE|WARNING|ERROR):  [^\n]*)/g);
}

# All partitions of a table: how many, and of what access methods
sub partitions_of
{
	my ($table) = @_;

	return query(qq{SELECT count(*), string_agg(DISTINCT amname, ',') FROM pg_inherits
		JOIN pg_class c ON c.oid = inhrelid JOIN pg_am a ON a.oid = relam WHERE inhparent = 'pgmq.$table'::regclass});
}

my $config = q{SELECT parent_table, control, partition_interval, premake, retention, retention_keep_table,
	retention_keep_index, automatic_maintenance, infinite_time_partitions FROM partman.part_config ORDER BY parent_table COLLATE "C"};

query('CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman');
diag('pg_partman ' . query(q{SELECT extversion FROM pg_extension WHERE extname = 'pg_partman'}));

# ---- what can be asked, and what is refused ----

is(query('SELECT pgmq._get_pg_partman_schema()'), 'partman', 'the schema is found');
is(query(q{SELECT pgmq._get_pg_partman_major_version() = split_part(extversion, '.', 1)::int FROM pg_extension
		WHERE extname = 'pg_partman'}), 't', 'and the version');
is(query('SELECT pgmq._ensure_pg_partman_installed()'), '', 'nothing to say where it is there');
is(error_of(q{SELECT pgmq.create_partitioned('x', premake => 0)}), 'P0001: premake must be at least 1, got 0', 'premake 0');
is(error_of(q{SELECT pgmq.create_partitioned(NULL, premake => -1)}), 'P0001: premake must be at least 1, got -1',
	'premake before the name that is NULL');
is(error_of(q{SELECT pgmq.create_partitioned(NULL)}), '22004: null values cannot be formatted as an SQL identifier', 'no name');
like(error_of(q{SELECT pgmq.create_partitioned('x', premake => NULL)}), qr/^42601: /, 'premake NULL');
like(error_of(q{SELECT pgmq.create_partitioned('x', 'nonsense')}), qr/interval/, 'an interval that is none');
is(query(q{SELECT count(*) FROM pg_class WHERE relname ~ '^[qa]_x' AND relnamespace = 'pgmq'::regnamespace}), '0',
	'what failed leaves nothing');

# ---- by id ----

query(q{
	SET default_table_access_method = pgmq;
	SET pgmq.queue_storage = hot;
	SELECT pgmq.create_partitioned('ById', '10', '30', 2);
	DO $$ BEGIN ASSERT current_setting('default_table_access_method') = 'pgmq'; END $$});
query(q{SELECT pgmq.create_partitioned('wide', '10', '30', 6)});
like(partitions_of('q_byid'), qr/^\d+\|heap$/, 'partitions are heap tables, whatever the settings say');
is((split /\|/, partitions_of('q_wide'))[0] - (split /\|/, partitions_of('q_byid'))[0], 4, 'premake makes so many more');
is(partitions_of('a_byid'), partitions_of('q_byid'), 'the archive has as many');
is(query(q{SELECT relkind, relpersistence, pg_get_partkeydef(oid) FROM pg_class WHERE oid IN ('pgmq.q_byid'::regclass, 'pgmq.a_byid'::regclass)}),
	"p|p|RANGE (msg_id)\np|p|RANGE (msg_id)", 'both are partitioned by the id');
is(query(q{SELECT attidentity, attnotnull FROM pg_attribute WHERE attname = 'msg_id' AND attrelid IN ('pgmq.q_byid'::regclass, 'pgmq.a_byid'::regclass) ORDER BY 1 DESC}),
	"d|t\n|t", 'ids may be given');
is(query(q{SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'pgmq.a_byid'::regclass AND attnum > 0}),
	'msg_id read_ct enqueued_at last_read_at archived_at vt message headers', 'columns and their order');
is(query(q{SELECT indexname FROM pg_indexes WHERE tablename IN ('q_byid', 'a_byid') ORDER BY indexname}),
	"archived_at_idx_ById\nq_byid_part_idx", 'indexes; no primary key');
is(query("$config LIMIT 2"),
	"pgmq.a_byid|msg_id|10|2|30|f|t|on|f\npgmq.a_wide|msg_id|10|6|30|f|t|on|f", 'what pg_partman was told');
is(query('SELECT queue_name, is_partitioned, is_unlogged FROM pgmq.list_queues()'), "ById|t|f\nwide|t|f", 'listed as given');
like(error_of(q{SELECT pgmq.create_partitioned('ById', '10', '30')}), qr/part_config_parent_table_pkey/, 'not twice');
is(notices_of(q{SELECT pgmq.create('ById')}), join("\n", map { "NOTICE:  relation \"$_\" already exists, skipping" }
		  qw(q_byid a_byid archived_at_idx_ById)), 'create() takes it as it is, and adds an index');
is(notices_of(q{SELECT pgmq.create('ById')}), join("\n", map { "NOTICE:  relation \"$_\" already exists, skipping" }
		  qw(q_byid a_byid q_byid_vt_idx archived_at_idx_ById)), 'and then knows all four');
is(query(q{SELECT is_partitioned FROM pgmq.meta WHERE queue_name = 'ById'}), 't', 'it stays partitioned');

# ---- calls, while partitions come and go ----

query(q{
	SELECT pgmq.send_batch('byid', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 40) i));
	ANALYZE pgmq.q_byid});
my $overflow = query(q{SELECT default_partition_length FROM pgmq.metrics('byid')});
cmp_ok($overflow, '>', 0, 'beyond the premade partitions messages go to the default one');
is($overflow, query('SELECT count(*) FROM pgmq.q_byid_default'), 'and are counted there');
is(query(q{SELECT array_agg(msg_id) FROM pgmq.read('byid', 60, 35)}), '{' . join(',', 1 .. 35) . '}', 'a read goes across partitions, in order');
is(query(q{SELECT count(*) FROM pgmq.archive('byid', ARRAY[1, 11, 21, 31, 35, 99])}), '5', 'archive');
is(query(q{SELECT count(*) FROM pgmq.delete('byid', ARRAY[2, 12, 22, 32])}), '4', 'delete');
is(query(q{SELECT msg_id, read_ct FROM pgmq.pop('byid', 2)}), "36|0\n37|0", 'pop');
is(query(q{SELECT msg_id FROM pgmq.set_vt('byid', ARRAY[3, 33], 0)}), "3\n33", 'set_vt');
is(query(q{SELECT msg_id, read_ct FROM pgmq.read_with_poll('byid', 60, 2, 5)}), "3|2\n33|2", 'read_with_poll');
is(query(q{SELECT queue_name, queue_length, queue_visible_length, total_messages FROM pgmq.metrics_all() WHERE queue_name = 'ById'}),
	'ById|29|3|40', 'metrics');
is(query(q{SELECT count(DISTINCT tableoid) > 2 FROM pgmq.a_byid}), 't', 'archived rows are in their partitions');

# A fresh queue's partitions follow its ids; what is older than the retention goes
query(q{SELECT pgmq.create_partitioned('kept', '10', '20', 2)});
for my $round (1 .. 8)
{
	query(q{SELECT pgmq.send_batch('kept', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 10) i))});
	query(q{SELECT partman.run_maintenance('pgmq.q_kept')});
}
is(query('SELECT count(*) FROM pgmq.q_kept_default'), '0', 'maintained, no message overflows');
cmp_ok(query('SELECT min(msg_id) FROM pgmq.q_kept'), '>=', 50, 'the retention dropped old partitions, unread messages included');
is(query(q{SELECT msg_id - (SELECT min(msg_id) FROM pgmq.q_kept) FROM pgmq.read('kept', 0, 1)}), '0', 'and reads go on with the oldest left');
like(partitions_of('q_kept'), qr/^\d+\|heap$/, 'partitions of later are heap tables, too');
query(q{ALTER DATABASE postgres SET default_table_access_method = pgmq});
for my $round (1 .. 4)
{
	query(q{SELECT pgmq.send_batch('kept', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 10) i))});
	query(q{SELECT partman.run_maintenance('pgmq.q_kept')});
}
query(q{ALTER DATABASE postgres RESET default_table_access_method});
my @hot = split /\n/, query(q{SELECT substr(relname, 3) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
	JOIN pg_am a ON a.oid = relam WHERE inhparent = 'pgmq.q_kept'::regclass AND amname = 'pgmq'});
diag('hot partitions: ' . scalar @hot);
my $length = query(q{SELECT queue_length FROM pgmq.metrics('kept')});
is(query(q{SELECT count(*), max(msg_id) FROM pgmq.pop('kept', NULL)}), "$length|120", 'all of them can be had, of whatever partitions');
queues_are_sound($node, \@hot, 'as partitions') if @hot;

# ---- by time ----

query(q{SELECT pgmq.create_partitioned('bytime', '1 day', '7 days')});
is(query(q{SELECT relname, pg_get_partkeydef(oid) FROM pg_class WHERE oid IN ('pgmq.q_bytime'::regclass, 'pgmq.a_bytime'::regclass) ORDER BY 1}),
	"a_bytime|RANGE (archived_at)\nq_bytime|RANGE (enqueued_at)", 'queue and archive by their times');
is(query(qq{SELECT parent_table, control, retention, retention_keep_table, retention_keep_index FROM ($config) c WHERE parent_table ~ 'bytime'}),
	"pgmq.a_bytime|archived_at|7 days|f|t\npgmq.q_bytime|enqueued_at|7 days|f|t", 'what pg_partman was told');
query(q{
	SELECT pgmq.send_batch('bytime', '{1,2,3,4}'::jsonb[]);
	SELECT pgmq.read('bytime', 60, 3), pgmq.archive('bytime', 1), pgmq.delete('bytime', 2)});
is(query(q{SELECT msg_id FROM pgmq.pop('bytime', 5)}), '4', 'its messages are found');
is(query(q{SELECT queue_length, total_messages, default_partition_length FROM pgmq.metrics('bytime')}), '1|4|0', 'and counted');
is(query(q{SELECT pgmq.purge_queue('bytime')}), '1', 'and purged');

# ---- archives ----

query(q{
	SELECT pgmq.create('plain');
	SELECT pgmq.send_batch('plain', '{1,2,3,4}'::jsonb[]);
	SELECT pgmq.archive('plain', 1);
	SELECT pgmq.convert_archive_partitioned('plain', '10', '100')});
is(query(q{SELECT (SELECT count(*) FROM pgmq.a_plain), (SELECT count(*) FROM pgmq.a_plain_old);
		SELECT pgmq.archive('plain', 2); SELECT msg_id FROM pgmq.a_plain}), "0|1\nt\n2", 'the old archive is put aside with its rows, the new one takes what comes');
is(query(q{SELECT indexname FROM pg_indexes WHERE tablename IN ('a_plain', 'a_plain_old') AND indexname ~ '^archived' ORDER BY 1}),
	"archived_at_idx_plain\narchived_at_idx_plain_old", 'so are indexes');
is(query(q{SELECT contype FROM pg_constraint WHERE conrelid = 'pgmq.a_plain'::regclass AND contype <> 'n'}), 'p', 'by id it has its key');
is(query(qq{SELECT parent_table, control, retention, retention_keep_table, retention_keep_index, infinite_time_partitions FROM ($config) c WHERE parent_table ~ 'plain'}),
	'pgmq.a_plain|msg_id|100|f|f|t', 'what pg_partman was told');
like(partitions_of('a_plain'), qr/^\d+\|heap$/, 'its partitions are heap tables');
is(notices_of(q{SELECT pgmq.convert_archive_partitioned('plain')}), 'NOTICE:  Table a_plains is already partitioned', 'not twice');
is(notices_of(q{SELECT pgmq.convert_archive_partitioned('none')}), 'NOTICE:  Table a_nones does not exists', 'not what is not there');
query(q{
	SELECT pgmq.create('timed');
	SELECT pgmq.convert_archive_partitioned('timed', '1 day', '1 month', 3);
	SELECT pgmq.send('timed', '1');
	SELECT pgmq.archive('timed', 1)});
is(query(q{SELECT pg_get_partkeydef('pgmq.a_timed'::regclass), (SELECT count(*) FROM pgmq.a_timed), (SELECT string_agg(indexname, ' ') FROM pg_indexes WHERE tablename = 'a_timed')}),
	'RANGE (archived_at)|1|archived_at_idx_timed', 'by time it has no key');
is(query(q{
		SET search_path = '';
		SET pgmq.fast_path = off;
		SELECT FROM pgmq.create('same'), pgmq.send_batch('same', '{1,2,3}'::jsonb[]);
		SELECT pgmq.archive('same', 1);
		SELECT FROM pgmq.convert_archive_partitioned('same');
		SELECT pgmq.archive('same', 2);
		SET pgmq.fast_path = on;
		SELECT pgmq.archive('same', 3);
		SELECT (SELECT count(*) FROM pgmq.a_same_old), (SELECT count(*) FROM pgmq.a_same)}),
	"t\nt\nt\n1|2", 'one session archives before and after');
queues_are_sound($node, [qw(plain timed same)], 'with partitioned archives');
is(query(q{SELECT pgmq.drop_queue('same')}), 't', 'and drops the queue');
query(q{SELECT pgmq.create(n) FROM unnest(ARRAY['hy-phen', 'Mixed', repeat('l', 47)]) n});
like(error_of(q{SELECT pgmq.convert_archive_partitioned('hy-phen')}), qr/^42601: /, 'a hyphen is a syntax error');
is(error_of(q{SELECT pgmq.convert_archive_partitioned('Mixed')}), '42P01: relation "pgmq.archived_at_idx_mixed" does not exist', 'upper case is not found');
like(error_of(q{SELECT pgmq.convert_archive_partitioned(repeat('l', 47))}), qr/^42P07: /, 'the longest name has no name left for the old index');
is(query(q{SELECT pgmq.archive('Mixed', 1), pgmq.drop_queue('Mixed')}), 'f|t', 'what failed changed nothing');

# ---- rights ----

query(q{CREATE ROLE worker; CREATE ROLE stranger; CREATE ROLE monitor; GRANT USAGE ON SCHEMA pgmq TO worker, stranger;
	GRANT pg_monitor TO monitor; GRANT SELECT, INSERT, UPDATE, DELETE ON pgmq.q_byid TO worker; GRANT SELECT, INSERT ON pgmq.a_byid TO worker});
is(query(q{SET ROLE worker; SELECT pgmq.send('byid', '1'); SELECT msg_id FROM pgmq.read('byid', 0, 1, '1'); SELECT pgmq.archive('byid', 41)}),
	"41\n41\nt", 'rights on the parents are enough');
is(error_of(q{SET ROLE stranger; SELECT pgmq.read('byid', 0, 1)}), '42501: permission denied for table q_byid', 'and needed');
query(q{GRANT SELECT, DELETE ON pgmq.q_byid TO stranger});
is(query(q{SET ROLE stranger; SELECT msg_id FROM pgmq.pop('byid', 2)}), "38\n39", 'pop takes what the caller may read and delete');
like(error_of(q{SET ROLE stranger; SELECT pgmq.create_partitioned('mine')}), qr/^42501: /, 'creating takes rights, too');
like(error_of(q{SET ROLE stranger; SELECT pgmq.drop_queue('byid')}), qr/^42501: /, 'and dropping');
is(query(q{SET ROLE monitor; SELECT queue_name, total_messages FROM pgmq.metrics('byid')}), 'byid|41', 'monitoring sees the metrics');
like(error_of(q{SET ROLE monitor; SELECT message FROM pgmq.q_byid}), qr/^42501: /, 'but no message');

# ---- dropping ----

is(query(q{SELECT pgmq.drop_queue('byID')}), 't', 'dropped under another spelling');
is(query(q{SELECT count(*) FROM partman.part_config WHERE parent_table ~ 'byid'}), '0', 'nothing of it is in the care of pg_partman');
is(query(q{SELECT count(*) FROM pg_class WHERE relname ~ '^[qa]_byid'}), '0', 'no partition is left');
is(query(q{SELECT queue_name FROM pgmq.list_queues() WHERE queue_name ILIKE 'byid'}), '', 'nor is it listed');
is(query(q{SELECT pgmq.drop_queue('wide', false); SELECT count(*) FROM pgmq.metrics_all()}), "t\n6", 'the metrics of the others go on');
is(query(q{SELECT pgmq.create_partitioned('byid', '10', '30', 2); SELECT pgmq.send('byid', '1')}), "\n1", 'its name is free again');
is(query(q{SELECT pgmq.drop_queue('plain')}), 't', 'a plain queue with a converted archive');
is(query(q{SELECT to_regclass('pgmq.a_plain'), to_regclass('pgmq.a_plain_old'), count(*) FROM partman.part_config WHERE parent_table = 'pgmq.a_plain'}),
	'|pgmq.a_plain_old|1', 'leaves the old archive and its entry, as it always did');
query(q{BEGIN; SELECT pgmq.drop_queue('byid'); ROLLBACK});
is(query(q{SELECT msg_id FROM pgmq.read('byid', 0, 1)}), '1', 'a drop that is rolled back');
is(query(q{SELECT count(*) FROM partman.part_config WHERE parent_table ~ 'byid'}), '2', 'leaves pg_partman alone');
query('DROP EXTENSION pg_partman CASCADE');
is(query(q{SELECT pgmq.drop_queue('byid'), pgmq.drop_queue('bytime')}), 't|t', 'without pg_partman queues can still be dropped');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal/, 'no process was lost');
$node->stop;
done_testing();
