-- What the fast path does not serve goes down the SQL path, with the same results.

-- One exercise of all verbs; its log must be the same for every kind of queue
CREATE PROCEDURE exercise(q text, INOUT log text) LANGUAGE plpgsql AS $$
DECLARE
  t text := 'pgmq.' || quote_ident(pgmq.format_table_name(q, 'q'));
BEGIN
  log := format('send %s', (SELECT string_agg(s::text, ' ') FROM (SELECT pgmq.send(q, '{"n": 1}') s) s));
  log := log || E'\nsend_batch ' || (SELECT string_agg(s::text, ' ') FROM pgmq.send_batch(q,
    ARRAY['{"n": 2}', '{"n": 3}', NULL, '{"n": 5}', '{"n": 6}', '{"n": 7}', '{"n": 8}']::jsonb[],
    ARRAY['{"h": 2}', NULL, NULL, NULL, NULL, NULL, NULL]::jsonb[], -1) s);
  PERFORM pgmq.send(q, '"late"', '{"h": 9}', 100);
  COMMIT;
  log := log || E'\nread ' || (SELECT string_agg(concat_ws('/', msg_id, read_ct, message, headers), ' ') FROM pgmq.read(q, 100, 2));
  log := log || E'\nread if ' || (SELECT string_agg(concat_ws('/', msg_id, read_ct), ' ') FROM pgmq.read(q, 0, 5, '{"n": 5}'));
  log := log || E'\nagain ' || (SELECT string_agg(concat_ws('/', msg_id, read_ct), ' ') FROM pgmq.read(q, 0, 1, '{"n": 5}'));
  COMMIT;
  PERFORM pgmq.read(q, 100, 100), pgmq.delete(q, 3), pgmq.pop(q), pgmq.send(q, '"undone"');
  ROLLBACK;
  log := log || E'\nset_vt ' || (SELECT string_agg(concat_ws('/', msg_id, read_ct, vt < clock_timestamp()), ' ') FROM pgmq.set_vt(q, 1, -5));
  log := log || E'\ndelete ' || concat_ws(' ', pgmq.delete(q, 2), pgmq.delete(q, 2));
  log := log || E'\ndelete all ' || (SELECT string_agg(d::text, ' ' ORDER BY d) FROM pgmq.delete(q, ARRAY[3, 3, 99]) d);
  log := log || E'\narchive ' || concat_ws(' ', pgmq.archive(q, 4), pgmq.archive(q, 4));
  log := log || E'\narchive all ' || (SELECT string_agg(d::text, ' ' ORDER BY d) FROM pgmq.archive(q, ARRAY[5, 2]) d);
  COMMIT;
  log := log || E'\npop ' || (SELECT string_agg(concat_ws('/', msg_id, read_ct, message), ' ') FROM pgmq.pop(q, 2));
  log := log || E'\nset_vt all ' || (SELECT string_agg(concat_ws('/', msg_id, read_ct, vt), ' ' ORDER BY msg_id) FROM pgmq.set_vt(q, ARRAY[7, 9], '2200-01-01'::timestamptz));
  log := log || E'\npoll ' || (SELECT string_agg(concat_ws('/', msg_id, read_ct), ' ') FROM pgmq.read_with_poll(q, 0, 5, 5));
  COMMIT;
  log := log || E'\nmetrics ' || (SELECT concat_ws('/', queue_length, queue_visible_length, total_messages) FROM pgmq.metrics(q));
  EXECUTE format('SELECT $1 || E''\nleft '' || string_agg(concat_ws(''/'', msg_id, read_ct, last_read_at IS NULL, message, headers), '' '' ORDER BY msg_id) FROM %s', t) INTO log USING log;
  EXECUTE format('SELECT $1 || E''\narchived '' || string_agg(concat_ws(''/'', msg_id, read_ct, last_read_at IS NULL, message), '' '' ORDER BY msg_id) FROM pgmq.%I', pgmq.format_table_name(q, 'a')) INTO log USING log;
END $$;

SET pgmq.queue_storage = heap;
SELECT pgmq.create('path_heap');
RESET pgmq.queue_storage;
SELECT pgmq.create('path_' || kind) FROM unnest(ARRAY['hot', 'off', 'trigger', 'rls', 'column', 'check', 'index', 'serializable', 'null']) kind;
CALL exercise('path_heap', NULL) \gset heap_
\echo :heap_log
CALL exercise('path_hot', NULL) \gset
SELECT :'log' = :'heap_log' AS hot_is_same;

