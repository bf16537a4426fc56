-- What make demo runs: documents, producers, consumers, and what proves their work.

CREATE EXTENSION pgmq;
SELECT pgmq.create('catalogs');
CREATE SCHEMA demo;

-- Every row of every system catalog
CREATE TABLE demo.document (id bigint GENERATED ALWAYS AS IDENTITY (MINVALUE 0) PRIMARY KEY, body jsonb NOT NULL);

DO $$
DECLARE
    catalog regclass;
BEGIN
    FOR catalog IN
        SELECT oid FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'
    LOOP
        EXECUTE format('INSERT INTO demo.document (body)
            SELECT jsonb_build_object(''catalog'', %L, ''row'', to_jsonb(r)) FROM %s r', catalog, catalog);
    END LOOP;
END $$;
ANALYZE demo.document;

-- Message number N carries document N modulo their count, and its number.
CREATE FUNCTION demo.message(number bigint, documents bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT body || jsonb_build_object('number', number) FROM demo.document WHERE id = number % documents
$$;

-- A producer's own account of its work, kept apart from the queue: it sent every
-- number from its own to below next_number, in steps of the number of producers.
CREATE TABLE demo.account (producer bigint PRIMARY KEY, next_number bigint NOT NULL);

-- One line for each batch that a consumer read
CREATE TABLE demo.batch (
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome text NOT NULL,
    messages bigint NOT NULL,
    milliseconds float    -- of pgmq.read(); null where the consumer waited for messages
);

-- Singly and by tens, each committed; every hundredth is delayed by a second.
CREATE PROCEDURE demo.produce(me bigint, producers bigint, seconds int) LANGUAGE plpgsql AS $$
DECLARE
    documents bigint := (SELECT count(*) FROM demo.document);
    stop timestamptz := clock_timestamp() + make_interval(secs => seconds);
    number bigint := me;
    turn int := 0;
BEGIN
    WHILE clock_timestamp() < stop LOOP
        turn := turn + 1;
        IF turn % 20 = 0 THEN
            PERFORM pgmq.send_batch('catalogs', array_agg(demo.message(n, documents)))
            FROM generate_series(number, number + 9 * producers, producers) n;
            number := number + 10 * producers;
        ELSE
            PERFORM pgmq.send('catalogs', demo.message(number, documents), CASE turn % 100 WHEN 1 THEN 1 ELSE 0 END);
            number := number + producers;
        END IF;
        COMMIT;
        IF turn % 100 = 0 THEN
            -- Do not run away from the consumers
            WHILE (SELECT queue_length FROM pgmq.metrics('catalogs')) > 5000 LOOP
                PERFORM pg_sleep(0.05);
                COMMIT;
            END LOOP;
        END IF;
    END LOOP;
    INSERT INTO demo.account VALUES (me, number);
END $$;

-- Reads ten messages at a time under a lease of three seconds, and archives them.
-- Not all goes well: one batch in a hundred is rolled back, and one in two hundred is
-- forgotten, so that its lease lapses.  Both have to come again.
CREATE PROCEDURE demo.consume(producers bigint) LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[];
    began timestamptz;
    took float;
    turn int := 0;
BEGIN
    LOOP
        began := clock_timestamp();
        SELECT array_agg(msg_id) INTO ids FROM pgmq.read('catalogs', 3, 10);
        took := extract(epoch FROM clock_timestamp() - began) * 1000;
        IF ids IS NULL THEN
            COMMIT;
            EXIT WHEN (SELECT count(*) FROM demo.account) = producers
                AND (SELECT queue_length FROM pgmq.metrics('catalogs')) = 0;
            took := NULL;
            SELECT array_agg(msg_id) INTO ids FROM pgmq.read_with_poll('catalogs', 3, 10, 1);
            CONTINUE WHEN ids IS NULL;
        END IF;
        turn := turn + 1;
        IF turn % 100 = 50 THEN
            ROLLBACK;
            INSERT INTO demo.batch VALUES (DEFAULT, 'rolled back', cardinality(ids), took);
        ELSIF turn % 200 = 0 THEN
            INSERT INTO demo.batch VALUES (DEFAULT, 'forgotten', cardinality(ids), took);
        ELSE
            COMMIT; -- from here on the lease stands
            PERFORM pgmq.archive('catalogs', ids);
            INSERT INTO demo.batch VALUES (DEFAULT, 'archived', cardinality(ids), took);
        END IF;
        COMMIT;
    END LOOP;
END $$;

CREATE FUNCTION demo.line(VARIADIC columns text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(lpad(c, 11), '' ORDER BY i) FROM unnest(columns) WITH ORDINALITY AS u (c, i)
$$;

CREATE FUNCTION demo.progress_title() RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT demo.line('sent', 'read', 'archived', 'in queue', 'archived/s', 'read p50', 'read p99')
$$;

-- A line about the whole and, from the rate on, about the last second
CREATE FUNCTION demo.progress() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT demo.line(
        to_char(m.total_messages, 'FM999,999,990'),
        to_char(b.read, 'FM999,999,990'),
        to_char(b.archived, 'FM999,999,990'),
        to_char(m.queue_length, 'FM999,999,990'),
        to_char(b.rate, 'FM999,999,990'),
        coalesce(to_char(b.p[1], 'FM9990.00') || ' ms', '-'),
        coalesce(to_char(b.p[2], 'FM9990.00') || ' ms', '-'))
    FROM pgmq.metrics('catalogs') m, (
        SELECT sum(messages) AS read,
            sum(messages) FILTER (WHERE outcome = 'archived') AS archived,
            coalesce(sum(messages) FILTER (WHERE outcome = 'archived' AND recent), 0) AS rate,
            percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY milliseconds) FILTER (WHERE recent) AS p
        FROM (SELECT *, at > clock_timestamp() - interval '1 s' AS recent FROM demo.batch) x) b
$$;

CREATE TABLE demo.proof (question text, expected text, found text, holds boolean);

CREATE FUNCTION demo.prove(producers bigint)
RETURNS TABLE (question text, expected text, found text, holds boolean) LANGUAGE sql AS $$
    WITH sent AS MATERIALIZED (
        SELECT count(*) AS messages, sum(hashtextextended((body || jsonb_build_object('number', number))::text, 0)) AS checksum
        FROM demo.account, generate_series(producer, next_number - 1, producers) number
            JOIN demo.document ON id = number % (SELECT count(*) FROM demo.document)
    ), archived AS MATERIALIZED (
        SELECT count(*) AS messages, sum(hashtextextended(message::text, 0)) AS checksum,
            count(DISTINCT message -> 'number') AS distinct_messages
        FROM pgmq.a_catalogs
    ), answer (question, expected, found) AS (
        SELECT 'messages archived, of those sent', sent.messages, archived.messages FROM sent, archived
        UNION ALL SELECT 'checksum of their documents', sent.checksum, archived.checksum FROM sent, archived
        UNION ALL SELECT 'archived twice', 0, messages - distinct_messages FROM archived
        UNION ALL SELECT 'left in the queue', 0, queue_length FROM pgmq.metrics('catalogs')
        UNION ALL SELECT 'problems found by check_queue', 0, count(*) FROM pgmq.check_queue('catalogs')
    )
    SELECT question, expected::text, found::text, expected = found FROM answer
$$;

CREATE FUNCTION demo.misfortunes() RETURNS text LANGUAGE sql AS $$
    SELECT format('Consumers rolled back %s messages and forgot %s until their lease lapsed; all came again.',
        coalesce(sum(messages) FILTER (WHERE outcome = 'rolled back'), 0),
        coalesce(sum(messages) FILTER (WHERE outcome = 'forgotten'), 0))
    FROM demo.batch
$$;
