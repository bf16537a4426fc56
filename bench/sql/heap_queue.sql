-- The heap queue: the SQL design that the hot queue is measured against.
--
-- A plain table with a primary key and an index on vt. Consumers walk the
-- primary key with FOR UPDATE SKIP LOCKED, write the lease with UPDATE, and
-- acknowledge with DELETE. Statements are built at run time because a queue is
-- a table, as every implementation of this design has to do; they are therefore
-- planned at each call.
--
-- Argument names and results follow the pgmq API, so that the harness drives
-- both kinds of queue with the same statements. Only the verbs that the
-- workloads need are here.
CREATE SCHEMA bench_heap;

CREATE TYPE bench_heap.message_record AS (
	msg_id bigint,
	read_ct integer,
	enqueued_at timestamptz,
	last_read_at timestamptz,
	vt timestamptz,
	message jsonb,
	headers jsonb);

CREATE FUNCTION bench_heap.table_of(queue_name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF queue_name ~ '[$;'']|--' THEN
		RAISE EXCEPTION 'queue name "%" contains a reserved character', queue_name;
	END IF;
	RETURN lower('q_' || queue_name);
END $$;

CREATE FUNCTION bench_heap.archive_of(queue_name text) RETURNS text LANGUAGE sql AS
	$$ SELECT 'a' || substr(bench_heap.table_of(queue_name), 2) $$;

CREATE TABLE bench_heap.meta (queue_name text PRIMARY KEY);

CREATE FUNCTION bench_heap.create(queue_name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	tab text := bench_heap.table_of(queue_name);
BEGIN
	EXECUTE format(
		'CREATE TABLE bench_heap.%I (
			msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
			read_ct integer NOT NULL DEFAULT 0,
			enqueued_at timestamptz NOT NULL DEFAULT now(),
			last_read_at timestamptz,
			vt timestamptz NOT NULL,
			message jsonb,
			headers jsonb)', tab);
	EXECUTE format('CREATE INDEX %I ON bench_heap.%I (vt)', tab || '_vt_idx', tab);
	EXECUTE format(
		'CREATE TABLE bench_heap.%I (
			msg_id bigint PRIMARY KEY,
			read_ct integer NOT NULL DEFAULT 0,
			enqueued_at timestamptz NOT NULL DEFAULT now(),
			last_read_at timestamptz,
			archived_at timestamptz NOT NULL DEFAULT now(),
			vt timestamptz NOT NULL,
			message jsonb,
			headers jsonb)', bench_heap.archive_of(queue_name));
	EXECUTE format('CREATE INDEX ON bench_heap.%I (archived_at)', bench_heap.archive_of(queue_name));
	INSERT INTO bench_heap.meta VALUES (queue_name);
END $$;

CREATE FUNCTION bench_heap.drop_queue(queue_name text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('DROP TABLE IF EXISTS bench_heap.%I, bench_heap.%I',
		bench_heap.table_of(queue_name), bench_heap.archive_of(queue_name));
	DELETE FROM bench_heap.meta m WHERE m.queue_name = drop_queue.queue_name;
	RETURN true;
END $$;

CREATE FUNCTION bench_heap.send(queue_name text, msg jsonb) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'INSERT INTO bench_heap.%I (vt, message, headers) VALUES (clock_timestamp(), $1, NULL) RETURNING msg_id',
		bench_heap.table_of(queue_name)) USING msg;
END $$;

CREATE FUNCTION bench_heap.send_batch(queue_name text, msgs jsonb[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
	IF msgs IS NULL OR cardinality(msgs) = 0 THEN
		RAISE EXCEPTION 'a batch needs at least one message';
	END IF;
	RETURN QUERY EXECUTE format(
		'INSERT INTO bench_heap.%I (vt, message, headers)
		 SELECT $2, m, NULL FROM unnest($1) AS m RETURNING msg_id',
		bench_heap.table_of(queue_name)) USING msgs, clock_timestamp();
END $$;

-- With a delay
CREATE FUNCTION bench_heap.send(queue_name text, msg jsonb, delay timestamptz) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'INSERT INTO bench_heap.%I (vt, message, headers) VALUES ($2, $1, NULL) RETURNING msg_id',
		bench_heap.table_of(queue_name)) USING msg, delay;
END $$;

CREATE FUNCTION bench_heap.send_batch(queue_name text, msgs jsonb[], delay timestamptz) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'INSERT INTO bench_heap.%I (vt, message, headers)
		 SELECT $2, m, NULL FROM unnest($1) AS m RETURNING msg_id',
		bench_heap.table_of(queue_name)) USING msgs, delay;
END $$;

CREATE FUNCTION bench_heap.send_batch(queue_name text, msgs jsonb[], delay integer) RETURNS SETOF bigint LANGUAGE sql AS
	$$ SELECT bench_heap.send_batch(queue_name, msgs, clock_timestamp() + make_interval(secs => delay)) $$;

CREATE FUNCTION bench_heap.send(queue_name text, msg jsonb, headers jsonb) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'INSERT INTO bench_heap.%I (vt, message, headers) VALUES (clock_timestamp(), $1, $2) RETURNING msg_id',
		bench_heap.table_of(queue_name)) USING msg, headers;
END $$;

CREATE FUNCTION bench_heap.send_batch(queue_name text, msgs jsonb[], headers jsonb[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'INSERT INTO bench_heap.%I (vt, message, headers)
		 SELECT $3, u.m, u.h FROM unnest($1, $2) AS u(m, h) RETURNING msg_id',
		bench_heap.table_of(queue_name)) USING msgs, headers, clock_timestamp();
END $$;

CREATE FUNCTION bench_heap.read(queue_name text, vt integer, qty integer)
RETURNS SETOF bench_heap.message_record LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'WITH claimed AS (
			SELECT c.msg_id FROM bench_heap.%1$I c
			WHERE c.vt <= clock_timestamp()
			ORDER BY c.msg_id
			LIMIT $1
			FOR UPDATE SKIP LOCKED)
		 UPDATE bench_heap.%1$I m
		 SET read_ct = m.read_ct + 1,
			 last_read_at = clock_timestamp(),
			 vt = clock_timestamp() + make_interval(secs => $2)
		 FROM claimed
		 WHERE m.msg_id = claimed.msg_id
		 RETURNING m.msg_id, m.read_ct, m.enqueued_at, m.last_read_at, m.vt, m.message, m.headers',
		bench_heap.table_of(queue_name)) USING qty, vt;
