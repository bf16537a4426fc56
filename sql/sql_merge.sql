-- MERGE into a hot queue, compared with a heap queue.
-- Needs PostgreSQL 15.

SELECT * FROM test.create_twins();
SELECT test.twin($$INSERT INTO %q (vt, message) SELECT '2000-01-01', to_jsonb(i) FROM generate_series(1, 5) i$$);
SELECT test.twin($$MERGE INTO %q t USING (SELECT generate_series(3, 8) AS id) s ON t.msg_id = s.id WHEN MATCHED AND id = 3 THEN DELETE WHEN MATCHED THEN UPDATE SET message = '"merged"' WHEN NOT MATCHED THEN INSERT (msg_id, vt) OVERRIDING SYSTEM VALUE VALUES (id, '2000-01-01')$$);
-- with a primary key on both, and what fails
ALTER TABLE pgmq.q_twin ADD PRIMARY KEY (msg_id);
SELECT test.twin($$MERGE INTO %q t USING (VALUES (1), (2)) s (id) ON t.msg_id = s.id WHEN MATCHED AND t.last_read_at IS NULL AND t.msg_id = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET last_read_at = NULL, read_ct = 1$$);
SELECT test.twin($$MERGE INTO %q t USING (VALUES (1), (9)) s (id) ON false WHEN NOT MATCHED THEN INSERT (msg_id, vt) OVERRIDING SYSTEM VALUE VALUES (id, '2000-01-01')$$);
SELECT test.twin($$MERGE INTO %q t USING (VALUES (2), (2)) s (id) ON t.msg_id = s.id WHEN MATCHED THEN UPDATE SET read_ct = 0$$);
SELECT string_agg(concat_ws('/', msg_id, message), ' ') FROM pgmq.read('twin', 0, 100);
SELECT string_agg(concat_ws('/', msg_id, message), ' ') FROM pgmq.read('twin_heap', 0, 100);
SELECT * FROM pgmq.check_queue('twin');
SELECT pgmq.drop_queue('twin'), pgmq.drop_queue('twin_heap');
