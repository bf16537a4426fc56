-- Creating, listing, measuring, purging and dropping a hot queue.

SELECT pgmq.create('life');
SELECT pgmq.create_non_partitioned('life_np');
SELECT pgmq.create_unlogged('life_ul');

-- Which tables are hot, which are logged?
SELECT c.relname, a.amname, c.relpersistence
  FROM pg_class c JOIN pg_am a ON a.oid = c.relam
  WHERE c.relnamespace = 'pgmq'::regnamespace AND c.relkind = 'r' AND c.relname ~ '^[qa]_life'
  ORDER BY 1;
SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull, attidentity
  FROM pg_attribute WHERE attrelid = 'pgmq.q_life'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod) AS type, attnotnull, attidentity
  FROM pg_attribute WHERE attrelid = 'pgmq.a_life'::regclass AND attnum > 0 ORDER BY attnum;
SELECT pg_get_serial_sequence('pgmq.q_life', 'msg_id');
SELECT indexdef FROM pg_indexes WHERE tablename IN ('q_life', 'a_life') ORDER BY 1;

-- Again: no error, whatever the kind
\set VERBOSITY terse
SELECT pgmq.create('life');
SELECT pgmq.create_unlogged('life');
SELECT queue_name, is_partitioned, is_unlogged, created_at IS NOT NULL AS created
  FROM pgmq.list_queues() WHERE queue_name ~ '^life' ORDER BY 1;
SELECT pgmq.acquire_queue_lock('life');
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();

-- Measuring
CREATE FUNCTION pg_temp.measured(q text) RETURNS text LANGUAGE sql AS $$
  SELECT concat_ws(' ', m.queue_name, 'length', m.queue_length, 'visible', m.queue_visible_length,
    'newest', m.newest_msg_age_sec IS NOT NULL, 'oldest', m.oldest_msg_age_sec >= m.newest_msg_age_sec,
    'total', m.total_messages, 'now', m.scrape_time = now(), 'partition', m.default_partition_length)
  FROM pgmq.metrics(q) m $$;
SELECT pg_temp.measured('life');
SELECT pgmq.send_batch('life', '{1,2,3,4}'::jsonb[]);
SELECT pgmq.send('life', '{}', 100);
SELECT pg_temp.measured('life');
SELECT msg_id FROM pgmq.read('life', 100, 2);
SELECT pgmq.delete('life', 3);
SELECT pg_temp.measured('life');
SELECT pg_temp.measured('LIFE');
SELECT queue_name, queue_length, queue_visible_length, total_messages
  FROM pgmq.metrics_all() WHERE queue_name ~ '^life' ORDER BY 1;
SELECT * FROM pgmq.check_queue('life');

-- Emptying keeps the sequence
SELECT pgmq.purge_queue('life');
SELECT pg_temp.measured('life');
SELECT pgmq.purge_queue('life');
SELECT * FROM pgmq.read('life', 0, 1);
SELECT pgmq.send('life', '"after purge"');
SELECT msg_id, read_ct, message FROM pgmq.read('life', 0, 1);
SELECT * FROM pgmq.check_queue('life');

-- Dropping
SELECT pgmq.drop_queue('life');
SELECT pgmq.drop_queue('life');
SELECT pgmq.drop_queue('life_np', true);
SELECT pgmq.drop_queue('life_np', false);
SELECT pgmq.drop_queue('life_ul');
SELECT pgmq.drop_queue(NULL);
SELECT relname FROM pg_class WHERE relname ~ '^[qa]_life';
SELECT queue_name FROM pgmq.meta WHERE queue_name ~ '^life';
