-- What routing keys and patterns may look like; the first rule broken names the error.

CREATE FUNCTION pg_temp.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

SELECT pgmq.validate_routing_key('a'), pgmq.validate_routing_key('Logs.eu-west_1.0'),
  pgmq.validate_routing_key('-._'), pgmq.validate_routing_key(repeat('a', 255));
SELECT pgmq.validate_topic_pattern('#'), pgmq.validate_topic_pattern('*'), pgmq.validate_topic_pattern('lo*s.e#.*.#'),
  pgmq.validate_topic_pattern(repeat('*.', 127) || '#');

-- Each rule, and each pair of neighbours broken at once
SELECT coalesce(left(quote_literal(key), 20), 'NULL') AS key, pg_temp.try(format('SELECT pgmq.validate_routing_key(%L)', key))
  FROM unnest(ARRAY[NULL, '', repeat('x', 256), repeat('ä', 255), repeat(' ', 256), 'a b', 'a.*', '.a#', 'ä', E'a\nb', '.', '.a', 'a.', '.a..b', 'a..b.',
    'a..b', 'a...b', 'a.b c']) WITH ORDINALITY AS k (key, n) ORDER BY n;
SELECT coalesce(left(quote_literal(pattern), 20), 'NULL') AS pattern, pg_temp.try(format('SELECT pgmq.validate_topic_pattern(%L)', pattern))
  FROM unnest(ARRAY[NULL, '', repeat('*', 256), repeat('**', 128), 'a b', '.a', '.*', '#.', '#..*', 'a..**', '**', 'a.***', '**##', '##', '###', '##*#',
    '*#', '#*', 'a.#*.b', '*#*', 'a+', '%', '%s']) WITH ORDINALITY AS p (pattern, n) ORDER BY n;
-- characters are counted, not bytes
SELECT pg_temp.try(format('SELECT pgmq.validate_routing_key(%L)', repeat('ä', 256)));

-- Every function that takes a key or a pattern checks it first
SELECT pg_temp.try(sql) FROM unnest(ARRAY[
  $$SELECT pgmq.send_topic('a..b', NULL)$$, $$SELECT pgmq.send_topic(NULL, NULL, -1)$$,
  $$SELECT pgmq.send_topic('a', NULL, NULL, -1)$$, $$SELECT pgmq.send_topic('a', '1', -1)$$,
  $$SELECT pgmq.send_topic('a', '1', NULL, -2147483648)$$,
  $$SELECT pgmq.send_topic('a', '1', NULL::integer)$$, $$SELECT pgmq.send_topic('a', '1', 0)$$,
  $$SELECT pgmq.send_topic('a', 'null')$$,
  $$SELECT * FROM pgmq.send_batch_topic('', NULL)$$, $$SELECT * FROM pgmq.send_batch_topic('a', NULL)$$,
  $$SELECT * FROM pgmq.send_batch_topic('a', '{}')$$, $$SELECT * FROM pgmq.send_batch_topic('a', '{1}', '{1,2}'::jsonb[])$$,
  $$SELECT * FROM pgmq.send_batch_topic('a', '{1}', '{}'::jsonb[], NULL::integer)$$,
  $$SELECT * FROM pgmq.send_batch_topic('a', '{1}', -1)$$, $$SELECT * FROM pgmq.send_batch_topic('a', '{1}', NULL::integer)$$,
  $$SELECT * FROM pgmq.test_routing('*')$$, $$SELECT * FROM pgmq.test_routing(NULL)$$,
  $$SELECT pgmq.bind_topic('a b', NULL)$$, $$SELECT pgmq.bind_topic('a', NULL)$$, $$SELECT pgmq.bind_topic('a', '')$$,
  $$SELECT pgmq.bind_topic('a', 'No_Such "%s"')$$,
  $$SELECT pgmq.unbind_topic(NULL, NULL)$$, $$SELECT pgmq.unbind_topic('', 'a')$$, $$SELECT pgmq.unbind_topic('a', NULL)$$,
  $$SELECT pgmq.unbind_topic('a', '')$$, $$SELECT pgmq.unbind_topic('**', 'No_Such')$$]) WITH ORDINALITY AS c (sql, n) ORDER BY n;
