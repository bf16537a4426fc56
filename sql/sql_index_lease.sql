-- An index on a lease column, made by a transaction that holds leases.

SELECT pgmq.create('indexed');
SELECT count(*) FROM pgmq.send_batch('indexed', '{1,2,3,4}'::jsonb[]);
BEGIN;
SELECT msg_id FROM pgmq.read('indexed', 100, 2);
CREATE INDEX indexed_last ON pgmq.q_indexed (last_read_at);
CREATE INDEX indexed_vt ON pgmq.q_indexed (vt);
SELECT msg_id FROM pgmq.read('indexed', 100, 1);
SET LOCAL enable_seqscan = off;
SELECT msg_id FROM pgmq.q_indexed WHERE last_read_at IS NULL ORDER BY last_read_at;
SELECT count(*) FROM pgmq.q_indexed WHERE vt > now();
COMMIT;
SET enable_seqscan = off;
SELECT msg_id FROM pgmq.q_indexed WHERE last_read_at IS NULL ORDER BY last_read_at;
SELECT msg_id FROM pgmq.q_indexed WHERE vt <= now() ORDER BY vt;
SELECT count(*) FROM pgmq.q_indexed WHERE vt > now();
SELECT msg_id FROM pgmq.read('indexed', 100, 10);
SELECT count(*) FROM pgmq.q_indexed WHERE vt > now();
SELECT msg_id FROM pgmq.set_vt('indexed', 2, 0);
SELECT msg_id FROM pgmq.q_indexed WHERE vt <= now();
RESET enable_seqscan;
SELECT msg_id, read_ct FROM pgmq.q_indexed ORDER BY 1;
SELECT * FROM pgmq.check_queue('indexed');

-- The same, with a rewrite after the read
DROP INDEX pgmq.indexed_vt, pgmq.indexed_last;
SELECT count(*) FROM pgmq.set_vt('indexed', '{1,2,3,4}'::bigint[], -1);
BEGIN;
SELECT msg_id FROM pgmq.read('indexed', 100, 2);
CREATE INDEX indexed_id ON pgmq.q_indexed (msg_id);
CLUSTER pgmq.q_indexed USING indexed_id;
CREATE INDEX indexed_vt ON pgmq.q_indexed (vt);
COMMIT;
SET enable_seqscan = off;
SELECT msg_id FROM pgmq.q_indexed WHERE vt <= now() ORDER BY vt, msg_id;
SELECT count(*) FROM pgmq.q_indexed WHERE vt > now();
RESET enable_seqscan;
SELECT msg_id, read_ct FROM pgmq.q_indexed ORDER BY 1;
SELECT msg_id FROM pgmq.read('indexed', 100, 10);
SELECT * FROM pgmq.check_queue('indexed');
SELECT pgmq.drop_queue('indexed');
