-- Publications of hot queues on a server that cannot decode yet: the tables are made fit for
-- the day when it can.
SET client_min_messages = error; -- "wal_level is insufficient"
CREATE VIEW has AS SELECT relname, relreplident AS identity,
    (SELECT string_agg(conname, ',') FROM pg_constraint WHERE conrelid = c.oid AND contype = 'p') AS key
  FROM pg_class c WHERE relname ~ '^q_pub' AND relkind = 'r';
SELECT pgmq.create('pub_one'), pgmq.create('pub_two'), pgmq.create('pub_full'), pgmq.create_unlogged('pub_un');
SELECT send_batch FROM pgmq.send_batch('pub_one', ARRAY['1', '2', '3']::jsonb[]);
SELECT count(*) FROM pgmq.send_batch('pub_full', ARRAY['1', '2', '3']::jsonb[]);
SELECT msg_id FROM pgmq.read('pub_one', 60, 1);
SELECT msg_id FROM pgmq.read('pub_full', 60, 1);

-- A publication adds the key, in a transaction that has leases of its own, too
BEGIN;
SELECT msg_id FROM pgmq.read('pub_one', 60, 1);
SAVEPOINT s;
SELECT msg_id FROM pgmq.read('pub_one', 60, 1);
CREATE PUBLICATION pub_insert FOR TABLE pgmq.q_pub_one WITH (publish = 'insert');
SELECT * FROM has ORDER BY 1;
SET client_min_messages = notice;
ALTER PUBLICATION pub_insert SET (publish = 'insert, delete');
SET client_min_messages = error;
SELECT * FROM has ORDER BY 1;
ROLLBACK TO s;
SELECT * FROM has ORDER BY 1;
CREATE PUBLICATION pub_one FOR TABLE pgmq.q_pub_one;
COMMIT;
SELECT * FROM has WHERE relname = 'q_pub_one';
SELECT msg_id, read_ct FROM pgmq.q_pub_one ORDER BY 1;
SELECT * FROM pgmq.check_queue('pub_one');

-- Rows never read are replaced where old rows are published whole; leases stay as they are
SELECT msg_id, ctid, read_ct, last_read_at IS NULL AS never FROM pgmq.q_pub_full ORDER BY 1;
ALTER TABLE pgmq.q_pub_full REPLICA IDENTITY FULL;
CREATE PUBLICATION pub_full FOR TABLE pgmq.q_pub_full;
SELECT msg_id, ctid, read_ct, last_read_at IS NULL AS never FROM pgmq.q_pub_full ORDER BY 1;
SELECT pgmq.send('pub_full', '4');
DROP PUBLICATION pub_full;
CREATE PUBLICATION pub_full FOR TABLE pgmq.q_pub_full;
SELECT msg_id, ctid FROM pgmq.q_pub_full ORDER BY 1;
ALTER TABLE pgmq.q_pub_full ALTER COLUMN enqueued_at TYPE timestamptz USING enqueued_at + interval '0';
CREATE TEMP TABLE before AS SELECT msg_id AS id, ctid AS tid FROM pgmq.q_pub_full;
ALTER TABLE pgmq.q_pub_full REPLICA IDENTITY FULL;
SELECT count(*) FROM pgmq.q_pub_full q JOIN before ON id = msg_id WHERE q.ctid <> tid;
SELECT msg_id FROM pgmq.read('pub_full', 0, 10) ORDER BY 1;
SELECT * FROM pgmq.check_queue('pub_full');

-- Whoever may change the publication need not own the tables
CREATE ROLE pub_changer;
GRANT CREATE ON DATABASE :DBNAME TO pub_changer;
CREATE PUBLICATION pub_two FOR TABLE pgmq.q_pub_two WITH (publish = 'insert');
ALTER PUBLICATION pub_two OWNER TO pub_changer;
SET ROLE pub_changer;
ALTER PUBLICATION pub_two SET (publish = 'update');
SELECT current_user;
RESET ROLE;
SELECT * FROM has WHERE relname = 'q_pub_two';
DROP PUBLICATION pub_two;
REVOKE CREATE ON DATABASE :DBNAME FROM pub_changer;
DROP ROLE pub_changer;

-- Two messages under one id: told by the statement that publishes
SELECT pgmq.create('pub_twice');
SELECT pgmq.send('pub_twice', '1');
INSERT INTO pgmq.q_pub_twice (msg_id, vt) OVERRIDING SYSTEM VALUE VALUES (1, now());
CREATE PUBLICATION pub_twice FOR TABLE pgmq.q_pub_twice;
SELECT pgmq.drop_queue('pub_twice');

-- A queue made or converted where all tables are published has the key at once; unlogged ones are not published
CREATE PUBLICATION pub_all FOR ALL TABLES;
SELECT pgmq.create('pub_later'), pgmq.create_unlogged('pub_un_later');
SELECT pgmq.convert_queue('pub_two', 'heap'), pgmq.convert_queue('pub_two', 'hot');
SELECT * FROM has ORDER BY 1;
ALTER TABLE pgmq.q_pub_un SET LOGGED;
SELECT * FROM has WHERE relname = 'q_pub_un';
-- What lists and binds queues can be published, too
SELECT pgmq.bind_topic('pub.*', 'pub_later');
SELECT pgmq.unbind_topic('pub.*', 'pub_later'), pgmq.drop_queue('pub_later');
DROP PUBLICATION pub_all, pub_one, pub_full;
SELECT msg_id FROM pgmq.pop('pub_one');
SELECT * FROM pgmq.check_queue('pub_two') UNION ALL SELECT * FROM pgmq.check_queue('pub_one') UNION ALL SELECT * FROM pgmq.check_queue('pub_un');
SELECT pgmq.drop_queue(queue_name) FROM pgmq.list_queues() WHERE queue_name ~ '^pub';
DROP VIEW has;
