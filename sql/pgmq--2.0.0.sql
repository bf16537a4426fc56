-- pgmq: message queues on a table access method and a shared-memory ring.

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pgmq" to load this file. \quit

DO $$ -- not in updates
BEGIN
    IF pg_catalog.to_regclass('pgmq.meta') IS NOT NULL THEN
        RAISE EXCEPTION 'schema pgmq holds a pgmq that is no extension'
            USING ERRCODE = 'duplicate_object',
                HINT = 'To adopt it: CREATE EXTENSION pgmq VERSION ''unpackaged''; ALTER EXTENSION pgmq UPDATE;';
    END IF;
END $$;

-- ---- the table access method of hot queues ----

CREATE FUNCTION pgmq.pgmq_tableam_handler(internal)
RETURNS table_am_handler
AS 'MODULE_PATHNAME', 'pgmq_tableam_handler'
LANGUAGE C;

CREATE ACCESS METHOD pgmq TYPE TABLE HANDLER pgmq.pgmq_tableam_handler;
COMMENT ON ACCESS METHOD pgmq IS 'heap storage with in-place leases, for message queues';

-- Hot tables depend on the access method; without it they are heap tables.
CREATE FUNCTION pgmq._before_drop_extension()
RETURNS event_trigger
AS 'MODULE_PATHNAME', 'pgmq_before_drop_extension'
LANGUAGE C;

CREATE EVENT TRIGGER pgmq_before_drop_extension ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION')
    EXECUTE FUNCTION pgmq._before_drop_extension();

-- ---- tables and types ----

CREATE TABLE pgmq.meta (
    queue_name VARCHAR UNIQUE NOT NULL,
    is_partitioned BOOLEAN NOT NULL,
    is_unlogged BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('pgmq.meta', '');

-- Which queues get the messages sent to a topic.  src/api/topic_match.c knows the form
-- of compiled_regex.
CREATE TABLE pgmq.topic_bindings (
    pattern TEXT NOT NULL,
    queue_name TEXT NOT NULL
        CONSTRAINT topic_bindings_meta_queue_name_fk REFERENCES pgmq.meta (queue_name) ON DELETE CASCADE,
    bound_at TIMESTAMP WITH TIME ZONE DEFAULT pg_catalog.now() NOT NULL,
    compiled_regex TEXT GENERATED ALWAYS AS (
        '^' OPERATOR(pg_catalog.||) pg_catalog.replace(pg_catalog.replace(
            pg_catalog.regexp_replace(pattern, E'[].+?{}()|[\\\\^$]', E'\\\\\\&', 'g'),
            '*', '[^.]+'), '#', '.*') OPERATOR(pg_catalog.||) '$'
    ) STORED,
    CONSTRAINT topic_bindings_unique_pattern_queue UNIQUE (pattern, queue_name)
);
CREATE INDEX idx_topic_bindings_covering ON pgmq.topic_bindings (pattern) INCLUDE (queue_name, compiled_regex);
SELECT pg_catalog.pg_extension_config_dump('pgmq.topic_bindings', '');

-- Published with all tables or the schema, they must not refuse updates and deletes
DO $$
BEGIN
    IF 'd' OPERATOR(pg_catalog.=) (SELECT relreplident FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) 'pgmq.meta'::pg_catalog.regclass) THEN
        ALTER TABLE pgmq.meta REPLICA IDENTITY USING INDEX meta_queue_name_key;
    END IF;
    IF 'd' OPERATOR(pg_catalog.=) (SELECT relreplident FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) 'pgmq.topic_bindings'::pg_catalog.regclass) THEN
        ALTER TABLE pgmq.topic_bindings REPLICA IDENTITY USING INDEX topic_bindings_unique_pattern_queue;
    END IF;
END $$;

GRANT USAGE ON SCHEMA pgmq TO pg_monitor;
GRANT SELECT ON pgmq.meta TO pg_monitor;

CREATE TYPE pgmq.message_record AS (
    msg_id BIGINT,
    read_ct INTEGER,
    enqueued_at TIMESTAMP WITH TIME ZONE,
    last_read_at TIMESTAMP WITH TIME ZONE,
    vt TIMESTAMP WITH TIME ZONE,
    message JSONB,
    headers JSONB
);

CREATE TYPE pgmq.queue_record AS (
    queue_name VARCHAR,
    is_partitioned BOOLEAN,
    is_unlogged BOOLEAN,
    created_at TIMESTAMP WITH TIME ZONE
);

CREATE TYPE pgmq.metrics_result AS (
    queue_name TEXT,
    queue_length BIGINT,
    newest_msg_age_sec INTEGER,
    oldest_msg_age_sec INTEGER,
    total_messages BIGINT,
    scrape_time TIMESTAMP WITH TIME ZONE,
    queue_visible_length BIGINT,
    default_partition_length BIGINT
);

