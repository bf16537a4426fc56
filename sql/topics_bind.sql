-- Bindings: made, listed, removed; they go with their queue.

SELECT pgmq.create('bind_a'), pgmq.create('Bind_B');
SELECT pgmq.bind_topic('logs.*', 'bind_a');
SELECT pgmq.bind_topic('logs.*', 'bind_a') AS again, pgmq.bind_topic('logs.*', 'Bind_B') AS other_queue;
SELECT pgmq.bind_topic(pattern => '#', queue_name => 'Bind_B');
-- the spelling in meta counts
SELECT pgmq.bind_topic('logs.*', 'BIND_A');
SELECT pattern, queue_name, compiled_regex, bound_at = now() AS now FROM pgmq.topic_bindings ORDER BY pattern, queue_name;

-- Newest first, then by pattern
UPDATE pgmq.topic_bindings SET bound_at = '2030-01-01 00:00+00' WHERE pattern = '#';
UPDATE pgmq.topic_bindings SET bound_at = '2020-01-01 00:00+00' WHERE pattern <> '#';
SELECT pgmq.bind_topic('b.c', 'bind_a'), pgmq.bind_topic('a.c', 'bind_a'), pgmq.bind_topic('a.c', 'Bind_B');
UPDATE pgmq.topic_bindings SET bound_at = '2025-01-01 00:00+00' WHERE pattern LIKE '_.c';
SET TIME ZONE 'UTC';
SELECT * FROM pgmq.list_topic_bindings();
SELECT * FROM pgmq.list_topic_bindings('bind_a');
SELECT pattern, queue_name, bound_at, compiled_regex FROM pgmq.list_topic_bindings(queue_name => 'Bind_B');
SELECT * FROM pgmq.list_topic_bindings('bind_b');
SELECT * FROM pgmq.list_topic_bindings(NULL);
SELECT * FROM pgmq.test_routing('a.c') ORDER BY pattern, queue_name;
SELECT pattern FROM pgmq.test_routing(routing_key => 'x') AS t;

-- Every special character of regular expressions stands for itself
INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ('a.+?{}()|[]\^$/ä*#z', 'bind_a');
SELECT compiled_regex, 'a.+?{}()|[]\^$/äx..z' ~ compiled_regex AS itself, 'a.+?{}()|[]\^$/äz' ~ compiled_regex AS short
  FROM pgmq.topic_bindings WHERE pattern ~ 'z$';

-- Removing
SELECT pgmq.unbind_topic('a.c', 'bind_a'), pgmq.unbind_topic('a.c', 'bind_b'), pgmq.unbind_topic('A.c', 'Bind_B');
SELECT pgmq.unbind_topic(pattern => 'a.c', queue_name => 'bind_a');
BEGIN;
SELECT pgmq.unbind_topic('#', 'Bind_B'), pgmq.bind_topic('rolled.back', 'bind_a');
SELECT count(*) FROM pgmq.test_routing('rolled.back');
ROLLBACK;
SELECT count(*) FROM pgmq.test_routing('rolled.back');

-- A queue that is dropped takes its bindings along
SELECT pgmq.drop_queue('bind_a');
SELECT pattern, queue_name FROM pgmq.list_topic_bindings();
DELETE FROM pgmq.meta WHERE queue_name = 'Bind_B';
SELECT pattern, queue_name FROM pgmq.list_topic_bindings();
SELECT pgmq.create('Bind_B');
SELECT pgmq.drop_queue('Bind_B');
