-- Random calls on a hot queue and on a heap queue, the same ones, give the same.

SELECT pgmq.create('random');
SET pgmq.queue_storage = heap;
SELECT pgmq.create('random_heap');
RESET pgmq.queue_storage;

-- A call of any kind, as text with %L for the queue; "last" is the highest msg_id
CREATE FUNCTION grouped_call(last bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  keys text[] := ARRAY['null', '{}', '{"x-pgmq-group": null}', '{"x-pgmq-group": 5}', '{"x-pgmq-group": "5"}', '{"x-pgmq-group": "a"}',
    '{"x-pgmq-group": "b"}', '{"x-pgmq-group": ""}', '[1]', '"x"', '{"x-pgmq-group": {"k": 1}}', '{"x-pgmq-group": true}'];
  key text := keys[1 + floor(random() * 12)];
  vt int := (ARRAY[0, 1000, 1000, 1000, -5])[1 + floor(random() * 5)];
  qty int := floor(random() * 7);
  id bigint := last - floor(random() * 60);
BEGIN
  CASE floor(random() * 15)
    WHEN 0, 1, 2 THEN RETURN format('send(%%L, %L::jsonb, %L::jsonb)', id, key);
    WHEN 3 THEN RETURN format('send(%%L, %L::jsonb, %L::jsonb, 1000)', id, key);
    WHEN 4 THEN RETURN format('send_batch(%%L, ARRAY[%L, ''1'', ''2'']::jsonb[], ARRAY[%L, NULL, %2$L]::jsonb[])', id, key);
    WHEN 5, 6 THEN RETURN format('read_grouped(%%L, %s, %s)', vt, qty);
    WHEN 7, 8 THEN RETURN format('read_grouped_rr(%%L, %s, %s)', vt, qty);
    WHEN 9 THEN RETURN format('read_grouped_head(%%L, %s, %s)', vt, qty);
    WHEN 10 THEN RETURN format('read(%%L, %s, %s)', vt, qty);
    WHEN 11 THEN RETURN format('set_vt(%%L, %s::bigint, %s)', id, vt);
    WHEN 12 THEN RETURN format('delete(%%L, ARRAY[%s, %s, %s]::bigint[])', id, id + 1, id - 7);
    WHEN 13 THEN RETURN format('archive(%%L, %s::bigint)', id);
    ELSE RETURN format('pop(%%L, %s)', qty);
  END CASE;
END $$;

-- What a call returns, but for times; in its order where that is defined
CREATE FUNCTION grouped_result(call text, q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text;
BEGIN
  EXECUTE format('SELECT string_agg(line, '', '' %s) FROM
    (SELECT CASE WHEN jsonb_typeof(j) = ''object'' THEN (j - ''{enqueued_at,last_read_at,vt}''::text[])::text ELSE j::text END AS line
      FROM (SELECT to_jsonb(r) AS j FROM pgmq.' || call || ' r) j) l',
    CASE WHEN call ~ '^read_grouped_rr' THEN '' ELSE 'ORDER BY line' END, q) INTO result;
  RETURN result;
END $$;

-- n steps; a share of the transactions has several, is rolled back, or changes rows by SQL
CREATE PROCEDURE grouped_compare(n int, commits float8) LANGUAGE plpgsql AS $$
DECLARE
  call text;
  hot text;
  heap text;
  last bigint;
BEGIN
  FOR i IN 1 .. n LOOP
    IF random() < 0.1 THEN
      ROLLBACK;
    ELSIF random() < commits THEN
      COMMIT;
    END IF;
    last := (SELECT max(msg_id) FROM pgmq.q_random_heap);
    IF random() < 0.05 THEN
      UPDATE pgmq.q_random SET headers = '{"x-pgmq-group": "a"}' WHERE msg_id = last - i % 40;
      UPDATE pgmq.q_random_heap SET headers = '{"x-pgmq-group": "a"}' WHERE msg_id = last - i % 40;
    END IF;
    call := grouped_call(coalesce(last, 1));
    hot := grouped_result(call, 'random');
    heap := grouped_result(call, 'random_heap');
    IF hot IS DISTINCT FROM heap THEN
      RAISE EXCEPTION 'step %, %: hot % heap %', i, call, hot, heap;
    END IF;
  END LOOP;
  COMMIT;
END $$;

SELECT setseed(0.4711);
CALL grouped_compare(2000, 1);
SELECT * FROM pgmq.check_queue('random');
CALL grouped_compare(1500, 0.3);
SELECT * FROM pgmq.check_queue('random');
SELECT count(*) FROM (SELECT msg_id, read_ct, message, headers FROM pgmq.q_random EXCEPT ALL SELECT msg_id, read_ct, message, headers FROM pgmq.q_random_heap) r;
SELECT count(*) > 20 AS some_are_left FROM pgmq.q_random;

SELECT pgmq.drop_queue('random'), pgmq.drop_queue('random_heap');
DROP PROCEDURE grouped_compare;
DROP FUNCTION grouped_call, grouped_result;
