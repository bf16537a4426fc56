-- A routing key goes where "routing_key ~ compiled_regex" says, whatever the bindings.

SELECT count(pgmq.create('match_' || i)) FROM generate_series(0, 19) i;

-- The contract's examples
SELECT pgmq.bind_topic(p, 'match_1') FROM unnest('{logs.#,#.end,a.#.z,lo*s.e,*.*,#,b#.*c}'::text[]) p;
SELECT k AS key, (SELECT string_agg(pattern, '  ' ORDER BY pattern COLLATE "C") FROM pgmq.test_routing(k)) AS patterns,
    pgmq.send_topic(k, to_jsonb(k))
  FROM unnest('{logs,logs.a,logs.a.b,LOGS.a,end,x.end,x.y.end,a.z,a.b.z,a.b.c.z,los.e,looks.e,lo.s.e,b.c,b.xc,bx.y.zc,x}'::text[]) k;
DELETE FROM pgmq.topic_bindings;

-- Both ways of reading the bindings, on any pattern and key over a small alphabet
CREATE FUNCTION pg_temp.word(alphabet text, longest integer) RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT string_agg(substr(alphabet, 1 + (random() * length(alphabet) - 0.5)::integer, 1), '')
    FROM generate_series(1, 1 + (random() * longest)::integer) $$;
SELECT setseed(0.42);
INSERT INTO pgmq.topic_bindings (pattern, queue_name)
  SELECT pg_temp.word('ab..*#', 9), 'match_' || 1 + i % 3 FROM generate_series(1, 300) i ON CONFLICT DO NOTHING;
-- characters that only the server's matcher knows, and what a query by hand may leave there
INSERT INTO pgmq.topic_bindings (pattern, queue_name)
  SELECT pg_temp.word('ab.*#+?()[]\^$|{} ä', 6), 'match_' || 1 + i % 3 FROM generate_series(1, 100) i ON CONFLICT DO NOTHING;
INSERT INTO pgmq.topic_bindings (pattern, queue_name)
  VALUES ('', 'match_1'), (repeat('a.', 3000) || '#', 'match_1'), (E'a\n*', 'match_2');

-- A key, the queues it goes to, and those it should by the server's operator
CREATE TEMP TABLE keys AS SELECT DISTINCT k FROM (SELECT pg_temp.word('aab.', 8) AS k FROM generate_series(1, 600)) x
  WHERE k !~ '^\.|\.\.|\.$';
INSERT INTO keys VALUES (repeat('ab.', 84) || 'abc'), (repeat('a', 255)), (repeat('a.', 127) || 'b');
CREATE FUNCTION pg_temp.wrong() RETURNS TABLE (key text, sent text[], expected text[]) LANGUAGE plpgsql AS $$
BEGIN
  FOR key IN SELECT k FROM keys ORDER BY k LOOP
    sent := ARRAY(SELECT queue_name FROM pgmq.send_batch_topic(key, '{1}'));
    expected := ARRAY(SELECT DISTINCT queue_name FROM pgmq.topic_bindings WHERE key ~ compiled_regex ORDER BY queue_name);
    IF sent <> expected THEN RETURN NEXT; END IF;
  END LOOP;
END $$;
SELECT count(*) > 100 AS many FROM keys;
SELECT * FROM pg_temp.wrong();
-- the same with twenty bindings at a time, each to a queue of its own
CREATE TEMP TABLE bindings AS SELECT pattern, row_number() OVER (ORDER BY random()) AS n
  FROM pgmq.topic_bindings WHERE pattern ~ '^[ab.*#]*$' OR random() < 0.2;
DO $$
DECLARE
  w record;
BEGIN
  FOR i IN 0 .. (SELECT max(n) / 20 FROM bindings) LOOP
    DELETE FROM pgmq.topic_bindings;
    INSERT INTO pgmq.topic_bindings (pattern, queue_name) SELECT pattern, 'match_' || n % 20 FROM bindings WHERE n / 20 = i;
    FOR w IN SELECT * FROM pg_temp.wrong() LOOP
      RAISE NOTICE '%', w;
    END LOOP;
  END LOOP;
END $$;

-- Another expression in the column, of forms that we do not know; or none at all
DELETE FROM pgmq.topic_bindings;
BEGIN;
ALTER TABLE pgmq.topic_bindings DROP COLUMN compiled_regex;
SAVEPOINT s;
SELECT pgmq.send_topic('a', '1');
ROLLBACK TO s;
ALTER TABLE pgmq.topic_bindings ADD COLUMN compiled_regex text GENERATED ALWAYS AS (pattern) STORED;
INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ('^a|b$', 'match_1'), ('^a.$', 'match_2'),
  ('^\w+\$', 'match_2'), ('(?i)^AA$', 'match_3'), ('^a$', 'match_3'), ('^a*$', 'match_1'), ('^a.*?b$', 'match_2'),
  ('ba$', 'match_4'), ('^ab', 'match_5'), ('^aa\$', 'match_6'), ('^ab{1}$', 'match_7'), ('^[^.]$', 'match_8');
SELECT * FROM pg_temp.wrong();
SELECT k AS key, pgmq.send_topic(k, '1') FROM unnest('{a,aa,ab,b,ba,bba}'::text[]) k;
INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ('^b($', 'match_1');
SELECT pgmq.send_topic('a', '1');
ROLLBACK;
SELECT count(*) FROM pgmq.topic_bindings;
SELECT c.* FROM generate_series(0, 19) i, pgmq.check_queue('match_' || i) c;
SELECT count(*) FROM generate_series(0, 19) i WHERE pgmq.drop_queue('match_' || i);
