-- Row security on queue tables: hot and heap queues behave the same.

CREATE ROLE regress_pgmq_a;
CREATE ROLE regress_pgmq_b;
GRANT USAGE ON SCHEMA pgmq TO regress_pgmq_a, regress_pgmq_b;
SELECT pgmq.create('secure');
SET pgmq.queue_storage = heap;
SELECT pgmq.create('secure_heap');
RESET pgmq.queue_storage;
DO $$
DECLARE q text;
BEGIN
  FOREACH q IN ARRAY ARRAY['secure', 'secure_heap'] LOOP
    EXECUTE format('GRANT ALL ON pgmq.q_%s, pgmq.a_%s TO regress_pgmq_a, regress_pgmq_b', q, q);
    EXECUTE format('GRANT SELECT ON pgmq.q_%s_msg_id_seq TO regress_pgmq_a, regress_pgmq_b', q);
    EXECUTE format('ALTER TABLE pgmq.q_%s ENABLE ROW LEVEL SECURITY', q);
    EXECUTE format('CREATE POLICY tenant ON pgmq.q_%s USING (headers ->> ''tenant'' = current_user)', q);
  END LOOP;
END $$;
CREATE FUNCTION pg_temp.try(q text, call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE r record; result text := '';
BEGIN
  FOR r IN EXECUTE format('SELECT * FROM pgmq.' || call, q) LOOP result := result || r::text; END LOOP;
  RETURN result;
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ' ' || replace(SQLERRM, 'secure_heap', 'secure');
END $$;
CREATE FUNCTION pg_temp.twin(call text) RETURNS text LANGUAGE sql AS $$
  SELECT CASE WHEN hot = heap THEN hot ELSE 'DIFFERENT: ' || hot || ' <> ' || heap END
    FROM pg_temp.try('secure', call) hot, pg_temp.try('secure_heap', call) heap $$;

SET ROLE regress_pgmq_a;
SELECT pg_temp.twin($$send(%L, '"a1"', '{"tenant": "regress_pgmq_a"}'::jsonb)$$);
SELECT pg_temp.twin($$send_batch(%L, ARRAY['"a2"', '"a3"']::jsonb[], ARRAY['{"tenant": "regress_pgmq_a"}', '{"tenant": "regress_pgmq_a"}']::jsonb[])$$);
SELECT pg_temp.twin($$send(%L, '"not mine"', '{"tenant": "regress_pgmq_b"}'::jsonb)$$);
SELECT pg_temp.twin($$send(%L, '"nobody"')$$);
SET ROLE regress_pgmq_b;
SELECT pg_temp.twin($$send(%L, '"b1"', '{"tenant": "regress_pgmq_b"}'::jsonb)$$);
SELECT message FROM pgmq.read('secure', 0, 10);
SELECT message FROM pgmq.read('secure_heap', 0, 10);
SELECT pg_temp.twin($$delete(%L, 1)$$);
SELECT pg_temp.twin($$archive(%L, ARRAY[1, 2])$$);
SELECT pg_temp.twin($$set_vt(%L, 1, 100)$$);
SELECT queue_length, queue_visible_length FROM pgmq.metrics('secure');
SELECT queue_length, queue_visible_length FROM pgmq.metrics('secure_heap');
SET ROLE regress_pgmq_a;
SELECT message, read_ct FROM pgmq.read('secure', 0, 10);
SELECT message, read_ct FROM pgmq.read('secure_heap', 0, 10);
SELECT pg_temp.twin($$delete(%L, 1)$$);
SELECT message FROM pgmq.pop('secure');
SELECT message FROM pgmq.pop('secure_heap');
SELECT queue_length, queue_visible_length FROM pgmq.metrics('secure');

-- The owner is not restricted, unless forced
RESET ROLE;
SELECT message FROM pgmq.read('secure', 0, 10);
ALTER TABLE pgmq.q_secure OWNER TO regress_pgmq_a;
SET ROLE regress_pgmq_a;
SELECT message FROM pgmq.read('secure', 0, 10);
RESET ROLE;
ALTER TABLE pgmq.q_secure FORCE ROW LEVEL SECURITY;
SET ROLE regress_pgmq_a;
SELECT message FROM pgmq.read('secure', 0, 10);
SET row_security = off;
SELECT message FROM pgmq.read('secure', 0, 10);
RESET row_security;
RESET ROLE;
SELECT * FROM pgmq.check_queue('secure');
SELECT pgmq.drop_queue('secure'), pgmq.drop_queue('secure_heap');
REVOKE USAGE ON SCHEMA pgmq FROM regress_pgmq_a, regress_pgmq_b;
DROP ROLE regress_pgmq_a, regress_pgmq_b;
