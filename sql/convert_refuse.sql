-- pgmq.convert_queue: who may, what cannot be converted, and what slows a hot queue down.

SELECT pgmq.create('refuse');
SELECT pgmq.convert_queue('refuse', 'cold');
SELECT pgmq.convert_queue('refuse', NULL);
SELECT pgmq.convert_queue(NULL, 'hot');
SELECT pgmq.convert_queue('no such queue', 'hot');
SELECT pgmq.convert_queue('a;b', 'hot');

CREATE ROLE regress_converter;
GRANT USAGE ON SCHEMA pgmq TO regress_converter;
GRANT ALL ON pgmq.q_refuse TO regress_converter;
SET ROLE regress_converter;
SELECT pgmq.convert_queue('refuse', 'heap');
RESET ROLE;
BEGIN READ ONLY;
SELECT pgmq.convert_queue('refuse', 'heap');
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT msg_id FROM pgmq.q_refuse;
FETCH c;
SELECT pgmq.convert_queue('refuse', 'heap');
ROLLBACK;

-- Other kinds of tables
CREATE TABLE pgmq.q_refuse_part (LIKE pgmq.q_refuse) PARTITION BY RANGE (msg_id);
CREATE TABLE pgmq.q_refuse_part_1 PARTITION OF pgmq.q_refuse_part DEFAULT USING heap;
SELECT pgmq.convert_queue('refuse_part', 'hot');
SELECT pgmq.convert_queue('refuse_part_1', 'hot');
CREATE VIEW pgmq.q_refuse_view AS TABLE pgmq.q_refuse;
SELECT pgmq.convert_queue('refuse_view', 'hot');
CREATE TABLE pgmq.q_refuse_other (a int) USING heap;
SELECT pgmq.convert_queue('refuse_other', 'hot');
DROP VIEW pgmq.q_refuse_view;
DROP TABLE pgmq.q_refuse_part, pgmq.q_refuse_other;

-- A key that is referenced stays
SELECT pgmq.convert_queue('refuse', 'heap');
SELECT pgmq.send('refuse', '1');
CREATE TABLE refers (id bigint REFERENCES pgmq.q_refuse);
SELECT pgmq.convert_queue('refuse', 'hot');
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'pgmq.q_refuse'::regclass ORDER BY 1::text;
DROP TABLE refers;

-- What the fast path does not serve is said
CREATE INDEX users_vt ON pgmq.q_refuse (vt, msg_id);
SELECT pgmq.convert_queue('refuse', 'hot');
SELECT msg_id FROM pgmq.read('refuse', 0, 1);
SELECT * FROM pgmq.check_queue('refuse');

-- Two messages of one id have no place in a heap queue
INSERT INTO pgmq.q_refuse (msg_id, vt) OVERRIDING SYSTEM VALUE VALUES (1, now());
SELECT pgmq.convert_queue('refuse', 'heap');
SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = 'pgmq.q_refuse'::regclass;
SELECT * FROM pgmq.check_queue('refuse');

-- Unlogged, long and odd names
SELECT pgmq.create_unlogged('Re "fuse" ' || repeat('x', 37));
SELECT pgmq.convert_queue('Re "fuse" ' || repeat('x', 37), 'heap');
SELECT pgmq.convert_queue('Re "fuse" ' || repeat('x', 37), 'hot');
SELECT pgmq.convert_queue('Re "fuse" ' || repeat('x', 37), 'heap');
SELECT relpersistence, relname FROM pg_class WHERE relname LIKE 'q_re "fuse"%' AND relkind <> 'S' ORDER BY 2;
SELECT pgmq.drop_queue('Re "fuse" ' || repeat('x', 37));
SELECT pgmq.drop_queue('refuse');
DROP OWNED BY regress_converter;
DROP ROLE regress_converter;
