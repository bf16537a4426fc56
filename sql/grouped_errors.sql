-- Arguments, rights and transactions that grouped reads refuse, on both kinds of queue.

SELECT pgmq.create('refuse');
SET pgmq.queue_storage = heap;
SELECT pgmq.create('refuse_heap');
RESET pgmq.queue_storage;
CREATE ROLE regress_pgmq_group;
GRANT USAGE ON SCHEMA pgmq TO regress_pgmq_group;

CREATE FUNCTION grouped_error(call text, role text DEFAULT 'none') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  n int;
BEGIN
  EXECUTE format('SET LOCAL ROLE %s', role);
  EXECUTE 'SELECT count(*) FROM pgmq.' || call INTO n;
  RESET ROLE;
  RETURN n;
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE VIEW grouped_verbs AS
  SELECT verb || poll AS verb, CASE poll WHEN '' THEN '' ELSE ', 5' END AS seconds
    FROM unnest(ARRAY['read_grouped', 'read_grouped_rr', 'read_grouped_head']) WITH ORDINALITY v(verb, n), unnest(ARRAY['', '_with_poll']) poll ORDER BY n, poll;

-- No message: vt does not matter, nor does qty but for LIMIT's own check
SELECT verb, grouped_error(format('%s(''refuse'', NULL, 1)', verb)) AS vt_null, grouped_error(format('%s(''refuse'', 0, NULL)', verb)) AS qty_null,
       grouped_error(format('%s(''refuse'', 0, -1)', verb)) AS negative, grouped_error(format('%s(''refuse_heap'', 0, -1)', verb)) AS negative_heap
  FROM grouped_verbs WHERE seconds = '';
-- No such queue, no name, bad name
SELECT verb, grouped_error(format('%s(''Not There'', 0, 1)', verb)) AS unknown, grouped_error(format('%s(NULL, 0, 1)', verb)) AS no_name,
       grouped_error(format('%s(''a$b'', 0, 1)', verb)) AS bad_name FROM grouped_verbs;
SELECT pgmq.read_grouped('refuse', 0::bigint, 1);
SELECT pgmq.read_grouped('refuse', 0);

SELECT count(*) FROM generate_series(1, 3) i, unnest(ARRAY['refuse', 'refuse_heap']) q, pgmq.send(q, to_jsonb(i), '{"x-pgmq-group": 1}'::jsonb);
SELECT verb, q, grouped_error(format('%s(%L, NULL, 1%s)', verb, q, seconds)) AS vt_null FROM grouped_verbs, unnest(ARRAY['refuse', 'refuse_heap']) q ORDER BY q, verb;
SELECT verb, q, grouped_error(format('%s(%L, NULL, 0)', verb, q)) AS vt_null_qty_0 FROM grouped_verbs, unnest(ARRAY['refuse', 'refuse_heap']) q WHERE seconds = '' ORDER BY q, verb;

-- A transaction that may not write
SET default_transaction_read_only = on;
SELECT verb, grouped_error(format('%s(''refuse'', 0, 1%s)', verb, seconds)) AS hot, grouped_error(format('%s(''refuse_heap'', 0, 1%s)', verb, seconds)) AS heap FROM grouped_verbs;
RESET default_transaction_read_only;

-- Each of the rights is needed
SELECT verb, q, grouped_error(format('%s(%L, 0, 1%s)', verb, q, seconds), 'regress_pgmq_group') AS without FROM grouped_verbs, unnest(ARRAY['refuse', 'refuse_heap']) q ORDER BY q, verb;
GRANT SELECT ON pgmq.q_refuse, pgmq.q_refuse_heap TO regress_pgmq_group;
SELECT DISTINCT q, grouped_error(format('%s(%L, 0, 1%s)', verb, q, seconds), 'regress_pgmq_group') AS only_select FROM grouped_verbs, unnest(ARRAY['refuse', 'refuse_heap']) q ORDER BY q;
REVOKE SELECT ON pgmq.q_refuse, pgmq.q_refuse_heap FROM regress_pgmq_group;
GRANT UPDATE ON pgmq.q_refuse, pgmq.q_refuse_heap TO regress_pgmq_group;
SELECT DISTINCT q, grouped_error(format('%s(%L, 0, 1%s)', verb, q, seconds), 'regress_pgmq_group') AS only_update FROM grouped_verbs, unnest(ARRAY['refuse', 'refuse_heap']) q ORDER BY q;
REVOKE UPDATE ON pgmq.q_refuse, pgmq.q_refuse_heap FROM regress_pgmq_group;
GRANT SELECT, UPDATE (vt, read_ct, last_read_at) ON pgmq.q_refuse, pgmq.q_refuse_heap TO regress_pgmq_group;
SELECT DISTINCT q, grouped_error(format('%s(%L, 0, 1%s)', verb, q, seconds), 'regress_pgmq_group') AS enough FROM grouped_verbs, unnest(ARRAY['refuse', 'refuse_heap']) q ORDER BY q;

SELECT * FROM pgmq.check_queue('refuse');
REVOKE ALL ON pgmq.q_refuse, pgmq.q_refuse_heap FROM regress_pgmq_group;
REVOKE USAGE ON SCHEMA pgmq FROM regress_pgmq_group;
SELECT pgmq.drop_queue('refuse'), pgmq.drop_queue('refuse_heap');
DROP VIEW grouped_verbs;
DROP FUNCTION grouped_error;
DROP ROLE regress_pgmq_group;
