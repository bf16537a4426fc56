-- Strange arguments, on both kinds of queue: NULL, zero, negative, huge, infinite, of wrong types.

SELECT * FROM test.create_twins();
\pset format unaligned
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET pgmq.test_clock = '2100-01-01 00:00:00+00';

-- Sending: delays, messages and headers of any kind
SELECT * FROM test.calls(ARRAY[
  $$send(%q, '1', 2147483647)$$, $$send(%q, '2', -2147483648)$$, $$send(%q, '3', 'infinity'::timestamptz)$$,
  $$send(%q, '4', '-infinity'::timestamptz)$$, $$send(%q, '5', '294276-12-31 23:59:59+00'::timestamptz)$$,
  $$send(%q, '6', '4713-01-01 00:00:00+00 BC'::timestamptz)$$, $$send(%q, '7', '2100-01-01'::date)$$,
  $$send(%q, '8', '2100-01-01 00:00'::timestamp)$$, $$send(%q, '9', 1::smallint)$$,
  $$send(%q, NULL)$$, $$send(%q, NULL, NULL::jsonb)$$, $$send(%q, 'null', '"h"')$$, $$send(%q, '{}', '[1]'::jsonb, 0)$$,
  $$send(%q, '{}', NULL::jsonb, '2100-01-01'::timestamptz)$$,
  $$send(%q, '1', NULL::integer)$$, $$send(%q, '1', NULL::timestamptz)$$, $$send(%q, '1', '{}', NULL::integer)$$,
  $$send(%q, '1', 1::bigint)$$, $$send(%q, '1', 1.5)$$, $$send(%q, '1', interval '1 s')$$, $$send(%q, '1', 2147483648)$$,
  $$send(%q, '1'::json)$$, $$send(%q, '1'::text)$$, $$send(%q, '')$$, $$send(%q, '{"a":}')$$, $$send(%q, '"\u0000"')$$,
  $$send(%q)$$, $$send(%q, '1', '{}', 1, 1)$$, $$send(%q::name, '1')$$, $$send(%q::varchar, '1')$$, $$send(1, '1')$$]);

-- Batches: the first dimension counts for the check, all elements are sent
SELECT * FROM test.calls(ARRAY[
  $$send_batch(%q, '{{1,2},{3,4}}'::jsonb[])$$, $$send_batch(%q, '{{1,2},{3,4}}'::jsonb[], '{1,2}'::jsonb[])$$,
  $$send_batch(%q, '{{1},{2}}'::jsonb[], '{{1,2},{3,4}}'::jsonb[])$$, $$send_batch(%q, '[5:6]={1,2}'::jsonb[], '{1,2}'::jsonb[])$$,
  $$send_batch(%q, ARRAY[NULL, '1', NULL]::jsonb[], ARRAY[NULL, NULL, '{}']::jsonb[], -5)$$,
  $$send_batch(%q, '{}'::jsonb[])$$, $$send_batch(%q, NULL)$$, $$send_batch(%q, NULL, NULL::jsonb[])$$, $$send_batch(%q, '{1}'::jsonb[], '{}'::jsonb[])$$,
  $$send_batch(%q, '{1,2}'::jsonb[], '{1}'::jsonb[])$$, $$send_batch(%q, '{1}'::jsonb[], '{1,2}'::jsonb[], 0)$$,
  $$send_batch(%q, '{1}'::jsonb[], NULL::jsonb[])$$, $$send_batch(%q, '{1}'::jsonb[], NULL::jsonb[], NULL::integer)$$,
  $$send_batch(%q, '{1}'::jsonb[], 'infinity'::timestamptz)$$, $$send_batch(%q, '{1}'::jsonb[], 1::bigint)$$,
  $$send_batch(%q, '{1}'::json[])$$, $$send_batch(%q, '{1}'::text[])$$, $$send_batch(%q, '{')$$,
  $$_send_batch(%q, NULL, NULL, now())$$, $$_send_batch(%q, '{}', '{1,2}', '2100-01-01')$$, $$_send_batch(%q, '{1,2}', '{1}', '2100-01-01')$$,
  $$_validate_batch_params('{1}', '{}')$$, $$_validate_batch_params('{{1,2}}', '{1}')$$]);
SELECT test.twin('SELECT count(*), sum(msg_id), count(message), count(headers) FROM %q');
SELECT test.twin('SELECT string_agg(concat_ws('' '', msg_id, vt, message, headers), '', '' ORDER BY msg_id) FROM %q WHERE msg_id < 30');
SELECT * FROM test.calls(ARRAY['purge_queue(%q)', 'purge_queue(%q)']);

