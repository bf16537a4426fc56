-- Strange queue names, on both kinds of queue: empty, long, multi-byte, quoted, in any case.

\pset format unaligned
SET timezone = 'UTC';
SET pgmq.test_clock = '2100-01-01 00:00:00+00';

-- A queue's whole life; what each step says, on a hot queue or on a heap queue
CREATE FUNCTION pg_temp.live(q text, storage text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  step text;
  log text := '';
BEGIN
  PERFORM set_config('pgmq.queue_storage', storage, true);
  FOREACH step IN ARRAY ARRAY['format_table_name(%L, ''q'')', 'create(%L)', 'send(%L, ''1'')', 'send_batch(%L, ''{2,3}''::jsonb[])',
    'read(%L, 5, 1)', 'set_vt(%L, 1, 7)', 'archive(%L, 1)', 'delete(%L, ARRAY[2])', 'pop(%L)', 'check_queue(%L)', 'drop_queue(%L)'] LOOP
    log := log || E'\n  ' || split_part(step, '(', 1) || ': ' || test.call(format(step, q));
  END LOOP;
  RETURN log;
END $$;

CREATE FUNCTION pg_temp.lives(q text) RETURNS text LANGUAGE sql AS $$
  SELECT CASE WHEN hot = heap THEN hot ELSE 'DIFFERENT' || hot || E'\n<>' || heap END
    FROM (VALUES (pg_temp.live(q, 'hot'), pg_temp.live(q, 'heap'))) v (hot, heap) $$;

-- Is a life that of any other queue, but for the name of the table?
CREATE TEMP TABLE ordinary AS SELECT pg_temp.lives('x') AS life;
TABLE ordinary;
CREATE FUNCTION pg_temp.is_ordinary(q text) RETURNS boolean LANGUAGE sql AS $$
  SELECT replace(pg_temp.lives(q), to_json(pgmq.format_table_name(q, 'q'))::text, '"q_x"') = life FROM ordinary $$;

SELECT q, pg_temp.is_ordinary(q) FROM unnest(ARRAY['', ' ', ' a ', 'a.b', '-', '"', 'a""b', '\', '%I %L %s %', '_', 'q_x',
  'select', '1', 'null', '(a,b)/*c', '@#&|~', E'new\nline\t', E'\u00e4', E'\u00c4', E'\u65e5\u672c', 'UPPER', 'CamelCase',
  repeat('x', 47), repeat('X', 47), repeat('"', 47)]) q;

-- Too long, in characters; and short enough in characters, but not in bytes
SET client_min_messages = warning; -- names are truncated, which is noticed often
SELECT pg_temp.lives(repeat('x', 48));
SELECT pg_temp.lives(repeat(E'\u00e4', 48));
SELECT pg_temp.lives(repeat(E'\u00e4', 47));
SELECT pg_temp.lives(repeat(E'\u65e5', 30));
RESET client_min_messages;

-- Refused, or NULL
SELECT q, pg_temp.lives(q) FROM unnest(ARRAY['$', 'a;b', '--', 'a--', '''', NULL]) q;
SELECT pg_temp.lives(repeat('$', 48));

-- Spellings: one table, a row of meta for each that was created; others find the table
SELECT pgmq.create('Spelled'), pgmq.create('SPELLED');
SELECT queue_name, is_unlogged FROM pgmq.list_queues() ORDER BY queue_name COLLATE "C";
SELECT relname FROM pg_class WHERE relname ILIKE '%spelled%' AND relkind IN ('r', 'S', 'i') ORDER BY relname COLLATE "C";
SELECT test.call('send(''spelled'', ''1'')'), test.call('read(''sPELLED'', 0, 1)'), test.call('set_vt(''SPelled'', 1, 0)');
SELECT queue_name, queue_length FROM pgmq.metrics('spellED');
SELECT queue_name, queue_length FROM pgmq.metrics_all() ORDER BY queue_name COLLATE "C";
SELECT test.call('create_unlogged(''spelled'')');
SELECT queue_name, is_unlogged FROM pgmq.list_queues() ORDER BY queue_name COLLATE "C";
SELECT pgmq.drop_queue('Spelled'), pgmq.drop_queue('SPELLED'), pgmq.drop_queue('spelled', false), pgmq.drop_queue(NULL);
SELECT count(*) FROM pg_class WHERE relname ILIKE '%spelled%';
DELETE FROM pgmq.meta;

-- A queue whose table is named like another's default partition
SELECT pgmq.create('part'), pgmq.create('part_default');
SELECT queue_name, default_partition_length FROM unnest(ARRAY['part', 'part_default']) q, pgmq.metrics(q);
SELECT pgmq.drop_queue('part'), pgmq.drop_queue('part_default');
SELECT queue_name FROM pgmq.meta;
SELECT relname FROM pg_class WHERE relnamespace = 'pgmq'::regnamespace AND relname ~ '^[qa]_' ORDER BY 1;
