-- pgmq.test_clock: the time that stands for the present, on both kinds of queue and both ways.

SELECT pgmq.create('clock');
SET pgmq.queue_storage = heap;
SELECT pgmq.create('clock_heap');
RESET pgmq.queue_storage;
SET timezone = 'UTC';

-- For superusers; a finite instant, or nothing
SET pgmq.test_clock = 'soon';
SET pgmq.test_clock = 'infinity';
SET pgmq.test_clock = 'now';
CREATE ROLE pgmq_clock_user;
SET ROLE pgmq_clock_user;
SET pgmq.test_clock = '2100-01-01 00:00:00+00';
RESET ROLE;
DROP ROLE pgmq_clock_user;
SHOW pgmq.test_clock;

CREATE FUNCTION pg_temp.look() RETURNS SETOF text LANGUAGE sql AS $$
  SELECT format('%s: %s of %s', q, queue_visible_length, queue_length)
    FROM unnest(ARRAY['clock', 'clock_heap']) q, pgmq.metrics(q) $$;
CREATE FUNCTION pg_temp.take(vt int) RETURNS TABLE (queue text, msg_id bigint, read_ct int, last_read_at timestamptz, vt timestamptz)
LANGUAGE sql AS $$
  SELECT q, r.msg_id, r.read_ct, r.last_read_at, r.vt
    FROM unnest(ARRAY['clock', 'clock_heap']) q, pgmq.read(q, $1, 10) r $$;

-- Sent, delayed, leased and extended by it; it stands still
SET pgmq.test_clock = '2100-01-01 00:00:00+00';
SELECT count(*) FROM unnest(ARRAY['clock', 'clock_heap']) q, pgmq.send(q, '1') a, pgmq.send(q, '2', 60) b;
SELECT msg_id, vt, enqueued_at < now() + '1 day' AS enqueued_is_real FROM pgmq.q_clock ORDER BY 1;
SELECT * FROM pg_temp.look();
SELECT * FROM pg_temp.take(30);
SELECT * FROM pg_temp.take(30);
SET pgmq.test_clock = '2100-01-01 00:00:29.999999+00';
SELECT * FROM pg_temp.take(30);
SET pgmq.test_clock = '2100-01-01 00:00:30+00';
SELECT * FROM pg_temp.look();
SET pgmq.fast_path = off;
SELECT * FROM pg_temp.take(30);
RESET pgmq.fast_path;
SELECT q, s.msg_id, s.vt FROM unnest(ARRAY['clock', 'clock_heap']) q, pgmq.set_vt(q, 1, 5) s;
SET pgmq.test_clock = '2100-01-01 00:01:00+00';
SELECT * FROM pg_temp.look();
SELECT q, p.msg_id, p.read_ct, p.vt FROM unnest(ARRAY['clock', 'clock_heap']) q, pgmq.pop(q, 1) p;
SELECT * FROM pg_temp.take(0);

-- The deadline of a blocking read is real: it ends
SELECT count(*) FROM pgmq.set_vt('clock', 2, 1);
SELECT * FROM pgmq.read_with_poll('clock', 1, 1, 1);

-- The setting follows the transaction
BEGIN;
SET LOCAL pgmq.test_clock = '2100-01-02 00:00:00+00';
SELECT msg_id, vt FROM pgmq.read('clock', 1, 1);
COMMIT;
SHOW pgmq.test_clock;
RESET pgmq.test_clock;
SELECT pgmq.send('clock', '3') > 0 AS sent;
SELECT vt < now() + '1 day' AS is_real FROM pgmq.q_clock WHERE msg_id = 3;
SELECT * FROM pgmq.check_queue('clock');
SELECT pgmq.drop_queue('clock'), pgmq.drop_queue('clock_heap');
