-- Queue names: folding, quoting, odd characters, the longest.

SELECT pgmq.format_table_name('MyQueue', 'q'), pgmq.format_table_name('', 'a'),
       pgmq.format_table_name('a.b "c" d-e', 'Q'), pgmq.format_table_name('ÄÖ', 'q'),
       pgmq.format_table_name(NULL, 'q') IS NULL AS null_name, pgmq.format_table_name('x', NULL) IS NULL AS null_prefix;

CREATE FUNCTION pg_temp.walk(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  log text;
BEGIN
  PERFORM pgmq.create(q);
  PERFORM pgmq.send(q, '1'), pgmq.send(q, '2'), pgmq.send(q, '3');
  log := (SELECT string_agg(message::text, ',') FROM pgmq.read(q, 100, 1));
  PERFORM pgmq.archive(q, 1), pgmq.set_vt(q, 2, 100);
  log := concat_ws(' ', log, pgmq.delete(q, 2), (SELECT message FROM pgmq.pop(q)),
                   (SELECT queue_name || ' ' || total_messages FROM pgmq.metrics(q)),
                   (SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = c.relam
                      WHERE relnamespace = 'pgmq'::regnamespace AND relname = pgmq.format_table_name(q, 'q')),
                   (SELECT count(*) FROM pgmq.check_queue(q)));
  RETURN log;
END $$;

SELECT pg_temp.walk('');
SELECT pg_temp.walk('with space');
SELECT pg_temp.walk('dot.ted');
SELECT pg_temp.walk('hy-phen');
SELECT pg_temp.walk('say "hi"');
SELECT pg_temp.walk('ünïcödé');
SELECT pg_temp.walk('select');
SELECT pg_temp.walk('per%cent %s');
SELECT pg_temp.walk(repeat('x', 47));

-- The table folds to lower case; what is stored keeps the spelling given
SELECT pg_temp.walk('CaseQ');
SELECT pgmq.send('caseq', '"found"');
SELECT message FROM pgmq.read('CASEQ', 0, 1);
SELECT queue_name FROM pgmq.list_queues() WHERE lower(queue_name) = 'caseq';
SELECT queue_name, queue_length FROM pgmq.metrics('CASEq');
SELECT relname FROM pg_class WHERE relname ILIKE '%caseq%' AND relkind IN ('r', 'S', 'i') ORDER BY 1;

SELECT name, pgmq.drop_queue(name) FROM unnest(ARRAY['', 'with space', 'dot.ted', 'hy-phen',
  'say "hi"', 'ünïcödé', 'select', 'per%cent %s', repeat('x', 47), 'CaseQ']) name;
SELECT queue_name FROM pgmq.meta;
SELECT count(*) FROM pg_class WHERE relnamespace = 'pgmq'::regnamespace AND relname ~ '^[qa]_';
