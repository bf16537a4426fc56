-- Every form of read, read_with_poll and pop, on a hot queue.

SELECT pgmq.create('read');
SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.oid = 'pgmq.q_read'::regclass;
SELECT * FROM pgmq.read('read', 10, 1);
SELECT * FROM pgmq.pop('read');
SELECT count(*) FROM pgmq.send_batch('read',
  ARRAY['{"n": 1, "k": "a"}', '{"n": 2, "k": "b"}', '{"n": 3, "k": "a"}', '[4, "a"]', '"s"', NULL, '7', '8']::jsonb[],
  ARRAY['{"h": 1}', NULL, NULL, NULL, NULL, NULL, NULL, NULL]::jsonb[]);

-- The lease: times, count, and what is returned is what is stored
SELECT msg_id, read_ct, last_read_at > enqueued_at AS read_later,
       round(extract(epoch FROM vt - last_read_at)) AS lease_seconds, message, headers
  FROM pgmq.read('read', 100, 2);
SELECT msg_id, read_ct, last_read_at > enqueued_at AS read_later,
       round(extract(epoch FROM vt - last_read_at)) AS lease_seconds, message, headers
  FROM pgmq.q_read WHERE msg_id <= 3 ORDER BY 1;

-- Quantities
SELECT msg_id FROM pgmq.read('read', 0, 0);
SELECT msg_id FROM pgmq.read('read', 0, 2);
SELECT msg_id FROM pgmq.read('read', 0, NULL);
SELECT msg_id FROM pgmq.read('read', -100, 1000);
SELECT msg_id, read_ct, vt < last_read_at AS past FROM pgmq.q_read ORDER BY 1;

-- Conditions: containment; leased messages are not considered
SELECT msg_id, message FROM pgmq.read('read', 0, 10, '{"k": "a"}');
SELECT msg_id, message FROM pgmq.read('read', 0, 10, '["a"]');
SELECT msg_id, message FROM pgmq.read('read', 0, 10, '"s"');
SELECT msg_id, message FROM pgmq.read('read', 0, 10, '7');
SELECT msg_id, message FROM pgmq.read('read', 0, 10, '{"k": "none"}');
SELECT msg_id, message FROM pgmq.read('read', 0, 1, conditional => '{}');
SELECT msg_id, message FROM pgmq.read('read', 0, 1, conditional => NULL);
SELECT msg_id, message FROM pgmq.read('read', 0, 1, '{"k": "a"}');
-- what a filter passed over is as it was
SELECT msg_id, read_ct FROM pgmq.q_read ORDER BY 1;

-- Polling: messages at once, none within no time, none for no poll
SELECT msg_id FROM pgmq.read_with_poll('read', 100, 2);
SELECT msg_id FROM pgmq.read_with_poll(queue_name => 'read', vt => 100, qty => 1, max_poll_seconds => 1,
  poll_interval_ms => 10, conditional => '{"k": "none"}');
SELECT msg_id FROM pgmq.read_with_poll('read', 100, 1, 1, 10, '7');
SELECT msg_id FROM pgmq.read_with_poll('read', 100, 1, 0);
SELECT msg_id FROM pgmq.read_with_poll('read', 100, 1, -1);
SELECT msg_id FROM pgmq.read_with_poll('read', 100, 1, NULL, NULL);

-- Pop returns rows as stored, and they are gone
SELECT msg_id, read_ct, message FROM pgmq.pop('read');
SELECT msg_id, read_ct, vt < clock_timestamp() AS ready FROM pgmq.pop(queue_name => 'read', qty => 2);
SELECT msg_id FROM pgmq.pop('read', 0);
SELECT msg_id FROM pgmq.pop('read', NULL);
SELECT msg_id, read_ct FROM pgmq.q_read ORDER BY 1;
SELECT * FROM pgmq.check_queue('read');

-- Delayed messages come when their time has come, lowest msg_id first
SELECT pgmq.purge_queue('read');
SET pgmq.test_clock = '2100-01-01 00:00:00+00';
SELECT pgmq.send('read', '"late"', 1) AS id \gset
SELECT pgmq.send('read', '"now"');
SELECT message FROM pgmq.read('read', 100, 10);
SET pgmq.test_clock = '2100-01-01 00:00:01+00';
SELECT message, vt - last_read_at AS leased FROM pgmq.read_with_poll('read', 100, 10, 10);
RESET pgmq.test_clock;
SELECT * FROM pgmq.check_queue('read');
SELECT pgmq.drop_queue('read');
