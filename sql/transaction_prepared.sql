-- PREPARE TRANSACTION with sends, reads and deletes; then either way.

SELECT pgmq.create('prepared');
CREATE VIEW pg_temp.state AS
  SELECT msg_id, read_ct, last_read_at IS NOT NULL AS was_read, vt > clock_timestamp() AS waits, message
    FROM pgmq.q_prepared ORDER BY 1;
SELECT count(*) FROM pgmq.send_batch('prepared', '{1,2,3,4,5}'::jsonb[]);

BEGIN;
SELECT msg_id, read_ct FROM pgmq.read('prepared', 100, 1);
SELECT pgmq.delete('prepared', 2);
SELECT pgmq.archive('prepared', 3);
SELECT pgmq.send('prepared', '"sent"');
UPDATE pgmq.q_prepared SET message = '"updated"' WHERE msg_id = 4;
PREPARE TRANSACTION 'pgmq_a';

-- Undecided: only what it left alone can be read; others do not wait for the rest
TABLE pg_temp.state;
SELECT msg_id, read_ct FROM pgmq.read('prepared', 0, 10);
SELECT msg_id FROM pgmq.read('prepared', 0, 10, '4');
SELECT msg_id FROM pgmq.pop('prepared', 0);
\set VERBOSITY terse
SET lock_timeout = '10ms';
SELECT pgmq.delete('prepared', 1);
SELECT pgmq.delete('prepared', 2);
SELECT * FROM pgmq.set_vt('prepared', 4, 1);
UPDATE pgmq.q_prepared SET read_ct = 7 WHERE msg_id = 1;
SELECT msg_id FROM pgmq.q_prepared WHERE msg_id = 3 FOR UPDATE NOWAIT;
RESET lock_timeout;
\set VERBOSITY default
SELECT msg_id FROM pgmq.q_prepared ORDER BY 1 FOR UPDATE SKIP LOCKED;
SELECT * FROM pgmq.check_queue('prepared');

ROLLBACK PREPARED 'pgmq_a';
TABLE pg_temp.state;
SELECT msg_id, read_ct FROM pgmq.read('prepared', 0, 10);
SELECT * FROM pgmq.check_queue('prepared');

BEGIN;
SELECT msg_id, read_ct FROM pgmq.read('prepared', 100, 1);
SELECT pgmq.delete('prepared', 2);
SELECT pgmq.archive('prepared', 3);
SELECT pgmq.send('prepared', '"sent"');
SELECT msg_id, read_ct FROM pgmq.read('prepared', 0, 1, '"sent"');
UPDATE pgmq.q_prepared SET message = '"updated"' WHERE msg_id = 4;
PREPARE TRANSACTION 'pgmq_b';
SELECT msg_id FROM pgmq.read('prepared', 0, 10);
COMMIT PREPARED 'pgmq_b';
TABLE pg_temp.state;
SELECT msg_id, read_ct, message FROM pgmq.read('prepared', 0, 10);
SELECT msg_id, read_ct FROM pgmq.set_vt('prepared', 1, 0);
SELECT msg_id, read_ct, message FROM pgmq.read('prepared', 0, 10);
SELECT msg_id, read_ct FROM pgmq.a_prepared;
SELECT * FROM pgmq.check_queue('prepared');

-- Many messages at once, decided while nobody looks
BEGIN;
SELECT count(*) FROM pgmq.send_batch('prepared', (SELECT array_agg(to_jsonb(i)) FROM generate_series(100, 199) i));
PREPARE TRANSACTION 'pgmq_many';
SELECT pgmq.delete('prepared', 1000);
COMMIT PREPARED 'pgmq_many';
SELECT pgmq.delete('prepared', max(msg_id)) FROM pgmq.q_prepared;
SELECT message FROM pgmq.set_vt('prepared', (SELECT max(msg_id) FROM pgmq.q_prepared), 100);
SELECT count(*) FROM pgmq.read('prepared', 0, 1000);
SELECT * FROM pgmq.check_queue('prepared');

-- With an index: the prepared lease is an ordinary update
CREATE INDEX prepared_k ON pgmq.q_prepared ((message ->> 'k'));
SELECT pgmq.send('prepared', '{"k": "indexed"}') > 0 AS sent;
BEGIN;
SELECT read_ct, message FROM pgmq.read('prepared', 0, 1, '{"k": "indexed"}');
PREPARE TRANSACTION 'pgmq_indexed';
COMMIT PREPARED 'pgmq_indexed';
SELECT read_ct, message FROM pgmq.read('prepared', 0, 1, '{"k": "indexed"}');
SET enable_seqscan = off;
SELECT read_ct FROM pgmq.q_prepared WHERE message ->> 'k' = 'indexed';
RESET enable_seqscan;
SELECT * FROM pgmq.check_queue('prepared');

-- New storage in a prepared transaction
BEGIN;
TRUNCATE pgmq.q_prepared;
SELECT pgmq.send('prepared', '"after truncate"');
PREPARE TRANSACTION 'pgmq_c';
ROLLBACK PREPARED 'pgmq_c';
SELECT msg_id, read_ct, message FROM pgmq.read('prepared', 0, 10);
BEGIN;
SELECT pgmq.purge_queue('prepared');
SELECT pgmq.send('prepared', '"after purge"');
PREPARE TRANSACTION 'pgmq_d';
COMMIT PREPARED 'pgmq_d';
SELECT msg_id, read_ct, message FROM pgmq.read('prepared', 0, 10);
SELECT * FROM pgmq.check_queue('prepared');

-- Dropped in a prepared transaction
DROP VIEW pg_temp.state;
BEGIN;
SELECT pgmq.drop_queue('prepared');
PREPARE TRANSACTION 'pgmq_e';
ROLLBACK PREPARED 'pgmq_e';
SELECT msg_id, read_ct, message FROM pgmq.read('prepared', 0, 10);
SELECT * FROM pgmq.check_queue('prepared');
BEGIN;
SELECT pgmq.drop_queue('prepared');
PREPARE TRANSACTION 'pgmq_f';
COMMIT PREPARED 'pgmq_f';
SELECT queue_name FROM pgmq.meta WHERE queue_name = 'prepared';

-- Touched by plain SQL before anybody has settled what was prepared, a message still finds
-- its group
SELECT pgmq.create('prepared_group');
SELECT count(*) FROM pgmq.read_grouped_head('prepared_group', 0, 1);
BEGIN;
SELECT pgmq.send('prepared_group', '1'), pgmq.send('prepared_group', '2', '{"x-pgmq-group": "a"}'::jsonb);
PREPARE TRANSACTION 'pgmq_test_group';
COMMIT PREPARED 'pgmq_test_group';
BEGIN;
UPDATE pgmq.q_prepared_group SET message = '3';
ROLLBACK;
SELECT * FROM pgmq.check_queue('prepared_group');
SELECT msg_id FROM pgmq.read_grouped_head('prepared_group', 0, 9);
-- Rows that came and went in a transaction that loads the ring do not count
BEGIN;
SELECT pgmq.purge_queue('prepared_group');
SELECT count(*) FROM pgmq.send_batch('prepared_group', '{1,2,3}'::jsonb[]);
SELECT count(*) FROM pgmq.pop('prepared_group', 2);
SELECT count(*) FROM pgmq.read_grouped_head('prepared_group', 0, 1);
SELECT queue_length FROM pgmq.metrics('prepared_group');
COMMIT;
SELECT * FROM pgmq.check_queue('prepared_group');
SELECT pgmq.drop_queue('prepared_group');
