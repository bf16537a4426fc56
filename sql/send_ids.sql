-- Ids of batches: those that a call of nextval() for each message would give.

SELECT pgmq.create('ids');
CREATE FUNCTION send_ids(n integer) RETURNS TABLE (lowest bigint, highest bigint, ids bigint, in_order boolean)
LANGUAGE sql AS $$
	SELECT min(id), max(id), count(DISTINCT id), bool_and(id > before)
	  FROM (SELECT id, lag(id, 1, -1000000) OVER (ORDER BY place) AS before
	          FROM pgmq.send_batch('ids', array_fill('{}'::jsonb, ARRAY[n])) WITH ORDINALITY AS sent (id, place)) s
$$;

-- Lengths below and above where ids are taken in one step, and more than a page's worth
SELECT * FROM send_ids(1);
SELECT * FROM send_ids(15);
SELECT * FROM send_ids(16);
SELECT * FROM send_ids(17);
SELECT * FROM send_ids(1000);
SELECT pgmq.send('ids', '{}');
SELECT currval('pgmq.q_ids_msg_id_seq'), lastval();
SELECT * FROM send_ids(100);
SELECT currval('pgmq.q_ids_msg_id_seq'), lastval();
SELECT last_value, is_called FROM pgmq.q_ids_msg_id_seq;

-- What is rolled back is not given again
BEGIN;
SELECT * FROM send_ids(50);
SAVEPOINT s;
SELECT * FROM send_ids(50);
ROLLBACK TO s;
SELECT * FROM send_ids(50);
ROLLBACK;
SELECT * FROM send_ids(20);

-- A sequence set back: ids that are there are refused, and nothing is sent
SELECT setval('pgmq.q_ids_msg_id_seq', 1310, false);
SELECT * FROM send_ids(20);
SELECT count(*), max(msg_id) FROM pgmq.q_ids;
SELECT setval('pgmq.q_ids_msg_id_seq', 2000, false);
SELECT * FROM send_ids(20);
SELECT setval('pgmq.q_ids_msg_id_seq', 3000);
SELECT * FROM send_ids(20);

-- Sequences that are not as created
ALTER TABLE pgmq.q_ids ALTER msg_id SET INCREMENT 10;
SELECT * FROM send_ids(20);
ALTER TABLE pgmq.q_ids ALTER msg_id SET INCREMENT 1 SET CACHE 7;
SELECT * FROM send_ids(20);
SELECT last_value FROM pgmq.q_ids_msg_id_seq;
ALTER TABLE pgmq.q_ids ALTER msg_id SET CACHE 1 SET MINVALUE -100 RESTART WITH -60;
SELECT * FROM send_ids(20);
ALTER TABLE pgmq.q_ids ALTER msg_id SET INCREMENT -1 SET MINVALUE -2000 RESTART WITH -100;
SELECT * FROM send_ids(20);

-- The end: the last ids are given, and one more is an error; the same from a cycle's start
ALTER TABLE pgmq.q_ids ALTER msg_id SET INCREMENT 1 SET MAXVALUE 5000 RESTART WITH 4961;
SELECT * FROM send_ids(20);
SELECT * FROM send_ids(20);
SELECT * FROM send_ids(20);
SELECT last_value FROM pgmq.q_ids_msg_id_seq;
ALTER TABLE pgmq.q_ids ALTER msg_id SET MINVALUE 4001 SET START 4001 RESTART WITH 4991 SET CYCLE;
DELETE FROM pgmq.q_ids WHERE msg_id > 4000;
SELECT * FROM send_ids(20);
ALTER TABLE pgmq.q_ids ALTER msg_id SET NO CYCLE SET MAXVALUE 9223372036854775807 RESTART WITH 9223372036854775780;
SELECT * FROM send_ids(20);
SELECT * FROM send_ids(20);

-- Another sequence
ALTER TABLE pgmq.q_ids ALTER msg_id DROP IDENTITY;
\set VERBOSITY terse
SELECT * FROM send_ids(20);
\set VERBOSITY default
ALTER TABLE pgmq.q_ids ALTER msg_id ADD GENERATED ALWAYS AS IDENTITY (START 10001);
SELECT * FROM send_ids(20);
SELECT count(*), count(DISTINCT msg_id) FROM pgmq.q_ids;
SELECT * FROM pgmq.check_queue('ids');
SELECT pgmq.drop_queue('ids');
DROP FUNCTION send_ids;