END $$;

-- Looks again and again until there is a message.
CREATE FUNCTION bench_heap.read_with_poll(queue_name text, vt integer, qty integer, max_poll_seconds integer DEFAULT 5, poll_interval_ms integer DEFAULT 100)
RETURNS SETOF bench_heap.message_record LANGUAGE plpgsql AS $$
DECLARE
	stop_at timestamptz := clock_timestamp() + make_interval(secs => max_poll_seconds);
BEGIN
	LOOP
		RETURN QUERY SELECT * FROM bench_heap.read(queue_name, vt, qty);
		EXIT WHEN FOUND OR clock_timestamp() >= stop_at;
		PERFORM pg_sleep(poll_interval_ms / 1000.0);
	END LOOP;
END $$;

-- By group: the heads of all groups whose first message may be read are locked,
-- then messages are taken group by group.
CREATE FUNCTION bench_heap.read_grouped(queue_name text, vt integer, qty integer)
RETURNS SETOF bench_heap.message_record LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'WITH heads AS (
			SELECT h.headers ->> ''x-pgmq-group'' AS grp,
				CASE WHEN min(h.msg_id) = min(h.msg_id) FILTER (WHERE h.vt <= clock_timestamp()) THEN min(h.msg_id) END AS head
			FROM bench_heap.%1$I h GROUP BY 1),
		 locked AS (
			SELECT l.msg_id FROM bench_heap.%1$I l
			WHERE l.msg_id IN (SELECT head FROM heads) AND l.vt <= clock_timestamp()
			FOR UPDATE SKIP LOCKED),
		 wanted AS (
			SELECT w.msg_id FROM bench_heap.%1$I w JOIN heads h ON w.headers ->> ''x-pgmq-group'' = h.grp
			WHERE w.vt <= clock_timestamp() AND h.head IN (SELECT l.msg_id FROM locked l)
			ORDER BY h.head, w.msg_id
			LIMIT $1),
		 claimed AS (
			SELECT c.msg_id FROM bench_heap.%1$I c
			WHERE c.msg_id IN (SELECT w.msg_id FROM wanted w) AND c.vt <= clock_timestamp()
			FOR UPDATE SKIP LOCKED)
		 UPDATE bench_heap.%1$I m
		 SET read_ct = m.read_ct + 1,
			 last_read_at = clock_timestamp(),
			 vt = clock_timestamp() + make_interval(secs => $2)
		 FROM claimed
		 WHERE m.msg_id = claimed.msg_id
		 RETURNING m.msg_id, m.read_ct, m.enqueued_at, m.last_read_at, m.vt, m.message, m.headers',
		bench_heap.table_of(queue_name)) USING qty, vt;
