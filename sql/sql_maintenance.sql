-- VACUUM, ANALYZE, CLUSTER and TRUNCATE of a hot queue; the ring follows.

SELECT * FROM test.create_twins();
CREATE FUNCTION pg_temp.fill() RETURNS text LANGUAGE sql AS $$
  SELECT test.twin('INSERT INTO %q (vt, message) SELECT ''2000-01-01'', to_jsonb(i) FROM generate_series(1, 1000) i') $$;
SELECT pg_temp.fill();
SELECT count(*) FROM pgmq.read('twin', 1000, 300);
SELECT count(*) FROM pgmq.read('twin_heap', 1000, 300);
UPDATE pgmq.q_twin SET vt = '2200-01-01', last_read_at = '2000-01-01' WHERE vt > now();
UPDATE pgmq.q_twin_heap SET vt = '2200-01-01', last_read_at = '2000-01-01' WHERE vt > now();
SELECT test.twin('DELETE FROM %q WHERE msg_id % 3 = 0');

-- Each leaves rows, leases and the ring as they were
CREATE FUNCTION pg_temp.same() RETURNS TABLE (same boolean, problems bigint, ready bigint, next bigint) LANGUAGE sql AS $$
  SELECT test.content('pgmq.q_twin') = test.content('pgmq.q_twin_heap'), (SELECT count(*) FROM pgmq.check_queue('twin')),
    (SELECT queue_visible_length FROM pgmq.metrics('twin')), min(msg_id) FROM pgmq.q_twin WHERE vt <= now() $$;
SELECT * FROM pg_temp.same();
VACUUM pgmq.q_twin;
SELECT * FROM pg_temp.same();
VACUUM (FREEZE, ANALYZE, DISABLE_PAGE_SKIPPING) pgmq.q_twin;
SELECT * FROM pg_temp.same();
VACUUM (FULL) pgmq.q_twin;
SELECT * FROM pg_temp.same();
ANALYZE pgmq.q_twin;
SELECT null_frac > 0 AS has_nulls, histogram_bounds IS NULL AS no_histogram FROM pg_stats
  WHERE tablename = 'q_twin' AND attname = 'last_read_at';
SELECT reltuples FROM pg_class WHERE oid = 'pgmq.q_twin'::regclass;
CREATE INDEX twin_order ON pgmq.q_twin (msg_id DESC);
CLUSTER pgmq.q_twin USING twin_order;
SELECT * FROM pg_temp.same();
CLUSTER pgmq.q_twin;
SELECT string_agg(msg_id::text, ' ') FROM (SELECT msg_id FROM pgmq.q_twin LIMIT 3) s;
SELECT * FROM pg_temp.same();
DROP INDEX pgmq.twin_order;
ALTER TABLE pgmq.q_twin SET UNLOGGED;
SELECT * FROM pg_temp.same();
ALTER TABLE pgmq.q_twin SET LOGGED;
SELECT * FROM pg_temp.same();
ALTER TABLE pgmq.q_twin SET TABLESPACE pg_default;
SELECT * FROM pg_temp.same();

-- In a transaction that holds a lease and has sent and deleted
BEGIN;
SELECT msg_id FROM pgmq.read('twin', 1000, 1);
SELECT pgmq.delete('twin', 302);
SELECT msg_id FROM pgmq.q_twin WHERE msg_id = 304 FOR UPDATE;
SELECT pgmq.send('twin', '"new"');
CREATE INDEX twin_order ON pgmq.q_twin (msg_id DESC);
CLUSTER pgmq.q_twin USING twin_order;
SELECT msg_id, read_ct FROM pgmq.read('twin', 0, 1);
SELECT message FROM pgmq.read('twin', 0, 1, '"new"');
SELECT pgmq.send('twin', '"newer"');
COMMIT;
DROP INDEX pgmq.twin_order;
SELECT msg_id, read_ct, vt > now() AS leased FROM pgmq.q_twin WHERE vt > now() AND vt < '2100-01-01' OR msg_id > 1000 OR msg_id IN (302, 304) ORDER BY 1;
SELECT * FROM pgmq.check_queue('twin');

-- TRUNCATE, alone and followed by sends
TRUNCATE pgmq.q_twin;
SELECT * FROM pgmq.read('twin', 0, 1);
SELECT * FROM pgmq.check_queue('twin');
BEGIN;
SELECT pgmq.send('twin', '1');
TRUNCATE pgmq.q_twin;
SELECT pgmq.send('twin', '2');
SELECT msg_id, message FROM pgmq.read('twin', 0, 10);
COMMIT;
SELECT msg_id, message FROM pgmq.read('twin', 0, 10);
TRUNCATE pgmq.q_twin RESTART IDENTITY;
SELECT pgmq.send('twin', '"first again"');
SELECT msg_id, message FROM pgmq.read('twin', 0, 10);
-- an id that is there already: the sequence was set back
SELECT setval('pgmq.q_twin_msg_id_seq', 1, false);
SELECT pgmq.send('twin', '"refused"');
SELECT pgmq.send('twin', '"second"');
SELECT * FROM pgmq.check_queue('twin');
SELECT pgmq.drop_queue('twin'), pgmq.drop_queue('twin_heap');