-- The API's functions cost what it says, 100, and not 1 like others in C.

-- ---- queue names ----

CREATE FUNCTION pgmq.format_table_name(queue_name TEXT, prefix TEXT)
RETURNS TEXT
AS 'MODULE_PATHNAME', 'pgmq_format_table_name'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.validate_queue_name(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_validate_queue_name'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.acquire_queue_lock(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_acquire_queue_lock'
LANGUAGE C COST 100;

-- ---- storage ----

CREATE FUNCTION pgmq.convert_queue(queue_name TEXT, storage TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_convert_queue'
LANGUAGE C COST 100;

-- ---- the life of a queue ----

CREATE FUNCTION pgmq.create_non_partitioned(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_create_non_partitioned'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.create(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_create_non_partitioned'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.create_unlogged(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_create_unlogged'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.drop_queue(queue_name TEXT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_drop_queue'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.drop_queue(queue_name TEXT, partitioned BOOLEAN)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_drop_queue_partitioned'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.purge_queue(queue_name TEXT)
RETURNS BIGINT
AS 'MODULE_PATHNAME', 'pgmq_purge_queue'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.detach_archive(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_detach_archive'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.list_queues()
RETURNS SETOF pgmq.queue_record
AS 'MODULE_PATHNAME', 'pgmq_list_queues'
LANGUAGE C COST 100;

-- ---- indexes for grouped reads ----

CREATE FUNCTION pgmq._create_fifo_index_if_not_exists(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_create_fifo_index'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.create_fifo_index(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_create_fifo_index'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.create_fifo_indexes_all()
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_create_fifo_indexes_all'
LANGUAGE C COST 100;

-- ---- partitioned queues ----

CREATE FUNCTION pgmq.create_partitioned(queue_name TEXT, partition_interval TEXT DEFAULT '10000', retention_interval TEXT DEFAULT '100000', premake INTEGER DEFAULT 4)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_create_partitioned'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.convert_archive_partitioned(table_name TEXT, partition_interval TEXT DEFAULT '10000', retention_interval TEXT DEFAULT '100000', leading_partition INTEGER DEFAULT 10)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_convert_archive_partitioned'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq._get_partition_col(partition_interval TEXT)
RETURNS TEXT
AS 'MODULE_PATHNAME', 'pgmq_get_partition_col'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq._ensure_pg_partman_installed()
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_ensure_pg_partman_installed'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq._get_pg_partman_schema()
RETURNS TEXT
AS 'MODULE_PATHNAME', 'pgmq_get_pg_partman_schema'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq._get_pg_partman_major_version()
RETURNS INTEGER
AS 'MODULE_PATHNAME', 'pgmq_get_pg_partman_major_version'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq._extension_exists(extension_name TEXT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_extension_exists'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq._belongs_to_pgmq(table_name TEXT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_belongs_to_pgmq'
LANGUAGE C COST 100;

-- ---- sending ----

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB, headers JSONB)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_headers'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB, delay INTEGER)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_delay'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB, delay TIMESTAMP WITH TIME ZONE)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_at'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB, headers JSONB, delay INTEGER)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_headers_delay'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB, headers JSONB, delay TIMESTAMP WITH TIME ZONE)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_headers_at'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[])
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[], headers JSONB[])
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_headers'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[], delay INTEGER)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_delay'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[], delay TIMESTAMP WITH TIME ZONE)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_at'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[], headers JSONB[], delay INTEGER)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_headers_delay'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[], headers JSONB[], delay TIMESTAMP WITH TIME ZONE)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_headers_at'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq._send_batch(queue_name TEXT, msgs JSONB[], headers JSONB[], delay TIMESTAMP WITH TIME ZONE)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_unchecked'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq._validate_batch_params(msgs JSONB[], headers JSONB[])
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_validate_batch_params'
LANGUAGE C COST 100;

-- ---- topics ----

CREATE FUNCTION pgmq.validate_routing_key(routing_key TEXT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_validate_routing_key'
LANGUAGE C IMMUTABLE COST 100;

CREATE FUNCTION pgmq.validate_topic_pattern(pattern TEXT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_validate_topic_pattern'
LANGUAGE C IMMUTABLE COST 100;

CREATE FUNCTION pgmq.bind_topic(pattern TEXT, queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_bind_topic'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.unbind_topic(pattern TEXT, queue_name TEXT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_unbind_topic'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.list_topic_bindings()
RETURNS TABLE (pattern TEXT, queue_name TEXT, bound_at TIMESTAMP WITH TIME ZONE, compiled_regex TEXT)
AS 'MODULE_PATHNAME', 'pgmq_list_topic_bindings'
LANGUAGE C STABLE COST 100;

CREATE FUNCTION pgmq.list_topic_bindings(queue_name TEXT)
RETURNS TABLE (pattern TEXT, queue_name TEXT, bound_at TIMESTAMP WITH TIME ZONE, compiled_regex TEXT)
AS 'MODULE_PATHNAME', 'pgmq_list_topic_bindings_of'
LANGUAGE C STABLE COST 100;

CREATE FUNCTION pgmq.test_routing(routing_key TEXT)
RETURNS TABLE (pattern TEXT, queue_name TEXT, compiled_regex TEXT)
AS 'MODULE_PATHNAME', 'pgmq_test_routing'
LANGUAGE C STABLE COST 100;

CREATE FUNCTION pgmq.send_topic(routing_key TEXT, msg JSONB)
RETURNS INTEGER
AS 'MODULE_PATHNAME', 'pgmq_send_topic'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_topic(routing_key TEXT, msg JSONB, delay INTEGER)
RETURNS INTEGER
AS 'MODULE_PATHNAME', 'pgmq_send_topic_delay'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_topic(routing_key TEXT, msg JSONB, headers JSONB, delay INTEGER)
RETURNS INTEGER
AS 'MODULE_PATHNAME', 'pgmq_send_topic_headers_delay'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch_topic(routing_key TEXT, msgs JSONB[])
RETURNS TABLE (queue_name TEXT, msg_id BIGINT)
AS 'MODULE_PATHNAME', 'pgmq_send_batch_topic'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch_topic(routing_key TEXT, msgs JSONB[], headers JSONB[])
RETURNS TABLE (queue_name TEXT, msg_id BIGINT)
AS 'MODULE_PATHNAME', 'pgmq_send_batch_topic_headers'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch_topic(routing_key TEXT, msgs JSONB[], delay INTEGER)
RETURNS TABLE (queue_name TEXT, msg_id BIGINT)
AS 'MODULE_PATHNAME', 'pgmq_send_batch_topic_delay'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch_topic(routing_key TEXT, msgs JSONB[], delay TIMESTAMP WITH TIME ZONE)
RETURNS TABLE (queue_name TEXT, msg_id BIGINT)
AS 'MODULE_PATHNAME', 'pgmq_send_batch_topic_at'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch_topic(routing_key TEXT, msgs JSONB[], headers JSONB[], delay INTEGER)
RETURNS TABLE (queue_name TEXT, msg_id BIGINT)
AS 'MODULE_PATHNAME', 'pgmq_send_batch_topic_headers_delay'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.send_batch_topic(routing_key TEXT, msgs JSONB[], headers JSONB[], delay TIMESTAMP WITH TIME ZONE)
RETURNS TABLE (queue_name TEXT, msg_id BIGINT)
AS 'MODULE_PATHNAME', 'pgmq_send_batch_topic_headers_at'
LANGUAGE C COST 100;

-- ---- reading ----

CREATE FUNCTION pgmq.read(queue_name TEXT, vt INTEGER, qty INTEGER, conditional JSONB DEFAULT '{}')
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_read'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.read_with_poll(queue_name TEXT, vt INTEGER, qty INTEGER, max_poll_seconds INTEGER DEFAULT 5, poll_interval_ms INTEGER DEFAULT 100, conditional JSONB DEFAULT '{}')
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_read_with_poll'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.pop(queue_name TEXT, qty INTEGER DEFAULT 1)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_pop'
LANGUAGE C COST 100;

-- ---- reading in the order of groups ----

CREATE FUNCTION pgmq.read_grouped(queue_name TEXT, vt INTEGER, qty INTEGER)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_read_grouped'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.read_grouped_rr(queue_name TEXT, vt INTEGER, qty INTEGER)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_read_grouped_rr'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.read_grouped_head(queue_name TEXT, vt INTEGER, qty INTEGER)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_read_grouped_head'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.read_grouped_with_poll(
    queue_name TEXT, vt INTEGER, qty INTEGER,
    max_poll_seconds INTEGER DEFAULT 5, poll_interval_ms INTEGER DEFAULT 100
)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_read_grouped_with_poll'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.read_grouped_rr_with_poll(
    queue_name TEXT, vt INTEGER, qty INTEGER,
    max_poll_seconds INTEGER DEFAULT 5, poll_interval_ms INTEGER DEFAULT 100
)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_read_grouped_rr_with_poll'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.read_grouped_head_with_poll(
    queue_name TEXT, vt INTEGER, qty INTEGER,
    max_poll_seconds INTEGER DEFAULT 5, poll_interval_ms INTEGER DEFAULT 100
)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_read_grouped_head_with_poll'
LANGUAGE C COST 100;

-- ---- acknowledging and extending ----

CREATE FUNCTION pgmq.delete(queue_name TEXT, msg_id BIGINT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_delete'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.delete(queue_name TEXT, msg_ids BIGINT[])
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_delete_batch'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.archive(queue_name TEXT, msg_id BIGINT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_archive'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.archive(queue_name TEXT, msg_ids BIGINT[])
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_archive_batch'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.set_vt(queue_name TEXT, msg_id BIGINT, vt INTEGER)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_set_vt'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.set_vt(queue_name TEXT, msg_id BIGINT, vt TIMESTAMP WITH TIME ZONE)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_set_vt_at'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.set_vt(queue_name TEXT, msg_ids BIGINT[], vt INTEGER)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_set_vt_batch'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.set_vt(queue_name TEXT, msg_ids BIGINT[], vt TIMESTAMP WITH TIME ZONE)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_set_vt_batch_at'
LANGUAGE C COST 100;

-- ---- looking ----

CREATE FUNCTION pgmq.metrics(queue_name TEXT)
RETURNS pgmq.metrics_result
AS 'MODULE_PATHNAME', 'pgmq_metrics'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.metrics_all()
RETURNS SETOF pgmq.metrics_result
AS 'MODULE_PATHNAME', 'pgmq_metrics_all'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.check_queue(queue_name TEXT)
RETURNS TABLE (msg_id BIGINT, tid TID, problem TEXT)
AS 'MODULE_PATHNAME', 'pgmq_check_queue'
LANGUAGE C COST 100;

-- ---- notifications ----

CREATE UNLOGGED TABLE pgmq.notify_insert_throttle (
    queue_name VARCHAR UNIQUE NOT NULL
        CONSTRAINT notify_insert_throttle_meta_queue_name_fk
        REFERENCES pgmq.meta (queue_name) ON DELETE CASCADE,
    throttle_interval_ms INTEGER NOT NULL DEFAULT 0,
    last_notified_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT to_timestamp(0)
);
CREATE INDEX idx_notify_throttle_active
    ON pgmq.notify_insert_throttle (queue_name, last_notified_at)
    WHERE throttle_interval_ms > 0;
SELECT pg_catalog.pg_extension_config_dump('pgmq.notify_insert_throttle', '');

CREATE FUNCTION pgmq.notify_queue_listeners()
RETURNS TRIGGER
AS 'MODULE_PATHNAME', 'pgmq_notify_queue_listeners'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.enable_notify_insert(queue_name TEXT, throttle_interval_ms INTEGER DEFAULT 250)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_enable_notify_insert'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.disable_notify_insert(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_disable_notify_insert'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.update_notify_insert(queue_name TEXT, throttle_interval_ms INTEGER)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_update_notify_insert'
LANGUAGE C COST 100;

CREATE FUNCTION pgmq.list_notify_insert_throttles()
RETURNS TABLE (queue_name TEXT, throttle_interval_ms INTEGER, last_notified_at TIMESTAMP WITH TIME ZONE)
AS 'MODULE_PATHNAME', 'pgmq_list_notify_insert_throttles'
LANGUAGE C STABLE COST 100;

-- ---- owners: keep this at the end of the file ----

-- Who may create extensions but is no superuser owns what the script makes for him, but
-- for the access method.
DO $$ -- not in updates
DECLARE
    owner pg_catalog.regrole := (SELECT extowner::pg_catalog.regrole
        FROM pg_catalog.pg_extension WHERE extname OPERATOR(pg_catalog.=) 'pgmq');
    object record;
BEGIN
    FOR object IN
        SELECT i.type, i.identity
          FROM pg_catalog.pg_extension e
            JOIN pg_catalog.pg_depend d ON d.refobjid OPERATOR(pg_catalog.=) e.oid
              AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
              AND d.deptype OPERATOR(pg_catalog.=) 'e',
            pg_catalog.pg_identify_object(d.classid, d.objid, 0) i
          WHERE e.extname OPERATOR(pg_catalog.=) 'pgmq'
            AND (i.type OPERATOR(pg_catalog.=) ANY ('{function,table}'::pg_catalog.text[])
              OR d.objid OPERATOR(pg_catalog.=) ANY ('{pgmq.message_record,pgmq.queue_record,pgmq.metrics_result}'::pg_catalog.regtype[]))
            AND i.identity OPERATOR(pg_catalog.!~) 'pgmq_tableam_handler'
            AND owner OPERATOR(pg_catalog.<>) current_user::pg_catalog.regrole
    LOOP
        EXECUTE pg_catalog.format('ALTER %s %s OWNER TO %s', object.type, object.identity, owner);
    END LOOP;
END $$;
