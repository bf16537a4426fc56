-- Errors of the contract: SQLSTATE and message, on a hot queue.

CREATE FUNCTION pg_temp.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE sql;
  RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT pgmq.create('errors');
SELECT pgmq.send('errors', '{}');

-- Names
SELECT pg_temp.try(format('SELECT pgmq.%s', call)) || '  <- ' || call AS result FROM unnest(ARRAY[
  $$send('No_Such', '{}')$$, $$send(NULL, '{}')$$, $$send('a$b', '{}')$$, $$send('a;b', '{}')$$,
  $$send('a--b', '{}')$$, $$send('a''b', '{}')$$,
  $$send_batch('No_Such', '{1}'::jsonb[])$$, $$send_batch(NULL, '{1}'::jsonb[])$$,
  $$read('No_Such', 1, 1)$$, $$read(NULL, 1, 1)$$, $$read_with_poll('No_Such', 1, 1)$$, $$read_with_poll(NULL, 1, 1)$$,
  $$pop('No_Such')$$, $$pop(NULL)$$,
  $$delete('No_Such', 1)$$, $$delete(NULL, 1)$$, $$delete('No_Such', '{1}'::bigint[])$$,
  $$archive('No_Such', 1)$$, $$archive(NULL, 1)$$, $$archive('No_Such', '{1}'::bigint[])$$,
  $$set_vt('No_Such', 1, 1)$$, $$set_vt(NULL, 1, 1)$$, $$set_vt('No_Such', '{1}'::bigint[], 1)$$,
  $$metrics('No_Such')$$, $$metrics(NULL)$$, $$purge_queue('No_Such')$$, $$purge_queue(NULL)$$,
  $$create(NULL)$$, $$create('a$b')$$, $$create_unlogged(NULL)$$, $$drop_queue('a;b')$$, $$drop_queue(NULL)$$,
  $$create(repeat('x', 48))$$, $$create_unlogged(repeat('x', 48))$$, $$create_non_partitioned(repeat('x', 48))$$,
  $$validate_queue_name(repeat('x', 47))$$, $$validate_queue_name(repeat('x', 48))$$,
  $$validate_queue_name(repeat('ä', 47))$$, $$validate_queue_name(repeat('ä', 48))$$,
  $$validate_queue_name(NULL)$$, $$validate_queue_name('')$$, $$validate_queue_name('a;b')$$,
  $$format_table_name('a$b', 'q')$$]) call;

-- Values
SELECT pg_temp.try(format('SELECT pgmq.%s', call)) || '  <- ' || call AS result FROM unnest(ARRAY[
  $$send('errors', '{}', NULL::integer)$$, $$send('errors', '{}', NULL::timestamptz)$$,
  $$send('errors', '{}', '{}', NULL::integer)$$, $$send('errors', '{')$$,
  $$send_batch('errors', NULL)$$, $$send_batch('errors', '{}'::jsonb[])$$,
  $$send_batch('errors', '{1,2}'::jsonb[], '{1}'::jsonb[])$$, $$send_batch('errors', '{1,2}'::jsonb[], '{}'::jsonb[])$$,
  $$send_batch('errors', '{1}'::jsonb[], NULL::integer)$$, $$send_batch('errors', '{1}'::jsonb[], NULL::timestamptz)$$,
  $$_validate_batch_params('{1,2}', '{1}')$$, $$_validate_batch_params(NULL, NULL)$$,
  $$_send_batch('errors', '{1}', NULL, NULL)$$,
  $$read('errors', 1, -1)$$, $$read('errors', NULL, 1)$$, $$read('errors', NULL, 0)$$, $$read_with_poll('errors', 1, -1)$$,
  $$pop('errors', -1)$$,
  $$set_vt('errors', 1, NULL::integer)$$, $$set_vt('errors', 1, NULL::timestamptz)$$,
  $$set_vt('errors', 99, NULL::integer)$$, $$set_vt('errors', '{1}'::bigint[], NULL::integer)$$]) call;

-- Overloads: what resolves, what does not, as upstream
SELECT pg_temp.try(format('SELECT pgmq.%s', call)) || '  <- ' || call AS result FROM unnest(ARRAY[
  $$send('errors', '{}', '1')$$, $$send_batch('errors', '{1}', '{1}')$$, $$set_vt('errors', '1', '1')$$,
  $$delete('errors', '1')$$, $$archive('errors', '1')$$,
  $$send('errors', '{}', 1::bigint)$$, $$send('errors', '{}', '1 s'::interval)$$,
  $$read('errors', '0', '0')$$, $$read('errors', '0', '0', '{}')$$, $$read_with_poll('errors', '0', '0', '0', '1', '{}')$$,
  $$pop('errors', '0')$$, $$metrics('errors')$$, $$delete('errors', ARRAY[99])$$]) call;

-- Nothing of it left a trace
SELECT msg_id, read_ct FROM pgmq.read('errors', 0, NULL);
SELECT * FROM pgmq.check_queue('errors');
SELECT pgmq.drop_queue('errors');
