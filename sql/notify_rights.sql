-- What a sender needs on the throttle table, and row security there.

CREATE ROLE regress_pgmq_sender;
GRANT USAGE ON SCHEMA pgmq TO regress_pgmq_sender;
SELECT pgmq.create('told');
SELECT pgmq.enable_notify_insert('told', 0);
SET pgmq.queue_storage = heap;
SELECT pgmq.create('told_heap');
RESET pgmq.queue_storage;
SELECT pgmq.enable_notify_insert('told_heap', 0);
GRANT INSERT, SELECT ON pgmq.q_told, pgmq.q_told_heap TO regress_pgmq_sender;

CREATE FUNCTION pg_temp.try(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
  SET LOCAL ROLE regress_pgmq_sender;
  EXECUTE sql;
  RESET ROLE;
  RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION pg_temp.stamped() RETURNS text LANGUAGE sql AS
  $$ SELECT string_agg(queue_name, ', ' ORDER BY queue_name) FROM pgmq.notify_insert_throttle WHERE last_notified_at > to_timestamp(0) $$;

-- None, one of them, the columns needed
SELECT pg_temp.try($$SELECT pgmq.send('told', '1')$$), pg_temp.try($$SELECT pgmq.send('told_heap', '1')$$);
GRANT SELECT ON pgmq.notify_insert_throttle TO regress_pgmq_sender;
SELECT pg_temp.try($$SELECT pgmq.send('told', '1')$$), pg_temp.try($$SELECT pgmq.send('told_heap', '1')$$);
SELECT pg_temp.try($$SELECT pgmq.send_batch('told', '{1}')$$), pg_temp.try($$INSERT INTO pgmq.q_told (vt) VALUES (now())$$);
REVOKE SELECT ON pgmq.notify_insert_throttle FROM regress_pgmq_sender;
GRANT UPDATE ON pgmq.notify_insert_throttle TO regress_pgmq_sender;
SELECT pg_temp.try($$SELECT pgmq.send('told', '1')$$), pg_temp.try($$SELECT pgmq.send('told_heap', '1')$$);
SELECT pg_temp.stamped() IS NULL AS nobody_told, (SELECT count(*) FROM pgmq.q_told) + (SELECT count(*) FROM pgmq.q_told_heap) AS messages;
REVOKE UPDATE ON pgmq.notify_insert_throttle FROM regress_pgmq_sender;
GRANT SELECT (queue_name, throttle_interval_ms, last_notified_at), UPDATE (last_notified_at) ON pgmq.notify_insert_throttle TO regress_pgmq_sender;
SELECT pg_temp.try($$SELECT pgmq.send('told', '1')$$), pg_temp.try($$SELECT pgmq.send('told_heap', '1')$$);
SELECT pg_temp.stamped();

-- Not needed where no trigger fires
ALTER TABLE pgmq.q_told DISABLE TRIGGER USER;
REVOKE SELECT (queue_name) ON pgmq.notify_insert_throttle FROM regress_pgmq_sender;
SELECT pg_temp.try($$SELECT pgmq.send('told', '1')$$), pg_temp.try($$SELECT pgmq.send('told_heap', '1')$$);
ALTER TABLE pgmq.q_told ENABLE TRIGGER USER;
GRANT SELECT (queue_name) ON pgmq.notify_insert_throttle TO regress_pgmq_sender;

-- Rows that a policy hides are not there: those listeners are not told
UPDATE pgmq.notify_insert_throttle SET last_notified_at = to_timestamp(0);
ALTER TABLE pgmq.notify_insert_throttle ENABLE ROW LEVEL SECURITY;
SELECT pg_temp.try($$SELECT pgmq.send('told', '1')$$), pg_temp.try($$SELECT pgmq.send('told_heap', '1')$$);
SELECT pg_temp.stamped();
CREATE POLICY hot ON pgmq.notify_insert_throttle TO regress_pgmq_sender USING (queue_name = 'told');
SELECT pg_temp.try($$SELECT pgmq.send('told', '1')$$), pg_temp.try($$SELECT pgmq.send('told_heap', '1')$$);
SELECT pg_temp.stamped();
-- nor can the row be written that a policy forbids
ALTER POLICY hot ON pgmq.notify_insert_throttle WITH CHECK (last_notified_at < to_timestamp(0));
SELECT pg_temp.try($$SELECT pgmq.send('told', '1')$$);
-- owners are not subject to it
UPDATE pgmq.notify_insert_throttle SET last_notified_at = to_timestamp(0);
SELECT pgmq.send('told', '1');
SELECT pg_temp.stamped();
DROP POLICY hot ON pgmq.notify_insert_throttle;
ALTER TABLE pgmq.notify_insert_throttle DISABLE ROW LEVEL SECURITY;

SELECT count(*) FROM pgmq.q_told;
SELECT * FROM pgmq.check_queue('told');
SELECT pgmq.drop_queue('told'), pgmq.drop_queue('told_heap');
REVOKE ALL ON pgmq.notify_insert_throttle FROM regress_pgmq_sender;
REVOKE USAGE ON SCHEMA pgmq FROM regress_pgmq_sender;
DROP ROLE regress_pgmq_sender;
