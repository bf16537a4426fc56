-- Rolled back TRUNCATE, CREATE, DROP, ALTER and rewrites: the old ring counts again.

SELECT pgmq.create('undo');
SELECT count(*) FROM pgmq.send_batch('undo', '{1,2,3}'::jsonb[]);
CREATE FUNCTION pg_temp.next() RETURNS text LANGUAGE sql AS $$
  SELECT (SELECT string_agg(msg_id || '/' || read_ct, ' ') FROM pgmq.read('undo', 0, 10)) || coalesce((SELECT string_agg(problem, ', ') FROM pgmq.check_queue('undo')), '') $$;

BEGIN; TRUNCATE pgmq.q_undo; SELECT pgmq.send('undo', '4'); ROLLBACK;
SELECT pg_temp.next();
BEGIN; SELECT pgmq.purge_queue('undo'), pgmq.send('undo', '5'); ROLLBACK;
SELECT pg_temp.next();
BEGIN; SELECT pgmq.drop_queue('undo'); SELECT pgmq.create('undo'); SELECT pgmq.send('undo', '1'); SELECT pg_temp.next(); ROLLBACK;
SELECT pg_temp.next();
BEGIN; SELECT pgmq.delete('undo', 1); SELECT count(*) FROM pgmq.read('undo', 100, 10); DROP TABLE pgmq.q_undo; ROLLBACK;
SELECT pg_temp.next();
BEGIN; SELECT count(*) FROM pgmq.read('undo', 100, 1); SELECT pgmq.convert_queue('undo', 'heap'); SELECT count(*) FROM pgmq.read('undo', 100, 10); ROLLBACK;
SELECT pg_temp.next();
BEGIN; SELECT count(*) FROM pgmq.read('undo', 100, 1); ALTER TABLE pgmq.q_undo ALTER message TYPE text; ROLLBACK;
SELECT pg_temp.next();
BEGIN; ALTER TABLE pgmq.q_undo ADD CHECK (msg_id < 3); ROLLBACK;
BEGIN; ALTER TABLE pgmq.q_undo ADD COLUMN extra int DEFAULT 1; SELECT pgmq.send('undo', '6'); SELECT pg_temp.next(); ROLLBACK;
SELECT pg_temp.next();
BEGIN; CREATE INDEX undo_vt ON pgmq.q_undo (vt); SELECT pg_temp.next(); ROLLBACK;
SELECT pg_temp.next();
BEGIN; CREATE INDEX undo_id ON pgmq.q_undo (msg_id DESC); CLUSTER pgmq.q_undo USING undo_id; SELECT pg_temp.next(); ROLLBACK;
SELECT pg_temp.next();

-- In a savepoint, with work before, in and after it
BEGIN;
SELECT msg_id FROM pgmq.read('undo', 100, 1);
SAVEPOINT s;
SELECT pgmq.send('undo', '"in s"') > 0;
TRUNCATE pgmq.q_undo;
SELECT pgmq.send('undo', '"after truncate"') > 0;
SELECT message FROM pgmq.read('undo', 0, 10);
SAVEPOINT t;
DROP TABLE pgmq.q_undo;
ROLLBACK TO t;
SELECT message FROM pgmq.read('undo', 0, 10);
ROLLBACK TO s;
SELECT msg_id, read_ct FROM pgmq.read('undo', 0, 10);
SELECT pgmq.send('undo', '"after s"') > 0;
COMMIT;
SELECT msg_id < 4 AS old, read_ct, vt > now() AS leased, message FROM pgmq.q_undo ORDER BY msg_id;
SELECT * FROM pgmq.check_queue('undo');

-- Created and dropped, or created only, in a transaction that fails
BEGIN; SELECT pgmq.create('undo_new'); SELECT pgmq.send('undo_new', '1'); SELECT msg_id FROM pgmq.read('undo_new', 0, 1); ROLLBACK;
SELECT pgmq.send('undo_new', '1');
SELECT queue_name FROM pgmq.list_queues() WHERE queue_name = 'undo_new';
BEGIN; SELECT pgmq.create('undo_new'); SELECT pgmq.send('undo_new', '1'); SELECT pgmq.drop_queue('undo_new'); COMMIT;
BEGIN; SELECT pgmq.create('undo_new'); SELECT pgmq.send('undo_new', '1'); COMMIT;
SELECT msg_id, read_ct FROM pgmq.read('undo_new', 0, 1);
SELECT * FROM pgmq.check_queue('undo_new');
SELECT pgmq.drop_queue('undo'), pgmq.drop_queue('undo_new');
