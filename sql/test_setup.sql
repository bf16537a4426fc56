-- Runs first: helpers that other tests use, in schema test.

CREATE SCHEMA test;

-- The rows of a table as text
CREATE FUNCTION test.content(tab text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text;
BEGIN
  EXECUTE format('SELECT string_agg(t::text, E''\n'' ORDER BY msg_id, t::text) FROM %s t', tab) INTO result;
  RETURN result;
END $$;

-- Queues twin, hot, and twin_heap, to be compared; says how they are stored
CREATE FUNCTION test.create_twins() RETURNS TABLE (relname name, amname name) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('pgmq.queue_storage', 'hot', true), pgmq.create('twin');
  PERFORM set_config('pgmq.queue_storage', 'heap', true), pgmq.create('twin_heap');
  RETURN QUERY SELECT c.relname, a.amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam
    WHERE c.relname ~ '^q_twin' AND relkind = 'r' ORDER BY 1;
END $$;

-- A statement in which %q is the table of either twin; says what both do and whether both
-- then hold the same
CREATE FUNCTION test.twin(statement text) RETURNS text LANGUAGE plpgsql AS $$
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
  ELSIF test.content('pgmq.q_twin') IS DISTINCT FROM test.content('pgmq.q_twin_heap') THEN
    RETURN 'DIFFERENT afterwards: ' || results[1];
  END IF;
  RETURN results[1];
END $$;

-- What EXPLAIN ANALYZE says of a statement: the nodes that scan, lock, change or count, and
-- what the scans of queues say of themselves; the same on every version of the server
CREATE FUNCTION test.plan(statement text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
  line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF'
    || CASE WHEN current_setting('server_version_num')::int >= 180000 THEN ', BUFFERS OFF) ' ELSE ') ' END || statement
  LOOP
    IF line ~ 'Scan|Lock|Update|Delete|Nested|Aggregate |Cond:|Keys|Order:|Visible|Queue Table|Fetched|Filter: |Sort Key'
      AND line !~ 'IS NOT NULL|Removed|Function Scan|Values Scan|Replaces' THEN
      RETURN NEXT regexp_replace(regexp_replace(line, ' \(actual.*', ''), '\$0|\(InitPlan 1\).col1', 'array');
    END IF;
  END LOOP;
END $$;

-- What a call of the API returned, messages less enqueued_at, or its error
CREATE FUNCTION test.call(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text;
BEGIN
  IF call ~ '^(create|validate_queue|acquire|_validate)' THEN
    EXECUTE 'SELECT pgmq.' || call;
    RETURN 'done';
  END IF;
  EXECUTE format($s$SELECT string_agg(CASE jsonb_typeof(j) WHEN 'object'
      THEN concat_ws(' ', '#' || (j ->> 'msg_id'), 'read ' || (j ->> 'read_ct'), 'at ' || (j ->> 'last_read_at'),
        'vt ' || (j ->> 'vt'), j -> 'message', j -> 'headers') ELSE j::text END, ', ')
    FROM (SELECT to_jsonb(pgmq.%s) j) s$s$, call) INTO result;
  RETURN coalesce(result, 'none');
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- Calls in which %q is the name of either twin: what both return
CREATE FUNCTION test.calls(calls text[]) RETURNS TABLE (result text, call text) LANGUAGE plpgsql AS $$
DECLARE
  heap text;
BEGIN
  FOREACH call IN ARRAY calls LOOP
    result := test.call(replace(call, '%q', quote_literal('twin')));
    heap := replace(test.call(replace(call, '%q', quote_literal('twin_heap'))), 'twin_heap', 'twin');
    IF result <> heap THEN
      result := 'DIFFERENT: ' || result || ' <> ' || heap;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;
