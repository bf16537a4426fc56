-- A queue that is filled again after a purge is as fast as a new one: the ring's slots
-- come back in an order that has nothing to do with their places in its trees.

SELECT pgmq.create('refill');
SELECT count(*) FROM pgmq.send_batch('refill', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 20000) i));
SELECT pgmq.purge_queue('refill');
SELECT clock_timestamp() AS before \gset
SELECT count(*) FROM pgmq.send_batch('refill', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 20000) i));
-- tenths of a second, or minutes where the trees had become lists
SELECT clock_timestamp() - :'before' < interval '10 s' AS fast;
SELECT msg_id FROM pgmq.read('refill', 0, 1);
SELECT * FROM pgmq.check_queue('refill');
SELECT pgmq.drop_queue('refill');
