-- Sending to topics: one message or several, to hot and heap queues alike.

SELECT pgmq.create('topic_hot'), pgmq.create('Topic_Mixed');
SET pgmq.queue_storage = heap;
SELECT pgmq.create('topic_heap');
RESET pgmq.queue_storage;
CREATE VIEW sent AS
  SELECT q, msg_id, vt - enqueued_at > interval '1 minute' AS delayed, vt, message, headers FROM (
    SELECT 'hot' AS q, * FROM pgmq.q_topic_hot UNION ALL SELECT 'heap', * FROM pgmq.q_topic_heap
    UNION ALL SELECT 'mixed', * FROM pgmq.q_topic_mixed) x ORDER BY q, msg_id;
SELECT pgmq.send_topic('a.b', '"nobody"');
SELECT pgmq.bind_topic('a.*', 'topic_hot'), pgmq.bind_topic('a.*', 'topic_heap'), pgmq.bind_topic('a.#', 'topic_heap'),
  pgmq.bind_topic('*.b', 'Topic_Mixed');

-- One message: a queue gets it once, by however many patterns
SELECT pgmq.send_topic('a.b', '"plain"');
SELECT * FROM pgmq.send_topic('a.c', '"delayed"', 100);
SELECT send_topic FROM pgmq.send_topic('x.b', '"with headers"', '{"h": 1}', 0);
SELECT pgmq.send_topic('a.b.c', '"no headers"', NULL, 100);
SELECT pgmq.send_topic('A.b', 'null');
SELECT q, msg_id, delayed, message, headers FROM sent;
SELECT pgmq.purge_queue('topic_hot'), pgmq.purge_queue('topic_heap'), pgmq.purge_queue('Topic_Mixed');

-- A NULL delay is the table's to refuse, so only where there is one
\set VERBOSITY terse
SELECT pgmq.send_topic('nobody', '1', NULL::integer);
SELECT pgmq.send_topic('a.c', '1', NULL::integer);
SELECT pgmq.send_topic('x.b', '1', NULL, NULL);
SELECT * FROM pgmq.send_batch_topic('nobody', '{1}', NULL::timestamptz);
SELECT * FROM pgmq.send_batch_topic('a.c', '{1}', NULL::timestamptz);
SELECT * FROM pgmq.send_batch_topic('x.b', '{1}', NULL::integer);
\set VERBOSITY default

-- Several: by queue, in the order of the array
SELECT * FROM pgmq.send_batch_topic('a.b', ARRAY['1', NULL, '3']::jsonb[]);
SELECT * FROM pgmq.send_batch_topic('x.b', '{4}'::jsonb[], '{5}'::jsonb[]);
SELECT * FROM pgmq.send_batch_topic('a.c', '{6}'::jsonb[], 100);
SELECT * FROM pgmq.send_batch_topic('a.c', '{7}'::jsonb[], -100);
SELECT * FROM pgmq.send_batch_topic('a.c', '{8}'::jsonb[], '2200-01-01 00:00+00'::timestamptz);
SELECT queue_name, msg_id FROM pgmq.send_batch_topic('a.c', '{9}'::jsonb[], ARRAY[NULL]::jsonb[], 100);
SELECT pgmq.send_batch_topic('a.b', '{10,11}'::jsonb[], '{12,13}'::jsonb[], '2200-01-01 00:00+00'::timestamptz);
SELECT * FROM pgmq.send_batch_topic('nobody', '{1}'::jsonb[]);
SELECT ordinality, queue_name, msg_id FROM pgmq.send_batch_topic('a.b', '{{14,15},{16,17}}'::jsonb[], '{{18},{19}}'::jsonb[])
  WITH ORDINALITY;
SELECT q, msg_id, delayed, message, headers FROM sent;
SELECT q, count(DISTINCT vt) FROM sent WHERE message IN ('14', '15', '16', '17') GROUP BY q ORDER BY q;

-- Calls in a query, and in a function; several of one statement see each other's bindings
SELECT k, s.* FROM unnest('{a.c,x.b,nobody}'::text[]) k LEFT JOIN LATERAL pgmq.send_batch_topic(k, '{20}') s ON true;
DO $$ BEGIN
  PERFORM pgmq.bind_topic('do', 'topic_hot');
  RAISE NOTICE '%', pgmq.send_topic('do', '21');
  RAISE NOTICE '%', pgmq.unbind_topic('do', 'topic_hot');
  RAISE NOTICE '%', pgmq.send_topic('do', '22');
END $$;
SELECT pgmq.send_topic('one', '23') AS before, pgmq.bind_topic('one', 'topic_hot'), pgmq.send_topic('one', '24') AS between,
  pgmq.unbind_topic('one', 'topic_hot'), pgmq.send_topic('one', '25') AS after;
WITH new AS (INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ('cte', 'topic_hot') RETURNING pattern)
  SELECT pgmq.send_topic(pattern, '26') FROM new;
SELECT pgmq.send_topic('cte', '27');

-- All or nothing: a queue that is not there (dropped by hand, which meta does not notice)
DROP VIEW sent;
BEGIN;
DROP TABLE pgmq.q_topic_mixed;
SAVEPOINT s;
SELECT pgmq.send_topic('a.b', '28');
ROLLBACK TO s;
SELECT pgmq.send_topic('a.c', '29');
ROLLBACK;
SELECT count(*) FROM pgmq.q_topic_hot WHERE message IN ('28', '29');
SELECT * FROM pgmq.check_queue('topic_hot') UNION ALL SELECT * FROM pgmq.check_queue('topic_mixed');
SELECT pgmq.drop_queue('topic_hot'), pgmq.drop_queue('topic_heap'), pgmq.drop_queue('Topic_Mixed');
SELECT count(*) FROM pgmq.topic_bindings;
