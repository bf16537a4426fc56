-- The count node: SELECT count(*) of a queue table, from the ring.

SELECT pgmq.create('counted');
SELECT count(*) FROM pgmq.send_batch('counted', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 100) i));
SELECT pgmq.send('counted', '"late"', 500);
SELECT count(*) FROM pgmq.read('counted', 1000, 5);

-- What it serves
SELECT test.plan('SELECT count(*) FROM pgmq.q_counted');
SELECT test.plan('SELECT 1 + count(*), count(*)::text FROM pgmq.q_counted LIMIT 1');
SELECT test.plan('SELECT (SELECT count(*) FROM pgmq.q_counted) FROM generate_series(1, 2)');
-- What it does not
SELECT test.plan('SELECT count(message) FROM pgmq.q_counted');
SELECT test.plan('SELECT count(*) FILTER (WHERE read_ct = 0) FROM pgmq.q_counted');
SELECT test.plan('SELECT count(*), sum(read_ct) FROM pgmq.q_counted');
SELECT test.plan('SELECT count(*) FROM pgmq.q_counted WHERE read_ct = 0');
SELECT test.plan('SELECT count(*) FROM pgmq.q_counted GROUP BY read_ct > 0');
SELECT test.plan('SELECT count(*) FROM pgmq.q_counted HAVING count(*) > 0');
SELECT test.plan('SELECT count(*) FROM pgmq.q_counted TABLESAMPLE SYSTEM (100)');
SELECT test.plan('SELECT count(*) FROM pgmq.q_counted, generate_series(1, 2)');
SET pgmq.enable_scan = off;
SELECT test.plan('SELECT count(*) FROM pgmq.q_counted');
RESET pgmq.enable_scan;

-- How many there are
SELECT 1 + count(*) AS one_more, count(*)::text AS n, (SELECT 3) AS three FROM pgmq.q_counted;
SELECT (SELECT count(*) FROM pgmq.q_counted) FROM generate_series(1, 2);
SELECT count(*) FROM pgmq.pop('counted', 10);
SELECT count(*) FROM pgmq.q_counted;
SELECT count(*) FROM pgmq.archive('counted', ARRAY[20, 21, 1000]);
SELECT count(*) FROM pgmq.q_counted;
SET plan_cache_mode = force_generic_plan;
PREPARE n AS SELECT count(*) FROM pgmq.q_counted;
EXECUTE n;

-- What this transaction did counts; a cursor sees what was there when it was opened
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT count(*) FROM pgmq.q_counted;
SELECT count(*) FROM pgmq.send_batch('counted', ARRAY['1', '2']::jsonb[]);
SAVEPOINT s;
DELETE FROM pgmq.q_counted WHERE msg_id < 50;
EXECUTE n;
ROLLBACK TO s;
EXECUTE n;
SELECT test.plan('SELECT count(*) FROM pgmq.q_counted');
FETCH c;
FETCH FIRST FROM c;
COMMIT;
EXECUTE n;

-- Row security, children, rows without msg_id, new storage
CREATE ROLE regress_counter;
GRANT USAGE ON SCHEMA pgmq TO regress_counter;
GRANT SELECT ON pgmq.q_counted TO regress_counter;
ALTER TABLE pgmq.q_counted ENABLE ROW LEVEL SECURITY;
CREATE POLICY odd ON pgmq.q_counted USING (msg_id % 2 = 1);
SET ROLE regress_counter;
EXECUTE n;
RESET ROLE;
EXECUTE n;
DROP OWNED BY regress_counter;
DROP ROLE regress_counter;
CREATE TABLE test.child () INHERITS (pgmq.q_counted) USING heap;
INSERT INTO test.child (msg_id, vt, message) VALUES (1000, now(), '1');
EXECUTE n;
SELECT count(*) FROM ONLY pgmq.q_counted;
DROP TABLE test.child;
ALTER TABLE pgmq.q_counted ALTER msg_id DROP IDENTITY, ALTER msg_id DROP NOT NULL;
INSERT INTO pgmq.q_counted (vt, message) VALUES (now(), '"no id"');
EXECUTE n;
DELETE FROM pgmq.q_counted WHERE msg_id IS NULL;
SELECT pgmq.purge_queue('counted');
EXECUTE n;
SELECT * FROM pgmq.check_queue('counted');
SELECT pgmq.drop_queue('counted');
