-- Parallel plans and the scan nodes: a node is for the leader; queries that a worker plans
-- itself, in functions, see what the transaction did.

SELECT pgmq.create('shared');
SELECT count(*) FROM pgmq.send_batch('shared', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 20000) i));
ANALYZE pgmq.q_shared;
CREATE TABLE test.big AS SELECT i::bigint AS id FROM generate_series(1, 20000) i;
ANALYZE test.big;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;

-- The ring where it is cheaper, workers where they are
EXPLAIN (COSTS OFF) SELECT count(*) FROM pgmq.q_shared;
EXPLAIN (COSTS OFF) SELECT msg_id FROM pgmq.q_shared WHERE msg_id = 5;
EXPLAIN (COSTS OFF) SELECT max(read_ct) FROM pgmq.q_shared;
SELECT count(*), sum(q.msg_id) FROM test.big b JOIN pgmq.q_shared q ON q.msg_id = b.id;

-- In functions
SET parallel_leader_participation = off;
CREATE FUNCTION test.known(i bigint) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN RETURN (SELECT count(*) FROM pgmq.q_shared WHERE msg_id = i); END $$;
CREATE FUNCTION test.length() RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN RETURN (SELECT count(*) FROM pgmq.q_shared); END $$;
CREATE FUNCTION test.first() RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN RETURN (SELECT msg_id FROM pgmq.q_shared WHERE vt <= now() ORDER BY msg_id LIMIT 1); END $$;
EXPLAIN (COSTS OFF) SELECT test.known(20001), test.length(), test.first() FROM test.big WHERE id < 3;
BEGIN;
SELECT pgmq.send('shared', '"own"');
DELETE FROM pgmq.q_shared WHERE msg_id < 3;
SELECT test.known(20001), test.known(1), test.length(), test.first() FROM test.big WHERE id < 3;
COMMIT;
SELECT test.known(20001), test.known(1), test.length(), test.first() FROM test.big WHERE id < 3;

SELECT * FROM pgmq.check_queue('shared');
SELECT pgmq.drop_queue('shared');
DROP TABLE test.big;
DROP FUNCTION test.known, test.length, test.first;
