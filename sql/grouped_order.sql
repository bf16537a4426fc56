-- Which messages a grouped read returns, in which order, on a hot queue and on a heap queue.

-- Groups a: 1 4 6 9, b: 2 5 7, c: 3 8, d: 10
CREATE PROCEDURE grouped_fill(q text) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pgmq.create(q);
  PERFORM pgmq.send(q, to_jsonb(i), jsonb_build_object('x-pgmq-group', substr('abcabacbad', i, 1)))
    FROM generate_series(1, 10) i;
END $$;
-- What a call returns, in the order in which it comes; then as if it had not been
CREATE FUNCTION grouped_try(q text, verb text, qty text, before text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text;
BEGIN
  BEGIN
    IF before IS NOT NULL THEN
      EXECUTE replace(before, '%q', q);
    END IF;
    EXECUTE format('SELECT string_agg(msg_id::text, '' '') FROM pgmq.%s(%L, 3600, %s)', verb, q, qty) INTO result;
    RAISE EXCEPTION 'done' USING ERRCODE = 'P9999';
  EXCEPTION WHEN SQLSTATE 'P9999' THEN
    RETURN coalesce(result, '-');
  WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
  END;
END $$;
CALL grouped_fill('fifo');
SET pgmq.queue_storage = heap;
CALL grouped_fill('fifo_heap');
RESET pgmq.queue_storage;

-- Quantities
CREATE TABLE grouped_calls AS
  SELECT verb, qty, NULL AS before FROM unnest(ARRAY['read_grouped', 'read_grouped_rr', 'read_grouped_head']) verb,
    unnest(ARRAY['1', '2', '3', '5', '8', '10', '2147483647', '0', '-1', '-2147483648', 'NULL']) qty;
-- What came before
INSERT INTO grouped_calls SELECT verb, qty, before
  FROM unnest(ARRAY['read_grouped', 'read_grouped_rr', 'read_grouped_head']) verb, unnest(ARRAY['1', '20']) qty, unnest(ARRAY[
    $$SELECT pgmq.set_vt('%q', 1, 3600)$$,			-- a head that is invisible keeps its group out
    $$SELECT pgmq.set_vt('%q', 4, 3600)$$,			-- one behind the head does not
    $$SELECT pgmq.set_vt('%q', ARRAY[4, 6, 9], 3600)$$,
    $$SELECT pgmq.set_vt('%q', ARRAY[1, 2, 3, 10], 3600)$$,
    $$SELECT pgmq.set_vt('%q', ARRAY[2, 8], '2200-01-01'::timestamptz)$$,
    $$SELECT pgmq.delete('%q', 1)$$,
    $$SELECT pgmq.delete('%q', ARRAY[1, 2, 5])$$,
    $$SELECT pgmq.archive('%q', 3)$$,
    $$SELECT pgmq.pop('%q', 3)$$,
    $$SELECT pgmq.read('%q', 3600, 1)$$,
    $$SELECT pgmq.read('%q', 0, 3)$$,
    $$SELECT pgmq.read('%q', -5, 20)$$,
    $$SELECT pgmq.read('%q', 3600, 1, '4')$$,
    $$SELECT pgmq.read_grouped('%q', 3600, 1)$$,
    $$SELECT pgmq.read_grouped('%q', 3600, 5)$$,
    $$SELECT pgmq.read_grouped_rr('%q', 3600, 2)$$,
    $$SELECT pgmq.read_grouped_head('%q', 3600, 2)$$,
    $$SELECT pgmq.read_grouped_head('%q', 0, 2)$$,
    $$SELECT setval('pgmq.q_%q_msg_id_seq', 10); SELECT pgmq.send('%q', '11'::jsonb, '{"x-pgmq-group": "b"}'::jsonb)$$,
    $$SELECT setval('pgmq.q_%q_msg_id_seq', 10); SELECT pgmq.send('%q', '11'::jsonb, '{"x-pgmq-group": "new"}'::jsonb)$$,
    $$SELECT setval('pgmq.q_%q_msg_id_seq', 10); SELECT pgmq.send('%q', '11'::jsonb, '{"x-pgmq-group": "new"}'::jsonb, 3600)$$,
    $$UPDATE pgmq.q_%q SET headers = '{"x-pgmq-group": "c"}' WHERE msg_id = 1$$,	-- moves
    $$UPDATE pgmq.q_%q SET headers = NULL WHERE msg_id IN (1, 2)$$,
    $$UPDATE pgmq.q_%q SET headers = '{"x-pgmq-group": "a"}' WHERE msg_id = 8$$,
    $$UPDATE pgmq.q_%q SET vt = 'infinity' WHERE msg_id = 3$$,
    $$DELETE FROM pgmq.q_%q WHERE msg_id IN (2, 3)$$,
    $$INSERT INTO pgmq.q_%q OVERRIDING SYSTEM VALUE VALUES (0, 0, now(), NULL, now(), '0', '{"x-pgmq-group": "b"}')$$,
    $$INSERT INTO pgmq.q_%q OVERRIDING SYSTEM VALUE VALUES (-7, 0, now(), NULL, 'infinity', '0', '{"x-pgmq-group": "b"}')$$,
    $$SELECT msg_id FROM pgmq.q_%q WHERE msg_id IN (1, 5) FOR UPDATE$$,
    $$TRUNCATE pgmq.q_%q$$]) before;

SELECT qty, max(result) FILTER (WHERE verb = 'read_grouped') AS read_grouped, max(result) FILTER (WHERE verb = 'read_grouped_rr') AS read_grouped_rr,
       max(result) FILTER (WHERE verb = 'read_grouped_head') AS read_grouped_head
  FROM (SELECT *, grouped_try('fifo', verb, qty, before) AS result FROM grouped_calls WHERE before IS NULL) r GROUP BY qty ORDER BY length(qty), qty;
\pset format unaligned
SELECT before, qty, max(result) FILTER (WHERE verb = 'read_grouped') AS read_grouped, max(result) FILTER (WHERE verb = 'read_grouped_rr') AS read_grouped_rr,
       max(result) FILTER (WHERE verb = 'read_grouped_head') AS read_grouped_head
  FROM (SELECT *, grouped_try('fifo', verb, qty, before) AS result FROM grouped_calls WHERE before IS NOT NULL) r GROUP BY before, qty ORDER BY before COLLATE "C", length(qty);
\pset format aligned
SELECT * FROM pgmq.check_queue('fifo');

-- The same on a heap queue, and on the SQL path of the hot queue
SELECT verb, qty, before, hot, heap FROM (SELECT *, grouped_try('fifo', verb, qty, before) AS hot,
  grouped_try('fifo_heap', verb, qty, before) AS heap FROM grouped_calls) r WHERE hot IS DISTINCT FROM heap;
SET pgmq.fast_path = off;
SELECT verb, qty, before, sql, heap FROM (SELECT *, grouped_try('fifo', verb, qty, before) AS sql,
  grouped_try('fifo_heap', verb, qty, before) AS heap FROM grouped_calls) r WHERE sql IS DISTINCT FROM heap;
RESET pgmq.fast_path;
SELECT * FROM pgmq.check_queue('fifo');

-- What is returned is what is stored; the lease is as long as was asked for
BEGIN;
SELECT msg_id, read_ct, round(extract(epoch FROM vt - last_read_at)) AS lease_seconds, message, headers FROM pgmq.read_grouped('fifo', 100, 3);
SELECT msg_id, read_ct, round(extract(epoch FROM vt - last_read_at)) AS lease_seconds FROM pgmq.read_grouped_rr('fifo', -7, 3);
SELECT msg_id, read_ct, round(extract(epoch FROM vt - last_read_at)) AS lease_seconds FROM pgmq.read_grouped_head('fifo', 2147483647, 3);
SELECT msg_id, read_ct, last_read_at IS NULL AS never, vt > clock_timestamp() AS waits FROM pgmq.q_fifo ORDER BY 1;
COMMIT;
SELECT msg_id, read_ct, last_read_at IS NULL AS never, vt > clock_timestamp() AS waits FROM pgmq.q_fifo ORDER BY 1;
SELECT * FROM pgmq.check_queue('fifo');

SELECT pgmq.drop_queue('fifo'), pgmq.drop_queue('fifo_heap');
DROP TABLE grouped_calls;
DROP FUNCTION grouped_try;
DROP PROCEDURE grouped_fill;
