-- What the harness needs inside a database: filling queues before a measurement,
-- draining and counting after it. Nothing here runs while a measurement does,
-- except bench.note() in the rare case that it is there to catch.
CREATE SCHEMA bench;

-- Exceptions met by a client while it was measured: 'short', a read that
-- returned fewer messages than asked for; 'repeat', messages that were read but
-- already deleted by somebody else, that is, delivered twice within a lease.
CREATE UNLOGGED TABLE bench.notes (kind text, n bigint);

-- What draining the queue gave.
CREATE UNLOGGED TABLE bench.drained (msg_id bigint, how text, intact boolean);
-- What the table held before it was drained.
CREATE UNLOGGED TABLE bench.census (n_rows bigint, n_reads bigint, max_read_ct integer);

CREATE FUNCTION bench.note(kind text, n bigint) RETURNS void LANGUAGE sql AS
	'INSERT INTO bench.notes VALUES (kind, n)';

CREATE FUNCTION bench.table_of(side_schema text, queue_name text) RETURNS regclass LANGUAGE sql AS
	$$ SELECT format('%I.%I', side_schema, 'q_' || queue_name)::regclass $$;

-- Send n copies of a message, batch by batch, each in a transaction of its own;
-- with a delay in seconds, or (0) by the call without one.
CREATE PROCEDURE bench.fill(side_schema text, queue_name text, n bigint, msg jsonb, delay_seconds integer DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
	batch_size CONSTANT integer := 1000;
	msgs jsonb[] := array_fill(msg, ARRAY[batch_size]);
	stmt text := format('SELECT count(*) FROM %I.send_batch($1, $2%s)', side_schema,
		CASE WHEN delay_seconds > 0 THEN ', $3' END);
	missing bigint := n;
	sent bigint;
BEGIN
	WHILE missing > 0 LOOP
		EXECUTE stmt INTO sent USING queue_name, msgs[1 : least(missing, batch_size)], delay_seconds;
		missing := missing - sent;
		COMMIT;
	END LOOP;
END $$;

-- Send copies of a message to each of n_groups, one in turn, until each has per_group.
CREATE PROCEDURE bench.fill_groups(side_schema text, queue_name text, n_groups integer, per_group integer, msg jsonb) LANGUAGE plpgsql AS $$
DECLARE
	batch_size CONSTANT integer := 1000;
	n CONSTANT integer := n_groups * per_group;
	headers jsonb[];
BEGIN
	FOR i IN 0 .. n - 1 BY batch_size LOOP
		SELECT array_agg(jsonb_build_object('x-pgmq-group', 'group ' || 1 + j % n_groups) ORDER BY j)
			INTO headers FROM generate_series(i, least(n, i + batch_size) - 1) AS j;
		EXECUTE format('SELECT count(*) FROM %I.send_batch($1, $2, $3)', side_schema)
			USING queue_name, array_fill(msg, ARRAY[cardinality(headers)]), headers;
		COMMIT;
	END LOOP;
END $$;

-- Lease the n messages at the head for a day.
CREATE PROCEDURE bench.lease(side_schema text, queue_name text, n bigint) LANGUAGE plpgsql AS $$
DECLARE
	batch_size CONSTANT integer := 10000;
	stmt text := format('SELECT count(*) FROM %I.read($1, 86400, $2)', side_schema);
	missing bigint := n;
	got bigint;
BEGIN
	WHILE missing > 0 LOOP
		EXECUTE stmt INTO got USING queue_name, least(missing, batch_size)::integer;
		IF got = 0 THEN
			RAISE EXCEPTION 'queue "%" ran dry with % messages still to lease', queue_name, missing;
		END IF;
		missing := missing - got;
		COMMIT;
	END LOOP;
END $$;

-- Take the queue's messages out through its own functions: pop what is ready,
-- then delete by id what is left, which must be the leased ones.
CREATE PROCEDURE bench.drain(side_schema text, queue_name text, msg jsonb) LANGUAGE plpgsql AS $$
DECLARE
	batch_size CONSTANT integer := 10000;	-- each pop walks past what is leased
	delete_size CONSTANT integer := 1000;
	tab regclass := bench.table_of(side_schema, queue_name);
	left_over bigint[];
	got bigint;
BEGIN
	TRUNCATE bench.drained, bench.census;
	EXECUTE format('INSERT INTO bench.census SELECT count(*), coalesce(sum(read_ct), 0), coalesce(max(read_ct), 0) FROM %s', tab);
	COMMIT;

	LOOP
		EXECUTE format('INSERT INTO bench.drained SELECT msg_id, ''pop'', message IS NOT DISTINCT FROM $1 FROM %I.pop($2, $3)', side_schema)
			USING msg, queue_name, batch_size;
		GET DIAGNOSTICS got = ROW_COUNT;
		COMMIT;
		EXIT WHEN got = 0;
	END LOOP;

	EXECUTE format('SELECT array_agg(msg_id ORDER BY msg_id) FROM %s', tab) INTO left_over;
	FOR i IN 1 .. coalesce(cardinality(left_over), 0) BY delete_size LOOP
		EXECUTE format('INSERT INTO bench.drained SELECT d, ''delete'', true FROM %I.delete($1, $2) AS d', side_schema)
			USING queue_name, left_over[i : i + delete_size - 1];
		COMMIT;
	END LOOP;
END $$;

-- The floor has no verbs to drain with: count its rows.
CREATE FUNCTION bench.floor_verdict(side_schema text, queue_name text, want_rows bigint, want_reads bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
	ids bigint;
	reads bigint;
BEGIN
	EXECUTE format('SELECT count(*), count(DISTINCT msg_id), coalesce(sum(read_ct), 0) FROM %s',
		bench.table_of(side_schema, queue_name)) INTO n, ids, reads;
	RETURN CASE
		WHEN n <> want_rows THEN format('%s rows instead of %s', n, want_rows)
		WHEN ids <> want_rows THEN format('%s ids in %s rows', ids, n)
		WHEN reads <> want_reads THEN format('%s leases instead of %s', reads, want_reads)
		ELSE 'ok' END;
END $$;

-- Messages in a queue's archive, and how many ids they have.
CREATE FUNCTION bench.archived(side_schema text, queue_name text, OUT n bigint, OUT n_ids bigint) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT count(*), count(DISTINCT msg_id) FROM %I.%I', side_schema, 'a_' || queue_name) INTO n, n_ids;
END $$;

-- 'ok', or what is wrong with a drained queue that should have held want_ready
-- messages that nobody had leased and want_leased that somebody had (or that are
-- delayed), with want_reads leases among them, none leased more often than most_reads;
-- and want_archived in the archive.
CREATE FUNCTION bench.verdict(side_schema text, queue_name text, want_ready bigint, want_leased bigint,
	want_reads bigint, most_reads integer, want_archived bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	c bench.census;
	popped bigint;
	deleted bigint;
	ids bigint;
	damaged bigint;
	remaining bigint;
	archived bigint;
	archived_ids bigint;
BEGIN
	SELECT * INTO c FROM bench.census;
	SELECT count(*) FILTER (WHERE how = 'pop'), count(*) FILTER (WHERE how = 'delete'),
		   count(DISTINCT msg_id), count(*) FILTER (WHERE NOT intact)
		INTO popped, deleted, ids, damaged FROM bench.drained;
	EXECUTE format('SELECT count(*) FROM %s', bench.table_of(side_schema, queue_name)) INTO remaining;
	SELECT * INTO archived, archived_ids FROM bench.archived(side_schema, queue_name);
	RETURN CASE
		WHEN EXISTS (SELECT FROM bench.notes WHERE kind = 'repeat')
			THEN format('%s messages delivered twice', (SELECT sum(n) FROM bench.notes WHERE kind = 'repeat'))
		WHEN c.n_rows <> want_ready + want_leased THEN format('%s messages instead of %s', c.n_rows, want_ready + want_leased)
		WHEN c.n_reads <> want_reads THEN format('%s leases instead of %s', c.n_reads, want_reads)
		WHEN c.max_read_ct > most_reads THEN format('a message was leased %s times', c.max_read_ct)
		WHEN popped <> want_ready THEN format('%s messages popped instead of %s', popped, want_ready)
		WHEN deleted <> want_leased THEN format('%s messages deleted instead of %s', deleted, want_leased)
		WHEN ids <> popped + deleted THEN format('%s ids in %s drained messages', ids, popped + deleted)
		WHEN damaged > 0 THEN format('%s messages altered', damaged)
		WHEN remaining > 0 THEN format('%s messages left in the table', remaining)
		WHEN archived <> want_archived OR archived_ids <> archived
			THEN format('%s messages with %s ids archived instead of %s', archived, archived_ids, want_archived)
		ELSE 'ok' END;
END $$;

-- When a message could be had at the earliest, and when a consumer had it.
CREATE UNLOGGED TABLE bench.due (msg_id bigint, at timestamptz);
CREATE UNLOGGED TABLE bench.receipts (msg_id bigint, at timestamptz);

-- Send n messages, ten thousand a transaction, that become readable evenly over
-- so many seconds; the first of them lead_seconds after all are sent, by a guess that
-- errs on the late side. As many as fall due within a millisecond share a call.
CREATE PROCEDURE bench.schedule(side_schema text, queue_name text, n integer, over_seconds double precision,
	lead_seconds double precision, msg jsonb) LANGUAGE plpgsql AS $$
DECLARE
	per_call CONSTANT integer := greatest(1, ceil(n / over_seconds / 1000)::integer);
	start timestamptz := clock_timestamp() + make_interval(secs => lead_seconds + n / 20000.0);
	due timestamptz;
BEGIN
	FOR i IN 0 .. n - 1 BY per_call LOOP
		due := start + make_interval(secs => over_seconds * i / n);
		EXECUTE format('INSERT INTO bench.due SELECT s, $3 FROM %I.send_batch($1, $2, $3) AS s', side_schema)
			USING queue_name, array_fill(msg, ARRAY[least(per_call, n - i)]), due;
		IF i / 10000 <> (i + per_call) / 10000 THEN
			COMMIT;
		END IF;
	END LOOP;
	IF clock_timestamp() > start THEN
		RAISE EXCEPTION 'sending % messages took longer than thought', n;
	END IF;
END $$;

-- Microseconds between due and receipt, and over how many seconds they spread.
CREATE FUNCTION bench.receipt_latencies(OUT seconds numeric, OUT p50 bigint, OUT p99 bigint, OUT longest bigint) LANGUAGE sql AS $$
	WITH waits AS (
		SELECT r.at, d.at AS due, extract(epoch FROM r.at - d.at) * 1e6 AS us
		FROM bench.receipts r JOIN bench.due d USING (msg_id))
	SELECT coalesce(round(extract(epoch FROM max(at) - min(due)), 4), 0),
		coalesce(percentile_disc(0.50) WITHIN GROUP (ORDER BY us), 0)::bigint,
		coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY us), 0)::bigint,
		coalesce(max(us), 0)::bigint
	FROM waits
$$;

-- The n messages sent last are leased: let the leases lapse one after another over so
-- many seconds, the first in lead_seconds.
CREATE PROCEDURE bench.let_lapse(side_schema text, queue_name text, n integer, over_seconds double precision,
	lead_seconds double precision) LANGUAGE plpgsql AS $$
DECLARE
	start CONSTANT timestamptz := clock_timestamp() + make_interval(secs => lead_seconds);
BEGIN
	EXECUTE format('INSERT INTO bench.due SELECT msg_id, $2 + make_interval(secs => $3 * (row_number() OVER (ORDER BY msg_id) - 1) / $1)
		FROM (SELECT msg_id FROM %s ORDER BY msg_id DESC LIMIT $1) l', bench.table_of(side_schema, queue_name))
		USING n, start, over_seconds;
	EXECUTE format('SELECT count(*) FROM bench.due d, LATERAL %I.set_vt($1, d.msg_id, d.at)', side_schema) USING queue_name;
END $$;

-- Queues m1 .. mn with so many messages each.
CREATE PROCEDURE bench.many_queues(side_schema text, n integer, each_one integer, msg jsonb) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		EXECUTE format('SELECT %I.create($1)', side_schema) USING 'm' || i;
		EXECUTE format('SELECT count(*) FROM %I.send_batch($1, $2)', side_schema) USING 'm' || i, array_fill(msg, ARRAY[each_one]);
		COMMIT;
	END LOOP;
END $$;

-- Messages in the tables of queues m1 .. mn, and how many of them were read.
CREATE FUNCTION bench.many_rows(side_schema text, n integer, OUT n_rows bigint, OUT n_reads bigint) LANGUAGE plpgsql AS $$
DECLARE
	more_rows bigint;
	more_reads bigint;
BEGIN
	n_rows := 0;
	n_reads := 0;
	FOR i IN 1 .. n LOOP
		EXECUTE format('SELECT count(*), coalesce(sum(read_ct), 0) FROM %s', bench.table_of(side_schema, 'm' || i))
			INTO more_rows, more_reads;
		n_rows := n_rows + more_rows;
		n_reads := n_reads + more_reads;
	END LOOP;
END $$;

-- When the first call of metrics began that took less than so many milliseconds.
CREATE FUNCTION bench.first_quick_metrics(side_schema text, queue_name text, quick_ms double precision) RETURNS timestamptz LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz;
BEGIN
	LOOP
		start := clock_timestamp();
		EXECUTE format('SELECT * FROM %I.metrics($1)', side_schema) USING queue_name;
		EXIT WHEN clock_timestamp() - start < make_interval(secs => quick_ms / 1000);
	END LOOP;
	RETURN start;
END $$;
