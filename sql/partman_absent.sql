-- Where pg_partman is not installed: what can be asked, the order of checks, conversions that
-- do not take place.  With it: t/012_partitioned.pl.

SELECT p.oid::regprocedure AS function, pg_get_function_result(p.oid) AS result, proargnames
  FROM pg_proc p WHERE pronamespace = 'pgmq'::regnamespace AND proname ~ 'partman|partition|fifo_index|_exists$|belongs|detach'
  ORDER BY p.proname COLLATE "C";
SELECT proname, pg_get_function_arguments(oid) FROM pg_proc
  WHERE pronamespace = 'pgmq'::regnamespace AND proname IN ('create_partitioned', 'convert_archive_partitioned') ORDER BY 1;

CREATE FUNCTION pg_temp.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT coalesce(i, '<NULL>') AS interval, pgmq._get_partition_col(i) FROM unnest(ARRAY[
  '10000', '0', '-5', ' 7 ', '2147483647', '2147483648', '-2147483648', '1e3', '1.5', '', '1 day', 'daily', 'x', NULL]) i;
SELECT pgmq._extension_exists('pgmq'), pgmq._extension_exists('PGMQ'), pgmq._extension_exists(NULL), pgmq._extension_exists('pg_partman');
SELECT pgmq._get_pg_partman_schema(), pgmq._get_pg_partman_major_version();
SELECT pg_temp.try('SELECT pgmq._ensure_pg_partman_installed()');
SELECT pgmq.create('helped');
SELECT t, pgmq._belongs_to_pgmq(t) FROM unnest(ARRAY['meta', 'q_helped', 'a_helped', 'pg_class', 'nothing', NULL]) t;

-- Name, then pg_partman, then the rest
SELECT pg_temp.try(format('SELECT pgmq.create_partitioned(%s)', args)) || '  <- ' || args AS result FROM unnest(ARRAY[
  $$'a$b'$$, $$repeat('x', 48), premake => 0$$, $$'q', premake => 0$$, $$NULL$$, $$'q'$$]) args;
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();

-- Archives: what is said about those that cannot be converted
SELECT pgmq.convert_archive_partitioned('No_Such');
SELECT pgmq.convert_archive_partitioned(NULL);
SELECT pg_temp.try($$SELECT pgmq.convert_archive_partitioned('a;b')$$);
CREATE TABLE pgmq.a_ready (LIKE pgmq.a_helped) PARTITION BY RANGE (msg_id);
SELECT pgmq.convert_archive_partitioned('Ready', '1 day', '1 month', 3);
DROP TABLE pgmq.a_ready;
-- those that are tables fail later, as names that are not quoted do; nothing is changed
SELECT pgmq.create('hy-phen'), pgmq.create('MixedCase'), pgmq.create(repeat('l', 47)), pgmq.create('a"b'), pgmq.create('two words'),
  pgmq.create('x/*');
SELECT q, pg_temp.try(format('SELECT pgmq.convert_archive_partitioned(%L)', q))
  FROM unnest(ARRAY['helped', 'hy-phen', 'MixedCase', repeat('l', 47), 'a"b', 'two words', 'x/*']) q;
SELECT count(*) FROM pg_class WHERE relname ~ '_old$' AND relnamespace = 'pgmq'::regnamespace;
SELECT pgmq.drop_queue(queue_name) FROM pgmq.list_queues() WHERE queue_name IN ('hy-phen', 'MixedCase', repeat('l', 47), 'a"b', 'two words', 'x/*');

-- Without effect, and says so
SELECT pgmq.detach_archive('helped');
SELECT pgmq.detach_archive(NULL);

-- Names and operators of the caller's search_path are not used
CREATE SCHEMA evil;
CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
CREATE FUNCTION evil.split_part(text, text, int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
SET search_path = evil, pg_catalog;
SELECT pgmq._get_pg_partman_schema(), pgmq._get_pg_partman_major_version(), pgmq._extension_exists('x'), pgmq._get_partition_col('1');
SELECT pgmq.create_fifo_index('helped'), pgmq.create_fifo_indexes_all(), pgmq.drop_queue('HELPED');
RESET search_path;
DROP SCHEMA evil CASCADE;
SELECT queue_name FROM pgmq.meta;
