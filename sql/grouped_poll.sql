-- The polling forms of the grouped reads, as far as one session can tell.  What wakes a
-- sleeper is tested in t/018_grouped.pl.

CREATE PROCEDURE grouped_poll(q text, INOUT log text) LANGUAGE plpgsql AS $$
DECLARE
  verb text;
  ids text;
  start timestamptz;
BEGIN
  PERFORM pgmq.create(q);
  PERFORM pgmq.send(q, to_jsonb(i), jsonb_build_object('x-pgmq-group', i / 2)) FROM generate_series(1, 4) i;
  COMMIT;
  log := '';
  FOREACH verb IN ARRAY ARRAY['read_grouped_with_poll', 'read_grouped_rr_with_poll', 'read_grouped_head_with_poll'] LOOP
    log := log || E'\n' || verb;
    -- No seconds: not even a look; NULL: for ever, so there must be a message
    FOREACH ids IN ARRAY ARRAY['0', '-1', '-2147483648', '1', 'NULL', '3600'] LOOP
      EXECUTE format('SELECT $1 || %L || coalesce(string_agg(msg_id::text, '' ''), ''-'') FROM pgmq.%s(%L, 0, 3, %s)', ' | ' || ids || ': ', verb, q, ids) INTO log USING log;
    END LOOP;
    EXECUTE format('SELECT $1 || '' | named: '' || string_agg(msg_id::text, '' '')
      FROM pgmq.%s(queue_name => %L, vt => 0, qty => 2, max_poll_seconds => 5, poll_interval_ms => NULL)', verb, q) INTO log USING log;
    EXECUTE format('SELECT $1 || '' | defaults: '' || string_agg(msg_id::text, '' '') FROM pgmq.%s(%L, 0, 2)', verb, q) INTO log USING log;
    -- Nothing to be had: the time is spent, and no row comes
    IF verb ~ 'rr' THEN
      start := clock_timestamp();
      EXECUTE format('SELECT $1 || '' | none: '' || count(*) FROM pgmq.%s(%L, 0, 0, 1, 50)', verb, q) INTO log USING log;
      log := log || ' ' || (clock_timestamp() - start >= '1 s');
    END IF;
    COMMIT;
    -- A head that lapses while we sleep; its group comes with it
    PERFORM pgmq.set_vt(q, ARRAY[1, 2], 3600), pgmq.set_vt(q, 4, 1);
    COMMIT;
    EXECUTE format('SELECT $1 || '' | lapsed: '' || string_agg(msg_id::text, '' '') FROM pgmq.%s(%L, 0, 9, 60, 10)', verb, q) INTO log USING log;
    COMMIT;
    PERFORM pgmq.set_vt(q, ARRAY[1, 2, 4], 0);
    COMMIT;
  END LOOP;
END $$;

CALL grouped_poll('patient', NULL) \gset
\echo :log
SELECT * FROM pgmq.check_queue('patient');
SET pgmq.queue_storage = heap;
CALL grouped_poll('patient_heap', NULL) \gset heap_
RESET pgmq.queue_storage;
SELECT :'log' = :'heap_log' AS heap_is_same;

SELECT pgmq.drop_queue('patient'), pgmq.drop_queue('patient_heap');
DROP PROCEDURE grouped_poll;
