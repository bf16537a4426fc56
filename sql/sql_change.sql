-- UPDATE, DELETE and row locks on a hot queue, compared with a heap queue.

-- %q is the table of either queue; says what both do and whether both then hold the same
CREATE FUNCTION pg_temp.content(tab text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text;
BEGIN
  EXECUTE format('SELECT string_agg(t::text, E''\n'' ORDER BY msg_id, t::text) FROM %s t', tab) INTO result;
  RETURN result;
END $$;
CREATE FUNCTION pg_temp.twin(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  results text[];
  result text;
  r record;
  n int;
  tab text;
BEGIN
  FOREACH tab IN ARRAY ARRAY['pgmq.q_twin', 'pgmq.q_twin_heap'] LOOP
    BEGIN
      result := '';
      IF statement ~* '(^(select|table|explain)|returning)' THEN
        FOR r IN EXECUTE replace(statement, '%q', tab) LOOP
          result := result || r::text;
        END LOOP;
      ELSE
        EXECUTE replace(statement, '%q', tab);
        GET DIAGNOSTICS n = ROW_COUNT;
        result := n || ' rows';
      END IF;
    EXCEPTION WHEN OTHERS THEN
      result := SQLSTATE || ' ' || replace(SQLERRM, 'q_twin_heap', 'q_twin');
    END;
    results := results || result;
  END LOOP;
  IF results[1] IS DISTINCT FROM results[2] THEN
    RETURN 'DIFFERENT: ' || results[1] || ' <> ' || results[2];
  ELSIF pg_temp.content('pgmq.q_twin') IS DISTINCT FROM pg_temp.content('pgmq.q_twin_heap') THEN
    RETURN 'DIFFERENT afterwards: ' || results[1];
  END IF;
  RETURN results[1];
END $$;

SELECT pgmq.create('twin');
SET pgmq.queue_storage = heap;
SELECT pgmq.create('twin_heap');
RESET pgmq.queue_storage;
SELECT relname, amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE relname ~ '^q_twin' AND relkind = 'r' ORDER BY 1;
SELECT pg_temp.twin($$INSERT INTO %q (vt, message) SELECT now(), to_jsonb(i) FROM generate_series(1, 30) i$$);

SELECT pg_temp.twin($$UPDATE %q SET message = '"a"' WHERE msg_id = 1 RETURNING msg_id, read_ct, last_read_at, message$$);
SELECT pg_temp.twin($$UPDATE %q SET last_read_at = now() WHERE msg_id = 2 RETURNING last_read_at = now(), xmax::text$$);
SELECT pg_temp.twin($$UPDATE %q SET last_read_at = NULL WHERE msg_id = 2 RETURNING msg_id, last_read_at$$);
SELECT pg_temp.twin($$UPDATE %q SET vt = 'infinity', read_ct = read_ct + 1 WHERE msg_id BETWEEN 4 AND 6 RETURNING msg_id, vt, read_ct$$);
SELECT pg_temp.twin($$UPDATE %q SET msg_id = 100 WHERE msg_id = 7$$);
SELECT pg_temp.twin($$UPDATE %q SET vt = NULL WHERE msg_id = 8$$);
SELECT pg_temp.twin($$UPDATE %q t SET headers = to_jsonb(s) FROM (VALUES (8), (9)) v (s) WHERE t.msg_id = v.s RETURNING t.msg_id, headers$$);
SELECT pg_temp.twin($$UPDATE %q SET message = (SELECT to_jsonb(count(*)) FROM %q WHERE last_read_at IS NULL) WHERE msg_id = 10 RETURNING message$$);
SELECT pg_temp.twin($$UPDATE %q SET message = message RETURNING 1$$);
SELECT pg_temp.twin($$DELETE FROM %q WHERE msg_id IN (11, 12) RETURNING msg_id, read_ct, last_read_at$$);
SELECT pg_temp.twin($$DELETE FROM %q t USING %q s WHERE t.msg_id = s.msg_id + 12 AND s.msg_id = 1 RETURNING t.msg_id, s.msg_id$$);
SELECT pg_temp.twin($$DELETE FROM %q WHERE vt <= now() AND msg_id > 28$$);
SELECT pg_temp.twin($$WITH d AS (DELETE FROM %q WHERE msg_id = 14 RETURNING *) INSERT INTO %q (msg_id, vt, message) OVERRIDING SYSTEM VALUE SELECT 314, vt, message FROM d RETURNING msg_id, message$$);
SELECT pg_temp.twin($$SELECT count(*), count(last_read_at), sum(msg_id) FROM %q$$);

-- Row locks, alone and upgraded, then changes of what is locked
SELECT pg_temp.twin($$SELECT msg_id FROM %q WHERE msg_id < 4 ORDER BY 1 FOR KEY SHARE$$);
SELECT pg_temp.twin($$SELECT msg_id FROM %q WHERE msg_id < 4 ORDER BY 1 FOR SHARE$$);
SELECT pg_temp.twin($$SELECT msg_id FROM %q WHERE msg_id < 4 ORDER BY 1 FOR NO KEY UPDATE NOWAIT$$);
SELECT pg_temp.twin($$SELECT msg_id, last_read_at FROM %q WHERE msg_id < 4 ORDER BY 1 FOR UPDATE SKIP LOCKED$$);
BEGIN;
SELECT msg_id, read_ct, last_read_at FROM pgmq.q_twin WHERE vt <= now() ORDER BY 1 LIMIT 2 FOR UPDATE SKIP LOCKED;
SELECT msg_id, read_ct FROM pgmq.read('twin', 100, 2);
UPDATE pgmq.q_twin SET read_ct = 5 WHERE msg_id = 1;
DELETE FROM pgmq.q_twin WHERE msg_id = 2 RETURNING read_ct;
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT msg_id FROM pgmq.q_twin WHERE msg_id = 1 FOR UPDATE;
ROLLBACK TO s;
SELECT msg_id, read_ct FROM pgmq.read('twin', 0, 2);
SELECT msg_id, read_ct FROM pgmq.q_twin WHERE msg_id = 1 FOR UPDATE;
ROLLBACK;

-- The queue follows
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin', 0, 100);
SELECT string_agg(msg_id::text, ' ') FROM pgmq.read('twin_heap', 0, 100);
SELECT * FROM pgmq.check_queue('twin');
SELECT pgmq.drop_queue('twin'), pgmq.drop_queue('twin_heap');
