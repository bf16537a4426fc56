-- Ways to scan a hot queue, compared with a heap queue.

SELECT * FROM test.create_twins();
SELECT test.twin($$INSERT INTO %q (vt, message, last_read_at) SELECT '2000-01-01', to_jsonb(i), CASE WHEN i % 3 = 0 THEN now() END FROM generate_series(1, 500) i$$);
SELECT test.twin($$DELETE FROM %q WHERE msg_id % 5 = 0$$);

SELECT test.twin($$SELECT count(*), count(last_read_at), sum(msg_id), min(last_read_at) = now() FROM %q$$);
SELECT test.twin($$SELECT count(*) FROM %q WHERE last_read_at IS NULL$$);
SELECT test.twin($$SELECT count(*) FROM %q WHERE last_read_at > '-infinity'$$);
SELECT test.twin($$SELECT count(*), count(last_read_at) FROM %q TABLESAMPLE SYSTEM (100)$$);
SELECT test.twin($$SELECT count(*), count(last_read_at) FROM %q TABLESAMPLE BERNOULLI (100)$$);
SELECT test.twin($$SELECT msg_id, last_read_at IS NULL FROM %q WHERE ctid = '(0,2)'$$);
SELECT test.twin($$SELECT count(*), count(last_read_at) FROM %q WHERE ctid < '(0,10)'$$);
SELECT test.twin($$SELECT msg_id, last_read_at IS NULL FROM %q WHERE ctid = ANY ('{"(0,1)","(0,3)","(0,5)","(99,1)"}')$$);
SELECT test.twin($$SELECT a.msg_id FROM %q a JOIN %q b ON a.msg_id = b.msg_id - 1 AND a.last_read_at = b.enqueued_at ORDER BY 1 LIMIT 3$$);
SELECT test.twin($$SELECT last_read_at IS NULL, count(*) FROM %q GROUP BY last_read_at ORDER BY 1$$);
SELECT test.twin($$SELECT (t).last_read_at, (t).msg_id FROM (SELECT t FROM %q t ORDER BY msg_id LIMIT 2) s$$);
SELECT test.twin($$SELECT to_jsonb(t) -> 'last_read_at', row_to_json(t)::jsonb ? 'vt' FROM %q t WHERE msg_id = 1$$);
SET enable_seqscan = off;
CREATE INDEX twin_id ON pgmq.q_twin (msg_id);
CREATE INDEX twin_last ON pgmq.q_twin (last_read_at, msg_id);
CREATE INDEX twin_last_heap ON pgmq.q_twin_heap (last_read_at, msg_id);
SELECT test.twin($$SELECT msg_id FROM %q WHERE last_read_at IS NULL AND msg_id < 5 ORDER BY 1$$);
SELECT test.twin($$SELECT msg_id, last_read_at FROM %q WHERE msg_id IN (1, 2, 4) ORDER BY 1$$);
SET enable_indexscan = off;
SELECT test.twin($$SELECT count(*), count(last_read_at) FROM %q WHERE msg_id < 100 AND message IS NOT NULL$$);
-- Rows are only counted, on pages that all can see: 17.0 to 17.4 hand out slots without a row
VACUUM pgmq.q_twin, pgmq.q_twin_heap;
SELECT test.twin($$SELECT count(*) FROM %q WHERE msg_id < 300$$);
RESET enable_indexscan;
RESET enable_seqscan;

-- Cursors: backwards, WHERE CURRENT OF, held over the commit
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT msg_id, last_read_at IS NULL AS unread FROM pgmq.q_twin;
FETCH 3 FROM c;
FETCH BACKWARD 2 FROM c;
FETCH LAST FROM c;
FETCH ABSOLUTE 2 FROM c;
DECLARE u CURSOR FOR SELECT * FROM pgmq.q_twin WHERE msg_id IN (1, 2) FOR UPDATE;
MOVE 1 FROM u;
UPDATE pgmq.q_twin SET message = '"current"' WHERE CURRENT OF u RETURNING msg_id, message;
MOVE 1 FROM u;
DELETE FROM pgmq.q_twin WHERE CURRENT OF u RETURNING msg_id;
DECLARE h CURSOR WITH HOLD FOR SELECT msg_id, last_read_at IS NULL AS unread, message FROM pgmq.q_twin WHERE msg_id < 4 ORDER BY 1;
-- a cursor sees the rows as of its snapshot
DECLARE s CURSOR FOR SELECT msg_id, message FROM pgmq.q_twin WHERE msg_id < 7 ORDER BY 1;
UPDATE pgmq.q_twin SET message = '"later"' WHERE msg_id = 4;
DELETE FROM pgmq.q_twin WHERE msg_id = 6;
FETCH ALL FROM s;
COMMIT;
FETCH ALL FROM h;
CLOSE h;
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin', 0, 5);
SELECT * FROM pgmq.check_queue('twin');
SELECT pgmq.drop_queue('twin'), pgmq.drop_queue('twin_heap');