SET pgmq.fast_path = off;
CALL exercise('path_off', NULL) \gset
RESET pgmq.fast_path;
SELECT :'log' = :'heap_log' AS without_fast_path_is_same;
SELECT * FROM pgmq.check_queue('path_off');

CREATE FUNCTION passes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce(new, old); END $$;
CREATE TRIGGER passes BEFORE INSERT OR UPDATE OR DELETE ON pgmq.q_path_trigger FOR EACH ROW EXECUTE FUNCTION passes();
CALL exercise('path_trigger', NULL) \gset
SELECT :'log' = :'heap_log' AS with_trigger_is_same;
SELECT * FROM pgmq.check_queue('path_trigger');

ALTER TABLE pgmq.q_path_column ADD COLUMN extra int DEFAULT 7;
CALL exercise('path_column', NULL) \gset
SELECT :'log' = :'heap_log' AS with_extra_column_is_same, min(extra) FROM pgmq.q_path_column;
SELECT * FROM pgmq.check_queue('path_column');

ALTER TABLE pgmq.q_path_check ADD CHECK (read_ct < 100);
CALL exercise('path_check', NULL) \gset
SELECT :'log' = :'heap_log' AS with_check_is_same;
ALTER TABLE pgmq.q_path_check ADD CHECK (message <> '"bad"');
\set VERBOSITY terse
SELECT pgmq.send('path_check', '"bad"');
\set VERBOSITY default
SELECT * FROM pgmq.check_queue('path_check');

CREATE INDEX ON pgmq.q_path_index (vt, read_ct);
CALL exercise('path_index', NULL) \gset
SELECT :'log' = :'heap_log' AS with_index_on_vt_is_same;
SELECT * FROM pgmq.check_queue('path_index');

SET default_transaction_isolation = serializable;
CALL exercise('path_serializable', NULL) \gset
RESET default_transaction_isolation;
SELECT :'log' = :'heap_log' AS serializable_is_same;
SELECT * FROM pgmq.check_queue('path_serializable');

ALTER TABLE pgmq.q_path_null ALTER read_ct DROP NOT NULL;
CALL exercise('path_null', NULL) \gset
SELECT :'log' = :'heap_log' AS without_not_null_is_same;
SELECT * FROM pgmq.check_queue('path_null');

CREATE ROLE regress_pgmq_path;
GRANT USAGE ON SCHEMA pgmq TO regress_pgmq_path;
GRANT ALL ON pgmq.q_path_rls, pgmq.a_path_rls TO regress_pgmq_path;
GRANT SELECT ON pgmq.q_path_rls_msg_id_seq TO regress_pgmq_path;
ALTER TABLE pgmq.q_path_rls ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON pgmq.q_path_rls USING (true);
SET ROLE regress_pgmq_path;
CALL exercise('path_rls', NULL) \gset
RESET ROLE;
SELECT :'log' = :'heap_log' AS with_row_security_is_same;
SELECT * FROM pgmq.check_queue('path_rls');

-- A heap table of before 1.10, with last_read_at at the end, and the same as a hot table
CREATE TABLE pgmq.q_path_old (msg_id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, read_ct int DEFAULT 0 NOT NULL,
  enqueued_at timestamptz DEFAULT now() NOT NULL, vt timestamptz NOT NULL, message jsonb, headers jsonb, last_read_at timestamptz);
CREATE TABLE pgmq.a_path_old (msg_id bigint PRIMARY KEY, read_ct int DEFAULT 0 NOT NULL, enqueued_at timestamptz DEFAULT now() NOT NULL,
  archived_at timestamptz DEFAULT now() NOT NULL, vt timestamptz NOT NULL, message jsonb, headers jsonb, last_read_at timestamptz);
CALL exercise('path_old', NULL) \gset
SELECT :'log' = :'heap_log' AS old_heap_is_same;
ALTER TABLE pgmq.q_path_old RENAME TO path_old_heap;
CREATE TABLE pgmq.q_path_old (LIKE pgmq.path_old_heap INCLUDING ALL) USING pgmq;
TRUNCATE pgmq.a_path_old;
CALL exercise('path_old', NULL) \gset
SELECT :'log' = :'heap_log' AS old_hot_is_same;
DROP TABLE pgmq.q_path_old, pgmq.path_old_heap, pgmq.a_path_old;

SELECT count(pgmq.drop_queue(queue_name)) FROM pgmq.list_queues() WHERE queue_name ~ '^path_';
DROP FUNCTION passes;
DROP PROCEDURE exercise;
REVOKE USAGE ON SCHEMA pgmq FROM regress_pgmq_path;
DROP ROLE regress_pgmq_path;
