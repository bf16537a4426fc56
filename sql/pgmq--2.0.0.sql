-- pgmq: message queues on a table access method and a shared-memory ring.

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pgmq" to load this file. \quit

-- ---- the table access method of hot queues ----

CREATE FUNCTION pgmq.pgmq_tableam_handler(internal)
RETURNS table_am_handler
AS 'MODULE_PATHNAME', 'pgmq_tableam_handler'
LANGUAGE C;

CREATE ACCESS METHOD pgmq TYPE TABLE HANDLER pgmq.pgmq_tableam_handler;
COMMENT ON ACCESS METHOD pgmq IS 'heap storage with in-place leases, for message queues';

-- ---- tables and types ----

CREATE TABLE pgmq.meta (
    queue_name VARCHAR UNIQUE NOT NULL,
    is_partitioned BOOLEAN NOT NULL,
    is_unlogged BOOLEAN NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL
);
SELECT pg_catalog.pg_extension_config_dump('pgmq.meta', '');

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

-- ---- queue names ----

CREATE FUNCTION pgmq.format_table_name(queue_name TEXT, prefix TEXT)
RETURNS TEXT
AS 'MODULE_PATHNAME', 'pgmq_format_table_name'
LANGUAGE C;

CREATE FUNCTION pgmq.validate_queue_name(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_validate_queue_name'
LANGUAGE C;

CREATE FUNCTION pgmq.acquire_queue_lock(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_acquire_queue_lock'
LANGUAGE C;

-- ---- the life of a queue ----

CREATE FUNCTION pgmq.create_non_partitioned(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_create_non_partitioned'
LANGUAGE C;

CREATE FUNCTION pgmq.create(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_create_non_partitioned'
LANGUAGE C;

CREATE FUNCTION pgmq.create_unlogged(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_create_unlogged'
LANGUAGE C;

CREATE FUNCTION pgmq.drop_queue(queue_name TEXT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_drop_queue'
LANGUAGE C;

CREATE FUNCTION pgmq.drop_queue(queue_name TEXT, partitioned BOOLEAN)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_drop_queue_partitioned'
LANGUAGE C;

CREATE FUNCTION pgmq.purge_queue(queue_name TEXT)
RETURNS BIGINT
AS 'MODULE_PATHNAME', 'pgmq_purge_queue'
LANGUAGE C;

CREATE FUNCTION pgmq.list_queues()
RETURNS SETOF pgmq.queue_record
AS 'MODULE_PATHNAME', 'pgmq_list_queues'
LANGUAGE C;

-- ---- sending ----

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send'
LANGUAGE C;

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB, headers JSONB)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_headers'
LANGUAGE C;

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB, delay INTEGER)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_delay'
LANGUAGE C;

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB, delay TIMESTAMP WITH TIME ZONE)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_at'
LANGUAGE C;

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB, headers JSONB, delay INTEGER)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_headers_delay'
LANGUAGE C;

CREATE FUNCTION pgmq.send(queue_name TEXT, msg JSONB, headers JSONB, delay TIMESTAMP WITH TIME ZONE)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_headers_at'
LANGUAGE C;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[])
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch'
LANGUAGE C;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[], headers JSONB[])
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_headers'
LANGUAGE C;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[], delay INTEGER)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_delay'
LANGUAGE C;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[], delay TIMESTAMP WITH TIME ZONE)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_at'
LANGUAGE C;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[], headers JSONB[], delay INTEGER)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_headers_delay'
LANGUAGE C;

CREATE FUNCTION pgmq.send_batch(queue_name TEXT, msgs JSONB[], headers JSONB[], delay TIMESTAMP WITH TIME ZONE)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_headers_at'
LANGUAGE C;

CREATE FUNCTION pgmq._send_batch(queue_name TEXT, msgs JSONB[], headers JSONB[], delay TIMESTAMP WITH TIME ZONE)
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_send_batch_unchecked'
LANGUAGE C;

CREATE FUNCTION pgmq._validate_batch_params(msgs JSONB[], headers JSONB[])
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_validate_batch_params'
LANGUAGE C;

