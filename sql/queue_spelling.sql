-- Spellings of a name that differ in case are one queue; dropped under any of them, it is
-- gone under all.

\set VERBOSITY terse
SELECT pgmq.create('SpellQ');
SELECT pgmq.create('spellQ');
SELECT pgmq.create('other_spellq');
SELECT queue_name FROM pgmq.list_queues() ORDER BY queue_name COLLATE "C";
SELECT relname FROM pg_class WHERE relname ~* '^archived_at_idx_spellq' ORDER BY 1;
SELECT pgmq.send('SPELLq', '1'), pgmq.send('spellq', '2');
SELECT queue_name, queue_length FROM pgmq.metrics_all() ORDER BY queue_name COLLATE "C";
SELECT * FROM pgmq.check_queue('spellQ');
SELECT pgmq.drop_queue('SPELLQ');
SELECT queue_name, queue_length FROM pgmq.metrics_all() ORDER BY queue_name COLLATE "C";
SELECT relname FROM pg_class WHERE relname ~* 'spellq' AND relkind = 'r' AND relname !~ 'other' ORDER BY 1;
SELECT pgmq.drop_queue('SpellQ');

-- Letters beyond ASCII
SELECT pgmq.create('SPÄT');
SELECT pgmq.drop_queue('spät');
SELECT queue_name FROM pgmq.list_queues() ORDER BY queue_name COLLATE "C";

-- What is no table is no queue
SELECT pgmq.drop_queue('other_spellq_msg_id_seq');
-- a name too long for a table is not that of the table whose name it starts with
CREATE TABLE pgmq.q_ (LIKE pgmq.q_other_spellq);
SELECT format('ALTER TABLE pgmq.q_ RENAME TO %I', 'q_' || repeat('y', 61)) \gexec
SELECT pgmq.drop_queue(repeat('y', 62));
SELECT format('DROP TABLE pgmq.%I', 'q_' || repeat('y', 61)) \gexec

-- A rolled back drop changes nothing
BEGIN;
SELECT pgmq.drop_queue('Other_SpellQ');
ROLLBACK;
SELECT pgmq.send('other_spellq', '1');
SELECT * FROM pgmq.check_queue('other_spellq');
SELECT pgmq.drop_queue('Other_SpellQ');
SELECT queue_name FROM pgmq.list_queues();
