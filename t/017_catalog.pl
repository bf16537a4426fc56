# Breaks: whoever relies on the API's names and signatures, if one is missing or different.
#
# How we know: every function of the schema, with everything the catalog says about it, is
# compared with t/contract/functions.tsv; types, tables, columns, constraints, indexes, what
# is a member of the extension, what pg_dump dumps and who may read it, with the table below.
# Any difference fails but our documented additions, and none of those is an overload of a
# name of the API.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Ours, on top of the API
my @additions = (
	'function _before_drop_extension()',
	'function check_queue(queue_name text)',
	'function convert_queue(queue_name text, storage text)',
	'function pgmq_tableam_handler(internal)');

# Columns of queues and archives, by number
my @queue_columns = (
	'msg_id bigint NOT NULL identity a',
	'read_ct integer NOT NULL DEFAULT 0',
	'enqueued_at timestamp with time zone NOT NULL DEFAULT now()',
	'last_read_at timestamp with time zone',
	'vt timestamp with time zone NOT NULL',
	'message jsonb',
	'headers jsonb');
my @archive_columns = (
	'msg_id bigint NOT NULL', @queue_columns[1 .. 3],
	'archived_at timestamp with time zone NOT NULL DEFAULT now()', @queue_columns[4 .. 6]);

# What the schema's relations must be like: a name => a definition, as @facts below
my %relations = (
	'type message_record' => 'msg_id bigint, read_ct integer, enqueued_at timestamp with time zone, last_read_at timestamp with time zone, vt timestamp with time zone, message jsonb, headers jsonb',
	'type queue_record' => 'queue_name character varying, is_partitioned boolean, is_unlogged boolean, created_at timestamp with time zone',
	'type metrics_result' => 'queue_name text, queue_length bigint, newest_msg_age_sec integer, oldest_msg_age_sec integer, total_messages bigint, scrape_time timestamp with time zone, queue_visible_length bigint, default_partition_length bigint',

	'table meta' => 'persistence p, member, pg_monitor SELECT',
	columns('meta',
		'queue_name character varying NOT NULL', 'is_partitioned boolean NOT NULL', 'is_unlogged boolean NOT NULL',
		'created_at timestamp with time zone NOT NULL DEFAULT now()'),
	'constraint meta_queue_name_key' => 'meta UNIQUE (queue_name)',
	'index meta_queue_name_key' => 'CREATE UNIQUE INDEX meta_queue_name_key ON pgmq.meta USING btree (queue_name)',
	'dumped meta' => '',

	'table notify_insert_throttle' => 'persistence u, member',
	columns('notify_insert_throttle',
		'queue_name character varying NOT NULL', 'throttle_interval_ms integer NOT NULL DEFAULT 0',
		'last_notified_at timestamp with time zone NOT NULL DEFAULT to_timestamp((0)::double precision)'),
	'constraint notify_insert_throttle_queue_name_key' => 'notify_insert_throttle UNIQUE (queue_name)',
	'constraint notify_insert_throttle_meta_queue_name_fk' =>
	  'notify_insert_throttle FOREIGN KEY (queue_name) REFERENCES pgmq.meta(queue_name) ON DELETE CASCADE',
	'index notify_insert_throttle_queue_name_key' =>
	  'CREATE UNIQUE INDEX notify_insert_throttle_queue_name_key ON pgmq.notify_insert_throttle USING btree (queue_name)',
	'index idx_notify_throttle_active' =>
	  'CREATE INDEX idx_notify_throttle_active ON pgmq.notify_insert_throttle USING btree (queue_name, last_notified_at) WHERE (throttle_interval_ms > 0)',
	'dumped notify_insert_throttle' => '',

	'table topic_bindings' => 'persistence p, member',
	columns('topic_bindings',
		'pattern text NOT NULL', 'queue_name text NOT NULL',
		'bound_at timestamp with time zone NOT NULL DEFAULT now()', 'compiled_regex text generated s'),
	'constraint topic_bindings_meta_queue_name_fk' =>
	  'topic_bindings FOREIGN KEY (queue_name) REFERENCES pgmq.meta(queue_name) ON DELETE CASCADE',
	'constraint topic_bindings_unique_pattern_queue' => 'topic_bindings UNIQUE (pattern, queue_name)',
	'index topic_bindings_unique_pattern_queue' =>
	  'CREATE UNIQUE INDEX topic_bindings_unique_pattern_queue ON pgmq.topic_bindings USING btree (pattern, queue_name)',
	'index idx_topic_bindings_covering' =>
	  'CREATE INDEX idx_topic_bindings_covering ON pgmq.topic_bindings USING btree (pattern) INCLUDE (queue_name, compiled_regex)',
	'dumped topic_bindings' => '',

	# Queues, by their names as given: a hot one has neither key nor index
	queue('Hot', 'p'),
	queue('Heap', 'p'),
	heap_queue('heap'),
	queue('loose', 'u'),
	heap_queue('loose'));

