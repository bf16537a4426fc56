-- Which sends notify, and how: natively on the fast path, by trigger elsewhere.

SELECT pgmq.create('hot');
SELECT pgmq.enable_notify_insert('hot', 3600000);
SET pgmq.queue_storage = heap;
SELECT pgmq.create('heap');
RESET pgmq.queue_storage;
SELECT pgmq.enable_notify_insert('heap', 3600000);
SET track_functions = 'all';

-- Runs a statement; says whether listeners of the queue are told, and how often the trigger ran
CREATE FUNCTION pg_temp.runs() RETURNS bigint LANGUAGE sql AS
  $$ SELECT coalesce(pg_stat_get_xact_function_calls('pgmq.notify_queue_listeners()'::regprocedure), 0) $$;
CREATE FUNCTION pg_temp.run(queue text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  runs bigint := pg_temp.runs();
BEGIN
  EXECUTE replace(statement, '%q', queue);
  RETURN 'by trigger: ' || pg_temp.runs() - runs;
END $$;
-- Each call is a transaction of its own; the stamp is seen after it
CREATE PROCEDURE pg_temp.tell(statement text) LANGUAGE plpgsql AS $$
DECLARE
  q text;
  how text;
BEGIN
  FOREACH q IN ARRAY '{hot,heap}'::text[] LOOP
    UPDATE pgmq.notify_insert_throttle SET last_notified_at = to_timestamp(0);
    COMMIT;
    how := pg_temp.run(q, statement);
    COMMIT;
    RAISE NOTICE '%: told: %, %', q, coalesce((SELECT string_agg(queue_name, ', ') FROM pgmq.notify_insert_throttle WHERE last_notified_at > to_timestamp(0)), 'nobody'), how;
  END LOOP;
END $$;

CALL pg_temp.tell($$SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$SELECT pgmq.send('%q', '1', 3600)$$);
CALL pg_temp.tell($$SELECT pgmq.send_batch('%q', ARRAY['1', '2', '3']::jsonb[])$$);
CALL pg_temp.tell($$INSERT INTO pgmq.q_%q (vt, message) VALUES (now(), '1')$$);
CALL pg_temp.tell($$SET LOCAL pgmq.fast_path = off; SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$SELECT pgmq.read('%q', 0, 1)$$);
CALL pg_temp.tell($$UPDATE pgmq.q_%q SET message = '5'$$);
CALL pg_temp.tell($$SELECT pgmq._send_batch('%q', '{}', NULL, now())$$);
-- deferred to the end of the transaction
CALL pg_temp.tell($$SET CONSTRAINTS ALL DEFERRED; SELECT pgmq.send('%q', '1')$$);

-- A trigger that does not fire does not notify
CALL pg_temp.tell($$SET LOCAL session_replication_role = replica; SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$ALTER TABLE pgmq.q_%q ENABLE REPLICA TRIGGER trigger_notify_queue_insert_listeners; SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$SET LOCAL session_replication_role = replica; SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$ALTER TABLE pgmq.q_%q ENABLE ALWAYS TRIGGER trigger_notify_queue_insert_listeners; SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$SET LOCAL session_replication_role = replica; SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$ALTER TABLE pgmq.q_%q DISABLE TRIGGER ALL; SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$ALTER TABLE pgmq.q_%q ENABLE TRIGGER ALL; SELECT pgmq.send('%q', '1')$$);

-- By another name, and with other triggers
CALL pg_temp.tell($$ALTER TRIGGER trigger_notify_queue_insert_listeners ON pgmq.q_%q RENAME TO other; SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$CREATE TRIGGER second AFTER INSERT ON pgmq.q_%q FOR EACH ROW EXECUTE FUNCTION pgmq.notify_queue_listeners('heap'); SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$DROP TRIGGER second ON pgmq.q_%q; SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$DROP TRIGGER other ON pgmq.q_%q; CREATE TRIGGER other AFTER INSERT ON pgmq.q_%q FOR EACH ROW WHEN (new.message = '2') EXECUTE FUNCTION pgmq.notify_queue_listeners(); SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$SELECT pgmq.send('%q', '2')$$);
CALL pg_temp.tell($$DROP TRIGGER other ON pgmq.q_%q; CREATE TRIGGER other AFTER INSERT ON pgmq.q_%q FOR EACH STATEMENT EXECUTE FUNCTION pgmq.notify_queue_listeners(); SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$DROP TRIGGER other ON pgmq.q_%q; CREATE TRIGGER other BEFORE INSERT ON pgmq.q_%q FOR EACH ROW EXECUTE FUNCTION pgmq.notify_queue_listeners(); SELECT pgmq.send('%q', '1')$$);
CALL pg_temp.tell($$DROP TRIGGER other ON pgmq.q_%q; CREATE TRIGGER other AFTER INSERT ON pgmq.q_%q FOR EACH ROW EXECUTE FUNCTION pgmq.notify_queue_listeners(); SELECT pgmq.send('%q', '1')$$);
-- a function that was altered is called, whatever is known of the table
CALL pg_temp.tell($$SELECT pgmq.send('%q', '1')$$);
BEGIN;
ALTER FUNCTION pgmq.notify_queue_listeners() SET search_path = '';
SELECT pg_temp.run('hot', $$SELECT pgmq.send('%q', '1')$$);
ROLLBACK;
CALL pg_temp.tell($$SELECT pgmq.send('%q', '1')$$);

-- Row security, triggers or rules on the throttle table: an UPDATE by the caller, seen at once
CREATE FUNCTION pg_temp.stamped() RETURNS text LANGUAGE sql AS
  $$ SELECT string_agg(queue_name, ', ') FROM pgmq.notify_insert_throttle WHERE last_notified_at > to_timestamp(0) $$;
CREATE FUNCTION pg_temp.say() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE NOTICE 'stamping %', new.queue_name; RETURN new; END $$;
UPDATE pgmq.notify_insert_throttle SET last_notified_at = to_timestamp(0);
BEGIN;
CREATE TRIGGER say BEFORE UPDATE ON pgmq.notify_insert_throttle FOR EACH ROW EXECUTE FUNCTION pg_temp.say();
SELECT pg_temp.run('hot', $$SELECT pgmq.send('%q', '1')$$), pg_temp.run('hot', $$SELECT pgmq.send('%q', '1')$$), pg_temp.stamped();
ROLLBACK;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT pg_temp.run('hot', $$SELECT pgmq.send('%q', '1')$$), pg_temp.stamped();
ROLLBACK;
SELECT pg_temp.stamped();
-- altered between the send and the commit: notified, not stamped
BEGIN;
SELECT pg_temp.run('hot', $$SELECT pgmq.send('%q', '1')$$);
ALTER TABLE pgmq.notify_insert_throttle ADD CONSTRAINT sound CHECK (throttle_interval_ms >= 0);
COMMIT;
SELECT pg_temp.stamped();
CALL pg_temp.tell($$SELECT pgmq.send('%q', '1')$$);
ALTER TABLE pgmq.notify_insert_throttle DROP CONSTRAINT sound;
CALL pg_temp.tell($$SELECT pgmq.send('%q', '1')$$);

SELECT count(*) FROM pgmq.q_hot;
SELECT count(*) FROM pgmq.q_heap;
SELECT * FROM pgmq.check_queue('hot');
DO $$ BEGIN PERFORM pgmq.drop_queue(q) FROM unnest('{hot,heap}'::text[]) q; END $$;