-- ---- reading ----

CREATE FUNCTION pgmq.read(queue_name TEXT, vt INTEGER, qty INTEGER, conditional JSONB DEFAULT '{}')
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_read'
LANGUAGE C;

CREATE FUNCTION pgmq.read_with_poll(queue_name TEXT, vt INTEGER, qty INTEGER, max_poll_seconds INTEGER DEFAULT 5, poll_interval_ms INTEGER DEFAULT 100, conditional JSONB DEFAULT '{}')
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_read_with_poll'
LANGUAGE C;

CREATE FUNCTION pgmq.pop(queue_name TEXT, qty INTEGER DEFAULT 1)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_pop'
LANGUAGE C;

-- ---- acknowledging and extending ----

CREATE FUNCTION pgmq.delete(queue_name TEXT, msg_id BIGINT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_delete'
LANGUAGE C;

CREATE FUNCTION pgmq.delete(queue_name TEXT, msg_ids BIGINT[])
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_delete_batch'
LANGUAGE C;

CREATE FUNCTION pgmq.archive(queue_name TEXT, msg_id BIGINT)
RETURNS BOOLEAN
AS 'MODULE_PATHNAME', 'pgmq_archive'
LANGUAGE C;

CREATE FUNCTION pgmq.archive(queue_name TEXT, msg_ids BIGINT[])
RETURNS SETOF BIGINT
AS 'MODULE_PATHNAME', 'pgmq_archive_batch'
LANGUAGE C;

CREATE FUNCTION pgmq.set_vt(queue_name TEXT, msg_id BIGINT, vt INTEGER)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_set_vt'
LANGUAGE C;

CREATE FUNCTION pgmq.set_vt(queue_name TEXT, msg_id BIGINT, vt TIMESTAMP WITH TIME ZONE)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_set_vt_at'
LANGUAGE C;

CREATE FUNCTION pgmq.set_vt(queue_name TEXT, msg_ids BIGINT[], vt INTEGER)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_set_vt_batch'
LANGUAGE C;

CREATE FUNCTION pgmq.set_vt(queue_name TEXT, msg_ids BIGINT[], vt TIMESTAMP WITH TIME ZONE)
RETURNS SETOF pgmq.message_record
AS 'MODULE_PATHNAME', 'pgmq_set_vt_batch_at'
LANGUAGE C;

-- ---- looking ----

CREATE FUNCTION pgmq.metrics(queue_name TEXT)
RETURNS pgmq.metrics_result
AS 'MODULE_PATHNAME', 'pgmq_metrics'
LANGUAGE C;

CREATE FUNCTION pgmq.metrics_all()
RETURNS SETOF pgmq.metrics_result
AS 'MODULE_PATHNAME', 'pgmq_metrics_all'
LANGUAGE C;

CREATE FUNCTION pgmq.check_queue(queue_name TEXT)
RETURNS TABLE (msg_id BIGINT, tid TID, problem TEXT)
AS 'MODULE_PATHNAME', 'pgmq_check_queue'
LANGUAGE C;

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
LANGUAGE C;

CREATE FUNCTION pgmq.enable_notify_insert(queue_name TEXT, throttle_interval_ms INTEGER DEFAULT 250)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_enable_notify_insert'
LANGUAGE C;

CREATE FUNCTION pgmq.disable_notify_insert(queue_name TEXT)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_disable_notify_insert'
LANGUAGE C;

CREATE FUNCTION pgmq.update_notify_insert(queue_name TEXT, throttle_interval_ms INTEGER)
RETURNS VOID
AS 'MODULE_PATHNAME', 'pgmq_update_notify_insert'
LANGUAGE C;

CREATE FUNCTION pgmq.list_notify_insert_throttles()
RETURNS TABLE (queue_name TEXT, throttle_interval_ms INTEGER, last_notified_at TIMESTAMP WITH TIME ZONE)
AS 'MODULE_PATHNAME', 'pgmq_list_notify_insert_throttles'
LANGUAGE C STABLE;