sub columns
{
	my ($table, @columns) = @_;

	return map { ("column $table " . ($_ + 1) => $columns[$_]) } 0 .. $#columns;
}

sub queue
{
	my ($name, $persistence) = @_;
	my $lower = lc $name;
	# pg_monitor may see how old and when visible, and the sequence, but no message
	my @seen = @queue_columns;
	$_ .= ', pg_monitor SELECT' foreach @seen[ 2, 4 ];
	my $quoted = $name eq $lower ? "archived_at_idx_$name" : qq{"archived_at_idx_$name"};

	return (
		"table q_$lower" => "persistence $persistence",
		columns("q_$lower", @seen),
		"sequence q_${lower}_msg_id_seq" => 'start 1 increment 1 cache 1, pg_monitor SELECT',
		"table a_$lower" => 'persistence p',
		columns("a_$lower", @archive_columns),
		"constraint a_${lower}_pkey" => "a_$lower PRIMARY KEY (msg_id)",
		"index a_${lower}_pkey" => "CREATE UNIQUE INDEX a_${lower}_pkey ON pgmq.a_$lower USING btree (msg_id)",
		"index archived_at_idx_$name" => "CREATE INDEX $quoted ON pgmq.a_$lower USING btree (archived_at)");
}

sub heap_queue
{
	my ($name) = @_;

	return (
		"constraint q_${name}_pkey" => "q_$name PRIMARY KEY (msg_id)",
		"index q_${name}_pkey" => "CREATE UNIQUE INDEX q_${name}_pkey ON pgmq.q_$name USING btree (msg_id)",
		"index q_${name}_vt_idx" => "CREATE INDEX q_${name}_vt_idx ON pgmq.q_$name USING btree (vt)");
}

# ---- what is there ----

my $functions = q{
SELECT 'function ' || proname || '(' || pg_get_function_identity_arguments(oid) || ')',
	concat_ws('; ', pg_get_function_arguments(oid), pg_get_function_result(oid),
		CASE provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END,
		CASE WHEN proisstrict THEN 'strict' ELSE 'called on null' END,
		CASE WHEN prosecdef THEN 'definer' ELSE 'invoker' END, proparallel, procost, prorows,
		CASE WHEN proleakproof THEN 'leakproof' END, CASE WHEN prokind <> 'f' THEN 'kind ' || prokind::text END,
		proconfig::text, proacl::text,
		CASE WHEN NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'e')
			THEN 'no member' END)
	FROM pg_proc p WHERE pronamespace = 'pgmq'::regnamespace};

my $relations = q{
WITH rel AS (SELECT * FROM pg_class WHERE relnamespace = 'pgmq'::regnamespace),
	monitor AS (SELECT oid FROM pg_roles WHERE rolname = 'pg_monitor'),
	member AS (SELECT objid FROM pg_depend WHERE classid = 'pg_class'::regclass AND deptype = 'e')
SELECT 'type ' || relname, (SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
		FROM pg_attribute WHERE attrelid = rel.oid AND attnum > 0)
	FROM rel WHERE relkind = 'c'
UNION ALL
SELECT 'table ' || relname, concat_ws(', ', 'persistence ' || relpersistence::text,
		CASE WHEN oid IN (TABLE member) THEN 'member' END,
		(SELECT 'pg_monitor ' || string_agg(privilege_type, ',') FROM aclexplode(relacl), monitor WHERE grantee = monitor.oid))
	FROM rel WHERE relkind IN ('r', 'p')
UNION ALL
SELECT 'column ' || relname || ' ' || attnum,
	concat_ws(' ', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'NOT NULL' END,
		CASE WHEN attidentity <> '' THEN 'identity ' || attidentity::text END,
		CASE WHEN attgenerated <> '' THEN 'generated ' || attgenerated::text
			ELSE 'DEFAULT ' || (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = rel.oid AND adnum = attnum) END)
	|| coalesce((SELECT ', pg_monitor ' || string_agg(privilege_type, ',') FROM aclexplode(attacl), monitor WHERE grantee = monitor.oid), '')
	FROM rel JOIN pg_attribute ON attrelid = rel.oid WHERE relkind IN ('r', 'p') AND attnum > 0
UNION ALL
SELECT 'sequence ' || relname, format('start %s increment %s cache %s', seqstart, seqincrement, seqcache)
	|| coalesce((SELECT ', pg_monitor ' || string_agg(privilege_type, ',') FROM aclexplode(relacl), monitor WHERE grantee = monitor.oid), '')
	|| CASE WHEN oid IN (TABLE member) THEN ', member' ELSE '' END
	FROM rel JOIN pg_sequence ON seqrelid = rel.oid
UNION ALL
SELECT 'constraint ' || conname, conrelid::regclass::text || ' ' || pg_get_constraintdef(oid)
	FROM pg_constraint WHERE connamespace = 'pgmq'::regnamespace AND contype <> 'n'
UNION ALL
SELECT 'index ' || relname, pg_get_indexdef(oid) FROM rel WHERE relkind IN ('i', 'I')
UNION ALL
SELECT 'dumped ' || (SELECT relname FROM pg_class WHERE oid = id), condition
	FROM pg_extension, unnest(extconfig, extcondition) AS u(id, condition) WHERE extname = 'pgmq'
UNION ALL
SELECT 'relation ' || relname, relkind::text FROM rel WHERE relkind NOT IN ('c', 'r', 'p', 'S', 'i', 'I', 't')
UNION ALL
SELECT 'type ' || typname, typtype::text FROM pg_type t
	WHERE typnamespace = 'pgmq'::regnamespace AND typrelid = 0 AND typcategory <> 'A'
UNION ALL
SELECT 'trigger ' || tgname, tgrelid::regclass::text FROM pg_trigger JOIN rel ON rel.oid = tgrelid WHERE NOT tgisinternal};

