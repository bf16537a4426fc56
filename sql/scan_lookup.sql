-- The message lookup: queries that name msg_id find their rows by the ring.

SET enable_seqscan = off;
SET enable_mergejoin = off;
SET enable_hashjoin = off;
SELECT pgmq.create('looked');
SELECT count(*) FROM pgmq.send_batch('looked', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 1000) i));
ANALYZE pgmq.q_looked;

-- What it serves
SELECT test.plan('SELECT * FROM pgmq.q_looked WHERE msg_id = 5');
SELECT test.plan('SELECT * FROM pgmq.q_looked WHERE 5::smallint = msg_id AND read_ct = 0');
SELECT test.plan('SELECT * FROM pgmq.q_looked WHERE msg_id IN (5, 6, 6, 1001)');
SELECT test.plan('SELECT * FROM pgmq.q_looked WHERE msg_id = ANY (ARRAY(SELECT g FROM generate_series(3, 4) g))');
SELECT test.plan('UPDATE pgmq.q_looked SET vt = now() WHERE msg_id = 5');
SELECT test.plan('DELETE FROM pgmq.q_looked WHERE msg_id = 1000');
SELECT test.plan('SELECT 1 FROM pgmq.q_looked WHERE msg_id = 5 FOR UPDATE SKIP LOCKED');
SELECT test.plan('SELECT 1 FROM (VALUES (1), (2), (NULL)) v(x) LEFT JOIN pgmq.q_looked q ON q.msg_id = v.x');
SELECT test.plan('SELECT (SELECT message FROM pgmq.q_looked q WHERE q.msg_id = g) FROM generate_series(1, 3) g');

-- What it does not: other columns, volatile keys, other types, or when it is off
SELECT test.plan('SELECT 1 FROM pgmq.q_looked WHERE msg_id > 5');
SELECT test.plan('SELECT 1 FROM pgmq.q_looked WHERE msg_id = (random() * 5)::int');
SELECT test.plan('SELECT 1 FROM pgmq.q_looked WHERE msg_id = 5.0');
SET pgmq.enable_scan = off;
SELECT test.plan('SELECT 1 FROM pgmq.q_looked WHERE msg_id = 5');
SET pgmq.enable_scan = on;

-- What it finds, system columns included
SELECT ctid, tableoid::regclass, xmin::text <> '0' AS has_xmin, msg_id, read_ct, last_read_at, message FROM pgmq.q_looked WHERE msg_id IN (6, 7) ORDER BY 1;
SELECT msg_id FROM pgmq.q_looked WHERE msg_id = ANY ('{}');
SELECT msg_id FROM pgmq.q_looked WHERE msg_id = NULL::bigint;
SELECT msg_id FROM pgmq.q_looked WHERE msg_id = ANY (ARRAY[9, NULL, 8, 9]::smallint[]) ORDER BY 1;
PREPARE by_id (bigint) AS SELECT message FROM pgmq.q_looked WHERE msg_id = $1;
SET plan_cache_mode = force_generic_plan;
SELECT test.plan('EXECUTE by_id(10)');
EXECUTE by_id(10);
EXECUTE by_id(NULL);
EXECUTE by_id(1001);

-- What this transaction did counts; a cursor sees what was there when it was opened
BEGIN;
SELECT pgmq.send('looked', '"own"');
EXECUTE by_id(1001);
DECLARE c SCROLL CURSOR FOR SELECT msg_id, message FROM pgmq.q_looked WHERE msg_id IN (10, 11, 1001, 1002);
FETCH 1 FROM c;
DELETE FROM pgmq.q_looked WHERE msg_id IN (11, 1001);
INSERT INTO pgmq.q_looked (msg_id, vt, message) OVERRIDING SYSTEM VALUE VALUES (1002, now(), '"later"');
FETCH ALL FROM c;
FETCH FIRST FROM c;
UPDATE pgmq.q_looked SET message = '"held"' WHERE CURRENT OF c RETURNING msg_id, message;
SELECT msg_id, message FROM pgmq.q_looked WHERE msg_id IN (10, 11, 1001, 1002) ORDER BY 1;
SAVEPOINT s;
SELECT msg_id, read_ct FROM pgmq.read('looked', 100, 1);
SELECT read_ct, vt > now() AS waits FROM pgmq.q_looked WHERE msg_id = 1;
ROLLBACK TO s;
SELECT read_ct, vt > now() AS waits FROM pgmq.q_looked WHERE msg_id = 1;
ROLLBACK;
SELECT msg_id, message FROM pgmq.q_looked WHERE msg_id IN (10, 11, 1001, 1002) ORDER BY 1;

-- Row security comes first
CREATE ROLE regress_looker;
GRANT USAGE ON SCHEMA pgmq, test TO regress_looker;
GRANT SELECT ON pgmq.q_looked TO regress_looker;
ALTER TABLE pgmq.q_looked ENABLE ROW LEVEL SECURITY;
CREATE POLICY odd ON pgmq.q_looked USING (msg_id % 2 = 1);
CREATE FUNCTION test.tell(jsonb) RETURNS boolean COST 0.0001 LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'told %', $1; RETURN true; END $$;
SET ROLE regress_looker;
SELECT msg_id FROM pgmq.q_looked WHERE msg_id IN (12, 13) AND test.tell(message);
RESET ROLE;
DROP OWNED BY regress_looker;
DROP ROLE regress_looker;
SELECT * FROM pgmq.check_queue('looked');
SELECT pgmq.drop_queue('looked');
DROP FUNCTION test.tell;
