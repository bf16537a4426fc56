-- Indexes for grouped reads: heap queues get them, hot queues need none.

\set VERBOSITY terse
CREATE ROLE regress_pgmq_fifo;
GRANT USAGE ON SCHEMA pgmq TO regress_pgmq_fifo;
SELECT pgmq.create('fifo_hot');
SET pgmq.queue_storage = heap;
SELECT pgmq.create('fifo_Heap');
SELECT pgmq.create('fifo two');
RESET pgmq.queue_storage;

SELECT pgmq.create_fifo_index('fifo_hot');
SELECT pgmq.create_fifo_index('fifo_heap');
SELECT pgmq._create_fifo_index_if_not_exists('FIFO_heap');
SELECT indexdef FROM pg_indexes WHERE indexname ~ '_fifo_idx$' ORDER BY 1;
-- also of queues that the same statement made
SET pgmq.queue_storage = heap;
SELECT pgmq.create('fifo_new'), pgmq.create_fifo_indexes_all();
RESET pgmq.queue_storage;
SELECT indexname FROM pg_indexes WHERE indexname ~ '_fifo_idx$' ORDER BY 1;

-- Errors are those of CREATE INDEX
CREATE FUNCTION pg_temp.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT pg_temp.try(format('SELECT pgmq.create_fifo_index(%s)', q)) FROM unnest(ARRAY['NULL', '''no such''', '''a;b''']) q;
SET ROLE regress_pgmq_fifo;
SELECT pg_temp.try($$SELECT pgmq.create_fifo_index('fifo_hot')$$);
SELECT pg_temp.try($$SELECT pgmq.create_fifo_index('fifo_heap')$$);
SELECT pg_temp.try($$SELECT pgmq.create_fifo_indexes_all()$$);
RESET ROLE;

-- A hot queue that becomes a heap queue can have one
SELECT pgmq.convert_queue('fifo_hot', 'heap');
SELECT pgmq.create_fifo_index('fifo_hot');
SELECT indexname FROM pg_indexes WHERE tablename = 'q_fifo_hot' ORDER BY 1;
SELECT pgmq.convert_queue('fifo_hot', 'hot');
SELECT pgmq.send('fifo_hot', '1', '{"x-pgmq-group": "a"}'::jsonb);
SELECT * FROM pgmq.check_queue('fifo_hot');
SELECT pgmq.drop_queue(queue_name) FROM pgmq.list_queues() WHERE queue_name ~ '^fifo';
REVOKE USAGE ON SCHEMA pgmq FROM regress_pgmq_fifo;
DROP ROLE regress_pgmq_fifo;
