-- Messages far larger than a page, on all ways in and out.

SELECT pgmq.create('toast');
-- incompressible, over 1 MB
CREATE FUNCTION pg_temp.big(seed int) RETURNS jsonb LANGUAGE sql AS $$
  SELECT jsonb_build_object('seed', seed, 'data', string_agg(md5((seed * 100000 + i)::text), '')) FROM generate_series(1, 33000) i $$;
SELECT pgmq.send('toast', pg_temp.big(1));
SELECT pgmq.send('toast', pg_temp.big(2), pg_temp.big(3));
SELECT count(*) FROM pgmq.send_batch('toast', ARRAY[pg_temp.big(4), '"small"', pg_temp.big(5)]);
INSERT INTO pgmq.q_toast (vt, message) VALUES (now(), pg_temp.big(6));
SELECT msg_id, pg_column_size(message) > 1000000 AS big, message = pg_temp.big(1) AS same FROM pgmq.read('toast', 100, 1);
SELECT msg_id, message = pg_temp.big(2) AS same, headers = pg_temp.big(3) AS same_headers FROM pgmq.read('toast', 100, 1, '{"seed": 2}');
SELECT msg_id, message = pg_temp.big(4) AS same FROM pgmq.set_vt('toast', 3, 100);
SELECT msg_id, length(message ->> 'data') AS length FROM pgmq.q_toast ORDER BY 1;

-- Archive, pop, SQL
SELECT pgmq.archive('toast', 1);
SELECT * FROM pgmq.archive('toast', '{2}'::bigint[]);
SELECT msg_id, message = pg_temp.big(msg_id::int) AS same, headers = pg_temp.big(3) AS same_headers FROM pgmq.a_toast ORDER BY 1;
SELECT msg_id, length(message::text) FROM pgmq.pop('toast');
SELECT msg_id, message = pg_temp.big(5) AS same FROM pgmq.pop('toast');
UPDATE pgmq.q_toast SET message = pg_temp.big(7) WHERE msg_id = 6;
SELECT msg_id, message = pg_temp.big(7) AS same FROM pgmq.read('toast', 0, 1);
VACUUM FULL pgmq.q_toast;
SELECT msg_id, message = pg_temp.big(4) AS same FROM pgmq.set_vt('toast', 3, 0);
SELECT msg_id, message IN (pg_temp.big(4), pg_temp.big(7)) AS same FROM pgmq.read('toast', 0, 10);

-- Rolled back, and deleted in the transaction that sent it
BEGIN;
SELECT pgmq.send('toast', pg_temp.big(8));
SELECT message = pg_temp.big(8) AS same FROM pgmq.read('toast', 0, 1, '{"seed": 8}');
SAVEPOINT s;
SELECT message = pg_temp.big(8) AS same FROM pgmq.pop('toast', 10) OFFSET 2;
ROLLBACK TO s;
SELECT pgmq.delete('toast', 7);
COMMIT;
SELECT msg_id FROM pgmq.read('toast', 0, 10);
SELECT * FROM pgmq.check_queue('toast');
SELECT pgmq.drop_queue('toast');

-- Rows kept for longer than their query have their messages with them
SELECT pgmq.create('kept');
CREATE FUNCTION pg_temp.same(message jsonb) RETURNS text LANGUAGE sql AS $$
  SELECT (message ->> 'seed') || CASE WHEN message = pg_temp.big((message ->> 'seed')::int) THEN ' same' ELSE ' differs' END $$;
SELECT count(*) FROM pgmq.send_batch('kept', (SELECT array_agg(pg_temp.big(i) ORDER BY i) FROM generate_series(1, 14) i));
SELECT pg_temp.same((pgmq.read('kept', 0, 2)).message);
SELECT pg_temp.same((SELECT message FROM pgmq.read('kept', 0, 1)));
SELECT pg_temp.same((row).message) FROM (SELECT pgmq.pop('kept', 2) AS row) AS popped;
SELECT pg_temp.same(popped.message) FROM generate_series(1, 2), LATERAL pgmq.pop('kept') AS popped;
CREATE TEMP TABLE kept AS SELECT * FROM pgmq.pop('kept', 2);
INSERT INTO kept SELECT (pgmq.pop('kept')).*;
BEGIN;
DECLARE one CURSOR WITH HOLD FOR SELECT message FROM pgmq.pop('kept');
DECLARE two SCROLL CURSOR WITH HOLD FOR SELECT pgmq.pop('kept', 2) AS row;
COMMIT;
DO $$
DECLARE
  r record;
  one pgmq.message_record;
BEGIN
  FOR r IN SELECT * FROM pgmq.read('kept', 0, 2) LOOP
    PERFORM pgmq.delete('kept', r.msg_id);
    COMMIT;
    RAISE NOTICE '%', pg_temp.same(r.message);
  END LOOP;
  SELECT * INTO one FROM pgmq.pop('kept');
  COMMIT;
  RAISE NOTICE '%', pg_temp.same(one.message);
END $$;
SELECT msg_id FROM pgmq.read('kept', 0, 100);
SELECT pgmq.purge_queue('kept');
SELECT pg_temp.same(message) FROM kept;
FETCH ALL one \gset
SELECT pg_temp.same(:'message'::jsonb);
MOVE two;
FETCH two \gset
SELECT pg_temp.same((:'row'::pgmq.message_record).message);
-- A cursor without hold, and messages deleted behind its back
SELECT count(*) FROM pgmq.send_batch('kept', (SELECT array_agg(pg_temp.big(i) ORDER BY i) FROM generate_series(15, 16) i));
BEGIN;
DECLARE three CURSOR FOR SELECT pg_temp.same(message) FROM pgmq.read('kept', 0, 2);
FETCH three;
SELECT pgmq.delete('kept', msg_id) FROM pgmq.q_kept;
FETCH three;
COMMIT;
SELECT pgmq.drop_queue('kept');
