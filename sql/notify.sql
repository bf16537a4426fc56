-- Notifications are switched on, changed and switched off per queue.

SELECT pgmq.create('tells');
SELECT pgmq.enable_notify_insert('tells');
SELECT queue_name, throttle_interval_ms, last_notified_at = to_timestamp(0) AS is_epoch FROM pgmq.list_notify_insert_throttles();
SELECT pg_get_triggerdef(oid), tgenabled, tgdeferrable, tginitdeferred
  FROM pg_trigger WHERE tgrelid = 'pgmq.q_tells'::regclass AND NOT tgisinternal;
SELECT relpersistence FROM pg_class WHERE oid = 'pgmq.notify_insert_throttle'::regclass;
SELECT pg_get_constraintdef(oid), conname FROM pg_constraint
  WHERE conrelid = 'pgmq.notify_insert_throttle'::regclass AND contype IN ('u', 'f') ORDER BY conname COLLATE "C";
SELECT pg_get_indexdef('pgmq.idx_notify_throttle_active'::regclass);
SELECT 'pgmq.notify_insert_throttle'::regclass = ANY (extconfig) AS is_dumped FROM pg_extension WHERE extname = 'pgmq';

-- Once more: another interval, and no notice
SELECT pgmq.send('tells', '1');
SELECT last_notified_at > to_timestamp(0) AS is_stamped FROM pgmq.notify_insert_throttle;
SELECT pgmq.enable_notify_insert('tells', 1000);
SELECT queue_name, throttle_interval_ms, last_notified_at = to_timestamp(0) AS is_epoch FROM pgmq.list_notify_insert_throttles();
SELECT pgmq.send('tells', '2');
SELECT pgmq.update_notify_insert(queue_name => 'tells', throttle_interval_ms => 0);
SELECT queue_name, throttle_interval_ms, last_notified_at = to_timestamp(0) AS is_epoch FROM pgmq.list_notify_insert_throttles();

-- Errors
SELECT pgmq.enable_notify_insert('tells', -1);
SELECT pgmq.enable_notify_insert('tells', NULL);
SELECT pgmq.enable_notify_insert('nowhere');
SELECT pgmq.enable_notify_insert('no$where');
SELECT pgmq.enable_notify_insert(NULL);
SELECT pgmq.enable_notify_insert('TELLS');
SELECT pgmq.update_notify_insert('tells', -5);
SELECT pgmq.update_notify_insert('tells', NULL);
SELECT pgmq.update_notify_insert('nowhere', 5);
SELECT pgmq.update_notify_insert(NULL, 5);
SELECT pgmq.update_notify_insert('TELLS', 5);
SELECT pgmq.disable_notify_insert(NULL);
SELECT pgmq.disable_notify_insert('nowhere');
SELECT pgmq.notify_queue_listeners();
SELECT queue_name, throttle_interval_ms FROM pgmq.list_notify_insert_throttles();

-- Off, twice
SELECT pgmq.disable_notify_insert('tells');
SELECT pgmq.disable_notify_insert('tells');
SELECT count(*) FROM pgmq.notify_insert_throttle;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'pgmq.q_tells'::regclass AND NOT tgisinternal;
SELECT pgmq.update_notify_insert('tells', 5);

-- A rolled back change is none; names keep their case; quotes are no problem
BEGIN;
SELECT pgmq.enable_notify_insert('tells');
ROLLBACK;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'pgmq.q_tells'::regclass AND NOT tgisinternal;
SELECT pgmq.create('Tells "It" All\');
SELECT pgmq.enable_notify_insert('Tells "It" All\', 5);
SELECT pgmq.enable_notify_insert('tells', 5);
SELECT pgmq.send('tells "it" all\', '1');
SELECT queue_name, last_notified_at > to_timestamp(0) AS is_stamped FROM pgmq.list_notify_insert_throttles();
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'pgmq."q_tells ""it"" all\"'::regclass AND NOT tgisinternal;

-- Without its row (as after a crash) a queue does not notify, and works
DELETE FROM pgmq.notify_insert_throttle WHERE queue_name = 'tells';
SELECT pgmq.send('tells', '3');
SELECT queue_name FROM pgmq.list_notify_insert_throttles();

-- The row goes with the queue
SELECT pgmq.enable_notify_insert('tells', 5);
SELECT * FROM pgmq.check_queue('tells');
SELECT pgmq.drop_queue('tells'), pgmq.drop_queue('Tells "It" All\');
SELECT count(*) FROM pgmq.notify_insert_throttle;
