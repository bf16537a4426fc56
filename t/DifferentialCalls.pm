# Random calls for the differential test: of every function, with ordinary and with strange
# arguments, of plain SQL on the tables, and of what happens around them.
#
# To add a call, add a line to @calls: its weight, the function it needs (the line is left out
# where that does not exist), code that returns the SQL without a semicolon, and 'alone' if
# the answers agree only while no other transaction holds rows.  What it
# returns must be the same for equal queues: no enqueued_at, no order that is not promised.
package DifferentialCalls;

use strict;
use warnings;

# What a row of a queue shows, less enqueued_at, which is the server's now()
my $row = 'msg_id, read_ct, last_read_at, vt, message, headers';

my @queues = (('plain') x 6, ('logless') x 3, ('Mixed "Case') x 2);
my @bad_queues = (q{'No_Such'}, 'NULL', q{'a$b'}, q{'a;b'}, q{'a--b'}, q{repeat('x', 48)});

# Helpers that every database of the test has
our $setup = q{
CREATE FUNCTION bulk(k int, n int) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
	$$ SELECT jsonb_build_object('k', k, 'bulk', string_agg(md5(i::text), '')) FROM generate_series(1, n) i $$;
-- Many statements for one round trip, each in a subtransaction; what they answered
CREATE PROCEDURE run(statements text[], INOUT answers text) LANGUAGE plpgsql AS $$
DECLARE
	statement text;
	r record;
	answer text;
BEGIN
	answers := '';
	FOREACH statement IN ARRAY statements LOOP
		answer := '';
		IF statement = 'COMMIT' THEN
			COMMIT;
		ELSIF statement = 'ROLLBACK' THEN
			ROLLBACK;
		ELSE
			BEGIN
				IF statement ~ '^(SELECT|WITH)|RETURNING' THEN
					FOR r IN EXECUTE statement LOOP
						answer := answer || r || E'\n';
					END LOOP;
				ELSE
					EXECUTE statement;
				END IF;
			EXCEPTION WHEN OTHERS THEN
				answer := SQLSTATE || ': ' || SQLERRM || E'\n';
			END;
		END IF;
		answers := answers || E'=====\n' || answer;
	END LOOP;
END $$;
SELECT pgmq.create('plain'), pgmq.create_unlogged('logless'), pgmq.create('Mixed "Case');
};

# new(...): the state that calls are chosen by.  backlog: the length at which a queue is
# drained; is_alone: there is no other transaction
sub new
{
	my ($class, %options) = @_;

	return bless { seconds => 0, highest => 1, live => {}, n => 0, backlog => 100, %options }, $class;
}

# ---- arguments ----

sub one_of { return $_[ rand @_ ] }

sub queue { return one_of(@queues) }

sub quoted
{
	my ($text) = @_;

	$text =~ s/'/''/g;
	return "'$text'";
}

# A queue as the argument of a function: now and then one that does not exist
sub queue_arg
{
	my ($self) = @_;

	return one_of(@bad_queues) if rand() < 0.01;
	my $queue = $self->{queue} = queue();
	return quoted(rand() < 0.05 ? uc $queue : $queue);
}

sub table_of
{
	my ($kind, $queue) = @_;

	$queue =~ s/"/""/g;
	return "pgmq.\"${kind}_" . lc($queue) . '"';
}

sub table
{
	my ($self) = @_;

	return table_of('q', $self->{queue} = queue());
}

