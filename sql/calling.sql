-- The ways a function may be called: each claims all rows of the call, once.

SELECT pgmq.create('calling');
SELECT pgmq.create('calling_two');
SELECT count(*) FROM pgmq.send_batch('calling', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 40) i));

-- Select list, with other set-returning functions beside it
SELECT (pgmq.read('calling', 100, 2)).msg_id AS a, generate_series(1, 3) AS b;
SELECT (pgmq.read('calling', 100, 1)).msg_id;
SELECT (m).msg_id, (m).message FROM (SELECT pgmq.read('calling', 100, 2) AS m OFFSET 0) s;
-- FROM under LIMIT: all rows of the call are leased; select list: too
SELECT msg_id FROM pgmq.read('calling', 100, 3) LIMIT 1;
SELECT (m).msg_id FROM (SELECT pgmq.read('calling', 100, 3) AS m LIMIT 1) s;
SELECT msg_id, read_ct FROM pgmq.q_calling WHERE read_ct <> 1 ORDER BY 1 LIMIT 1;
-- WITH ORDINALITY, ROWS FROM, LATERAL
SELECT msg_id, ordinality FROM pgmq.read('calling', 100, 2) WITH ORDINALITY;
SELECT a.msg_id, b.msg_id FROM ROWS FROM (pgmq.read('calling', 100, 1), pgmq.read('calling', 100, 2))
  AS a (msg_id, r, e, l, v, m, h, msg_id_b, r2, e2, l2, v2, m2, h2), LATERAL (SELECT a.msg_id_b AS msg_id) b;
SELECT i, m.msg_id FROM generate_series(1, 3) i, LATERAL pgmq.read('calling', 100, i % 2 + 1) m;
SELECT q, s FROM (VALUES ('calling'), ('calling_two')) v (q), LATERAL pgmq.send(q, '{}') s;
-- Several calls in one statement see what the earlier ones did
SELECT msg_id FROM pgmq.read('calling', 100, 1) UNION ALL SELECT msg_id FROM pgmq.read('calling', 100, 1);
SELECT pgmq.send('calling', '"same"') AS sent, (SELECT count(*) FROM pgmq.read('calling', 0, 1, '"same"')) AS found;
SELECT pgmq.send('calling_two', '2'), (SELECT count(*) FROM pgmq.read('calling_two', 100, 10)), pgmq.delete('calling_two', 2);
-- CTEs, with data-modifying statements beside
WITH m AS (SELECT * FROM pgmq.read('calling', 100, 2)) SELECT pgmq.archive('calling', array_agg(msg_id)) FROM m;
WITH m AS MATERIALIZED (SELECT * FROM pgmq.pop('calling', 1)),
     s AS (SELECT * FROM pgmq.send('calling_two', (SELECT message FROM m)))
  SELECT msg_id, message, send FROM m, s;
SELECT (SELECT msg_id FROM pgmq.read('calling', 100, 1)) FROM generate_series(1, 2);
-- not called at all, or for no rows
SELECT CASE WHEN false THEN (SELECT msg_id FROM pgmq.read('calling', 100, 1)) END;
SELECT r.msg_id FROM (SELECT 1 WHERE false) n, LATERAL pgmq.read('calling', 100, 1) r;

-- Prepared statements, past the switch to a generic plan
PREPARE reading(text, int, int) AS SELECT msg_id FROM pgmq.read($1, $2, $3);
EXECUTE reading('calling', 100, 1);
EXECUTE reading('calling_two', 0, 1);
SET plan_cache_mode = force_generic_plan;
EXECUTE reading('calling', 100, 1);
EXECUTE reading('calling_two', 0, 1);
RESET plan_cache_mode;

-- Cursors: forward, a second time over the same rows, held over the commit
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT msg_id FROM pgmq.read('calling', 100, 3);
FETCH 2 FROM c;
MOVE BACKWARD ALL FROM c;
FETCH ALL FROM c;
DECLARE h CURSOR WITH HOLD FOR SELECT msg_id FROM pgmq.read('calling', 100, 2);
COMMIT;
FETCH ALL FROM h;
CLOSE h;

-- PL/pgSQL: FOR loops, RETURN QUERY, composite variables
CREATE FUNCTION pg_temp.forward(n int) RETURNS SETOF pgmq.message_record LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  RETURN QUERY SELECT * FROM pgmq.read(queue_name := 'calling', vt := 100, qty := n);
END $$;
SELECT msg_id FROM pg_temp.forward(2);
DO $$
DECLARE m pgmq.message_record;
BEGIN
  FOR m IN SELECT * FROM pgmq.read('calling', 100, 2) LOOP
    RAISE NOTICE '% deleted: %', m.msg_id, pgmq.delete('calling', m.msg_id);
  END LOOP;
END $$;
CREATE TABLE calling_log AS SELECT msg_id, message FROM pgmq.pop('calling', 2);
INSERT INTO calling_log SELECT msg_id, message FROM pgmq.pop('calling', 1);
TABLE calling_log;
DROP TABLE calling_log;

SELECT string_agg(msg_id::text, ' ' ORDER BY msg_id) AS left_over FROM pgmq.q_calling WHERE vt <= clock_timestamp();
SELECT max(read_ct) FROM pgmq.q_calling;
SELECT * FROM pgmq.check_queue('calling');
SELECT * FROM pgmq.check_queue('calling_two');
SELECT pgmq.drop_queue('calling'), pgmq.drop_queue('calling_two');
