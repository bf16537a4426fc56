-- Rollback to a savepoint undoes exactly its part.

SELECT pgmq.create('savepoint');
CREATE VIEW pg_temp.state AS
  SELECT msg_id, read_ct, last_read_at IS NOT NULL AS was_read, vt > clock_timestamp() AS waits FROM pgmq.q_savepoint ORDER BY 1;
SELECT count(*) FROM pgmq.send_batch('savepoint', '{1,2,3,4,5,6}'::jsonb[]);

-- A read in it is given back, one before it stays
BEGIN;
SELECT msg_id FROM pgmq.read('savepoint', 100, 1);
SAVEPOINT a;
SELECT msg_id FROM pgmq.read('savepoint', 100, 1);
SELECT pgmq.send('savepoint', '"a"');
ROLLBACK TO a;
TABLE pg_temp.state;
SELECT msg_id FROM pgmq.read('savepoint', 100, 2);
COMMIT;
TABLE pg_temp.state;
SELECT * FROM pgmq.check_queue('savepoint');

-- The same message before and in a savepoint: back to the outer lease
BEGIN;
SELECT msg_id, read_ct FROM pgmq.read('savepoint', 0, 1);
SAVEPOINT a;
SELECT msg_id, read_ct FROM pgmq.read('savepoint', 100, 1);
SAVEPOINT b;
SELECT msg_id, read_ct FROM pgmq.set_vt('savepoint', 4, 0);
SELECT msg_id, read_ct FROM pgmq.read('savepoint', 0, 1);
ROLLBACK TO b;
TABLE pg_temp.state;
ROLLBACK TO a;
TABLE pg_temp.state;
SELECT msg_id, read_ct FROM pgmq.read('savepoint', 0, 1);
COMMIT;
TABLE pg_temp.state;
SELECT * FROM pgmq.check_queue('savepoint');

-- Deleted, archived, popped, updated in a savepoint: there again
BEGIN;
SAVEPOINT a;
SELECT pgmq.delete('savepoint', 4);
SELECT pgmq.archive('savepoint', 5);
SELECT msg_id FROM pgmq.pop('savepoint');
ROLLBACK TO a;
SAVEPOINT b;
UPDATE pgmq.q_savepoint SET vt = 'infinity' WHERE msg_id = 4;
DELETE FROM pgmq.q_savepoint WHERE msg_id = 5;
SELECT msg_id FROM pgmq.read('savepoint', 0, 10);
ROLLBACK TO b;
SELECT msg_id, read_ct FROM pgmq.read('savepoint', 0, 10);
COMMIT;
TABLE pg_temp.state;
SELECT count(*) FROM pgmq.a_savepoint;
SELECT * FROM pgmq.check_queue('savepoint');

-- Released savepoints belong to the transaction; a read, then deleted in a savepoint, then not
BEGIN;
SAVEPOINT a;
SELECT msg_id, read_ct FROM pgmq.read('savepoint', 100, 1);
RELEASE a;
SAVEPOINT b;
SELECT pgmq.delete('savepoint', 4);
ROLLBACK TO b;
TABLE pg_temp.state;
SAVEPOINT c;
SAVEPOINT d;
SELECT pgmq.delete('savepoint', 5);
RELEASE d;
RELEASE c;
COMMIT;
TABLE pg_temp.state;
BEGIN;
SAVEPOINT a;
SELECT msg_id FROM pgmq.read('savepoint', 100, 1);
RELEASE a;
ROLLBACK;
SELECT msg_id, read_ct FROM pgmq.read('savepoint', 0, 10);
SELECT * FROM pgmq.check_queue('savepoint');
DROP VIEW pg_temp.state;
SELECT pgmq.drop_queue('savepoint');
