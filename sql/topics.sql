-- Topics in the catalog: the table of bindings and the functions' signatures.

SELECT attname, format_type(atttypid, atttypmod), attnotnull, attgenerated, pg_get_expr(adbin, adrelid) AS expression
  FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
  WHERE attrelid = 'pgmq.topic_bindings'::regclass AND attnum > 0 AND attname <> 'compiled_regex' ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod), attnotnull, attgenerated
  FROM pg_attribute WHERE attrelid = 'pgmq.topic_bindings'::regclass AND attname = 'compiled_regex';
SELECT conname, contype, pg_get_constraintdef(oid) FROM pg_constraint
  WHERE conrelid = 'pgmq.topic_bindings'::regclass AND contype <> 'n' ORDER BY conname COLLATE "C";
SELECT pg_get_indexdef(indexrelid) FROM pg_index
  WHERE indrelid = 'pgmq.topic_bindings'::regclass ORDER BY indexrelid::regclass::text COLLATE "C";
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'pgmq.topic_bindings'::regclass AND NOT tgisinternal;

-- Bindings are dumped as a whole; nobody else may read them
SELECT condition FROM (SELECT unnest(extconfig), unnest(extcondition) FROM pg_extension WHERE extname = 'pgmq') AS dump (rel, condition)
  WHERE rel = 'pgmq.topic_bindings'::regclass;
SELECT count(*) FROM pg_class, aclexplode(relacl) WHERE pg_class.oid = 'pgmq.topic_bindings'::regclass AND grantee <> relowner;

SELECT p.oid::regprocedure AS function, pg_get_function_identity_arguments(p.oid) AS arguments
  FROM pg_proc p WHERE pronamespace = 'pgmq'::regnamespace AND proname ~ 'topic|routing'
  ORDER BY p.proname COLLATE "C", p.oid::regprocedure::text COLLATE "C";
SELECT p.oid::regprocedure AS function, pg_get_function_result(p.oid) AS result, provolatile AS v, proretset AS set,
    prorows AS rows, pronargdefaults AS defaults
  FROM pg_proc p WHERE pronamespace = 'pgmq'::regnamespace AND proname ~ 'topic|routing'
  ORDER BY p.proname COLLATE "C", p.oid::regprocedure::text COLLATE "C";

-- Calls that the contract does not have
SELECT pgmq.send_topic('a', '1'::jsonb, '2'::jsonb);
SELECT pgmq.send_topic('a', '1'::jsonb, now());
SELECT pgmq.send_topic('a', '1'::jsonb, 1::bigint);
SELECT pgmq.send_topic('a', '1'::jsonb, 1::smallint);
SELECT pgmq.send_topic(routing_key => 'a', msg => '1'), pgmq.send_topic(routing_key => 'a', msg => '1', delay => 1),
  pgmq.send_topic(routing_key := 'a', msg := '1', headers := NULL, delay := 1);
SELECT * FROM pgmq.send_batch_topic(routing_key => 'a', msgs => '{1}', headers => NULL::jsonb[], delay => now());
