-- Read-only transactions: looking is allowed, the rest is 25006.

SELECT pgmq.create('ro');
SELECT pgmq.send('ro', '1');
\set VERBOSITY sqlstate
BEGIN READ ONLY;
SAVEPOINT s;
SELECT pgmq.send('ro', '2');
ROLLBACK TO s;
SELECT pgmq.send_batch('ro', '{2}'::jsonb[]);
ROLLBACK TO s;
SELECT * FROM pgmq.read('ro', 0, 1);
ROLLBACK TO s;
SELECT * FROM pgmq.read_with_poll('ro', 0, 1);
ROLLBACK TO s;
SELECT * FROM pgmq.pop('ro');
ROLLBACK TO s;
SELECT pgmq.delete('ro', 1);
ROLLBACK TO s;
SELECT pgmq.delete('ro', '{1}'::bigint[]);
ROLLBACK TO s;
SELECT pgmq.archive('ro', 1);
ROLLBACK TO s;
SELECT pgmq.archive('ro', '{1}'::bigint[]);
ROLLBACK TO s;
SELECT * FROM pgmq.set_vt('ro', 1, 1);
ROLLBACK TO s;
SELECT pgmq.purge_queue('ro');
ROLLBACK TO s;
SELECT pgmq.drop_queue('ro');
ROLLBACK TO s;
SELECT pgmq.create('ro2');
ROLLBACK TO s;
SELECT queue_length, queue_visible_length FROM pgmq.metrics('ro');
SELECT queue_length FROM pgmq.metrics_all() WHERE queue_name = 'ro';
SELECT queue_name FROM pgmq.list_queues() WHERE queue_name = 'ro';
SELECT msg_id, read_ct FROM pgmq.q_ro;
SELECT * FROM pgmq.check_queue('ro');
COMMIT;

-- No id, no lease, nothing changed
SELECT msg_id, read_ct FROM pgmq.read('ro', 0, 1);
SELECT total_messages FROM pgmq.metrics('ro');
SELECT * FROM pgmq.check_queue('ro');
SELECT pgmq.drop_queue('ro');
