-- Topics with the caller's rights: table and column grants, row security, search_path.

CREATE ROLE regress_pgmq_topic;
GRANT USAGE ON SCHEMA pgmq TO regress_pgmq_topic;
SELECT pgmq.create('rights_a'), pgmq.create('rights_b');
SELECT pgmq.bind_topic('a.#', 'rights_a'), pgmq.bind_topic('#', 'rights_b');
CREATE FUNCTION pg_temp.try_as_user(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  n text;
BEGIN
  SET LOCAL ROLE regress_pgmq_topic;
  EXECUTE sql INTO n;
  RESET ROLE;
  RETURN coalesce(n, 'NULL');
EXCEPTION WHEN OTHERS THEN
  RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION pg_temp.try_all() RETURNS TABLE (call text, result text) LANGUAGE sql VOLATILE AS $$
  SELECT c, pg_temp.try_as_user('SELECT count(*) FROM pgmq.' || c) FROM unnest(ARRAY[
    $_$send_topic('a.b', '1') n WHERE n > 0$_$, $_$send_batch_topic('a.b', '{1}')$_$, $_$test_routing('a.b')$_$,
    $_$list_topic_bindings()$_$, $_$list_topic_bindings('rights_a')$_$,
    $_$bind_topic('x', 'rights_a')$_$, $_$unbind_topic('none', 'rights_a')$_$, $_$validate_routing_key('a')$_$]) c $$;

SELECT * FROM pg_temp.try_all();
-- Two columns are enough to find the queues
GRANT SELECT (queue_name, compiled_regex) ON pgmq.topic_bindings TO regress_pgmq_topic;
GRANT SELECT ON pgmq.meta TO regress_pgmq_topic;
SELECT * FROM pg_temp.try_all();
GRANT INSERT (vt, message, headers), SELECT (msg_id) ON pgmq.q_rights_a, pgmq.q_rights_b TO regress_pgmq_topic;
SELECT * FROM pg_temp.try_all();
REVOKE SELECT (compiled_regex) ON pgmq.topic_bindings FROM regress_pgmq_topic;
SELECT * FROM pg_temp.try_all() LIMIT 2;
GRANT SELECT, INSERT, DELETE ON pgmq.topic_bindings TO regress_pgmq_topic;
SELECT * FROM pg_temp.try_all();
REVOKE USAGE ON SCHEMA pgmq FROM regress_pgmq_topic;
SELECT * FROM pg_temp.try_all() LIMIT 1;
GRANT USAGE ON SCHEMA pgmq TO regress_pgmq_topic;

-- One queue that may not be written to stops the whole call
REVOKE INSERT ON pgmq.q_rights_b FROM regress_pgmq_topic;
SELECT * FROM pg_temp.try_all() LIMIT 2;
SELECT count(*) FROM pgmq.q_rights_a;
GRANT INSERT ON pgmq.q_rights_b TO regress_pgmq_topic;

-- Row security hides bindings, and forbids some
ALTER TABLE pgmq.topic_bindings ENABLE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.try_all();
CREATE POLICY only_a ON pgmq.topic_bindings TO regress_pgmq_topic USING (queue_name = 'rights_a');
SELECT * FROM pg_temp.try_all();
SELECT pg_temp.try_as_user($$SELECT pgmq.send_topic('a.b', '1')$$), pgmq.send_topic('a.b', '1') AS as_owner;
SELECT pg_temp.try_as_user($$SELECT pgmq.unbind_topic('#', 'rights_b')$$), pg_temp.try_as_user($$SELECT pgmq.bind_topic('y', 'rights_b')$$);
SET row_security = off;
SELECT * FROM pg_temp.try_all() LIMIT 2;
RESET row_security;
DROP POLICY only_a ON pgmq.topic_bindings;
ALTER TABLE pgmq.topic_bindings DISABLE ROW LEVEL SECURITY;

-- Functions and operators of a foreign schema are not called
CREATE SCHEMA trap;
CREATE FUNCTION trap.no(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE FUNCTION trap.no(name, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE OPERATOR trap.~ (FUNCTION = trap.no, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR trap.= (FUNCTION = trap.no, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR trap.|| (FUNCTION = trap.no, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION trap.replace(text, text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE TABLE trap.topic_bindings (pattern text, queue_name text, compiled_regex text);
SET search_path = trap, pg_catalog;
SELECT pgmq.bind_topic('p', 'rights_a'), pgmq.send_topic('p', '1'), pgmq.unbind_topic('p', 'rights_a');
SELECT pattern, queue_name FROM pgmq.test_routing('a.b') ORDER BY pattern COLLATE "C";
SELECT pattern, queue_name FROM pgmq.list_topic_bindings('rights_b');
RESET search_path;
DROP SCHEMA trap CASCADE;
SELECT * FROM pgmq.check_queue('rights_a') UNION ALL SELECT * FROM pgmq.check_queue('rights_b');
SELECT pgmq.drop_queue('rights_a'), pgmq.drop_queue('rights_b');
REVOKE ALL ON pgmq.topic_bindings, pgmq.meta FROM regress_pgmq_topic;
REVOKE ALL ON SCHEMA pgmq FROM regress_pgmq_topic;
DROP ROLE regress_pgmq_topic;