# catalog(SQL): name => definition; the table's name in a constraint without its schema
sub catalog
{
	my ($node, $sql) = @_;

	return map {
		my ($name, $definition) = split /\t/, $_, 2;
		$definition =~ s/^pgmq\.// if $name =~ /^constraint/;
		($name => $definition)
	} split /\n/, $node->safe_psql('postgres', "COPY ($sql) TO stdout");
}

sub functions_of_the_contract
{
	my %functions;

	foreach my $line (split /\n/, slurp_file("$FindBin::RealBin/contract/functions.tsv"))
	{
		next if $line =~ /^#/;
		my ($name, $identity, @rest) = split /\t/, $line, -1;
		$functions{"function $name($identity)"} = join '; ', @rest;
	}
	return %functions;
}

# same(WHAT, EXPECTED, FOUND): equal, with each difference named
sub same
{
	my ($what, $expected, $found) = @_;
	my @problems;

	foreach my $name (sort keys %$expected)
	{
		if (!exists $found->{$name})
		{
			push @problems, "missing: $name";
			next;
		}
		push @problems, "$name is\n  $found->{$name}\ninstead of\n  $expected->{$name}"
		  if $found->{$name} ne $expected->{$name};
	}
	push @problems, map { "not in the contract: $_ ($found->{$_})" } grep { !exists $expected->{$_} } sort keys %$found;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(join("\n", @problems), '', $what);
}

# ---- the comparison ----

my $node = new_node('catalog');

my %expected = functions_of_the_contract();
my %found = catalog($node, $functions);
is(scalar keys %expected, 76, 'the API has 76 functions');
foreach my $addition (@additions)
{
	ok(delete $found{$addition}, "$addition is our addition");
	my ($name) = $addition =~ /^(.*?\()/;
	ok(!(grep { index($_, $name) == 0 } keys %expected), 'and overloads no name of the API');
}
same('functions are those of the contract', \%expected, \%found);

$node->safe_psql('postgres', q{
SELECT pgmq.create('Hot');
SET pgmq.queue_storage = heap;
SELECT pgmq.create('Heap'), pgmq.create_unlogged('loose')});
same('relations and types are those of the contract', \%relations, { catalog($node, $relations) });

# Whole-extension properties
is($node->safe_psql('postgres', q{
SELECT extname, nspname, extrelocatable FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'pgmq'}),
	'pgmq|pgmq|f', 'the extension has its name and its schema');
is($node->safe_psql('postgres', q{
SELECT count(*) FROM pg_depend WHERE deptype = 'e' AND classid = 'pg_namespace'::regclass}),
	'0', 'which is not a member');
is($node->safe_psql('postgres', q{
SELECT privilege_type FROM pg_namespace, aclexplode(nspacl) JOIN pg_roles r ON r.oid = grantee
	WHERE nspname = 'pgmq' AND rolname = 'pg_monitor'}), 'USAGE', 'pg_monitor may use the schema');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_default_acl'), '0', 'no default privileges');

queues_are_sound($node, ['Hot']);
$node->stop;
done_testing();
