-- The ordered scan: visible messages, or all, in the order of msg_id.

SET enable_seqscan = off;
SELECT pgmq.create('sorted');
SELECT count(*) FROM pgmq.send_batch('sorted', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 20) i));
SELECT count(*) FROM pgmq.read('sorted', 1000, 5);
SELECT pgmq.send('sorted', '"late"', 500);
ANALYZE pgmq.q_sorted;

-- What a queue is asked, and what that costs
SELECT test.plan('SELECT * FROM pgmq.q_sorted WHERE vt <= now() ORDER BY msg_id LIMIT 1 FOR UPDATE SKIP LOCKED');
SELECT test.plan('SELECT * FROM pgmq.q_sorted WHERE clock_timestamp() >= vt AND read_ct = 0 ORDER BY msg_id LIMIT 2');
SELECT test.plan('SELECT msg_id FROM pgmq.q_sorted WHERE timestamptz_lt(vt, now()) ORDER BY msg_id DESC LIMIT 2');
SELECT test.plan('SELECT min(msg_id) FROM pgmq.q_sorted WHERE vt <= now()');
SELECT test.plan('SELECT max(msg_id) FROM pgmq.q_sorted');
SELECT test.plan('SELECT count(*) FROM pgmq.q_sorted WHERE vt <= now()');
-- No such order, no such bound, or a volatile one
SELECT test.plan('SELECT * FROM pgmq.q_sorted ORDER BY enqueued_at LIMIT 1');
SELECT test.plan('SELECT * FROM pgmq.q_sorted WHERE vt >= now()');
SELECT test.plan('SELECT * FROM pgmq.q_sorted WHERE vt <= now() - random() * ''1 s''::interval');
SET pgmq.enable_scan = off;
SELECT test.plan('SELECT msg_id FROM pgmq.q_sorted WHERE vt <= now() ORDER BY msg_id LIMIT 1');
SET pgmq.enable_scan = on;

-- What it finds
SELECT min(msg_id), max(msg_id), count(*) FROM pgmq.q_sorted WHERE vt <= now();
SELECT min(msg_id), max(msg_id) FROM pgmq.q_sorted;
SELECT array_agg(msg_id) FROM (SELECT msg_id FROM pgmq.q_sorted WHERE vt <= now() + '600 s' ORDER BY msg_id DESC LIMIT 4) x;
SELECT array_agg(msg_id) FROM (SELECT msg_id FROM pgmq.q_sorted WHERE vt <= 'infinity' ORDER BY msg_id LIMIT 7) x;
SELECT count(*) FROM pgmq.q_sorted WHERE vt <= '-infinity';
SELECT count(*) FROM pgmq.q_sorted WHERE vt <= NULL::timestamptz;

-- What this transaction did; a cursor sees what was there, and leases as they are now
BEGIN;
SELECT pgmq.send('sorted', '"own"');
DECLARE c SCROLL CURSOR FOR SELECT msg_id FROM pgmq.q_sorted WHERE vt <= clock_timestamp() ORDER BY msg_id;
FETCH 2 FROM c;
SELECT msg_id FROM pgmq.set_vt('sorted', 10, 100);
SELECT msg_id, read_ct FROM pgmq.set_vt('sorted', 1, -10);
DELETE FROM pgmq.q_sorted WHERE msg_id IN (9, 22);
SELECT pgmq.send('sorted', '"later"');
FETCH 4 FROM c;
FETCH LAST FROM c;
FETCH BACKWARD 2 FROM c;
SELECT array_agg(msg_id) FROM (SELECT msg_id FROM pgmq.q_sorted WHERE vt <= clock_timestamp() ORDER BY msg_id) x;
SAVEPOINT s;
SELECT msg_id FROM pgmq.read('sorted', 100, 3);
SELECT array_agg(msg_id) FROM (SELECT msg_id FROM pgmq.q_sorted WHERE vt <= clock_timestamp() ORDER BY msg_id DESC LIMIT 9) x;
ROLLBACK TO s;
SELECT array_agg(msg_id) FROM (SELECT msg_id FROM pgmq.q_sorted WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT 3) x;
ROLLBACK;
SELECT array_agg(msg_id) FROM (SELECT msg_id FROM pgmq.q_sorted WHERE vt <= clock_timestamp() ORDER BY msg_id) x;

-- Rows without msg_id are in no ring: then there is no such scan
ALTER TABLE pgmq.q_sorted ALTER msg_id DROP IDENTITY, ALTER msg_id DROP NOT NULL;
INSERT INTO pgmq.q_sorted (vt, message) VALUES (now(), '"no id"');
SELECT test.plan('SELECT msg_id FROM pgmq.q_sorted WHERE vt <= now() ORDER BY msg_id');
SELECT count(*) FROM pgmq.q_sorted WHERE vt <= now();
DELETE FROM pgmq.q_sorted WHERE msg_id IS NULL;
SELECT * FROM pgmq.check_queue('sorted');
SELECT pgmq.drop_queue('sorted');
