-- Properties that all functions of the API share, and its types.

SELECT proname FROM pg_proc
  WHERE pronamespace = 'pgmq'::regnamespace AND proname NOT IN ('pgmq_tableam_handler', 'notify_queue_listeners')
    AND (prosecdef OR proisstrict OR proleakproof OR proconfig IS NOT NULL OR proacl IS NOT NULL
         OR proparallel <> 'u' OR procost NOT IN (1, 100)
         OR provolatile <> 'v' AND proname NOT IN ('list_notify_insert_throttles', 'list_topic_bindings',
              'test_routing', 'validate_routing_key', 'validate_topic_pattern'));

SELECT p.oid::regprocedure AS function, pg_get_function_result(p.oid) AS result
  FROM pg_proc p WHERE pronamespace = 'pgmq'::regnamespace AND proname IN ('send', 'send_batch', 'read', 'read_with_poll',
    'pop', 'delete', 'archive', 'set_vt', 'create', 'create_non_partitioned', 'create_unlogged', 'drop_queue',
    'purge_queue', 'list_queues', 'metrics', 'metrics_all', 'validate_queue_name', 'format_table_name',
    'acquire_queue_lock', '_send_batch', '_validate_batch_params')
  ORDER BY p.proname COLLATE "C", p.oid::regprocedure::text COLLATE "C";
SELECT pg_get_function_arguments(p.oid) FROM pg_proc p
  WHERE pronamespace = 'pgmq'::regnamespace AND proname IN ('read', 'read_with_poll', 'pop')
  ORDER BY p.proname COLLATE "C";

SELECT c.relname, string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
  WHERE relnamespace = 'pgmq'::regnamespace AND (relkind = 'c' OR relname = 'meta') AND attnum > 0
  GROUP BY 1 ORDER BY 1;

-- Members of the extension; queues are not
SELECT pgmq.create('member');
SELECT pg_describe_object(classid, objid, 0) FROM pg_depend
  WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid <> 'pg_proc'::regclass
    AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pgmq')
    AND pg_describe_object(classid, objid, 0) ~ 'member';
SELECT pgmq.drop_queue('member');
