-- pgmq.convert_queue: a queue becomes hot or heap and stays what it was.

CREATE FUNCTION pg_temp.storage(q text) RETURNS text LANGUAGE sql AS $$
  SELECT concat_ws(' ', a.amname, c.relpersistence,
    (SELECT string_agg(x.relname, ',' ORDER BY x.relname COLLATE "C") FROM pg_index i JOIN pg_class x ON x.oid = indexrelid
      WHERE indrelid = c.oid))
  FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.relname = 'q_' || q AND relnamespace = 'pgmq'::regnamespace $$;

-- A queue with something of everything
SET pgmq.queue_storage = heap;
SELECT pgmq.create('conv');
SELECT pgmq.send_batch('conv', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 8) i),
  (SELECT array_agg('{"h": 1}'::jsonb) FROM generate_series(1, 8) i));
SELECT msg_id FROM pgmq.read('conv', 3600, 2);
SELECT msg_id FROM pgmq.set_vt('conv', 8, '2200-01-01 00:00:00+00'::timestamptz);
SELECT pgmq.delete('conv', 3), pgmq.archive('conv', 4);
INSERT INTO pgmq.q_conv (vt, message) VALUES ('-infinity', NULL);
COMMENT ON COLUMN pgmq.q_conv.vt IS 'visible from';
GRANT SELECT (message) ON pgmq.q_conv TO pg_monitor;
CREATE TABLE before AS SELECT * FROM pgmq.q_conv;
CREATE VIEW now_not_before AS (TABLE pgmq.q_conv EXCEPT TABLE before) UNION ALL (TABLE before EXCEPT TABLE pgmq.q_conv);
CREATE VIEW about AS SELECT 'pgmq.q_conv'::regclass::oid, attname, attacl, col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = 'pgmq.q_conv'::regclass AND attnum > 0;
CREATE TABLE about_before AS TABLE about;

-- There and back
SELECT pg_temp.storage('conv');
SELECT pgmq.convert_queue('conv', 'hot');
SELECT pg_temp.storage('conv');
SELECT count(*) FROM pgmq.q_conv;
TABLE now_not_before;
TABLE about EXCEPT TABLE about_before;
SELECT queue_length, queue_visible_length, total_messages, newest_msg_age_sec >= 0 FROM pgmq.metrics('conv');
SELECT * FROM pgmq.check_queue('conv');
SELECT pgmq.convert_queue('conv', 'hot');
SELECT pgmq.convert_queue('CONV', 'heap');
SELECT pg_temp.storage('conv');
TABLE now_not_before;
TABLE about EXCEPT TABLE about_before;
SELECT pgmq.convert_queue('conv', 'heap');

-- All verbs on rows that came from a heap table
SELECT pgmq.convert_queue('conv', 'hot');
SELECT msg_id, read_ct, message, headers, last_read_at IS NULL AS never_read FROM pgmq.pop('conv', 2);
SELECT msg_id, read_ct, message, last_read_at IS NULL AS never_read FROM pgmq.read('conv', 0, 2);
SELECT msg_id, read_ct, message, last_read_at IS NULL AS never_read FROM pgmq.set_vt('conv', ARRAY[7, 8]::bigint[], 0);
SELECT pgmq.archive('conv', 7), pgmq.delete('conv', 8);
SELECT send FROM pgmq.send('conv', '"last"');
SELECT msg_id, read_ct, message, last_read_at IS NULL AS never_read FROM pgmq.q_conv ORDER BY 1;
SELECT msg_id, read_ct, message, last_read_at IS NULL AS never_read FROM pgmq.a_conv ORDER BY 1;
SELECT * FROM pgmq.check_queue('conv');

-- In a transaction that has sent and read, undone in part and as a whole
BEGIN;
SELECT send FROM pgmq.send('conv', '"mine"');
SELECT msg_id, read_ct FROM pgmq.read('conv', 3600, 1);
SAVEPOINT s;
SELECT pgmq.convert_queue('conv', 'heap');
SELECT msg_id, read_ct, vt > now() AS leased FROM pgmq.q_conv ORDER BY 1;
SELECT send FROM pgmq.send('conv', '"undone"');
ROLLBACK TO s;
SELECT pg_temp.storage('conv');
SELECT msg_id, read_ct FROM pgmq.read('conv', 3600, 1);
SELECT pgmq.convert_queue('conv', 'heap');
SELECT pgmq.convert_queue('conv', 'hot');
SELECT msg_id, read_ct FROM pgmq.read('conv', 3600, 10);
COMMIT;
SELECT * FROM pgmq.check_queue('conv');
SELECT msg_id, read_ct, vt > now() AS leased FROM pgmq.q_conv ORDER BY 1;
SELECT pgmq.convert_queue('conv', 'heap');
BEGIN;
SELECT pgmq.convert_queue('conv', 'hot');
SELECT send FROM pgmq.send('conv', '"undone"');
ROLLBACK;
SELECT pg_temp.storage('conv');
SELECT send FROM pgmq.send('conv', '"by SQL"');
SELECT pgmq.convert_queue('conv', 'hot');
SELECT msg_id, message FROM pgmq.read('conv', 0, 1);
SELECT * FROM pgmq.check_queue('conv');
RESET pgmq.queue_storage;
DROP VIEW now_not_before, about;
SELECT pgmq.drop_queue('conv');
DROP TABLE before, about_before;
