-- The floor's functions and tables, in schema bench_floor.
-- psql variable: module, the path of the built library without its suffix.
CREATE SCHEMA bench_floor;

CREATE FUNCTION bench_floor.floor_empty() RETURNS bigint
	AS :'module' LANGUAGE c;
CREATE FUNCTION bench_floor.floor_insert(rel regclass, msg jsonb) RETURNS bigint
	AS :'module' LANGUAGE c STRICT;
CREATE FUNCTION bench_floor.floor_multi_insert(rel regclass, msgs jsonb[]) RETURNS bigint
	AS :'module' LANGUAGE c STRICT;
CREATE FUNCTION bench_floor.floor_lease(rel regclass, n integer) RETURNS integer
	AS :'module' LANGUAGE c STRICT;
CREATE FUNCTION bench_floor.floor_delete(rel regclass) RETURNS integer
	AS :'module' LANGUAGE c STRICT;

-- A queue's table without a queue's indexes. last_read_at is stored even where
-- nothing was read, so that the lease bytes sit at constant offsets.
CREATE FUNCTION bench_floor.create(queue_name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format(
		'CREATE TABLE bench_floor.%I (
			msg_id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
			read_ct integer NOT NULL DEFAULT 0,
			enqueued_at timestamptz NOT NULL DEFAULT now(),
			last_read_at timestamptz NOT NULL DEFAULT ''-infinity'',
			vt timestamptz NOT NULL,
			message jsonb,
			headers jsonb)', 'q_' || queue_name);
END $$;

CREATE FUNCTION bench_floor.drop_queue(queue_name text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('DROP TABLE IF EXISTS bench_floor.%I', 'q_' || queue_name);
	RETURN true;
END $$;

-- Fills the table before a measurement; never measured itself.
CREATE FUNCTION bench_floor.send_batch(queue_name text, msgs jsonb[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY EXECUTE format(
		'INSERT INTO bench_floor.%I (vt, message) SELECT clock_timestamp(), m FROM unnest($1) AS m RETURNING msg_id',
		'q_' || queue_name) USING msgs;
END $$;