-- Reading: vt, quantity, condition, the time to wait
SELECT * FROM test.calls(ARRAY[
  $$send_batch(%q, '{1,"\"x\"","[1, [2]]","{\"a\": {\"b\": 1}}",null,"null"}'::jsonb[])$$,
  $$read(%q, 0, 0)$$, $$read(%q, 0, -1)$$, $$read(%q, 0, -2147483648)$$, $$read(%q, NULL, 1)$$, $$read(%q, NULL, 0)$$, $$read(%q, NULL, NULL, '{"no": 1}')$$,
  $$read(%q, 0, NULL)$$, $$read(%q, -2147483648, 1)$$, $$read(%q, -1, 2147483647)$$,
  $$read(%q, 0, 9, NULL)$$, $$read(%q, 0, 9, '1')$$, $$read(%q, 0, 9, '"x"')$$, $$read(%q, 0, 9, '[]')$$, $$read(%q, 0, 9, '[[2]]')$$,
  $$read(%q, 0, 9, '{"a": {}}')$$, $$read(%q, 0, 9, 'null')$$, $$read(%q, 0, 9, '{"a": {"b": 2}}')$$, $$read(%q, 0, 9, '{')$$, $$read(%q, 0, 9, '{}'::json)$$,
  $$read(%q, 0::bigint, 1)$$, $$read(%q, '0', '1')$$, $$read(%q, 'x', 1)$$, $$read(%q, 0.5, 1)$$, $$read(%q, 1)$$, $$read(%q, 2147483648, 1)$$,
  $$read_with_poll(%q, 0, 1, 0)$$, $$read_with_poll(%q, 0, 1, -1)$$, $$read_with_poll(%q, NULL, -1, 0)$$, $$read_with_poll(%q, 0, -1, 1)$$,
  $$read_with_poll(%q, 0, 1, 1, 0)$$, $$read_with_poll(%q, 0, 1, 1, -5)$$, $$read_with_poll(%q, 0, 1, NULL, NULL)$$, $$read_with_poll(%q, NULL, 1, 1)$$,
  $$read_with_poll(%q, 0, NULL, 2147483647, 2147483647, '"x"')$$, $$read_with_poll(%q, 0, 1, max_poll_seconds => 1, conditional => '[]')$$,
  $$pop(%q, 0)$$, $$pop(%q, -1)$$, $$pop(%q, 1::bigint)$$, $$pop(%q, 'x')$$, $$read(%q, 2147483647, 1)$$, $$pop(%q)$$, $$pop(%q, NULL)$$, $$pop(%q, 2147483647)$$]);

-- By id, at its limits
SELECT * FROM test.calls(ARRAY[
  $$send_batch(%q, '{1,2,3,4,5,6,7,8}'::jsonb[])$$,
  $$delete(%q, NULL::bigint)$$, $$delete(%q, 0)$$, $$delete(%q, -1)$$, $$delete(%q, 9223372036854775807)$$, $$delete(%q, -9223372036854775808)$$,
  $$delete(%q, 9223372036854775808)$$, $$delete(%q, '1')$$, $$delete(%q, 1.0)$$, $$delete(%q, NULL)$$, $$delete(%q, NULL::bigint[])$$, $$delete(%q, '{}'::bigint[])$$,
  $$delete(%q, '{NULL,NULL}'::bigint[])$$, $$delete(%q, '{{49,49},{NULL,0}}'::bigint[])$$, $$delete(%q, ARRAY[50, 50])$$, $$delete(%q, '{50}'::text[])$$,
  $$archive(%q, NULL::bigint)$$, $$archive(%q, 0)$$, $$archive(%q, NULL::bigint[])$$, $$archive(%q, '{NULL,0}'::bigint[])$$, $$archive(%q, '{{51}}'::bigint[])$$,
  $$set_vt(%q, NULL::bigint, 1)$$, $$set_vt(%q, 52, 2147483647)$$, $$set_vt(%q, 52, -2147483648)$$, $$set_vt(%q, 52, 'infinity'::timestamptz)$$,
  $$set_vt(%q, 52, '-infinity'::timestamptz)$$, $$set_vt(%q, 52, NULL::integer)$$, $$set_vt(%q, 52, NULL::timestamptz)$$, $$set_vt(%q, 0, NULL::integer)$$,
  $$set_vt(%q, NULL::bigint[], 1)$$, $$set_vt(%q, '{}'::bigint[], NULL::integer)$$, $$set_vt(%q, '{NULL,0}'::bigint[], NULL::timestamptz)$$,
  $$set_vt(%q, '{{53,53},{NULL,52}}'::bigint[], '2100-01-01'::date)$$, $$set_vt(%q, 52, 1::bigint)$$, $$set_vt(%q, 52, '1')$$]);

-- What a column, a key and a sequence cannot hold
SELECT test.twin('UPDATE %q SET read_ct = 2147483647, vt = now() WHERE msg_id = 54');
SELECT * FROM test.calls(ARRAY['read(%q, 0, 9)', 'read(%q, 0, 0)', 'set_vt(%q, 54, 0)', 'pop(%q, 9)']);
INSERT INTO pgmq.a_twin (msg_id, vt) SELECT min(msg_id), now() FROM pgmq.q_twin;
INSERT INTO pgmq.a_twin_heap (msg_id, vt) SELECT min(msg_id), now() FROM pgmq.q_twin_heap;
SELECT test.twin(format('SELECT pgmq.archive(%L, msg_id), pgmq.archive(%L, ARRAY[msg_id]) FROM (SELECT min(msg_id) AS msg_id FROM %%q) m', 'twin', 'twin'));
SELECT setval('pgmq.q_twin_msg_id_seq', 9223372036854775807), setval('pgmq.q_twin_heap_msg_id_seq', 9223372036854775807);
SELECT * FROM test.calls(ARRAY[$$send(%q, '1')$$, $$send_batch(%q, '{1,2}'::jsonb[])$$]);

SELECT * FROM pgmq.check_queue('twin');
SELECT pgmq.drop_queue('twin'), pgmq.drop_queue('twin_heap');
