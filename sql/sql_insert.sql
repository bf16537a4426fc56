-- INSERT, COPY and ON CONFLICT into a hot queue, compared with a heap queue.

SELECT * FROM test.create_twins();

SELECT test.twin($$INSERT INTO %q (vt, message) VALUES (now(), '1'), (now(), '2') RETURNING msg_id, read_ct, last_read_at, message$$);
SELECT test.twin($$INSERT INTO %q (vt, message, last_read_at) VALUES (now(), '3', now()) RETURNING last_read_at = now()$$);
SELECT test.twin($$INSERT INTO %q (vt) SELECT now() FROM generate_series(1, 3)$$);
SELECT test.twin($$INSERT INTO %q (msg_id, vt) VALUES (50, now())$$);
SELECT test.twin($$INSERT INTO %q (msg_id, vt, headers) OVERRIDING SYSTEM VALUE VALUES (50, now(), '{"h": 1}') RETURNING msg_id, headers$$);
SELECT test.twin($$INSERT INTO %q (msg_id, vt) OVERRIDING USER VALUE VALUES (60, now()) RETURNING msg_id$$);
SELECT test.twin($$INSERT INTO %q (message) VALUES ('1')$$);
SELECT test.twin($$INSERT INTO %q (vt, message) VALUES (now(), '{') $$);
SELECT test.twin($$INSERT INTO %q (vt, read_ct) VALUES ('infinity', 2147483647) RETURNING vt, read_ct$$);
SELECT test.twin($$INSERT INTO %q (vt) VALUES (now()) RETURNING xmin::text <> '0', xmax, tableoid::regclass::text ~ 'twin', ctid IS NOT NULL$$);
SELECT test.twin('SELECT count(*), count(last_read_at), max(msg_id) FROM %q');
-- The one value that is not kept: -infinity is how NULL is stored
INSERT INTO pgmq.q_twin (vt, last_read_at) VALUES (now(), '-infinity') RETURNING msg_id, last_read_at;
-- The queue follows
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin', 0, 100);
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin_heap', 0, 100);
SELECT * FROM pgmq.check_queue('twin');
SELECT pgmq.purge_queue('twin'), pgmq.purge_queue('twin_heap');

-- COPY, both ways and with all columns
COPY pgmq.q_twin (vt, message, headers) FROM stdin;
2000-01-01	{"a": 1}	\N
2000-01-02	\N	{"h": 1}
\.
COPY pgmq.q_twin_heap (vt, message, headers) FROM stdin;
2000-01-01	{"a": 1}	\N
2000-01-02	\N	{"h": 1}
\.
COPY pgmq.q_twin (msg_id, read_ct, enqueued_at, last_read_at, vt, message) FROM stdin CSV;
100,5,2000-01-01,,2000-01-01,"""csv"""
100,5,2000-01-01,2000-01-03,2200-01-01,7
\.
COPY pgmq.q_twin (msg_id, read_ct, last_read_at, vt, message, headers) TO stdout;
COPY (SELECT msg_id, last_read_at, message FROM pgmq.q_twin) TO stdout CSV;
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin', 0, 100);
SELECT * FROM pgmq.check_queue('twin');
SELECT pgmq.purge_queue('twin'), pgmq.purge_queue('twin_heap');

-- ON CONFLICT, with a primary key on both
ALTER TABLE pgmq.q_twin ADD PRIMARY KEY (msg_id);
SELECT test.twin($$INSERT INTO %q (msg_id, vt, message) OVERRIDING SYSTEM VALUE SELECT i, now(), to_jsonb(i) FROM generate_series(200, 205) i$$);
SELECT test.twin($$INSERT INTO %q (msg_id, vt, message) OVERRIDING SYSTEM VALUE VALUES (200, now(), '"x"')$$);
SELECT test.twin($$INSERT INTO %q (msg_id, vt, message) OVERRIDING SYSTEM VALUE VALUES (200, now(), '"x"'), (210, now(), '"y"') ON CONFLICT DO NOTHING RETURNING msg_id$$);
SELECT test.twin($$INSERT INTO %q AS t (msg_id, vt, message) OVERRIDING SYSTEM VALUE VALUES (200, now(), '"x"'), (211, now(), '"z"') ON CONFLICT (msg_id) DO UPDATE SET message = excluded.message, read_ct = t.read_ct + 1 RETURNING msg_id, read_ct, last_read_at, message$$);
SELECT test.twin($$INSERT INTO %q AS t (msg_id, vt) OVERRIDING SYSTEM VALUE VALUES (201, now()), (201, now()) ON CONFLICT (msg_id) DO UPDATE SET read_ct = 9$$);
SELECT test.twin($$INSERT INTO %q AS t (msg_id, vt) OVERRIDING SYSTEM VALUE VALUES (201, now()) ON CONFLICT (msg_id) DO UPDATE SET read_ct = 9 WHERE t.last_read_at IS NOT NULL$$);
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin', 0, 100);
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin_heap', 0, 100);
SELECT * FROM pgmq.check_queue('twin');
SELECT pgmq.drop_queue('twin'), pgmq.drop_queue('twin_heap');
