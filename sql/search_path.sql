-- A caller's search_path cannot put other functions and operators in place of the
-- server's: everything of a hostile schema that could be met raises an error.

CREATE SCHEMA hostile;
DO $$
DECLARE
  f text;
  o record;
BEGIN
  -- functions by name and arguments
  FOREACH f IN ARRAY ARRAY['clock_timestamp()', 'now()', 'lower(text)', 'unnest(jsonb[])', 'hashtext(text)',
    'hashtextextended(text, bigint)', 'pg_try_advisory_xact_lock(bigint)', 'pg_advisory_xact_lock(bigint)',
    'make_interval(int, int, int, int, int, int, float8)', 'to_timestamp(float8)', 'quote_ident(text)',
    'format(text, text)', 'format(text, text, text)', 'concat(text)', 'length(text)', 'regexp_replace(text, text, text, text)',
    'replace(text, text, text)', 'current_setting(text)', 'pg_notify(text, text)', 'jsonb_array_length(jsonb)'] LOOP
    EXECUTE format($f$CREATE FUNCTION hostile.%s RETURNS text LANGUAGE plpgsql AS
      $b$ BEGIN RAISE 'met %%', %L; END $b$ $f$, f, f);
  END LOOP;
  -- aggregates
  FOREACH f IN ARRAY ARRAY['min', 'max', 'sum'] LOOP
    EXECUTE format($f$CREATE FUNCTION hostile.met_%1$s(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS
      $b$ BEGIN RAISE 'met %1$s'; END $b$ $f$, f);
    EXECUTE format('CREATE AGGREGATE hostile.%1$s(bigint) (SFUNC = hostile.met_%1$s, STYPE = bigint, INITCOND = ''0'')', f);
  END LOOP;
  -- operators, exact in their types
  FOR o IN SELECT oprname, oprleft::regtype AS l, oprright::regtype AS r, row_number() OVER () AS n FROM pg_operator
    WHERE oprnamespace = 'pg_catalog'::regnamespace AND oprkind = 'b'
      AND (oprname, oprleft::regtype, oprright::regtype) IN (VALUES
        ('=', 'bigint'::regtype, 'bigint'::regtype), ('=', 'text', 'text'), ('=', 'name', 'text'), ('=', 'oid', 'oid'),
        ('=', 'bigint', 'integer'), ('=', 'integer', 'integer'), ('<>', 'text', 'text'), ('<', 'bigint', 'bigint'),
        ('<=', 'timestamptz', 'timestamptz'), ('>', 'timestamptz', 'timestamptz'), ('<=', 'bigint', 'integer'),
        ('+', 'timestamptz', 'interval'), ('-', 'timestamptz', 'timestamptz'), ('+', 'integer', 'integer'),
        ('@>', 'jsonb', 'jsonb'), ('->>', 'jsonb', 'text'), ('||', 'text', 'text'), ('~', 'text', 'text'))
  LOOP
    EXECUTE format($f$CREATE FUNCTION hostile.met_operator_%s(%s, %s) RETURNS boolean LANGUAGE plpgsql AS
      $b$ BEGIN RAISE 'met operator %%', %L; END $b$ $f$, o.n, o.l, o.r, o.oprname);
    EXECUTE format('CREATE OPERATOR hostile.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = hostile.met_operator_%s)',
      o.oprname, o.l, o.r, o.n);
  END LOOP;
END $$;
CREATE TABLE hostile.meta (queue_name text);

-- The traps work
SET search_path = hostile, pg_catalog, public;
SELECT now();
SELECT 1::bigint = 1::bigint;
SELECT min(1::bigint);
RESET search_path;

CREATE FUNCTION public.call_all(q text) RETURNS SETOF text LANGUAGE plpgsql SET search_path = hostile, pg_catalog AS $$
DECLARE
  call text;
BEGIN
  FOREACH call IN ARRAY ARRAY[
    $c$SELECT pgmq.create(%L)$c$,
    $c$SELECT pgmq.send(%L, '1', '{"x-pgmq-group": "a"}'::jsonb, 0) FROM pg_catalog.generate_series(1, 20)$c$,
    $c$SELECT pgmq.send_batch(%L, '{1,2}'::jsonb[], '{"{}","{}"}'::jsonb[])$c$,
    $c$SELECT pgmq.read(%L, 0, 2)$c$, $c$SELECT pgmq.read(%L, 0, 2, '1')$c$, $c$SELECT pgmq.read_with_poll(%L, 0, 2, 1)$c$,
    $c$SELECT pgmq.read_grouped(%L, 0, 2)$c$, $c$SELECT pgmq.read_grouped_rr(%L, 0, 2)$c$,
    $c$SELECT pgmq.read_grouped_head(%L, 0, 2)$c$, $c$SELECT pgmq.read_grouped_head_with_poll(%L, 0, 2, 1)$c$,
    $c$SELECT pgmq.set_vt(%L, 1, 0)$c$, $c$SELECT pgmq.set_vt(%L, '{2,3}'::bigint[], 0)$c$, $c$SELECT pgmq.pop(%L, 2)$c$,
    $c$SELECT pgmq.delete(%L, 3)$c$, $c$SELECT pgmq.delete(%L, '{4,5}'::bigint[])$c$,
    $c$SELECT pgmq.archive(%L, 6)$c$, $c$SELECT pgmq.archive(%L, '{7,8}'::bigint[])$c$,
    $c$SELECT pgmq.metrics(%L)$c$, $c$SELECT pgmq.check_queue(%L)$c$, $c$SELECT pgmq.purge_queue(%L)$c$,
    $c$SELECT pgmq.drop_queue(%L)$c$, $c$SELECT pgmq.list_queues()$c$, $c$SELECT pgmq.metrics_all()$c$]
  LOOP
    BEGIN
      EXECUTE pg_catalog.format(call, q);
    EXCEPTION WHEN OTHERS THEN
      RETURN NEXT pg_catalog.format('%s: %s', call, SQLERRM);
    END;
  END LOOP;
END $$;
SELECT public.call_all('on_hot');
SET pgmq.queue_storage = heap;
SELECT public.call_all('on_heap');
SET pgmq.fast_path = off;
RESET pgmq.queue_storage;
SELECT public.call_all('hot_by_sql');
RESET pgmq.fast_path;

SET client_min_messages = warning;
DROP SCHEMA hostile CASCADE;
DROP FUNCTION public.call_all;
