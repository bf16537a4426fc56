-- Which group a message is in: headers ->> 'x-pgmq-group', whatever is stored there.

CREATE PROCEDURE grouped_key(q text) LANGUAGE plpgsql AS $$
DECLARE
  big text := (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3200) i);
BEGIN
  PERFORM pgmq.create(q);
  PERFORM pgmq.send(q, to_jsonb(label), headers) FROM (VALUES
    ('no headers', NULL::jsonb),
    ('no such header', '{"other": "a"}'),
    ('JSON null', '{"x-pgmq-group": null}'),
    ('named default', '{"x-pgmq-group": "_default_fifo_group"}'),
    ('array', '["x-pgmq-group", "a"]'),
    ('scalar', '"x-pgmq-group"'),
    ('number scalar', '7'),
    ('null scalar', 'null'),
    ('nested elsewhere', '{"y": {"x-pgmq-group": "a"}}'),
    ('empty', '{"x-pgmq-group": ""}'),
    ('empty again', '{"x-pgmq-group": "", "more": [1, 2]}'),
    ('a', '{"x-pgmq-group": "a"}'),
    ('A', '{"x-pgmq-group": "A"}'),
    ('a and more', '{"b": 1, "x-pgmq-group": "a", "z": null}'),
    ('number', '{"x-pgmq-group": 5}'),
    ('number as text', '{"x-pgmq-group": "5"}'),
    ('decimal', '{"x-pgmq-group": 5.0}'),
    ('true', '{"x-pgmq-group": true}'),
    ('true as text', '{"x-pgmq-group": "true"}'),
    ('false', '{"x-pgmq-group": false}'),
    ('object', '{"x-pgmq-group": {"b": 1, "a": [2, null]}}'),
    ('object as text', '{"x-pgmq-group": "{\"a\": [2, null], \"b\": 1}"}'),
    ('list', '{"x-pgmq-group": [1, "x"]}'),
    ('list as text', '{"x-pgmq-group": "[1, \"x\"]"}'),
    ('null as text', '{"x-pgmq-group": "null"}'),
    ('umlaut', '{"x-pgmq-group": "größe"}'),
    ('escaped umlaut', '{"x-pgmq-group": "gr\u00f6\u00dfe"}'),
    ('space', '{"x-pgmq-group": " a"}')) AS v(label, headers);
  PERFORM pgmq.send(q, to_jsonb(label), jsonb_build_object('x-pgmq-group', key, 'n', n)) FROM (VALUES
    (1, '100 kB', big), (2, '100 kB again', big), (3, '100 kB and a letter', big || 'x')) AS v(n, label, key);
  PERFORM pgmq.send(q, to_jsonb(label), jsonb_build_object('big', big, 'x-pgmq-group', key)) FROM (VALUES
    (1, 'beside 100 kB', 'beside'), (2, 'beside again', 'beside')) AS v(n, label, key);
END $$;

CALL grouped_key('key');
SET pgmq.queue_storage = heap;
CALL grouped_key('key_heap');
RESET pgmq.queue_storage;

-- The first of each group, then the order in which whole groups come
SELECT msg_id, message FROM pgmq.read_grouped_head('key', 0, 100);
SELECT string_agg(message ->> 0, ', ' ORDER BY n) FROM pgmq.read_grouped_rr('key', 0, 100) WITH ORDINALITY AS r(msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers, n);
SELECT count(*) FROM pgmq.read_grouped('key', 0, 100);
SELECT length(headers::text) FROM pgmq.read_grouped('key', 0, 100) WHERE message ->> 0 ~ '100';

-- Leased one head at a time, each group is over when its last message is leased
CREATE PROCEDURE grouped_rounds(q text, INOUT log text) LANGUAGE plpgsql AS $$
DECLARE
  ids bigint[];
BEGIN
  log := '';
  LOOP
    SELECT array_agg(msg_id ORDER BY msg_id), log || coalesce(E'\n' || string_agg(message ->> 0, ', ' ORDER BY msg_id), '') INTO ids, log
      FROM pgmq.read_grouped_head(q, 3600, NULL);
    PERFORM pgmq.delete(q, ids);
    COMMIT;
    EXIT WHEN ids IS NULL;
  END LOOP;
END $$;
CALL grouped_rounds('key', NULL) \gset
\echo :log
SELECT * FROM pgmq.check_queue('key');

-- A heap queue gives the same
SELECT msg_id, message FROM pgmq.read_grouped_head('key_heap', 0, 100);
SELECT string_agg(message ->> 0, ', ' ORDER BY n) FROM pgmq.read_grouped_rr('key_heap', 0, 100) WITH ORDINALITY AS r(msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers, n);
SELECT count(*) FROM pgmq.read_grouped('key_heap', 0, 100);
CALL grouped_rounds('key_heap', NULL) \gset heap_
SELECT :'log' = :'heap_log' AS heap_is_same;

SELECT pgmq.drop_queue('key'), pgmq.drop_queue('key_heap');
DROP PROCEDURE grouped_key, grouped_rounds;
