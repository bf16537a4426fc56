-- Grouped reads where the table is not an ordinary hot queue, gets new storage, or waits
-- for prepared transactions. Groups: a: 1 3 5, b: 2 4 6.

CREATE PROCEDURE grouped_six(q text) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pgmq.send(q, to_jsonb(i), jsonb_build_object('x-pgmq-group', CASE i % 2 WHEN 1 THEN 'a' ELSE 'b' END))
    FROM generate_series(1, 6) i;
END $$;
-- What each function would return
CREATE FUNCTION grouped_all(q text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text := '';
  ids text;
  verb text;
BEGIN
  FOREACH verb IN ARRAY ARRAY['read_grouped', 'read_grouped_rr', 'read_grouped_head'] LOOP
    BEGIN
      EXECUTE format('SELECT string_agg(msg_id::text, '' '') FROM pgmq.%s(%L, 3600, 4)', verb, q) INTO ids;
      RAISE EXCEPTION 'back';
    EXCEPTION WHEN raise_exception THEN
      result := result || ' | ' || coalesce(ids, '-');
    END;
  END LOOP;
  RETURN result;
END $$;

-- Unlogged, hot and heap
SELECT pgmq.create_unlogged('place');
SET pgmq.queue_storage = heap;
SELECT pgmq.create_unlogged('place_heap');
RESET pgmq.queue_storage;
CALL grouped_six('place');
CALL grouped_six('place_heap');
SELECT grouped_all('place') AS unlogged, grouped_all('place') = grouped_all('place_heap') AS heap_is_same;
SELECT msg_id FROM pgmq.read_grouped('place', 3600, 1);
SELECT msg_id FROM pgmq.read_grouped('place_heap', 3600, 1);
ALTER TABLE pgmq.q_place SET LOGGED;
SELECT grouped_all('place') AS logged, grouped_all('place') = grouped_all('place_heap') AS heap_is_same;

-- New storage: the groups are found again, what is leased stays leased
VACUUM FULL pgmq.q_place;
SELECT grouped_all('place') AS vacuumed_full;
SELECT pgmq.convert_queue('place', 'heap');
SELECT grouped_all('place') AS as_heap;
SELECT pgmq.convert_queue('place', 'hot');
SELECT grouped_all('place') AS as_hot;
BEGIN;
SELECT msg_id FROM pgmq.read_grouped('place', 0, 1);
TRUNCATE pgmq.q_place;
SELECT grouped_all('place') AS truncated;
SELECT pgmq.send('place', '7', '{"x-pgmq-group": "b"}'::jsonb);
SELECT grouped_all('place') AS sent_to_truncated;
ROLLBACK;
SELECT grouped_all('place') AS rolled_back;
SELECT * FROM pgmq.check_queue('place');
SELECT pgmq.purge_queue('place');
CALL grouped_six('place');
SELECT grouped_all('place') AS purged_and_sent;
SELECT * FROM pgmq.check_queue('place');

-- Changed by hand: an index, an update of many headers, rows copied in
CREATE INDEX ON pgmq.q_place ((headers ->> 'x-pgmq-group'), msg_id);
SELECT grouped_all('place') AS with_index;
UPDATE pgmq.q_place SET headers = '{"x-pgmq-group": "c"}' WHERE msg_id % 3 = 0;
SELECT grouped_all('place') AS updated;
INSERT INTO pgmq.q_place OVERRIDING SYSTEM VALUE SELECT * FROM pgmq.q_place_heap WHERE msg_id > 3;
SELECT count(*), min(msg_id), max(msg_id) FROM pgmq.read_grouped('place', 0, 100);
SELECT * FROM pgmq.check_queue('place');

-- Prepared transactions: who waits for an outcome, and whom it keeps out
SELECT pgmq.create('limbo');
CALL grouped_six('limbo');
SELECT grouped_all('limbo') AS before;
BEGIN;
SELECT msg_id FROM pgmq.read_grouped('limbo', 3600, 2);
SELECT pgmq.delete('limbo', 4);
SELECT pgmq.send('limbo', '7', '{"x-pgmq-group": "b"}'::jsonb), pgmq.send('limbo', '8', '{"x-pgmq-group": "new"}'::jsonb);
PREPARE TRANSACTION 'pgmq_grouped_1';
SELECT grouped_all('limbo') AS prepared;
SELECT * FROM pgmq.check_queue('limbo');
ROLLBACK PREPARED 'pgmq_grouped_1';
SELECT grouped_all('limbo') AS rolled_back;
BEGIN;
SELECT msg_id FROM pgmq.read_grouped_rr('limbo', 3600, 1);
SELECT pgmq.delete('limbo', ARRAY[2, 4]);
SELECT pgmq.send('limbo', '9', '{"x-pgmq-group": "new"}'::jsonb);
UPDATE pgmq.q_limbo SET headers = '{"x-pgmq-group": "first"}' WHERE msg_id = 6;
PREPARE TRANSACTION 'pgmq_grouped_2';
SELECT grouped_all('limbo') AS prepared;
COMMIT PREPARED 'pgmq_grouped_2';
SELECT grouped_all('limbo') AS committed;
SELECT * FROM pgmq.check_queue('limbo');

-- A heap queue's answers are the same while all are locked
SET pgmq.queue_storage = heap;
SELECT pgmq.create('limbo_heap');
RESET pgmq.queue_storage;
CALL grouped_six('limbo_heap');
BEGIN;
SELECT msg_id FROM pgmq.read_grouped('limbo_heap', 3600, 6);
PREPARE TRANSACTION 'pgmq_grouped_3';
SELECT grouped_all('limbo_heap') AS prepared;
ROLLBACK PREPARED 'pgmq_grouped_3';
SELECT grouped_all('limbo_heap') AS rolled_back;

SELECT pgmq.drop_queue(q) FROM unnest(ARRAY['place', 'place_heap', 'limbo', 'limbo_heap']) q;
DROP FUNCTION grouped_all;
DROP PROCEDURE grouped_six;
