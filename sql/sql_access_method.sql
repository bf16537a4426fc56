-- ALTER TABLE ... SET ACCESS METHOD: a hot queue's table becomes a heap table, and back.
-- Needs PostgreSQL 15.

SELECT pgmq.create('method');
SELECT count(*) FROM pgmq.send_batch('method', '{1,2,3,4,5,6,7,8}'::jsonb[]);
SELECT count(*) FROM pgmq.read('method', 100, 2);
CREATE FUNCTION pg_temp.state() RETURNS text LANGUAGE sql AS $$
  SELECT (SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = 'pgmq.q_method'::regclass) || ': ' ||
    string_agg(concat_ws('/', msg_id, read_ct, (last_read_at IS NOT NULL)::int, (vt > clock_timestamp())::int), ' ' ORDER BY msg_id)
    || coalesce((SELECT string_agg(c.problem, ', ') FROM pgmq.check_queue('method') c), '') FROM pgmq.q_method $$;

-- Without loss
ALTER TABLE pgmq.q_method SET ACCESS METHOD heap;
SELECT pg_temp.state();
SELECT count(*) FROM pgmq.q_method WHERE last_read_at = '-infinity';
SELECT msg_id, message FROM pgmq.read('method', 100, 1);
ALTER TABLE pgmq.q_method SET ACCESS METHOD pgmq;
SELECT pg_temp.state();
SELECT msg_id, message FROM pgmq.read('method', 100, 1);

-- With leases that the same transaction holds
BEGIN;
SELECT msg_id, message FROM pgmq.read('method', 100, 1);
ALTER TABLE pgmq.q_method SET ACCESS METHOD heap;
COMMIT;
SELECT pg_temp.state();
BEGIN;
SELECT msg_id, message FROM pgmq.read('method', 100, 1);
ALTER TABLE pgmq.q_method SET ACCESS METHOD pgmq;
SELECT msg_id, message FROM pgmq.read('method', 0, 1);
SELECT pgmq.send('method', '9');
COMMIT;
SELECT pg_temp.state();

-- Rolled back
BEGIN;
SELECT msg_id, message FROM pgmq.read('method', 100, 1);
ALTER TABLE pgmq.q_method SET ACCESS METHOD heap;
SELECT count(*) FROM pgmq.read('method', 100, 10);
ROLLBACK;
SELECT pg_temp.state();
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('method', 0, 10);
SELECT * FROM pgmq.check_queue('method');

-- A heap table whose last_read_at is the last column, as an update from before 1.10 left it
CREATE TABLE pgmq.q_method_old (msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, read_ct int DEFAULT 0 NOT NULL,
  enqueued_at timestamptz DEFAULT now() NOT NULL, vt timestamptz NOT NULL, message jsonb, headers jsonb, last_read_at timestamptz);
SELECT pgmq.send('method_old', '1');
ALTER TABLE pgmq.q_method_old SET ACCESS METHOD pgmq;
SELECT pgmq.send('method_old', '2');
SELECT msg_id, read_ct, message FROM pgmq.read('method_old', 100, 3);
DROP TABLE pgmq.q_method_old;

-- One that became a heap table has no index; it is adopted by a queue of its name, which makes one
ALTER TABLE pgmq.q_method SET ACCESS METHOD heap;
DELETE FROM pgmq.meta WHERE queue_name = 'method';
SELECT pgmq.create('method');
SELECT indexname FROM pg_indexes WHERE tablename = 'q_method' ORDER BY 1;
SELECT msg_id, message FROM pgmq.read('method', 0, 1);
SELECT pgmq.drop_queue('method');
