# Databases as older versions of the SQL-only pgmq left them: the types, tables, function
# signatures, memberships and privileges of each version, which are what an update meets.
# The functions do nothing but say so.
package PgmqVersions;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(@released make_version add_version make_without_extension make_queue at_least);

our @released = qw(
  1.5.0 1.5.1 1.5.2 1.6.0 1.6.1 1.7.0 1.8.0 1.8.1 1.9.0 1.10.0 1.10.1
  1.11.0 1.11.1 1.12.0 1.13.0 1.13.1
);

# Functions of ours that no version of the SQL-only pgmq has
my $ours = 'check_queue|convert_queue|pgmq_tableam_handler';

# Since which version there are functions, by what their name and arguments match
my @since = (
	[ '1.6.0' => qr/^acquire_queue_lock/ ],
	[ '1.7.0' => qr/^(disable_notify_insert|notify_queue_listeners|pop\(queue_name text, qty)/ ],
	[ '1.8.0' => qr/^enable_notify_insert/ ],
	[ '1.8.0' => qr/^set_vt\(queue_name text, msg_ids bigint\[\], vt integer/ ],
	[ '1.9.0' => qr/^(read_grouped(_rr)?(_with_poll)?\(|_?create_fifo)/ ],
	[ '1.10.0' => qr/^set_vt\(.*timestamp/ ],
	[ '1.11.0' => qr/^(\w*topic|update_notify|list_notify|validate_routing|test_routing|_validate_batch|_send_batch)/ ],
	[ '1.11.1' => qr/^read_grouped_head\(/ ],
	[ '1.12.0' => qr/^read_grouped_head_with_poll/ ],
	[ '1.13.0' => qr/^create_partitioned\(.*premake/ ],
);

# Functions with other arguments: up to before which version, signature, result
my @until = (
	[ '1.7.0' => 'pop(queue_name text)', 'SETOF pgmq.message_record' ],
	[ '1.13.0' => q{create_partitioned(queue_name text, partition_interval text DEFAULT '10000', retention_interval text DEFAULT '100000')}, 'void' ],
	[ '1.11.0' => 'send_batch(queue_name text, msgs jsonb[], headers jsonb[], delay timestamp with time zone)', 'SETOF bigint' ],
);

sub at_least
{
	my ($version, $minimum) = @_;
	my @a = split /\./, $version;
	my @b = split /\./, $minimum;

	for my $i (0 .. 2)
	{
		return $a[$i] > $b[$i] if $a[$i] != $b[$i];
	}
	return 1;
}

# The functions of a version, each as "name(arguments)|result"; asks a database with ours
sub functions_of
{
	my ($node, $db, $version) = @_;
	my @all = split /\n/, $node->safe_psql($db, qq{
SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')|' || pg_get_function_result(p.oid)
	FROM pg_proc p WHERE p.pronamespace = 'pgmq'::regnamespace AND p.proname !~ '^($ours)\$' ORDER BY 1});
	my @functions;

	foreach my $function (@all)
	{
		my $is_there = 1;
		foreach my $rule (@since)
		{
			my ($since, $pattern) = @$rule;
			$is_there = 0 if $function =~ $pattern && !at_least($version, $since);
		}
		push @functions, $function if $is_there;
	}
	foreach my $rule (@until)
	{
		my ($until, $signature, $result) = @$rule;
		my ($name, $arguments) = $signature =~ /^(\w+)\((.*?)( DEFAULT.*)?\)/;
		next if at_least($version, $until);
		push @functions, "$signature|$result" unless grep { index($_, "$name($arguments") == 0 } @functions;
	}
	if (at_least($version, '1.7.0') && !at_least($version, '1.8.0'))
	{
		push @functions, 'enable_notify_insert(queue_name text)|void';
	}
	return @functions;
}

sub create_functions
{
	my (@functions) = @_;

	return join '', map {
		my ($signature, $result) = /^(.*)\|(.*)$/s;
		my $quoted = $signature =~ s/^(\w+)/"$1"/r;
		my $body = $result eq 'trigger' ? 'RETURN NEW;' : q{RAISE EXCEPTION 'only a shape';};
		"CREATE FUNCTION pgmq.$quoted RETURNS $result LANGUAGE plpgsql AS 'BEGIN "
		  . ($body =~ s/'/''/gr) . " END';\n"
	} @functions;
}

sub create_types_and_tables
{
	my ($version) = @_;
	my $last_read_at = at_least($version, '1.10.0') ? 'last_read_at timestamptz,' : '';
	my $partition = at_least($version, '1.13.0') ? ', default_partition_length bigint' : '';
	my $sql = qq{
CREATE TABLE pgmq.meta (queue_name varchar UNIQUE NOT NULL, is_partitioned boolean NOT NULL,
	is_unlogged boolean NOT NULL, created_at timestamptz DEFAULT now() NOT NULL);
CREATE TYPE pgmq.message_record AS (msg_id bigint, read_ct integer, enqueued_at timestamptz,
	$last_read_at vt timestamptz, message jsonb, headers jsonb);
CREATE TYPE pgmq.queue_record AS (queue_name varchar, is_partitioned boolean, is_unlogged boolean,
	created_at timestamptz);
CREATE TYPE pgmq.metrics_result AS (queue_name text, queue_length bigint, newest_msg_age_sec int,
	oldest_msg_age_sec int, total_messages bigint, scrape_time timestamptz,
	queue_visible_length bigint $partition);
GRANT USAGE ON SCHEMA pgmq TO pg_monitor;
GRANT SELECT ON pgmq.meta TO pg_monitor;
};

	$sql .= q{
CREATE UNLOGGED TABLE pgmq.notify_insert_throttle (
	queue_name varchar UNIQUE NOT NULL CONSTRAINT notify_insert_throttle_meta_queue_name_fk
		REFERENCES pgmq.meta (queue_name) ON DELETE CASCADE,
	throttle_interval_ms integer NOT NULL DEFAULT 0,
	last_notified_at timestamptz NOT NULL DEFAULT to_timestamp(0));
CREATE INDEX idx_notify_throttle_active ON pgmq.notify_insert_throttle (queue_name, last_notified_at)
	WHERE throttle_interval_ms > 0;
} if at_least($version, '1.8.0');
	$sql .= q{
CREATE TABLE pgmq.topic_bindings (pattern text NOT NULL,
	queue_name text NOT NULL CONSTRAINT topic_bindings_meta_queue_name_fk
		REFERENCES pgmq.meta (queue_name) ON DELETE CASCADE,
	bound_at timestamptz NOT NULL DEFAULT now(),
	compiled_regex text GENERATED ALWAYS AS ('^' || replace(replace(
		regexp_replace(pattern, '([.+?{}()|\[\]\\\\^$])', '\\\\\1', 'g'), '*', '[^.]+'), '#', '.*') || '$') STORED,
	CONSTRAINT topic_bindings_unique_pattern_queue UNIQUE (pattern, queue_name));
CREATE INDEX idx_topic_bindings_covering ON pgmq.topic_bindings (pattern) INCLUDE (queue_name, compiled_regex);
} if at_least($version, '1.11.0');
	$sql .= q{
ALTER DEFAULT PRIVILEGES IN SCHEMA pgmq GRANT SELECT ON TABLES TO pg_monitor;
ALTER DEFAULT PRIVILEGES IN SCHEMA pgmq GRANT SELECT ON SEQUENCES TO pg_monitor;
} unless at_least($version, '1.13.1');
	return $sql;
}

# The extension without its members
my $empty_extension = q{
DO $$
DECLARE
	o record;
BEGIN
	FOR o IN SELECT i.type, i.identity FROM pg_depend d, pg_identify_object(d.classid, d.objid, 0) i
		WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
			AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgmq')
			AND (i.type <> 'type' OR i.identity ~ '_(record|result)$')
		ORDER BY i.type NOT IN ('access method', 'event trigger'), i.type <> 'function', i.type <> 'table'
	LOOP
		EXECUTE format('ALTER EXTENSION pgmq DROP %s %s', o.type, o.identity);
		EXECUTE format('DROP %s %s CASCADE', o.type, o.identity);
	END LOOP;
END $$;
};

my $add_members = q{
DO $$
DECLARE
	o record;
	id oid := (SELECT oid FROM pg_extension WHERE extname = 'pgmq');
BEGIN
	FOR o IN
		SELECT 'FUNCTION' AS type, oid::regprocedure::text AS identity
			FROM pg_proc WHERE pronamespace = 'pgmq'::regnamespace
		UNION ALL SELECT 'TYPE', oid::regtype::text
			FROM pg_type WHERE typnamespace = 'pgmq'::regnamespace AND typname ~ '^[a-z]+_(record|result)$'
		UNION ALL SELECT 'TABLE', oid::regclass::text
			FROM pg_class WHERE relnamespace = 'pgmq'::regnamespace AND relkind = 'r'
	LOOP
		EXECUTE format('ALTER EXTENSION pgmq ADD %s %s', o.type, o.identity);
	END LOOP;
	UPDATE pg_extension SET extconfig = (SELECT array_agg(oid) FROM pg_class
			WHERE relnamespace = 'pgmq'::regnamespace AND relkind = 'r'),
		extcondition = (SELECT array_agg(''::text) FROM pg_class
			WHERE relnamespace = 'pgmq'::regnamespace AND relkind = 'r')
		WHERE oid = id;
END $$;
};

# A new database with the extension as a version left it, without queues
sub make_version
{
	my ($node, $db, $version) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	add_version($node, $db, $version);
	return;
}

# The same in a database that is there
sub add_version
{
	my ($node, $db, $version) = @_;

	$node->safe_psql($db, 'CREATE EXTENSION pgmq');
	my @functions = functions_of($node, $db, $version);
	$node->safe_psql($db, "SET client_min_messages = warning; SET check_function_bodies = off; BEGIN; $empty_extension
		UPDATE pg_extension SET extversion = '$version', extconfig = NULL, extcondition = NULL
			WHERE extname = 'pgmq';"
		  . create_types_and_tables($version) . create_functions(@functions) . "$add_members COMMIT");
	return;
}

# The same, but nothing is a member of an extension
sub make_without_extension
{
	my ($node, $db, $version) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION pgmq');
	my @functions = functions_of($node, $db, $version);
	$node->safe_psql($db, "SET client_min_messages = warning; SET check_function_bodies = off; BEGIN; DROP EXTENSION pgmq;
		CREATE SCHEMA IF NOT EXISTS pgmq;"
		  . create_types_and_tables($version) . create_functions(@functions) . 'COMMIT');
	return;
}

# A queue with its archive, as a version makes it (kind: '' or UNLOGGED); is_upgraded makes
# one that was there before 1.10.
sub make_queue
{
	my ($node, $db, $version, $name, %params) = @_;
	my $table = lc $name;
	my $unlogged = $params{unlogged} ? 'UNLOGGED' : '';
	my $is_new = at_least($version, '1.10.0') && !$params{is_upgraded};
	my $middle = $is_new ? 'last_read_at timestamptz,' : '';
	my $end = at_least($version, '1.10.0') && !$is_new ? ', last_read_at timestamptz' : '';
	my $head = 'read_ct int DEFAULT 0 NOT NULL, enqueued_at timestamptz DEFAULT now() NOT NULL';

	$node->safe_psql($db, qq{
CREATE $unlogged TABLE pgmq."q_$table" (msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, $head,
	$middle vt timestamptz NOT NULL, message jsonb, headers jsonb $end);
CREATE TABLE pgmq."a_$table" (msg_id bigint PRIMARY KEY, $head, $middle
	archived_at timestamptz DEFAULT now() NOT NULL, vt timestamptz NOT NULL, message jsonb, headers jsonb $end);
CREATE INDEX "q_${table}_vt_idx" ON pgmq."q_$table" (vt);
CREATE INDEX "archived_at_idx_$name" ON pgmq."a_$table" (archived_at);
INSERT INTO pgmq.meta (queue_name, is_partitioned, is_unlogged) VALUES ('$name', false, '$unlogged' <> '');
});
	$node->safe_psql($db, qq{
ALTER EXTENSION pgmq ADD TABLE pgmq."q_$table";
ALTER EXTENSION pgmq ADD SEQUENCE pgmq."q_${table}_msg_id_seq";
ALTER EXTENSION pgmq ADD TABLE pgmq."a_$table";
}) if !at_least($version, '1.6.0') && !$params{no_extension};
	return;
}

1;
