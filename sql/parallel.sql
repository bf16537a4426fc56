-- Parallel queries of a hot queue: with leases standing there are none, so all rows are right.

SELECT pgmq.create('parallel');
SELECT count(*) FROM pgmq.send_batch('parallel', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 20000) i));
ANALYZE pgmq.q_parallel;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT count(*) FROM pgmq.q_parallel WHERE vt > now();
SELECT count(*), sum(msg_id), count(last_read_at) FROM pgmq.q_parallel;
SELECT count(*) FROM pgmq.read('parallel', 100, 1000);
SELECT count(*), sum(msg_id) FROM pgmq.q_parallel WHERE last_read_at IS NOT NULL AND vt > now() AND read_ct = 1;

-- A lease of this transaction is in this backend only.  A slow scan leaves workers the
-- time to start, if they would.
CREATE FUNCTION slow(id bigint) RETURNS boolean LANGUAGE plpgsql PARALLEL SAFE AS $$
  BEGIN PERFORM pg_sleep(0.001) WHERE id % 10 = 0; RETURN true; END $$;
PREPARE leased AS SELECT count(*), sum(msg_id) FROM pgmq.q_parallel WHERE vt > now() AND slow(msg_id);
SET plan_cache_mode = force_generic_plan;
EXECUTE leased;
BEGIN;
SELECT count(*) FROM pgmq.read('parallel', 100, 1000);
SELECT count(*), sum(msg_id) FROM pgmq.q_parallel WHERE vt > now();
EXECUTE leased;
DO $$
DECLARE
  line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN ANALYZE EXECUTE leased' LOOP
    IF line ~ 'Workers' THEN
      RAISE NOTICE '%', trim(line);
    END IF;
  END LOOP;
END $$;
CREATE INDEX parallel_vt ON pgmq.q_parallel (vt);
CREATE TABLE parallel_copy AS SELECT * FROM pgmq.q_parallel WHERE vt > now();
SELECT count(*), min(read_ct) FROM parallel_copy;
ROLLBACK;
SELECT count(*), sum(msg_id) FROM pgmq.q_parallel WHERE vt > now();

-- Indexes built by several processes, and verbs called by a parallel query's leader
SET max_parallel_maintenance_workers = 2;
CREATE INDEX parallel_last ON pgmq.q_parallel (last_read_at, msg_id);
SET enable_seqscan = off;
SELECT count(*), max(msg_id) FROM pgmq.q_parallel WHERE last_read_at IS NOT NULL;
SELECT count(*) FROM pgmq.q_parallel WHERE last_read_at IS NULL;
RESET enable_seqscan;
DROP INDEX pgmq.parallel_last;
SELECT count(pgmq.delete('parallel', msg_id)) FROM pgmq.q_parallel WHERE msg_id % 2 = 0;
SELECT count(*) FROM pgmq.read('parallel', 0, 20000);
SELECT count(*), sum(read_ct) FROM pgmq.q_parallel;
SELECT * FROM pgmq.check_queue('parallel');
SELECT pgmq.drop_queue('parallel');
DROP FUNCTION slow;
