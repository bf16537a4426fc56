-- ALTER TABLE of a hot queue, and what it does to leases and the ring.

SELECT pgmq.create('alter');
SELECT count(*) FROM pgmq.send_batch('alter', '{1,2,3,4,5,6}'::jsonb[]);
SELECT count(*) FROM pgmq.read('alter', 100, 2);
CREATE FUNCTION pg_temp.state() RETURNS text LANGUAGE sql AS $$
  SELECT (SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = 'pgmq.q_alter'::regclass) || ': ' ||
    string_agg(concat_ws('/', msg_id, read_ct, (last_read_at IS NOT NULL)::int, (vt > clock_timestamp())::int), ' ' ORDER BY msg_id)
    || coalesce((SELECT string_agg(c.problem, ', ') FROM pgmq.check_queue('alter') c), '') FROM pgmq.q_alter $$;
SELECT pg_temp.state();

-- Columns
ALTER TABLE pgmq.q_alter ADD COLUMN note text;
SELECT pgmq.send('alter', '7'), pg_temp.state();
SELECT msg_id FROM pgmq.read('alter', 0, 1);
ALTER TABLE pgmq.q_alter ADD COLUMN priority int DEFAULT 5;
ALTER TABLE pgmq.q_alter ADD COLUMN random float DEFAULT random();
SELECT pg_temp.state(), count(*) FILTER (WHERE priority = 5 AND random IS NOT NULL) FROM pgmq.q_alter;
SELECT msg_id, message FROM pgmq.read('alter', 0, 10);
ALTER TABLE pgmq.q_alter DROP COLUMN note, DROP COLUMN priority, DROP COLUMN random;
SELECT pgmq.send('alter', '8'), pg_temp.state();
SELECT msg_id, message FROM pgmq.read('alter', 0, 1);

-- Types, with a rewrite
ALTER TABLE pgmq.q_alter ALTER COLUMN message TYPE text;
SELECT pg_temp.state();
ALTER TABLE pgmq.q_alter ALTER COLUMN message TYPE jsonb USING message::jsonb;
SELECT pg_temp.state();
ALTER TABLE pgmq.q_alter ALTER COLUMN last_read_at TYPE text;
SELECT msg_id, last_read_at IS NULL AS unread FROM pgmq.q_alter ORDER BY 1 LIMIT 5;
ALTER TABLE pgmq.q_alter ALTER COLUMN last_read_at TYPE timestamptz USING last_read_at::timestamptz;
SELECT pg_temp.state();
SELECT msg_id, message FROM pgmq.read('alter', 0, 1);

-- NULLs where there should be none: leased by UPDATE, never handed out without vt
ALTER TABLE pgmq.q_alter ALTER COLUMN vt DROP NOT NULL, ALTER COLUMN read_ct DROP NOT NULL;
UPDATE pgmq.q_alter SET vt = NULL WHERE msg_id = 3;
UPDATE pgmq.q_alter SET read_ct = NULL WHERE msg_id = 4;
SELECT msg_id, read_ct, message FROM pgmq.read('alter', 0, 2);
SELECT msg_id, read_ct FROM pgmq.set_vt('alter', 3, 0);
UPDATE pgmq.q_alter SET read_ct = 1 WHERE read_ct IS NULL;
ALTER TABLE pgmq.q_alter ALTER COLUMN vt SET NOT NULL, ALTER COLUMN read_ct SET NOT NULL;
SELECT pg_temp.state();
-- last_read_at NOT NULL is refused where rows are unread
ALTER TABLE pgmq.q_alter ALTER COLUMN last_read_at SET NOT NULL;

-- To the heap and back, without loss; leases held by the same transaction too
SELECT pgmq.convert_queue('alter', 'heap');
SELECT pg_temp.state();
SELECT count(*) FROM pgmq.q_alter WHERE last_read_at = '-infinity';
SELECT msg_id, message FROM pgmq.read('alter', 100, 1);
SELECT pgmq.convert_queue('alter', 'hot');
SELECT pg_temp.state();
SELECT msg_id, message FROM pgmq.read('alter', 100, 1);
BEGIN;
SELECT msg_id, message FROM pgmq.read('alter', 100, 1);
SELECT pgmq.convert_queue('alter', 'heap');
COMMIT;
SELECT pg_temp.state();
BEGIN;
SELECT msg_id, message FROM pgmq.read('alter', 100, 1);
SELECT pgmq.convert_queue('alter', 'hot');
SELECT msg_id, message FROM pgmq.read('alter', 0, 1);
SELECT pgmq.send('alter', '9');
COMMIT;
SELECT pg_temp.state();

-- Renamed, moved to another schema and back: another queue, no queue, the queue
ALTER TABLE pgmq.q_alter RENAME TO q_altered;
SELECT msg_id, message FROM pgmq.read('altered', 0, 1);
SELECT pgmq.send('alter', '10');
ALTER TABLE pgmq.q_altered RENAME TO q_alter;
ALTER TABLE pgmq.q_alter SET SCHEMA public;
SELECT * FROM pgmq.read('alter', 0, 1);
SELECT msg_id FROM public.q_alter ORDER BY 1;
ALTER TABLE public.q_alter SET SCHEMA pgmq;
ALTER TABLE pgmq.q_alter SET (autovacuum_enabled = off, fillfactor = 50);
SELECT msg_id, message FROM pgmq.read('alter', 0, 1);
SELECT pg_temp.state();
SELECT pgmq.drop_queue('alter');
