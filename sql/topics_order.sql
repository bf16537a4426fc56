-- Bindings change in every way a table can; the next send always knows.

SELECT pgmq.create('order_1'), pgmq.create('order_2'), pgmq.create('order_3');
CREATE FUNCTION pg_temp.queues() RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(string_agg(queue_name, ' ' ORDER BY ordinality), '-')
    FROM pgmq.send_batch_topic('k', '{1}') WITH ORDINALITY $$;

SELECT pg_temp.queues();
INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ('k', 'order_3'), ('#', 'order_1'), ('*', 'order_3');
SELECT pg_temp.queues();
UPDATE pgmq.topic_bindings SET queue_name = 'order_2' WHERE pattern = '*';
SELECT pg_temp.queues();
DELETE FROM pgmq.topic_bindings WHERE pattern = '#';
SELECT pg_temp.queues();
COPY pgmq.topic_bindings (pattern, queue_name) FROM stdin;
k	order_1
\.
SELECT pg_temp.queues();
BEGIN;
TRUNCATE pgmq.topic_bindings;
SELECT pg_temp.queues();
SAVEPOINT s;
SELECT pgmq.bind_topic('*', 'order_2');
SELECT pg_temp.queues();
ROLLBACK TO s;
SELECT pg_temp.queues();
ROLLBACK;
SELECT pg_temp.queues();
BEGIN;
SELECT pgmq.drop_queue('order_1');
SELECT pg_temp.queues();
ROLLBACK;
SELECT pg_temp.queues();
VACUUM FULL pgmq.topic_bindings;
SELECT pg_temp.queues();
ALTER TABLE pgmq.topic_bindings SET UNLOGGED;
UPDATE pgmq.topic_bindings SET pattern = 'other' WHERE queue_name = 'order_1';
SELECT pg_temp.queues();
ALTER TABLE pgmq.topic_bindings SET LOGGED;
SELECT pg_temp.queues();

-- In the order of the database's collation, or of the column's
BEGIN;
SELECT pgmq.create('order_B'), pgmq.bind_topic('#', 'order_B');
ALTER TABLE pgmq.topic_bindings ALTER COLUMN queue_name TYPE text COLLATE "C";
SELECT pg_temp.queues();
ROLLBACK;

-- Children and rules: a scan of the table alone would miss them
BEGIN;
CREATE TABLE more_bindings () INHERITS (pgmq.topic_bindings);
INSERT INTO more_bindings (pattern, queue_name) VALUES ('k', 'order_1');
SELECT pg_temp.queues();
ROLLBACK;
BEGIN;
ALTER TABLE pgmq.topic_bindings RENAME TO bindings;
CREATE VIEW pgmq.topic_bindings AS SELECT pattern, 'order_3' AS queue_name, compiled_regex FROM pgmq.bindings;
SELECT pg_temp.queues();
ROLLBACK;
BEGIN;
ALTER TABLE pgmq.topic_bindings RENAME TO bindings;
SELECT pg_temp.queues();
ROLLBACK;
SELECT pg_temp.queues();

-- Snapshots: one for the transaction from REPEATABLE READ on, its own changes included
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.queues();
SELECT pgmq.bind_topic('k', 'order_1');
SELECT pg_temp.queues();
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pg_temp.queues();
SELECT mode FROM pg_locks WHERE relation = 'pgmq.topic_bindings'::regclass AND pid = pg_backend_pid() AND mode = 'SIReadLock';
COMMIT;
BEGIN READ ONLY;
SELECT pgmq.send_topic('nobody.there', '1');
SELECT pgmq.send_topic('k', '1');
ROLLBACK;
SELECT * FROM pgmq.check_queue('order_1') UNION ALL SELECT * FROM pgmq.check_queue('order_2') UNION ALL SELECT * FROM pgmq.check_queue('order_3');
SELECT pgmq.drop_queue('order_1'), pgmq.drop_queue('order_2'), pgmq.drop_queue('order_3');
