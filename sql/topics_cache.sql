-- Sends to topics follow every change of the bindings, whoever makes it and however.
-- Builds with assertions compare what is kept of the table with the table at each call.

SELECT pgmq.create('cache_a'), pgmq.create('cache_b');
-- The answer, from a table that had time to be kept
CREATE FUNCTION pg_temp.routed(key text DEFAULT 'k.1') RETURNS integer LANGUAGE plpgsql AS $$
DECLARE n integer;
BEGIN
  FOR i IN 1..40 LOOP
    n := pgmq.send_topic(key, '1');
  END LOOP;
  RETURN n;
END $$;

SELECT pg_temp.routed() AS none;
SELECT pgmq.bind_topic('k.*', 'cache_a');
SELECT pg_temp.routed() AS one;
SELECT pg_temp.routed('other') AS none;

-- In a transaction that changes its mind
BEGIN;
INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ('#', 'cache_b');
SELECT pg_temp.routed() AS two;
SAVEPOINT s;
DELETE FROM pgmq.topic_bindings;
SELECT pg_temp.routed() AS none;
ROLLBACK TO s;
SELECT pg_temp.routed() AS two;
ROLLBACK;
SELECT pg_temp.routed() AS one;

-- By every statement
INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ('#', 'cache_b');
SELECT pg_temp.routed() AS two;
UPDATE pgmq.topic_bindings SET pattern = 'x' WHERE queue_name = 'cache_a';
SELECT pg_temp.routed() AS one, pg_temp.routed('x') AS two;
DELETE FROM pgmq.topic_bindings WHERE pattern = '#';
SELECT pg_temp.routed() AS none, pg_temp.routed('x') AS one;
VACUUM pgmq.topic_bindings;
SELECT pg_temp.routed('x') AS one;
VACUUM FULL pgmq.topic_bindings;
SELECT pg_temp.routed('x') AS one;
BEGIN;
TRUNCATE pgmq.topic_bindings;
SELECT pg_temp.routed('x') AS none;
ROLLBACK;
SELECT pg_temp.routed('x') AS one;
COPY pgmq.topic_bindings (pattern, queue_name) FROM stdin;
#.y	cache_a
#.y	cache_b
\.
SELECT pg_temp.routed('x') AS one, pg_temp.routed('z.y') AS two;
TRUNCATE pgmq.topic_bindings;
SELECT pg_temp.routed('x') AS none;

-- Many bindings, more than a page of them
INSERT INTO pgmq.topic_bindings (pattern, queue_name)
  SELECT 'many' || i || '.#', CASE i % 2 WHEN 0 THEN 'cache_a' ELSE 'cache_b' END FROM generate_series(1, 1000) i;
SELECT pg_temp.routed('many17.a') AS one, pg_temp.routed('many1000.b') AS one, pg_temp.routed('many1001.b') AS none;
DELETE FROM pgmq.topic_bindings WHERE pattern = 'many1000.#';
SELECT pg_temp.routed('many1000.b') AS none, pg_temp.routed('many999.b') AS one;

-- Without WAL nothing tells of changes
ALTER TABLE pgmq.topic_bindings SET UNLOGGED;
SELECT pg_temp.routed('many17.a') AS one;
DELETE FROM pgmq.topic_bindings WHERE pattern = 'many17.#';
SELECT pg_temp.routed('many17.a') AS none;
ALTER TABLE pgmq.topic_bindings SET LOGGED;
SELECT pg_temp.routed('many18.a') AS one;

SELECT * FROM pgmq.check_queue('cache_a');
SELECT * FROM pgmq.check_queue('cache_b');
SELECT pgmq.drop_queue('cache_a'), pgmq.drop_queue('cache_b');
SELECT count(*) FROM pgmq.topic_bindings;
