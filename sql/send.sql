-- Every form of send and send_batch, on a hot queue.

SELECT pgmq.create('send');
SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.oid = 'pgmq.q_send'::regclass;

-- One message
SELECT pgmq.send('send', '{"form": 1}');
SELECT * FROM pgmq.send('send', '{"form": 2}', '{"h": 2}'::jsonb);
SELECT * FROM pgmq.send('send', '{"form": 3}', 100);
SELECT * FROM pgmq.send('send', '{"form": 4}', '2200-01-01 00:00+00'::timestamptz);
SELECT * FROM pgmq.send('send', '{"form": 5}', '{"h": 5}', 100);
SELECT * FROM pgmq.send('send', '{"form": 6}', '{"h": 6}', '2200-01-01 00:00+00'::timestamptz);

-- By name, as clients call them
SELECT send FROM pgmq.send(queue_name => 'send', msg => '{"form": 7}');
SELECT send FROM pgmq.send(queue_name => 'send', msg => '{"form": 8}', delay => 0);
SELECT send FROM pgmq.send(queue_name => 'send', msg => '{"form": 9}', headers => '{"h": 9}', delay => -100);
SELECT send FROM pgmq.send(queue_name := 'send', msg := '[10]', headers := '{"h": 10}', delay := now());

-- Delays at the ends, and NULLs
SELECT pgmq.send('send', '"never"', 'infinity'::timestamptz);
SELECT pgmq.send('send', '"long ago"', '-infinity'::timestamptz);
SELECT pgmq.send('send', '"smallint"', 100::smallint);
SELECT pgmq.send('send', '"date"', '2200-01-01'::date);
SELECT pgmq.send('send', NULL, NULL::jsonb);
SELECT pgmq.send('send', 'null', 'null'::jsonb);

SELECT msg_id, read_ct, last_read_at, vt > clock_timestamp() AS delayed, vt >= enqueued_at AS after, message, headers
  FROM pgmq.q_send ORDER BY msg_id;
SELECT msg_id, vt FROM pgmq.q_send WHERE msg_id IN (4, 6, 11, 12) ORDER BY 1;
SELECT * FROM pgmq.check_queue('send');

-- Several messages
SELECT pgmq.purge_queue('send');
SELECT pgmq.send_batch('send', ARRAY['{"form": 1}', NULL]::jsonb[]);
SELECT * FROM pgmq.send_batch('send', ARRAY['{"form": 2}', '2']::jsonb[], ARRAY['{"h": 2}', NULL]::jsonb[]);
SELECT * FROM pgmq.send_batch('send', ARRAY['{"form": 3}']::jsonb[], 100);
SELECT * FROM pgmq.send_batch('send', ARRAY['{"form": 4}']::jsonb[], '2200-01-01 00:00+00'::timestamptz);
SELECT * FROM pgmq.send_batch('send', ARRAY['{"form": 5}']::jsonb[], ARRAY['{"h": 5}']::jsonb[], 100);
SELECT * FROM pgmq.send_batch('send', ARRAY['{"form": 6}']::jsonb[], ARRAY['{"h": 6}']::jsonb[],
  '2200-01-01 00:00+00'::timestamptz);
SELECT send_batch, ordinality FROM
  pgmq.send_batch(queue_name => 'send', msgs => '{1,2,3}', headers => NULL::jsonb[], delay => 0) WITH ORDINALITY;

-- Arrays of two dimensions: length is the outer one, messages are all
SELECT pgmq.send_batch('send', '{{1,2},{3,4}}'::jsonb[], '{{5,6}}'::jsonb[]);
SELECT pgmq.send_batch('send', '{{1,2},{3,4}}'::jsonb[], '{5,6}'::jsonb[]);

-- The unchecked one and the checker
SELECT pgmq._send_batch('send', '{7}'::jsonb[], '{8,9}'::jsonb[], now());
SELECT pgmq._send_batch('send', '{}'::jsonb[], NULL, now());
SELECT pgmq._send_batch('send', NULL, NULL, now());
SELECT pgmq._validate_batch_params('{1}'::jsonb[], NULL);

SELECT msg_id, read_ct, last_read_at, vt > clock_timestamp() AS delayed, message, headers
  FROM pgmq.q_send ORDER BY msg_id;
SELECT count(DISTINCT vt) AS vts, count(DISTINCT enqueued_at) AS enqueued
  FROM pgmq.q_send WHERE msg_id BETWEEN 25 AND 27;
SELECT * FROM pgmq.check_queue('send');
SELECT pgmq.drop_queue('send');
