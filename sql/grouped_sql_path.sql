-- Grouped reads of a table whose triggers, row security or constraints must be obeyed.

CREATE ROLE regress_pgmq_fifo;
CREATE PROCEDURE grouped_path(q text) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pgmq.create(q);
  EXECUTE format('GRANT ALL ON pgmq.q_%s TO regress_pgmq_fifo', q);
  PERFORM pgmq.send(q, to_jsonb(i), jsonb_build_object('x-pgmq-group', CASE i % 2 WHEN 1 THEN 'a' ELSE 'b' END))
    FROM generate_series(1, 8) i;
END $$;
CALL grouped_path('obey');
SET pgmq.queue_storage = heap;
CALL grouped_path('obey_heap');
RESET pgmq.queue_storage;
GRANT USAGE ON SCHEMA pgmq TO regress_pgmq_fifo;

-- Row security: a row that the caller does not see is not in its group
CREATE POLICY grouped_some ON pgmq.q_obey USING (msg_id <> 1 AND message <> '6');
CREATE POLICY grouped_some ON pgmq.q_obey_heap USING (msg_id <> 1 AND message <> '6');
ALTER TABLE pgmq.q_obey ENABLE ROW LEVEL SECURITY;
ALTER TABLE pgmq.q_obey_heap ENABLE ROW LEVEL SECURITY;
SET ROLE regress_pgmq_fifo;
SELECT msg_id FROM pgmq.read_grouped('obey', 0, 100);
SELECT msg_id FROM pgmq.read_grouped('obey_heap', 0, 100);
SELECT msg_id FROM pgmq.read_grouped_rr('obey', 0, 100);
SELECT msg_id FROM pgmq.read_grouped_rr('obey_heap', 0, 100);
SELECT msg_id FROM pgmq.read_grouped_head('obey', 3600, 100);
SELECT msg_id FROM pgmq.read_grouped_head('obey_heap', 3600, 100);
RESET ROLE;
-- The owner sees all: 2 and 3 are leased, and 1 leads its group
SELECT msg_id FROM pgmq.read_grouped('obey', 0, 100);
SELECT msg_id FROM pgmq.read_grouped('obey_heap', 0, 100);
SELECT * FROM pgmq.check_queue('obey');
ALTER TABLE pgmq.q_obey DISABLE ROW LEVEL SECURITY;
ALTER TABLE pgmq.q_obey_heap DISABLE ROW LEVEL SECURITY;

-- Triggers see each lease, may change it and may prevent it
CREATE TABLE grouped_seen (queue text, msg_id bigint, read_ct int);
CREATE FUNCTION grouped_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF new.msg_id = 5 THEN
    RETURN NULL;
  END IF;
  INSERT INTO grouped_seen VALUES (tg_table_name, new.msg_id, new.read_ct);
  new.message := jsonb_build_object('seen', new.message);
  RETURN new;
END $$;
CREATE TRIGGER t BEFORE UPDATE ON pgmq.q_obey FOR EACH ROW EXECUTE FUNCTION grouped_trigger();
CREATE TRIGGER t BEFORE UPDATE ON pgmq.q_obey_heap FOR EACH ROW EXECUTE FUNCTION grouped_trigger();
SELECT msg_id, read_ct, message FROM pgmq.read_grouped('obey', 0, 3);
SELECT msg_id, read_ct, message FROM pgmq.read_grouped('obey_heap', 0, 3);
SELECT msg_id, read_ct, message FROM pgmq.read_grouped_rr('obey', 3600, 2);
SELECT msg_id, read_ct, message FROM pgmq.read_grouped_rr('obey_heap', 3600, 2);
SELECT queue, count(*), string_agg(msg_id::text, ' ' ORDER BY msg_id) FROM grouped_seen GROUP BY 1 ORDER BY 1;
SELECT * FROM pgmq.check_queue('obey');
DROP TRIGGER t ON pgmq.q_obey;
SELECT msg_id, read_ct, message FROM pgmq.read_grouped('obey', 0, 100);
SELECT count(*) FROM grouped_seen WHERE queue = 'q_obey';

-- One more column, a check, an index on vt; serializable
ALTER TABLE pgmq.q_obey ADD extra int DEFAULT 1;
SELECT msg_id FROM pgmq.set_vt('obey', ARRAY[1, 2, 3, 4], 0) ORDER BY 1;
SELECT msg_id FROM pgmq.read_grouped('obey', 0, 100);
ALTER TABLE pgmq.q_obey ADD CHECK (read_ct < 100);
SELECT msg_id FROM pgmq.read_grouped_rr('obey', 0, 100);
CREATE INDEX ON pgmq.q_obey (vt);
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT msg_id FROM pgmq.read_grouped_head('obey', 0, 100);
SELECT msg_id FROM pgmq.read_grouped('obey', 3600, 3);
SELECT msg_id FROM pgmq.read_grouped('obey', 3600, 3);
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT msg_id FROM pgmq.read_grouped('obey', 3600, 3);
SELECT msg_id FROM pgmq.read_grouped('obey', 3600, 3);
COMMIT;
SELECT * FROM pgmq.check_queue('obey');

-- A hostile search_path changes nothing
CREATE SCHEMA grouped_evil;
CREATE FUNCTION grouped_evil.coalesce(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''evil''';
CREATE FUNCTION grouped_evil.arrow(jsonb, text) RETURNS text LANGUAGE sql AS 'SELECT ''evil''';
CREATE OPERATOR grouped_evil.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = grouped_evil.arrow);
CREATE FUNCTION grouped_evil.later(timestamptz, timestamptz) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR grouped_evil.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = grouped_evil.later);
SELECT msg_id FROM pgmq.set_vt('obey', ARRAY[1, 2, 3, 4, 5, 6, 7, 8], 0) ORDER BY 1;
\c -
SET client_min_messages = warning;
SET search_path = grouped_evil, pg_catalog, public;
SELECT msg_id FROM pgmq.read_grouped_rr('obey', 0, 100);
SELECT msg_id FROM pgmq.read_grouped_head('obey', 0, 100);
SELECT msg_id FROM pgmq.read_grouped('obey', 0, 100);
RESET search_path;
SELECT * FROM pgmq.check_queue('obey');

DROP SCHEMA grouped_evil CASCADE;
SELECT pgmq.drop_queue('obey'), pgmq.drop_queue('obey_heap');
DROP TABLE grouped_seen;
DROP FUNCTION grouped_trigger;
DROP PROCEDURE grouped_path;
REVOKE USAGE ON SCHEMA pgmq FROM regress_pgmq_fifo;
DROP ROLE regress_pgmq_fifo;
