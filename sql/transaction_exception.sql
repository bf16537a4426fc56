-- Exception blocks of PL/pgSQL are savepoints too.

SELECT pgmq.create('exception');
SELECT count(*) FROM pgmq.send_batch('exception', '{1,2,3}'::jsonb[]);

-- A consumer whose work fails gives the message back and may go on
DO $$
DECLARE
  m pgmq.message_record;
BEGIN
  FOR i IN 1 .. 3 LOOP
    BEGIN
      SELECT * INTO m FROM pgmq.read('exception', 100, 1);
      PERFORM 1 / (m.msg_id - 2);
      PERFORM pgmq.delete('exception', m.msg_id);
    EXCEPTION WHEN division_by_zero THEN
      RAISE NOTICE 'message % failed', m.msg_id;
    END;
  END LOOP;
END $$;
SELECT msg_id, read_ct, vt <= clock_timestamp() AS ready FROM pgmq.q_exception;
SELECT * FROM pgmq.check_queue('exception');

-- Errors of our own functions leave nothing behind
DO $$
BEGIN
  PERFORM pgmq.read('exception', 100, 1);
  PERFORM pgmq.send('exception', '"with error"', NULL::int);
EXCEPTION WHEN not_null_violation THEN
  RAISE NOTICE '%', (SELECT array_agg((msg_id, read_ct)) FROM pgmq.read('exception', 0, 10));
END $$;
SELECT msg_id, read_ct FROM pgmq.q_exception;

-- An error in the middle of a statement that reads
SELECT 1 / (msg_id - 3) FROM pgmq.read('exception', 100, 10);
SELECT msg_id, read_ct, vt <= clock_timestamp() AS ready FROM pgmq.q_exception;
SELECT * FROM pgmq.check_queue('exception');

-- Transactions ended inside a procedure
CREATE PROCEDURE pg_temp.consume() LANGUAGE plpgsql AS $$
DECLARE
  m pgmq.message_record;
BEGIN
  PERFORM pgmq.send('exception', to_jsonb(i)) FROM generate_series(1, 4) i;
  COMMIT;
  FOR i IN 1 .. 5 LOOP
    SELECT * INTO m FROM pgmq.read('exception', 0, 1);
    IF i % 2 = 0 THEN
      PERFORM pgmq.archive('exception', m.msg_id);
      COMMIT;
    ELSE
      ROLLBACK;
    END IF;
  END LOOP;
END $$;
CALL pg_temp.consume();
SELECT msg_id, read_ct FROM pgmq.q_exception ORDER BY 1;
SELECT msg_id, read_ct FROM pgmq.a_exception ORDER BY 1;

-- A deferred constraint fails at commit, after the read
CREATE TABLE deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
BEGIN;
SELECT msg_id FROM pgmq.read('exception', 100, 1);
SELECT pgmq.send('exception', '"not sent"');
INSERT INTO deferred VALUES (1), (1);
COMMIT;
DROP TABLE deferred;
SELECT msg_id, read_ct FROM pgmq.read('exception', 0, 10);
SELECT * FROM pgmq.check_queue('exception');
SELECT pgmq.drop_queue('exception');
