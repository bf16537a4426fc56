-- How calls of the topic functions resolve; the catalog test has their signatures.

SELECT pgmq.send_topic('a', '1');
SELECT pgmq.send_topic('a', '1', 1);
SELECT pgmq.send_topic('a', '1', 1::smallint);
SELECT pgmq.send_topic('a', '1', NULL, 1);
SELECT pgmq.send_topic(routing_key => 'a', msg => '1'), pgmq.send_topic(routing_key => 'a', msg => '1', delay => 1),
  pgmq.send_topic(routing_key := 'a', msg := '1', headers := NULL, delay := 1);
SELECT * FROM pgmq.send_batch_topic('a', '{1}');
SELECT * FROM pgmq.send_batch_topic('a', '{1}', 1);
SELECT * FROM pgmq.send_batch_topic('a', '{1}', now()::date);
SELECT * FROM pgmq.send_batch_topic('a', '{1}', NULL, now());
SELECT * FROM pgmq.send_batch_topic(routing_key => 'a', msgs => '{1}', headers => NULL::jsonb[], delay => now());

-- Calls that there are not: headers alone, an instant, a bigint; and one that could be two
SELECT pgmq.send_topic('a', '1'::jsonb, '2'::jsonb);
SELECT pgmq.send_topic('a', '1'::jsonb, now());
SELECT pgmq.send_topic('a', '1'::jsonb, 1::bigint);
SELECT * FROM pgmq.send_batch_topic('a', '{1}', 1::bigint);
SELECT * FROM pgmq.send_batch_topic('a', '{1}', NULL);
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'pgmq.topic_bindings'::regclass AND NOT tgisinternal;