END $$;

CREATE FUNCTION bench_heap.pop(queue_name text, qty integer DEFAULT 1)
RETURNS SETOF bench_heap.message_record LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'WITH claimed AS (
			SELECT c.msg_id FROM bench_heap.%1$I c
			WHERE c.vt <= clock_timestamp()
			ORDER BY c.msg_id
			LIMIT $1
			FOR UPDATE SKIP LOCKED)
		 DELETE FROM bench_heap.%1$I m
		 USING claimed
		 WHERE m.msg_id = claimed.msg_id
		 RETURNING m.msg_id, m.read_ct, m.enqueued_at, m.last_read_at, m.vt, m.message, m.headers',
		bench_heap.table_of(queue_name)) USING qty;
END $$;

CREATE FUNCTION bench_heap.delete(queue_name text, msg_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	gone bigint;
BEGIN
	EXECUTE format('DELETE FROM bench_heap.%I WHERE msg_id = $1 RETURNING msg_id',
		bench_heap.table_of(queue_name)) INTO gone USING msg_id;
	RETURN gone IS NOT NULL;
END $$;

CREATE FUNCTION bench_heap.delete(queue_name text, msg_ids bigint[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format('DELETE FROM bench_heap.%I WHERE msg_id = ANY ($1) RETURNING msg_id',
		bench_heap.table_of(queue_name)) USING msg_ids;
END $$;

CREATE FUNCTION bench_heap.archive(queue_name text, msg_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	moved bigint;
BEGIN
	EXECUTE format(
		'WITH gone AS (
			DELETE FROM bench_heap.%I WHERE msg_id = $1
			RETURNING msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers)
		 INSERT INTO bench_heap.%I (msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers)
		 SELECT * FROM gone RETURNING msg_id',
		bench_heap.table_of(queue_name), bench_heap.archive_of(queue_name)) INTO moved USING msg_id;
	RETURN moved IS NOT NULL;
END $$;

CREATE FUNCTION bench_heap.set_vt(queue_name text, msg_id bigint, vt timestamptz)
RETURNS SETOF bench_heap.message_record LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'UPDATE bench_heap.%I SET vt = $2 WHERE msg_id = $1
		 RETURNING msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers',
		bench_heap.table_of(queue_name)) USING msg_id, vt;
END $$;

CREATE FUNCTION bench_heap.set_vt(queue_name text, msg_id bigint, vt integer)
RETURNS SETOF bench_heap.message_record LANGUAGE sql AS
	$$ SELECT * FROM bench_heap.set_vt(queue_name, msg_id, clock_timestamp() + make_interval(secs => vt)) $$;

CREATE FUNCTION bench_heap.metrics(queue_name text, OUT queue_length bigint, OUT newest_msg_age_sec integer,
	OUT oldest_msg_age_sec integer, OUT total_messages bigint, OUT queue_visible_length bigint) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format(
		'SELECT count(*), extract(epoch FROM now() - max(enqueued_at))::integer,
			extract(epoch FROM now() - min(enqueued_at))::integer,
			(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM bench_heap.%2$I),
			count(*) FILTER (WHERE vt <= clock_timestamp())
		 FROM bench_heap.%1$I', bench_heap.table_of(queue_name), bench_heap.table_of(queue_name) || '_msg_id_seq')
		INTO queue_length, newest_msg_age_sec, oldest_msg_age_sec, total_messages, queue_visible_length;
END $$;

CREATE FUNCTION bench_heap.metrics_all() RETURNS TABLE (queue_name text, queue_length bigint, newest_msg_age_sec integer,
	oldest_msg_age_sec integer, total_messages bigint, queue_visible_length bigint) LANGUAGE sql AS
	$$ SELECT q.queue_name, m.* FROM bench_heap.meta q, bench_heap.metrics(q.queue_name) m $$;
