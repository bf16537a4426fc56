-- Indexes on a hot queue: built, maintained by fast path and SQL, used.

SELECT * FROM test.create_twins();
SELECT test.twin($$INSERT INTO %q (vt, message, last_read_at) SELECT '2000-01-01', jsonb_build_object('k', i), CASE WHEN i % 3 = 0 THEN '2001-01-01'::timestamptz END FROM generate_series(1, 300) i$$);
SELECT count(*) FROM pgmq.read('twin', 0, 10);
UPDATE pgmq.q_twin_heap SET read_ct = 1, last_read_at = '2001-01-01' WHERE msg_id <= 10;
UPDATE pgmq.q_twin SET last_read_at = '2001-01-01', vt = '2000-01-01' WHERE msg_id <= 10;
UPDATE pgmq.q_twin_heap SET vt = '2000-01-01' WHERE msg_id <= 10;

-- Every kind of build
CREATE INDEX twin_a ON pgmq.q_twin (last_read_at);
CREATE INDEX twin_b ON pgmq.q_twin (msg_id) WHERE last_read_at IS NULL;
CREATE INDEX twin_c ON pgmq.q_twin ((coalesce(last_read_at, 'infinity')));
CREATE INDEX CONCURRENTLY twin_d ON pgmq.q_twin (last_read_at DESC NULLS LAST) INCLUDE (msg_id);
CREATE UNIQUE INDEX CONCURRENTLY twin_e ON pgmq.q_twin ((message ->> 'k'));
CREATE INDEX twin_f ON pgmq.q_twin USING gin (message);
CREATE INDEX twin_g ON pgmq.q_twin USING hash (msg_id);
CREATE INDEX twin_h ON pgmq.q_twin USING brin (enqueued_at);
CREATE INDEX twin_i ON pgmq.q_twin USING brin (last_read_at);
CREATE UNIQUE INDEX ON pgmq.q_twin (read_ct);
SELECT indexrelid::regclass, indisvalid, indisready FROM pg_index WHERE indrelid = 'pgmq.q_twin'::regclass ORDER BY indexrelid::regclass::text COLLATE "C";

-- Each index gives what the heap gives without it
SET enable_seqscan = off;
CREATE FUNCTION pg_temp.all_ways() RETURNS SETOF text LANGUAGE sql AS $$
  SELECT test.twin(s) FROM unnest(ARRAY[
    'SELECT count(*), sum(msg_id) FROM %q WHERE last_read_at IS NULL',
    'SELECT count(*), sum(msg_id) FROM %q WHERE last_read_at IS NULL AND msg_id < 50',
    'SELECT count(*), sum(msg_id) FROM %q WHERE last_read_at < now()',
    'SELECT count(*), sum(msg_id) FROM %q WHERE coalesce(last_read_at, ''infinity'') = ''infinity''',
    'SELECT string_agg(msg_id::text, '' '') FROM (SELECT msg_id FROM %q ORDER BY last_read_at DESC NULLS LAST, msg_id LIMIT 3) s',
    'SELECT msg_id, last_read_at IS NULL FROM %q WHERE message ->> ''k'' = ''77''',
    'SELECT msg_id, last_read_at IS NULL FROM %q WHERE message @> ''{"k": 76}''',
    'SELECT msg_id, last_read_at IS NULL FROM %q WHERE msg_id = 75']) s $$;
SELECT * FROM pg_temp.all_ways();
-- An index on a leased column: by ordinary UPDATE
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin', 0, 5);
SELECT count(*) FROM pgmq.q_twin WHERE last_read_at > '2010-01-01';
UPDATE pgmq.q_twin SET last_read_at = '2001-01-01', vt = '2000-01-01', read_ct = 1 WHERE msg_id <= 5;
SELECT pgmq.delete('twin', 77), pgmq.delete('twin_heap', 77);
SELECT pgmq.archive('twin', 76), pgmq.archive('twin_heap', 76);
SELECT * FROM pg_temp.all_ways();
SELECT pgmq.send('twin', '{"k": 75}');
REINDEX TABLE pgmq.q_twin;
REINDEX INDEX CONCURRENTLY pgmq.twin_a;
SELECT * FROM pg_temp.all_ways();
VACUUM pgmq.q_twin;
EXPLAIN (COSTS OFF) SELECT msg_id FROM pgmq.q_twin WHERE last_read_at IS NULL ORDER BY last_read_at DESC NULLS LAST;
SELECT * FROM pg_temp.all_ways();
RESET enable_seqscan;

-- Indexes that the fast path maintains itself
DROP INDEX pgmq.twin_a, pgmq.twin_b, pgmq.twin_c, pgmq.twin_d, pgmq.twin_i;
SELECT pgmq.send('twin', '{"k": 1}');
SELECT pgmq.send_batch('twin', ARRAY['{"k": 1000}', '{"k": 1000}']::jsonb[]);
SELECT message FROM pgmq.q_twin WHERE message ->> 'k' = '1000';
SELECT msg_id > 300 AS is_new FROM pgmq.send('twin', '{"k": 1000}') AS msg_id;
SET enable_seqscan = off;
SELECT message FROM pgmq.q_twin WHERE message ->> 'k' = '1000';
SELECT message FROM pgmq.q_twin WHERE message @> '{"k": 1000}';
SELECT message FROM pgmq.read('twin', 100, 1, '{"k": 1000}');
SELECT read_ct, message FROM pgmq.q_twin WHERE message @> '{"k": 1000}';
SELECT pgmq.delete('twin', msg_id) FROM pgmq.q_twin WHERE message @> '{"k": 1000}';
SELECT message FROM pgmq.q_twin WHERE message ->> 'k' = '1000';
SELECT count(*) FROM pgmq.send('twin', '{"k": 1000}');
RESET enable_seqscan;
SELECT * FROM pgmq.check_queue('twin');
SELECT pgmq.drop_queue('twin'), pgmq.drop_queue('twin_heap');
