-- User triggers on a queue table fire for every verb, and decide.

CREATE TABLE fired (id int GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_LEVEL = 'ROW' THEN
    INSERT INTO fired (what) VALUES (concat_ws(' ', TG_TABLE_NAME, TG_WHEN, TG_OP, old.msg_id || '/' || old.read_ct, '->', new.msg_id || '/' || new.read_ct));
    RETURN coalesce(new, old);
  END IF;
  INSERT INTO fired (what) VALUES (concat_ws(' ', TG_TABLE_NAME, TG_WHEN, TG_OP, 'statement'));
  RETURN NULL;
END $$;
CREATE FUNCTION fired() RETURNS text LANGUAGE sql AS $$
  WITH d AS (DELETE FROM fired RETURNING *) SELECT string_agg(what, E'\n' ORDER BY id) FROM d $$;
SELECT pgmq.create('fires');
CREATE TRIGGER a AFTER INSERT OR UPDATE OR DELETE ON pgmq.q_fires FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER b AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON pgmq.q_fires FOR EACH STATEMENT EXECUTE FUNCTION note();
CREATE TRIGGER c AFTER INSERT ON pgmq.a_fires FOR EACH ROW EXECUTE FUNCTION note();
SELECT pgmq.send('fires', '1');
SELECT count(*) FROM pgmq.send_batch('fires', ARRAY['2', '3', '4']::jsonb[]);
SELECT fired();
SELECT msg_id FROM pgmq.read('fires', 0, 1);
SELECT msg_id FROM pgmq.set_vt('fires', 1, 0);
SELECT fired();
SELECT pgmq.delete('fires', 1), pgmq.archive('fires', 2);
SELECT msg_id FROM pgmq.pop('fires');
SELECT fired();
SELECT pgmq.purge_queue('fires');
SELECT fired();

-- A trigger for deletes only: read goes the fast way, and what it leased is what the trigger sees
DROP TRIGGER a ON pgmq.q_fires;
DROP TRIGGER b ON pgmq.q_fires;
CREATE TRIGGER a AFTER DELETE ON pgmq.q_fires FOR EACH ROW EXECUTE FUNCTION note();
SELECT count(*) FROM pgmq.send_batch('fires', ARRAY['5', '6', '7']::jsonb[]);
BEGIN;
SELECT msg_id, read_ct FROM pgmq.read('fires', 100, 2);
SELECT pgmq.delete('fires', 5);
SELECT pgmq.archive('fires', 6);
COMMIT;
SELECT fired();
SELECT msg_id, read_ct, last_read_at IS NOT NULL AS was_read FROM pgmq.a_fires ORDER BY 1;
SELECT * FROM pgmq.check_queue('fires');

-- Triggers that change rows or refuse
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.headers := '{"stamped": true}'; RETURN new; END $$;
CREATE TRIGGER d BEFORE DELETE ON pgmq.q_fires FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT pgmq.delete('fires', 7), pgmq.archive('fires', 7);
SELECT msg_id FROM pgmq.pop('fires');
DROP TRIGGER d ON pgmq.q_fires;
CREATE TRIGGER d BEFORE UPDATE ON pgmq.q_fires FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT msg_id FROM pgmq.read('fires', 0, 1);
SELECT msg_id FROM pgmq.set_vt('fires', 7, 100);
ALTER TABLE pgmq.q_fires DISABLE TRIGGER d;
SELECT msg_id, read_ct FROM pgmq.read('fires', 0, 1);
ALTER TABLE pgmq.q_fires ENABLE ALWAYS TRIGGER d;
SELECT msg_id, read_ct FROM pgmq.read('fires', 0, 1);
DROP TRIGGER d ON pgmq.q_fires;
CREATE TRIGGER d BEFORE INSERT OR UPDATE ON pgmq.q_fires FOR EACH ROW EXECUTE FUNCTION stamp();
SELECT pgmq.send('fires', '8', '{"mine": 1}'::jsonb);
SELECT msg_id, headers FROM pgmq.read('fires', 0, 10);
CREATE TRIGGER e BEFORE INSERT ON pgmq.q_fires FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT pgmq.send('fires', '9');
SELECT msg_id FROM pgmq.q_fires ORDER BY 1;
SELECT * FROM pgmq.check_queue('fires');
SELECT pgmq.drop_queue('fires');
DROP FUNCTION refuse, stamp, note, fired;
DROP TABLE fired;
