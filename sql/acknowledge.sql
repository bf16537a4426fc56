-- Every form of delete, archive and set_vt, on a hot queue.

SELECT pgmq.create('ack');
SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.oid = 'pgmq.q_ack'::regclass;
SELECT count(*) FROM pgmq.send_batch('ack', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 20) i));
SELECT count(*) FROM pgmq.read('ack', 100, 5);

-- delete: leased or not, known or not, twice
SELECT pgmq.delete('ack', 1);
SELECT pgmq.delete('ack', 1);
SELECT pgmq.delete('ack', 11);
SELECT pgmq.delete(queue_name => 'ack', msg_id => NULL);
SELECT * FROM pgmq.delete('ack', ARRAY[2, 2, 12, 999, NULL]) ORDER BY 1;
SELECT * FROM pgmq.delete('ack', '{}'::bigint[]);
SELECT * FROM pgmq.delete(queue_name => 'ack', msg_ids => NULL);

-- archive: the row moves as it is
SELECT pgmq.archive('ack', 3);
SELECT pgmq.archive('ack', 3);
SELECT pgmq.archive('ack', NULL::bigint);
SELECT * FROM pgmq.archive('ack', ARRAY[4, 4, 13, 999, NULL]) ORDER BY 1;
SELECT * FROM pgmq.archive(queue_name => 'ack', msg_ids => '{}'::bigint[]);
SELECT * FROM pgmq.archive('ack', NULL::bigint[]);
SELECT msg_id, read_ct, last_read_at IS NOT NULL AS was_read, vt > clock_timestamp() AS leased,
       archived_at > enqueued_at AS later, message, headers FROM pgmq.a_ack ORDER BY 1;

-- set_vt: only vt changes
SELECT msg_id, read_ct, last_read_at IS NOT NULL AS was_read, vt > clock_timestamp() + '190 s' AS extended
  FROM pgmq.set_vt('ack', 5, 200);
SELECT msg_id, read_ct, last_read_at, vt FROM pgmq.set_vt('ack', 6, '2200-01-01 00:00+00'::timestamptz);
SELECT msg_id, vt > clock_timestamp() AS future FROM pgmq.set_vt('ack', ARRAY[7, 7, 999, NULL, 8], 100) ORDER BY 1;
SELECT msg_id, vt FROM pgmq.set_vt(queue_name => 'ack', msg_ids => ARRAY[14, 15],
  vt => '2200-01-01 00:00+00'::timestamptz) ORDER BY 1;
SELECT msg_id, vt FROM pgmq.set_vt(queue_name => 'ack', msg_id => 16, vt => 'infinity'::timestamptz);
SELECT * FROM pgmq.set_vt('ack', 999, 1);
SELECT * FROM pgmq.set_vt('ack', NULL::bigint, 1);
SELECT * FROM pgmq.set_vt('ack', NULL::bigint[], 1);
SELECT * FROM pgmq.set_vt('ack', '{}'::bigint[], now());
SELECT msg_id FROM pgmq.read('ack', 0, 100);

-- and back: negative, now, long ago
SELECT msg_id, vt < clock_timestamp() AS past FROM pgmq.set_vt('ack', 5, -10);
SELECT msg_id FROM pgmq.set_vt('ack', ARRAY[6, 7], 0) ORDER BY 1;
SELECT msg_id, vt FROM pgmq.set_vt('ack', ARRAY[8, 14, 15, 16], '-infinity'::timestamptz) ORDER BY 1;
SELECT msg_id, read_ct FROM pgmq.read('ack', 0, 100);

-- Ids that the ring cannot know twice: written by hand
INSERT INTO pgmq.q_ack (msg_id, vt, message) OVERRIDING SYSTEM VALUE VALUES (20, now(), '"again"');
SELECT msg_id, read_ct, vt, message FROM pgmq.set_vt('ack', 20, '2200-01-01 00:00+00'::timestamptz) ORDER BY message::text;
SELECT pgmq.delete('ack', 20);
SELECT msg_id FROM pgmq.q_ack ORDER BY 1;
SELECT * FROM pgmq.check_queue('ack');

-- An id that is in the archive already
INSERT INTO pgmq.a_ack (msg_id, vt) VALUES (19, now());
SELECT pgmq.archive('ack', 19);
SELECT * FROM pgmq.archive('ack', ARRAY[18, 19]);
SELECT msg_id FROM pgmq.read('ack', 0, 100);
SELECT * FROM pgmq.check_queue('ack');
SELECT pgmq.drop_queue('ack');
