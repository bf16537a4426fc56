-- A condition that few messages match: what did not match is not fetched again, and
-- whatever becomes ready behind a consumer's back is found all the same.

CREATE FUNCTION pages(sql text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  plan json;
BEGIN
  EXECUTE 'EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ' || sql INTO plan;
  RETURN (plan->0->'Plan'->>'Shared Hit Blocks')::int + (plan->0->'Plan'->>'Shared Read Blocks')::int;
END $$;

SELECT pgmq.create('few');
SELECT count(*) FROM pgmq.send_batch('few', (SELECT array_agg(jsonb_build_object('n', i, 'want', i = 2500)) FROM generate_series(1, 5000) i));
SELECT pages($$SELECT * FROM pgmq.read('few', 100, 10, '{"want": true}')$$) > 2000 AS fetches_all;
SELECT pages($$SELECT * FROM pgmq.read('few', 100, 10, '{"want": true}')$$) < 50 AS fetches_none;

-- Another condition looks for itself
SELECT msg_id FROM pgmq.read('few', 100, 10, '{"n": 17}');
-- New messages, and one whose lease is cut short
SELECT pgmq.send('few', '{"want": true}');
SELECT msg_id FROM pgmq.set_vt('few', 2500, 0);
SELECT msg_id, read_ct FROM pgmq.read('few', 100, 10, '{"want": true}');
SELECT msg_id FROM pgmq.read('few', 100, 10, '{"want": true}');
-- A rolled back read
SELECT count(*) FROM pgmq.set_vt('few', ARRAY[2500, 5001], 0);
BEGIN;
SELECT msg_id FROM pgmq.read('few', 100, 10, '{"want": true}');
ROLLBACK;
SELECT msg_id FROM pgmq.read('few', 100, 1, '{"want": true}');
SELECT msg_id FROM pgmq.read('few', 100, 1, '{"want": true}');
-- Rows that plain SQL changes, or inserts with ids from long ago
UPDATE pgmq.q_few SET message = '{"want": true, "by": "update"}' WHERE msg_id = 5;
INSERT INTO pgmq.q_few (msg_id, vt, message) OVERRIDING SYSTEM VALUE VALUES (-1, now(), '{"want": true}');
SELECT msg_id, message FROM pgmq.read('few', 100, 10, '{"want": true}');
-- More at once than a ring remembers
SELECT count(*) FROM pgmq.read('few', 100, 5000);
SELECT count(*) FROM pgmq.set_vt('few', (SELECT array_agg(msg_id) FROM pgmq.q_few), 0);
SELECT array_agg(msg_id) FROM pgmq.read('few', 100, 10, '{"want": true}');
-- New storage
SELECT pgmq.purge_queue('few');
ALTER SEQUENCE pgmq.q_few_msg_id_seq RESTART;
SELECT pgmq.send('few', '{"want": true}');
SELECT msg_id FROM pgmq.read('few', 100, 10, '{"want": true}');
SELECT * FROM pgmq.check_queue('few');
SELECT pgmq.drop_queue('few');