# An instant near the clock's, at which things may just happen
sub instant
{
	my ($self, $offset) = @_;
	my $at = $self->{seconds} + ($offset // one_of(0, 0, 0, 1, 5, 30, -1, -20, int rand 60));

	return sprintf q{timestamptz '2100-01-01 00:00:00+00' + interval '%d s'}, $at;
}

sub instant_or_extreme
{
	my ($self) = @_;

	return one_of(q{timestamptz 'infinity'}, q{timestamptz '-infinity'}, 'NULL::timestamptz') if rand() < 0.1;
	return $self->instant;
}

sub seconds
{
	return one_of('NULL::integer', 2147483647, -2147483648, -1, -100) if rand() < 0.12;
	return one_of(0, 0, 0, 1, 2, 5, 10, 30, int rand 60);
}

sub quantity
{
	return one_of('NULL', 0, -1, 2147483647, 50) if rand() < 0.15;
	return one_of(1, 1, 1, 2, 3, 5, 10);
}

sub message
{
	my ($self) = @_;

	return one_of('NULL::jsonb', q{'[]'::jsonb}, q{'"text"'::jsonb}, q{'[1, {"k": 1}]'::jsonb}, q{'1'::jsonb}, q{'null'::jsonb},
		sprintf('bulk(%d, %d)', rand 4, one_of(3, 20, 100))) if rand() < 0.1;
	return sprintf q{'{"k": %d, "n": %d}'::jsonb}, rand 4, ++$self->{n};
}

sub headers
{
	return one_of('NULL::jsonb', q{'{}'::jsonb}, q{'[1]'::jsonb}, q{'{"x-pgmq-group": null}'::jsonb},
		q{'{"x-pgmq-group": 1}'::jsonb}, q{'{"x-pgmq-group": ""}'::jsonb}) if rand() < 0.3;
	return sprintf q{'{"x-pgmq-group": "g%d"}'::jsonb}, rand 5;
}

sub condition
{
	return one_of(q{'{}'}, 'NULL', q{'[1]'}, q{'"text"'}, q{'[]'}, q{'{"k": 9}'}) if rand() < 0.3;
	return sprintf q{'{"k": %d}'}, rand 4;
}

sub array_of
{
	my ($n, $type, $one) = @_;

	return "NULL::${type}[]" if rand() < 0.03;
	return "ARRAY[" . join(', ', map { $one->() } 1 .. $n) . "]::${type}[]";
}

sub messages
{
	my ($self, $n) = @_;

	return array_of($n // one_of(0, 1, 1, 2, 3, 5, 8), 'jsonb', sub { $self->message });
}

sub header_list
{
	my ($self, $n) = @_;

	return array_of(rand() < 0.1 ? one_of(0, 1, 2) : $n, 'jsonb', sub { $self->headers });
}

# An id: of a message that was there lately, or any
sub id
{
	my ($self) = @_;
	my $live = $self->{live}{ $self->{queue} // '' } // [];

	return one_of('NULL', 0, -1, '9223372036854775807', '-9223372036854775808') if rand() < 0.03;
	return @$live && rand() < 0.85 ? one_of(@$live) : 1 + int rand $self->{highest};
}

sub ids
{
	my ($self) = @_;
	my @ids = map { $self->id } 1 .. one_of(0, 1, 1, 2, 3, 5);

	push @ids, $ids[0] if @ids && rand() < 0.2;
	return array_of(0, 'bigint') if rand() < 0.02;
	return 'ARRAY[' . join(', ', @ids) . ']::bigint[]';
}

# What a heap queue's read locks FOR UPDATE, a hot one's leaves FOR NO KEY UPDATE when it is
# prepared: key share locks tell.
sub lock_mode
{
	my ($self) = @_;

	return one_of('UPDATE', 'NO KEY UPDATE', 'SHARE', $self->{is_alone} ? 'KEY SHARE' : 'SHARE');
}

# The trailing arguments of a send
sub send_args
{
	my ($self, $headers) = @_;

	return one_of('', ", $headers", ', ' . seconds(), ', ' . $self->instant_or_extreme,
		", $headers, " . seconds(), ", $headers, " . $self->instant_or_extreme);
}

# ---- the calls ----

my @calls = (
	[ 14, undef, sub { my $g = shift;
		sprintf 'SELECT * FROM pgmq.send(%s, %s%s)', $g->queue_arg, $g->message, $g->send_args($g->headers) } ],
	[ 6, undef, sub { my $g = shift; my $n = one_of(1, 2, 3, 5, 8);
		sprintf 'SELECT * FROM pgmq.send_batch(%s, %s%s)', $g->queue_arg, $g->messages($n), $g->send_args($g->header_list($n)) } ],
	[ 1, undef, sub { my $g = shift;
		sprintf 'SELECT * FROM pgmq.send_batch(%s, %s) WITH ORDINALITY', $g->queue_arg, $g->messages } ],
	[ 0.3, undef, sub { my $g = shift;
		sprintf 'SELECT * FROM pgmq._send_batch(%s, %s, %s, %s)', $g->queue_arg, $g->messages, $g->header_list(2), $g->instant_or_extreme } ],
	[ 0.3, undef, sub { my $g = shift;
		sprintf 'SELECT pgmq._validate_batch_params(%s, %s)', $g->messages, $g->header_list(one_of(0, 1, 2)) } ],

	[ 14, undef, sub { my $g = shift;
		sprintf "SELECT $row FROM pgmq.read(%s, %s, %s)", $g->queue_arg, seconds(), quantity() } ],
	[ 5, undef, sub { my $g = shift;
		sprintf "SELECT $row FROM pgmq.read(%s, %s, %s, %s)", $g->queue_arg, seconds(), quantity(), condition() } ],
	[ 0.5, undef, sub { my $g = shift; # the rest of the rows is claimed, too
		sprintf "SELECT $row FROM pgmq.read(%s, %s, %s) LIMIT 1", $g->queue_arg, seconds(), quantity() } ],
	[ 0.5, undef, sub { my $g = shift; my $q = $g->queue_arg;
		sprintf "SELECT $row FROM pgmq.read(%s, %s, 2) UNION ALL SELECT $row FROM pgmq.read(%s, %s, 2)", $q, seconds(), $q, seconds() } ],
	[ 0.5, undef, sub { my $g = shift; my $q = $g->queue_arg;
		sprintf "SELECT msg_id, pgmq.%s($q, msg_id) FROM pgmq.read($q, 10, %s)", one_of('delete', 'archive'), quantity() } ],
	[ 0.5, undef, sub { my $g = shift;
		sprintf 'SELECT (pgmq.read(%s, %s, %s)).msg_id', $g->queue_arg, seconds(), quantity() } ],
	[ 1.5, undef, sub { my $g = shift;
		sprintf "SELECT $row FROM pgmq.read_with_poll(%s, %s, %s, %s, 10, %s)", $g->queue_arg, seconds(), quantity(), one_of(0, 0, -1), condition() } ],
	[ 0.5, undef, sub { my $g = shift; my $q = quoted($g->{queue} = queue()); # waits only if the send fails
		sprintf "SELECT s IS NULL, r.msg_id, r.read_ct FROM pgmq.send(%s, %s) s, pgmq.read_with_poll(%s, %s, 1, 1, 10) r", $q, $g->message, $q, one_of(0, 10) } ],
	[ 5, undef, sub { my $g = shift;
		sprintf "SELECT $row FROM pgmq.pop(%s%s)", $g->queue_arg, one_of('', ', ' . quantity()) } ],

	[ 5, undef, sub { my $g = shift; sprintf 'SELECT pgmq.delete(%s, %s::bigint)', $g->queue_arg, $g->id } ],
	[ 4, undef, sub { my $g = shift; sprintf 'SELECT d FROM pgmq.delete(%s, %s) d ORDER BY d', $g->queue_arg, $g->ids } ],
	[ 4, undef, sub { my $g = shift; sprintf 'SELECT pgmq.archive(%s, %s::bigint)', $g->queue_arg, $g->id } ],
	[ 3, undef, sub { my $g = shift; sprintf 'SELECT d FROM pgmq.archive(%s, %s) d ORDER BY d', $g->queue_arg, $g->ids } ],
	[ 3, undef, sub { my $g = shift; sprintf "SELECT $row FROM pgmq.set_vt(%s, %s::bigint, %s)", $g->queue_arg, $g->id, seconds() } ],
	[ 3, undef, sub { my $g = shift; sprintf "SELECT $row FROM pgmq.set_vt(%s, %s::bigint, %s)", $g->queue_arg, $g->id, $g->instant_or_extreme } ],
	[ 2, undef, sub { my $g = shift; sprintf "SELECT $row FROM pgmq.set_vt(%s, %s, %s) ORDER BY 1", $g->queue_arg, $g->ids, seconds() } ],
	[ 2, undef, sub { my $g = shift; sprintf "SELECT $row FROM pgmq.set_vt(%s, %s, %s) ORDER BY 1", $g->queue_arg, $g->ids, $g->instant_or_extreme } ],

	[ 3, undef, sub { my $g = shift; 'SELECT ' . metrics_columns() . ' FROM pgmq.metrics(' . $g->queue_arg . ')' } ],
	[ 0.5, undef, sub { 'SELECT ' . metrics_columns() . ' FROM pgmq.metrics_all()' } ],
	[ 0.3, undef, sub { 'SELECT queue_name, is_partitioned, is_unlogged FROM pgmq.list_queues()' } ],
	[ 0.2, undef, sub { my $g = shift; sprintf 'SELECT pgmq.format_table_name(%s, %s)', $g->queue_arg, one_of(q{'q'}, q{'A'}, 'NULL') } ],
	[ 0.2, undef, sub { my $g = shift; sprintf 'SELECT pgmq.validate_queue_name(%s)', $g->queue_arg } ],
	[ 0.15, undef, sub { my $g = shift; sprintf 'SELECT pgmq.purge_queue(%s)', $g->queue_arg } ],
	[ 0.1, undef, sub { my $g = shift; sprintf 'SELECT pgmq.drop_queue(%s)', one_of(@bad_queues) } ],
	[ 0.1, undef, sub { my $g = shift; sprintf 'SELECT pgmq.%s(%s)', one_of('create', 'create_unlogged', 'create_non_partitioned'), one_of(@bad_queues[1 .. 5]) } ],
	[ 0.03, undef, sub { q{SELECT pgmq.create('passing'), pgmq.send('passing', '1'), pgmq.read('passing', 0, 1) IS NULL, pgmq.drop_queue('passing')} } ],
	[ 0.1, 'pgmq.detach_archive(text)', sub { my $g = shift; sprintf 'SELECT pgmq.detach_archive(%s)', $g->queue_arg } ],

	# Grouped reads; only _rr promises an order
	[ 3, 'pgmq.read_grouped(text,integer,integer)', sub { my $g = shift;
		sprintf "SELECT $row FROM pgmq.read_grouped(%s, %s, %s) ORDER BY 1", $g->queue_arg, seconds(), quantity() }, 'alone' ],
	[ 3, 'pgmq.read_grouped_rr(text,integer,integer)', sub { my $g = shift;
		sprintf "SELECT $row FROM pgmq.read_grouped_rr(%s, %s, %s)", $g->queue_arg, seconds(), quantity() }, 'alone' ],
	[ 3, 'pgmq.read_grouped_head(text,integer,integer)', sub { my $g = shift;
		sprintf "SELECT $row FROM pgmq.read_grouped_head(%s, %s, %s) ORDER BY 1", $g->queue_arg, seconds(), quantity() } ],
	(map { my $name = $_;
		[ 0.3, "pgmq.${name}_with_poll(text,integer,integer,integer,integer)", sub { my $g = shift;
			sprintf "SELECT $row FROM pgmq.${name}_with_poll(%s, %s, %s, %s) ORDER BY 1", $g->queue_arg, seconds(), quantity(), one_of(0, -1) } ] }
		qw(read_grouped read_grouped_rr read_grouped_head)),

	# Topics
	[ 0.7, 'pgmq.bind_topic(text,text)', sub { my $g = shift; sprintf 'SELECT pgmq.bind_topic(%s, %s)', pattern(), $g->queue_arg } ],
	[ 0.3, 'pgmq.unbind_topic(text,text)', sub { my $g = shift; sprintf 'SELECT pgmq.unbind_topic(%s, %s)', pattern(), $g->queue_arg } ],
	[ 1, 'pgmq.send_topic(text,jsonb)', sub { my $g = shift;
		sprintf 'SELECT pgmq.send_topic(%s, %s%s)', routing_key(), $g->message, one_of('', ', ' . seconds(), ', ' . headers() . ', ' . seconds()) } ],
	[ 1, 'pgmq.send_batch_topic(text,jsonb[])', sub { my $g = shift; my $n = one_of(1, 2, 3);
		sprintf 'SELECT * FROM pgmq.send_batch_topic(%s, %s%s)', routing_key(), $g->messages($n), $g->send_args($g->header_list($n)) } ],
	[ 0.3, 'pgmq.test_routing(text)', sub { sprintf 'SELECT * FROM pgmq.test_routing(%s) ORDER BY 1, 2', routing_key() } ],
	[ 0.2, 'pgmq.list_topic_bindings()', sub { my $g = shift;
		sprintf 'SELECT pattern, queue_name, compiled_regex FROM pgmq.list_topic_bindings(%s) ORDER BY 1, 2', one_of('', $g->queue_arg) } ],
	[ 0.2, 'pgmq.validate_routing_key(text)', sub { sprintf 'SELECT pgmq.validate_routing_key(%s)', routing_key() } ],
	[ 0.2, 'pgmq.validate_topic_pattern(text)', sub { sprintf 'SELECT pgmq.validate_topic_pattern(%s)', pattern() } ],

	# Notifications: never throttled, for that goes by the real time
	[ 0.1, 'pgmq.enable_notify_insert(text,integer)', sub { my $g = shift; sprintf 'SELECT pgmq.enable_notify_insert(%s, %s)', $g->queue_arg, one_of(0, 0, 0, -1, 'NULL') }, 'alone' ],
	[ 0.2, 'pgmq.disable_notify_insert(text)', sub { my $g = shift; sprintf 'SELECT pgmq.disable_notify_insert(%s)', $g->queue_arg } ],
	[ 0.1, 'pgmq.update_notify_insert(text,integer)', sub { my $g = shift; sprintf 'SELECT pgmq.update_notify_insert(%s, %s)', $g->queue_arg, one_of(0, -1, 'NULL') } ],
	[ 0.1, 'pgmq.list_notify_insert_throttles()', sub { 'SELECT queue_name, throttle_interval_ms FROM pgmq.list_notify_insert_throttles()' } ],

	# Plain SQL on the tables
	[ 2, undef, sub { my $g = shift; sprintf 'INSERT INTO %s (vt, message) VALUES (%s, %s) RETURNING msg_id, read_ct, last_read_at', $g->table, $g->instant_or_extreme, $g->message } ],
	[ 0.5, undef, sub { my $g = shift; # ids that no sequence will reach
		sprintf 'INSERT INTO %s (msg_id, vt, message) OVERRIDING SYSTEM VALUE VALUES (%d, %s, %s) RETURNING msg_id', $g->table, one_of(1e9, -1e9) + ++$g->{n}, $g->instant, $g->message } ],
	[ 0.5, undef, sub { my $g = shift; my $t = $g->table;
		sprintf 'INSERT INTO %s (vt, message, headers, read_ct, last_read_at) SELECT %s, message, headers, read_ct, last_read_at FROM %s ORDER BY msg_id LIMIT 2 RETURNING msg_id', $t, $g->instant, $g->table } ],
	[ 2, undef, sub { my $g = shift; my $t = $g->table; sprintf 'UPDATE %s SET message = %s WHERE msg_id = %s RETURNING msg_id, read_ct, last_read_at, vt', $t, $g->message, $g->id } ],
	[ 2, undef, sub { my $g = shift; my $t = $g->table; sprintf 'UPDATE %s SET vt = %s WHERE msg_id = %s RETURNING msg_id, read_ct', $t, $g->instant_or_extreme, $g->id } ],
	[ 0.5, undef, sub { my $g = shift; my $t = $g->table; sprintf 'UPDATE %s SET last_read_at = %s, read_ct = read_ct + 1 WHERE msg_id = %s', $t, one_of('NULL', $g->instant), $g->id } ],
	[ 0.5, undef, sub { my $g = shift; sprintf 'WITH u AS (UPDATE %s SET vt = vt + interval \'7 s\' WHERE vt <= %s AND message @> %s RETURNING msg_id, vt) SELECT * FROM u ORDER BY 1', $g->table, $g->instant, condition() } ],
	[ 2, undef, sub { my $g = shift; my $t = $g->table;
		sprintf 'WITH c AS (SELECT msg_id FROM %s WHERE vt <= %s ORDER BY msg_id LIMIT %d FOR UPDATE SKIP LOCKED), ' .
			'u AS (UPDATE %s m SET vt = %s, read_ct = read_ct + 1, last_read_at = %s FROM c WHERE m.msg_id = c.msg_id RETURNING m.*) ' .
			"SELECT $row FROM u ORDER BY 1", $t, $g->instant(0), one_of(1, 2, 5), $t, $g->instant, $g->instant(0) } ],
	[ 1, undef, sub { my $g = shift; my $t = $g->table; sprintf 'DELETE FROM %s WHERE msg_id = %s RETURNING msg_id, read_ct, last_read_at, vt', $t, $g->id } ],
	[ 0.3, undef, sub { my $g = shift; sprintf 'WITH d AS (DELETE FROM %s WHERE vt <= %s AND read_ct > 2 RETURNING msg_id) SELECT * FROM d ORDER BY 1', $g->table, $g->instant } ],
	[ 2, undef, sub { my $g = shift; my $t = $g->table;
		sprintf "SELECT $row FROM %s WHERE vt <= %s ORDER BY msg_id LIMIT %d FOR %s %s", $t, $g->instant(0), one_of(1, 2, 5), $g->lock_mode, one_of('SKIP LOCKED', 'NOWAIT', '') } ],
	[ 1, undef, sub { my $g = shift; my $t = $g->table; sprintf "SELECT $row FROM %s WHERE msg_id = %s", $t, $g->id } ],
	[ 1, undef, sub { my $g = shift; sprintf 'SELECT count(*) FROM %s', $g->table } ],
	[ 1, undef, sub { my $g = shift; sprintf 'SELECT count(*), count(last_read_at), sum(read_ct), min(vt), max(vt) FROM %s WHERE vt > %s', $g->table, $g->instant } ],
	[ 0.5, undef, sub { my $g = shift; sprintf 'SELECT msg_id, read_ct, last_read_at, vt, length(message::text), headers, archived_at <= now() FROM %s ORDER BY msg_id DESC LIMIT 5', table_of('a', queue()) } ],
	[ 0.05, undef, sub { my $g = shift; sprintf 'TRUNCATE %s', $g->table } ],

	# An error of which its caller makes nothing
	[ 1, undef, sub { my $g = shift; my $q = $g->queue_arg;
		sprintf 'DO $do$ BEGIN PERFORM pgmq.read(%s, 10, 2); PERFORM pgmq.send(%s, %s, %s); EXCEPTION WHEN OTHERS THEN RAISE NOTICE \'%%\', SQLSTATE; END $do$',
			$q, $q, $g->message, seconds() } ]);

# Between transactions only, and seldom
my @upkeep = (
	[ 4, undef, sub { my $g = shift; 'VACUUM ' . $g->table } ],
	[ 2, undef, sub { my $g = shift; 'VACUUM FULL ' . $g->table } ],
	[ 1, undef, sub { my $g = shift; 'ANALYZE ' . $g->table } ],
	[ 1, undef, sub { my $g = shift; 'CREATE INDEX IF NOT EXISTS extra ON pgmq.q_plain (enqueued_at)' } ],
	[ 1, undef, sub { my $g = shift; 'DROP INDEX IF EXISTS pgmq.extra' } ],
	[ 1, undef, sub { my $g = shift; sprintf 'ALTER TABLE pgmq.q_logless SET (fillfactor = %d)', 60 + rand 40 } ],
	[ 1, undef, sub { 'ALTER TABLE pgmq.q_plain ADD COLUMN IF NOT EXISTS extra int DEFAULT 7' } ],
	[ 2, undef, sub { 'ALTER TABLE pgmq.q_plain DROP COLUMN IF EXISTS extra' } ],
	[ 2, undef, sub { 'SET pgmq.fast_path = off' } ],
	[ 3, undef, sub { 'SET pgmq.fast_path = on' } ]);

sub metrics_columns
{
	return 'queue_name, queue_length, total_messages, queue_visible_length, default_partition_length, ' .
		'newest_msg_age_sec IS NULL, oldest_msg_age_sec IS NULL, scrape_time = now()';
}

sub pattern
{
	return one_of(map { quoted($_) } 'a.b', 'a.*', '*.b', 'a.#', '#', 'a.*.c', 'x**y', '.a', '');
}

sub routing_key
{
	return one_of(map { quoted($_) } qw(a.b a.c b.b a.x.c a.b.c x..y a!), 'q');
}

# ---- choosing ----

# No notifications from here on, nor bindings
sub calm_down
{
	my %known = map { ($_->[1] // '') => 1 } @calls;

	return map { my $q = quoted($_);
		(($known{'pgmq.disable_notify_insert(text)'} ? "SELECT pgmq.disable_notify_insert($q);" : ()),
			($known{'pgmq.bind_topic(text,text)'} ? "DELETE FROM pgmq.topic_bindings;" : ())) } unique();
}

# Leave out what needs a function that does not exist; returns what it would have needed
sub restrict
{
	my ($exists) = @_;
	my %missing = map { $_->[1] => 1 } grep { defined $_->[1] && !$exists->($_->[1]) } @calls;

	@calls = grep { !defined $_->[1] || !$missing{ $_->[1] } } @calls;
	return sort keys %missing;
}

sub weighted
{
	my ($list) = @_;
	my $total = 0;

	$total += $_->[0] foreach @$list;
	my $at = rand $total;
	foreach my $entry (@$list)
	{
		return $entry->[2] if ($at -= $entry->[0]) < 0;
	}
	return $list->[-1][2];
}

# The next call; a queue that has grown long is drained
sub call
{
	my ($self) = @_;
	my @long = grep { @{ $self->{live}{$_} } > $self->{backlog} } sort keys %{ $self->{live} };

	if (@long && rand() < 0.05)
	{
		my $queue = $self->{queue} = one_of(@long);
		return sprintf 'SELECT count(*) FROM pgmq.pop(%s, %d)', quoted($queue), rand $self->{backlog};
	}
	my $list = $self->{is_alone} ? \@calls : [ grep { !$_->[3] } @calls ];
	return weighted($list)->($self);
}

sub upkeep
{
	my ($self) = @_;

	return weighted(\@upkeep)->($self);
}

sub set_clock
{
	my ($self) = @_;

	return sprintf q{SET pgmq.test_clock = '2100-01-%02d %02d:%02d:%02d+00'}, 1 + int($self->{seconds} / 86400),
		int($self->{seconds} / 3600) % 24, int($self->{seconds} / 60) % 60, $self->{seconds} % 60;
}

# Time passes; the statement that says so
sub pass_time
{
	my ($self) = @_;

	$self->{seconds} += one_of(1, 1, 1, 2, 5, 10, 31);
	return $self->set_clock;
}

# ---- looking at everything ----

sub snapshots
{
	return map {
		my ($kind, $queue) = @$_;
		sprintf q{SELECT coalesce(string_agg(format('%%s %%s %%s %%s %%s %%s %%s %%s', msg_id, read_ct, coalesce(last_read_at::text, 'NULL'), vt, } .
			q{coalesce(left(message::text, 60), 'NULL'), length(message::text), coalesce(headers::text, 'NULL'), enqueued_at <= now()), E'\n' ORDER BY msg_id), 'empty') FROM %s},
			table_of($kind, $queue)
	} map { [ 'q', $_ ] } unique();
}

sub unique { my %seen; return grep { !$seen{$_}++ } @queues }

# Learn from the answers to snapshots() which messages there are
sub learn
{
	my ($self, @answers) = @_;

	foreach my $queue (unique())
	{
		my @ids = (shift @answers) =~ /^(-?\d+) /mg;
		$self->{live}{$queue} = \@ids;
		foreach my $id (@ids)
		{
			$self->{highest} = $id if $id > $self->{highest} && $id < 1e8;
		}
	}
	return;
}

1;
