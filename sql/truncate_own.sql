-- Storage that the transaction itself made is emptied in place: rows that come into the
-- places of messages it has read show nothing of those leases, and nothing is left to be
-- written for rows that are gone.
BEGIN;
SELECT pgmq.create('emptied');
SELECT * FROM pgmq.send_batch('emptied', '{1,2,3}'::jsonb[]);
SELECT msg_id, read_ct FROM pgmq.read('emptied', 60, 3);
TRUNCATE pgmq.q_emptied;
SELECT pgmq.send('emptied', '4');
SELECT msg_id, read_ct, last_read_at IS NULL AS never_read FROM pgmq.q_emptied;
COMMIT;
SELECT msg_id, read_ct, last_read_at IS NULL AS never_read FROM pgmq.q_emptied;
SELECT msg_id, read_ct FROM pgmq.read('emptied', 60, 3);
SELECT * FROM pgmq.check_queue('emptied');
SELECT pgmq.drop_queue('emptied');

-- The same before PREPARE TRANSACTION, which writes leases as updates
BEGIN;
SELECT pgmq.create('emptied');
SELECT * FROM pgmq.send_batch('emptied', '{1,2,3}'::jsonb[]);
SELECT msg_id, read_ct FROM pgmq.read('emptied', 60, 2);
TRUNCATE pgmq.q_emptied;
SELECT pgmq.send('emptied', '4');
PREPARE TRANSACTION 'emptied';
COMMIT PREPARED 'emptied';
SELECT msg_id, read_ct, last_read_at IS NULL AS never_read FROM pgmq.q_emptied;
SELECT msg_id, read_ct FROM pgmq.read('emptied', 60, 3);
SELECT * FROM pgmq.check_queue('emptied');
SELECT pgmq.drop_queue('emptied');
