-- UPDATE, DELETE and row locks on a hot queue, compared with a heap queue.

SELECT * FROM test.create_twins();
SELECT test.twin($$INSERT INTO %q (vt, message) SELECT now(), to_jsonb(i) FROM generate_series(1, 30) i$$);

SELECT test.twin($$UPDATE %q SET message = '"a"' WHERE msg_id = 1 RETURNING msg_id, read_ct, last_read_at, message$$);
SELECT test.twin($$UPDATE %q SET last_read_at = now() WHERE msg_id = 2 RETURNING last_read_at = now(), xmax::text$$);
SELECT test.twin($$UPDATE %q SET last_read_at = NULL WHERE msg_id = 2 RETURNING msg_id, last_read_at$$);
SELECT test.twin($$UPDATE %q SET vt = 'infinity', read_ct = read_ct + 1 WHERE msg_id BETWEEN 4 AND 6 RETURNING msg_id, vt, read_ct$$);
SELECT test.twin($$UPDATE %q SET msg_id = 100 WHERE msg_id = 7$$);
SELECT test.twin($$UPDATE %q SET vt = NULL WHERE msg_id = 8$$);
SELECT test.twin($$UPDATE %q t SET headers = to_jsonb(s) FROM (VALUES (8), (9)) v (s) WHERE t.msg_id = v.s RETURNING t.msg_id, headers$$);
SELECT test.twin($$UPDATE %q SET message = (SELECT to_jsonb(count(*)) FROM %q WHERE last_read_at IS NULL) WHERE msg_id = 10 RETURNING message$$);
SELECT test.twin($$UPDATE %q SET message = message RETURNING 1$$);
SELECT test.twin($$DELETE FROM %q WHERE msg_id IN (11, 12) RETURNING msg_id, read_ct, last_read_at$$);
SELECT test.twin($$DELETE FROM %q t USING %q s WHERE t.msg_id = s.msg_id + 12 AND s.msg_id = 1 RETURNING t.msg_id, s.msg_id$$);
SELECT test.twin($$DELETE FROM %q WHERE vt <= now() AND msg_id > 28$$);
SELECT test.twin($$WITH d AS (DELETE FROM %q WHERE msg_id = 14 RETURNING *) INSERT INTO %q (msg_id, vt, message) OVERRIDING SYSTEM VALUE SELECT 314, vt, message FROM d RETURNING msg_id, message$$);
SELECT test.twin($$SELECT count(*), count(last_read_at), sum(msg_id) FROM %q$$);

-- Row locks, alone and upgraded, then changes of what is locked
SELECT test.twin($$SELECT msg_id FROM %q WHERE msg_id < 4 ORDER BY 1 FOR KEY SHARE$$);
SELECT test.twin($$SELECT msg_id FROM %q WHERE msg_id < 4 ORDER BY 1 FOR SHARE$$);
SELECT test.twin($$SELECT msg_id FROM %q WHERE msg_id < 4 ORDER BY 1 FOR NO KEY UPDATE NOWAIT$$);
SELECT test.twin($$SELECT msg_id, last_read_at FROM %q WHERE msg_id < 4 ORDER BY 1 FOR UPDATE SKIP LOCKED$$);
BEGIN;
SELECT msg_id, read_ct, last_read_at FROM pgmq.q_twin WHERE vt <= now() ORDER BY 1 LIMIT 2 FOR UPDATE SKIP LOCKED;
SELECT msg_id, read_ct FROM pgmq.read('twin', 100, 2);
UPDATE pgmq.q_twin SET read_ct = 5 WHERE msg_id = 1;
DELETE FROM pgmq.q_twin WHERE msg_id = 2 RETURNING read_ct;
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT msg_id FROM pgmq.q_twin WHERE msg_id = 1 FOR UPDATE;
ROLLBACK TO s;
SELECT msg_id, read_ct FROM pgmq.read('twin', 0, 2);
SELECT msg_id, read_ct FROM pgmq.q_twin WHERE msg_id = 1 FOR UPDATE;
ROLLBACK;

-- The queue follows
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin', 0, 100);
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin_heap', 0, 100);
SELECT * FROM pgmq.check_queue('twin');
SELECT pgmq.drop_queue('twin'), pgmq.drop_queue('twin_heap');
