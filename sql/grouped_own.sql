-- What a transaction did itself counts for its grouped reads; a rollback undoes them.

-- Groups a: 1 3 5, b: 2 4 6
CREATE PROCEDURE grouped_own(q text, INOUT log text) LANGUAGE plpgsql AS $$
DECLARE
  verbs text[] := ARRAY['read_grouped', 'read_grouped_rr', 'read_grouped_head'];
  verb text;
  ids text;
BEGIN
  PERFORM pgmq.create(q);
  PERFORM pgmq.send(q, to_jsonb(i), jsonb_build_object('x-pgmq-group', CASE i % 2 WHEN 1 THEN 'a' ELSE 'b' END))
    FROM generate_series(1, 6) i;
  COMMIT;
  log := '';
  FOREACH verb IN ARRAY verbs LOOP
    -- Own sends, at the end of a group and as a group
    PERFORM pgmq.send(q, '"own a"', '{"x-pgmq-group": "a"}'::jsonb), pgmq.send(q, '"own c"', '{"x-pgmq-group": "c"}'::jsonb),
      pgmq.send(q, '"own d"', '{"x-pgmq-group": "d"}'::jsonb, 3600);
    EXECUTE format('SELECT string_agg(message::text, '' '') FROM pgmq.%s(%L, 3600, 50)', verb, q) INTO ids;
    log := log || format(E'\n%s with sends: %s', verb, ids);
    ROLLBACK;
    -- Own leases: their groups are over, or not if the leases are of no length
    EXECUTE format('SELECT string_agg(msg_id::text, '' '') FROM pgmq.%s(%L, 3600, 1)', verb, q) INTO ids;
    log := log || format(E'\n%s: %s', verb, ids);
    EXECUTE format('SELECT string_agg(concat_ws(''/'', msg_id, read_ct), '' '') FROM pgmq.%s(%L, 0, 2)', verb, q) INTO ids;
    log := log || format(' then %s', ids);
    EXECUTE format('SELECT string_agg(concat_ws(''/'', msg_id, read_ct), '' '') FROM pgmq.%s(%L, -1, 50)', verb, q) INTO ids;
    log := log || format(' then %s', ids);
    EXECUTE format('SELECT string_agg(concat_ws(''/'', msg_id, read_ct), '' '') FROM pgmq.%s(%L, 1, 50)', verb, q) INTO ids;
    log := log || format(' then %s', ids);
    ROLLBACK;
    -- Own deletes of heads; pops
    PERFORM pgmq.delete(q, 1), pgmq.archive(q, 2), pgmq.pop(q);
    EXECUTE format('SELECT string_agg(msg_id::text, '' '') FROM pgmq.%s(%L, 3600, 50)', verb, q) INTO ids;
    log := log || format(E'\n%s with deletes: %s', verb, ids);
    ROLLBACK;
    -- Extended: a head into the future and back
    PERFORM pgmq.set_vt(q, 1, 3600);
    EXECUTE format('SELECT string_agg(msg_id::text, '' '') FROM pgmq.%s(%L, 0, 50)', verb, q) INTO ids;
    log := log || format(E'\n%s with set_vt: %s', verb, ids);
    PERFORM pgmq.set_vt(q, 1, -1);
    EXECUTE format('SELECT string_agg(msg_id::text, '' '') FROM pgmq.%s(%L, 0, 50)', verb, q) INTO ids;
    log := log || format(' then %s', ids);
    ROLLBACK;
    -- A savepoint is rolled back, the next one is not
    BEGIN
      EXECUTE format('SELECT string_agg(msg_id::text, '' '') FROM pgmq.%s(%L, 3600, 50)', verb, q) INTO ids;
      log := log || format(E'\n%s in a savepoint: %s', verb, ids);
      RAISE EXCEPTION 'back';
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    BEGIN
      EXECUTE format('SELECT string_agg(concat_ws(''/'', msg_id, read_ct), '' '') FROM pgmq.%s(%L, 3600, 1)', verb, q) INTO ids;
      log := log || format(' again %s', ids);
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    EXECUTE format('SELECT string_agg(concat_ws(''/'', msg_id, read_ct), '' '') FROM pgmq.%s(%L, 3600, 50)', verb, q) INTO ids;
    log := log || format(' the rest %s', ids);
    ROLLBACK;
    EXECUTE format('SELECT string_agg(concat_ws(''/'', msg_id, read_ct), '' '') FROM pgmq.%s(%L, 3600, 50)', verb, q) INTO ids;
    log := log || format(' rolled back %s', ids);
    ROLLBACK;
  END LOOP;
  -- Committed: three groups of reads, then nothing is left but what becomes visible
  FOREACH verb IN ARRAY verbs LOOP
    EXECUTE format('SELECT string_agg(concat_ws(''/'', msg_id, read_ct), '' '') FROM pgmq.%s(%L, 3600, 2)', verb, q) INTO ids;
    log := log || format(E'\n%s committed %s', verb, ids);
    COMMIT;
  END LOOP;
  PERFORM pgmq.set_vt(q, 3, 0), pgmq.set_vt(q, 2, 0);
  COMMIT;
  EXECUTE format('SELECT string_agg(concat_ws(''/'', msg_id, read_ct), '' '') FROM pgmq.read_grouped(%L, 3600, 50)', q) INTO ids;
  log := log || E'\nhead of b is visible: ' || ids;
  ROLLBACK;
  PERFORM pgmq.delete(q, 1);
  COMMIT;
  EXECUTE format('SELECT string_agg(concat_ws(''/'', msg_id, read_ct), '' '') FROM pgmq.read_grouped(%L, 3600, 50)', q) INTO ids;
  log := log || E'\nhead of a is gone: ' || ids;
  COMMIT;
END $$;

CALL grouped_own('grown', NULL) \gset
\echo :log
SELECT * FROM pgmq.check_queue('grown');
SET pgmq.queue_storage = heap;
CALL grouped_own('grown_heap', NULL) \gset heap_
RESET pgmq.queue_storage;
SELECT :'log' = :'heap_log' AS heap_is_same;
SET pgmq.fast_path = off;
CALL grouped_own('grown_sql', NULL) \gset sql_
RESET pgmq.fast_path;
SELECT :'log' = :'sql_log' AS sql_is_same;
SELECT * FROM pgmq.check_queue('grown_sql');

-- A head moves to another group; what it kept out may be read
UPDATE pgmq.q_grown SET headers = '{"x-pgmq-group": "c"}' WHERE msg_id = 3;
SELECT msg_id FROM pgmq.set_vt('grown', ARRAY[5, 3]::bigint[], 0) ORDER BY 1;
SELECT msg_id, read_ct FROM pgmq.read_grouped_head('grown', 3600, 10);
SELECT * FROM pgmq.check_queue('grown');

SELECT pgmq.drop_queue('grown'), pgmq.drop_queue('grown_heap'), pgmq.drop_queue('grown_sql');
DROP PROCEDURE grouped_own;
