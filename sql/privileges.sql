-- Each function needs the table rights of its SQL, no more and no less.

CREATE ROLE regress_pgmq_user;
SELECT pgmq.create('rights');
SET pgmq.queue_storage = heap;
SELECT pgmq.create('rights_heap');
RESET pgmq.queue_storage;
SELECT count(*) FROM pgmq.send_batch('rights', (SELECT array_agg('1'::jsonb) FROM generate_series(1, 60)));
SELECT count(*) FROM pgmq.send_batch('rights_heap', (SELECT array_agg('1'::jsonb) FROM generate_series(1, 60)));

CREATE TABLE needs (call text, rights text[]);
INSERT INTO needs VALUES
  ($$send('%q', '2')$$, '{"INSERT (vt, message, headers) ON %t","SELECT (msg_id) ON %t"}'),
  ($$send_batch('%q', ARRAY['2', '3']::jsonb[], 100)$$, '{"INSERT (vt, message, headers) ON %t","SELECT (msg_id) ON %t"}'),
  ($$read('%q', 0, 1)$$, '{SELECT ON %t,"UPDATE (vt, read_ct, last_read_at) ON %t"}'),
  ($$read('%q', 0, 1, '1')$$, '{SELECT ON %t,"UPDATE (vt, read_ct, last_read_at) ON %t"}'),
  ($$read_with_poll('%q', 0, 1, 1)$$, '{SELECT ON %t,UPDATE ON %t}'),
  ($$set_vt('%q', 50, 0)$$, '{SELECT ON %t,UPDATE (vt) ON %t}'),
  ($$set_vt('%q', ARRAY[50, 51], now())$$, '{SELECT ON %t,UPDATE (vt) ON %t}'),
  ($$pop('%q')$$, '{SELECT ON %t,DELETE ON %t}'),
  ($$delete('%q', 50)$$, '{SELECT (msg_id) ON %t,DELETE ON %t}'),
  ($$delete('%q', ARRAY[51, 52])$$, '{SELECT (msg_id) ON %t,DELETE ON %t}'),
  ($$archive('%q', 53)$$, '{SELECT ON %t,DELETE ON %t,INSERT ON %a,SELECT (msg_id) ON %a}'),
  ($$archive('%q', ARRAY[54, 55])$$, '{SELECT ON %t,DELETE ON %t,INSERT ON %a,SELECT (msg_id) ON %a}'),
  ($$metrics('%q')$$, '{"SELECT (vt, enqueued_at) ON %t",SELECT ON %s}'),
  ($$list_queues()$$, '{SELECT ON pgmq.meta}'),
  ($$purge_queue('%q')$$, '{TRUNCATE ON %t,SELECT ON %t}');

CREATE FUNCTION pg_temp.try_as_user(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  SET LOCAL ROLE regress_pgmq_user;
  EXECUTE sql;
  RESET ROLE;
  RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION pg_temp.expand(template text, q text) RETURNS text LANGUAGE sql AS $$
  SELECT replace(replace(replace(replace(template, '%q', q), '%t', 'pgmq.q_' || q), '%a', 'pgmq.a_' || q), '%s', 'pgmq.q_' || q || '_msg_id_seq') $$;
-- With all rights, then with each of them missing
CREATE FUNCTION pg_temp.probe(q text) RETURNS TABLE (call text, missing text, result text) LANGUAGE plpgsql AS $$
DECLARE
  n record;
BEGIN
  FOR n IN SELECT * FROM needs LOOP
    call := n.call;
    FOR without IN 1 .. cardinality(n.rights) + 1 LOOP
      FOR i IN 1 .. cardinality(n.rights) LOOP
        CONTINUE WHEN i = without;
        EXECUTE pg_temp.expand('GRANT ' || n.rights[i] || ' TO regress_pgmq_user', q);
      END LOOP;
      missing := n.rights[without];
      result := replace(pg_temp.try_as_user(pg_temp.expand('SELECT * FROM pgmq.' || n.call, q)), q, '%q');
      RETURN NEXT;
      REVOKE ALL ON ALL TABLES IN SCHEMA pgmq FROM regress_pgmq_user;
      REVOKE ALL ON ALL SEQUENCES IN SCHEMA pgmq FROM regress_pgmq_user;
    END LOOP;
  END LOOP;
END $$;

-- Without USAGE on the schema nothing goes
SELECT pg_temp.try_as_user($$SELECT pgmq.send('rights', '1')$$);
GRANT USAGE ON SCHEMA pgmq TO regress_pgmq_user;
CREATE TABLE hot AS SELECT row_number() OVER () AS n, * FROM pg_temp.probe('rights');
CREATE TABLE heap AS SELECT row_number() OVER () AS n, * FROM pg_temp.probe('rights_heap');
SELECT call, coalesce(missing, '-') AS missing, result FROM hot ORDER BY n;
-- a heap queue is the same
SELECT hot.call, heap.missing, heap.result FROM hot FULL JOIN heap USING (n) WHERE hot.result IS DISTINCT FROM heap.result;
SELECT pg_temp.try_as_user($$SELECT pgmq.drop_queue('rights')$$), pg_temp.try_as_user($$SELECT pgmq.create('mine')$$);
SELECT * FROM pgmq.check_queue('rights');

-- As the owner, and through a function of the owner
SELECT pgmq.send('rights', '"one"');
CREATE FUNCTION as_owner() RETURNS SETOF pgmq.message_record LANGUAGE sql SECURITY DEFINER SET search_path = ''
  AS $$ SELECT * FROM pgmq.read('rights', 0, 1) $$;
SET ROLE regress_pgmq_user;
SELECT message FROM as_owner();
SELECT message FROM pgmq.read('rights', 0, 1);
RESET ROLE;
SELECT * FROM pgmq.check_queue('rights');
DROP FUNCTION as_owner;
DROP TABLE needs, hot, heap;
SELECT pgmq.drop_queue('rights'), pgmq.drop_queue('rights_heap');
REVOKE USAGE ON SCHEMA pgmq FROM regress_pgmq_user;
DROP ROLE regress_pgmq_user;
