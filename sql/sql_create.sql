-- Tables of the access method made by hand, and queues dropped by hand.

SELECT pgmq.create('source');
SELECT count(*) FROM pgmq.send_batch('source', '{1,2,3}'::jsonb[]);
SELECT count(*) FROM pgmq.read('source', 100, 1);
CREATE TABLE copied USING pgmq AS SELECT * FROM pgmq.q_source;
SELECT c.msg_id, c.read_ct, c.last_read_at IS NOT DISTINCT FROM q.last_read_at AS same, c.vt = q.vt AS same_vt, c.message
  FROM copied c JOIN pgmq.q_source q USING (msg_id) ORDER BY 1;
SELECT * INTO copied_heap FROM copied;
SELECT count(*) FROM copied EXCEPT SELECT count(*) FROM copied_heap;
INSERT INTO copied SELECT msg_id + 10, 0, now(), NULL, now(), 'null' FROM copied RETURNING msg_id, last_read_at;
CREATE MATERIALIZED VIEW view_of USING pgmq AS SELECT * FROM pgmq.q_source;
SELECT msg_id, last_read_at IS NULL AS unread FROM view_of ORDER BY 1;
REFRESH MATERIALIZED VIEW view_of;
SELECT msg_id, last_read_at IS NULL AS unread FROM view_of ORDER BY 1;
DROP TABLE copied, copied_heap;
DROP MATERIALIZED VIEW view_of;

-- Other columns, none, temporary ones
CREATE TABLE other (a int, b text, c text, d timestamptz) USING pgmq;
INSERT INTO other VALUES (1, 'x', 'y', NULL), (NULL, NULL, NULL, now()), (3, repeat('long', 10000), NULL, 'infinity');
UPDATE other SET b = b || '!' WHERE a = 1 RETURNING a, b, c, d;
DELETE FROM other WHERE a IS NULL;
SELECT a, length(b), c, d FROM other ORDER BY a;
DROP TABLE other;
CREATE TABLE empty () USING pgmq;
INSERT INTO empty DEFAULT VALUES;
SELECT count(*) FROM empty;
DROP TABLE empty;
CREATE TEMPORARY TABLE temporary (LIKE pgmq.q_source INCLUDING ALL) USING pgmq;
INSERT INTO temporary (vt, message) VALUES (now(), '1');
UPDATE temporary SET read_ct = read_ct + 1 RETURNING msg_id, read_ct, last_read_at, message;
TRUNCATE temporary;

-- A queue made by hand, taken over by create
CREATE TABLE pgmq.q_hand (LIKE pgmq.q_source INCLUDING ALL) USING pgmq;
INSERT INTO pgmq.q_hand (vt, message) VALUES (now(), '"by hand"');
SELECT msg_id, message FROM pgmq.read('hand', 0, 1);
\set VERBOSITY terse
SELECT pgmq.create('hand');
SELECT pgmq.send('hand', '2');
SELECT msg_id, message FROM pgmq.read('hand', 0, 10);
SELECT * FROM pgmq.check_queue('hand');

-- Dropped by hand: the table, a whole schema
DROP TABLE pgmq.q_hand;
SELECT pgmq.send('hand', '3');
SELECT * FROM pgmq.read('hand', 0, 1);
SELECT pgmq.create('hand');
SELECT pgmq.send('hand', '1');
SELECT msg_id, message FROM pgmq.read('hand', 0, 10);
SELECT * FROM pgmq.check_queue('hand');
CREATE SCHEMA elsewhere;
ALTER TABLE pgmq.q_source SET SCHEMA elsewhere;
SELECT msg_id FROM elsewhere.q_source WHERE vt <= now() ORDER BY 1;
INSERT INTO elsewhere.q_source (vt) VALUES (now());
DROP SCHEMA elsewhere CASCADE;
SELECT pgmq.drop_queue('source'), pgmq.drop_queue('hand');
DELETE FROM pgmq.meta WHERE queue_name = 'source';
DROP TABLE pgmq.a_source;
