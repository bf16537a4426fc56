-- A transaction sees what it did itself: own sends, own leases, own deletes.

SELECT pgmq.create('own');
CREATE VIEW pg_temp.own AS
  SELECT msg_id, read_ct, last_read_at IS NOT NULL AS was_read, vt > clock_timestamp() AS waits, message FROM pgmq.q_own;

-- Own messages can be read, leased, archived and deleted before they are committed
BEGIN;
SELECT pgmq.send('own', '"sent here"');
SELECT msg_id, read_ct, message FROM pgmq.read('own', 0, 10);
SELECT msg_id, read_ct, message FROM pgmq.read('own', 100, 10);
SELECT msg_id FROM pgmq.read('own', 0, 10);
TABLE pg_temp.own;
SELECT msg_id, read_ct FROM pgmq.set_vt('own', 1, 0);
SELECT msg_id, read_ct FROM pgmq.read('own', 0, 10);
COMMIT;
TABLE pg_temp.own;
BEGIN;
SELECT count(*) FROM pgmq.send_batch('own', '{2,3,4,5}'::jsonb[]);
SELECT pgmq.delete('own', 2);
SELECT pgmq.archive('own', 3);
SELECT msg_id FROM pgmq.pop('own', 2);
SELECT queue_length, queue_visible_length FROM pgmq.metrics('own');
TABLE pg_temp.own;
COMMIT;
TABLE pg_temp.own;
SELECT * FROM pgmq.check_queue('own');

-- Read twice in a transaction counts twice; so it does with plain SQL in between
BEGIN;
SELECT msg_id, read_ct FROM pgmq.read('own', 0, 1);
SELECT msg_id, read_ct FROM pgmq.read('own', 0, 1);
UPDATE pgmq.q_own SET read_ct = read_ct + 10 RETURNING msg_id, read_ct;
SELECT msg_id, read_ct FROM pgmq.read('own', 0, 1);
COMMIT;
TABLE pg_temp.own;
SELECT * FROM pgmq.check_queue('own');

-- A standing lease is seen by all SQL of the transaction, and absorbed by its UPDATE
BEGIN;
SELECT msg_id, read_ct FROM pgmq.read('own', 100, 1);
SELECT msg_id FROM pgmq.q_own WHERE vt <= clock_timestamp();
UPDATE pgmq.q_own SET message = '"changed"' WHERE vt > clock_timestamp() RETURNING msg_id, read_ct, message;
TABLE pg_temp.own;
SELECT msg_id, read_ct, message FROM pgmq.set_vt('own', 5, 0);
COMMIT;
TABLE pg_temp.own;
SELECT * FROM pgmq.check_queue('own');

-- Lease and acknowledge in one transaction; lease, then delete by SQL
BEGIN;
SELECT pgmq.send('own', '6');
SELECT pgmq.archive('own', msg_id) FROM pgmq.read('own', 100, 1);
SELECT msg_id, read_ct FROM pgmq.read('own', 100, 1);
DELETE FROM pgmq.q_own RETURNING msg_id, read_ct, last_read_at IS NOT NULL AS was_read;
SELECT * FROM pgmq.read('own', 0, 10);
COMMIT;
SELECT msg_id, read_ct FROM pgmq.a_own ORDER BY 1;
TABLE pg_temp.own;
SELECT * FROM pgmq.check_queue('own');

-- Rollback undoes all of it, but not the sequence
SELECT count(*) FROM pgmq.send_batch('own', '{1,2,3,4}'::jsonb[]);
BEGIN;
SELECT msg_id FROM pgmq.read('own', 100, 1);
SELECT pgmq.delete('own', 8);
SELECT pgmq.archive('own', 9);
SELECT msg_id FROM pgmq.pop('own');
SELECT pgmq.send('own', '"rolled back"');
SELECT queue_length, queue_visible_length FROM pgmq.metrics('own');
ROLLBACK;
TABLE pg_temp.own;
SELECT queue_length, queue_visible_length, total_messages FROM pgmq.metrics('own');
SELECT msg_id, read_ct FROM pgmq.read('own', 0, 10);
SELECT pgmq.send('own', '"next"');
SELECT * FROM pgmq.check_queue('own');
DROP VIEW pg_temp.own;
SELECT pgmq.drop_queue('own');
