-- A ring that is built by a scan hands out what the table has, in order of msg_id, in
-- whatever order the rows are met: ids that ascend, descend, alternate, repeat, end where
-- bigint does, and delays in any order.

SELECT pgmq.create('rebuild');
CREATE PROCEDURE test.add(first bigint, last bigint, step int, delay_step int DEFAULT 0) LANGUAGE sql AS $$
  INSERT INTO pgmq.q_rebuild (msg_id, vt, message) OVERRIDING SYSTEM VALUE
    SELECT id, CASE WHEN delay_step > 0 THEN '2100-01-01 00:00+00'::timestamptz + id * delay_step % 1009 * interval '1 s'
      ELSE '2020-01-01 00:00+00' END, to_jsonb(id) FROM generate_series(first, last, step) id
$$;
CALL test.add(1, 2000, 1);
CALL test.add(2501, 3500, 2);
CALL test.add(3500, 2502, -2);      -- between those before, backwards
CALL test.add(10001, 12000, 1, 611);  -- delays that seem random
CALL test.add(12001, 13000, 1, 1);  -- that ascend
CALL test.add(2001, 2500, 1);       -- below what came before
CALL test.add(13501, 14000, 1, 1008); -- that descend
INSERT INTO pgmq.q_rebuild (msg_id, vt, message) OVERRIDING SYSTEM VALUE
  SELECT id, '2020-01-01 00:00+00', '{}' FROM unnest(ARRAY[7, 7, 9223372036854775807, -9223372036854775808, 7]) id,
    generate_series(1, 100);
DELETE FROM pgmq.q_rebuild WHERE msg_id % 17 = 3;
SELECT count(*) FROM pgmq.read('rebuild', 86400, 300);

-- New storage, new ring; the rows stay in their order
VACUUM FULL pgmq.q_rebuild;

CREATE FUNCTION test.compare_read(at timestamptz) RETURNS TABLE (n bigint, is_right boolean) LANGUAGE plpgsql AS $$
DECLARE
  expected bigint[];
  got bigint[];
BEGIN
  PERFORM set_config('pgmq.enable_scan', 'off', true);
  SELECT array_agg(msg_id ORDER BY msg_id) INTO expected FROM pgmq.q_rebuild WHERE vt <= at;
  SELECT array_agg(msg_id) INTO got FROM pgmq.read('rebuild', 864000, 100000);
  RETURN QUERY SELECT cardinality(got)::bigint, got = expected;
END $$;

SELECT * FROM pgmq.check_queue('rebuild');
SELECT queue_length, queue_visible_length FROM pgmq.metrics('rebuild');
SELECT * FROM test.compare_read(now());
SET pgmq.test_clock = '2100-01-01 00:08:00+00';
SELECT * FROM test.compare_read('2100-01-01 00:08:00+00');
SET pgmq.test_clock = '2100-01-01 01:00:00+00';
SELECT queue_length, queue_visible_length FROM pgmq.metrics('rebuild');

-- Once more, with most of it leased in one instant
VACUUM FULL pgmq.q_rebuild;
SELECT * FROM test.compare_read('2100-01-01 01:00:00+00');
SELECT queue_length, queue_visible_length FROM pgmq.metrics('rebuild');
SELECT count(*) = (SELECT count(*) FROM pgmq.q_rebuild) AS all_ids FROM pgmq.delete('rebuild',
  (SELECT array_agg(msg_id) FROM pgmq.q_rebuild));
SELECT * FROM pgmq.check_queue('rebuild');
RESET pgmq.test_clock;
SELECT pgmq.drop_queue('rebuild');
DROP PROCEDURE test.add;
DROP FUNCTION test.compare_read;
