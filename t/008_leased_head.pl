# Breaks: half a million messages at the head of the queue are leased, and consumers want
# the ones behind.
#
# How we know: single reads, each in a transaction of its own, are timed in turns on that
# queue and on one with an empty head; the medians differ by less than half.  The rows on
# the pages are counted before and after: reads leave no versions behind.
#
# PGMQ_HEAD_MESSAGES sets the number of leased messages.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $n_leased = $ENV{PGMQ_HEAD_MESSAGES} // 500_000;
my $n_reads = 3000;
my $batch = 100_000;

my $node = new_node('head', conf => "shared_buffers = 128MB\nmax_wal_size = 1GB\nautovacuum = off\nsynchronous_commit = off\n");

$node->safe_psql('postgres', q{
CREATE EXTENSION pageinspect;
SELECT pgmq.create('behind'), pgmq.create('bare');

CREATE FUNCTION fill(queue text, n int) RETURNS bigint LANGUAGE sql AS
	'SELECT count(*) FROM pgmq.send_batch($1, (SELECT array_agg(jsonb_build_object(''n'', i)) FROM generate_series(1, $2) i))';

CREATE TABLE timing (queue text, ms float8, msg_id bigint);

-- Time n reads of each queue, in turns
CREATE PROCEDURE measure(n int) LANGUAGE plpgsql AS $$
DECLARE
	queue text;
	start timestamptz;
	id bigint;
	ms float8;
BEGIN
	FOR i IN 1 .. n LOOP
		FOREACH queue IN ARRAY ARRAY['behind', 'bare'] LOOP
			start := clock_timestamp();
			SELECT msg_id INTO id FROM pgmq.read(queue, 3600, 1);
			COMMIT;
			ms := extract(epoch FROM clock_timestamp() - start) * 1000;
			INSERT INTO timing VALUES (queue, ms, id);
			COMMIT;
		END LOOP;
	END LOOP;
END $$;

-- Row versions on all pages of a table, live or dead
CREATE FUNCTION versions(tab text) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM generate_series(0, pg_relation_size(tab) / current_setting('block_size')::int - 1) block,
		heap_page_items(get_raw_page(tab, block::int)) WHERE lp_flags <> 0
$$;
});

for (my $n = 0; $n < $n_leased; $n += $batch)
{
	my $part = $n_leased - $n < $batch ? $n_leased - $n : $batch;
	$node->safe_psql('postgres', "SELECT fill('behind', $part); SELECT count(*) FROM pgmq.read('behind', 3600, $part)");
}
$node->safe_psql('postgres', "SELECT fill('behind', 2 * $n_reads), fill('bare', 2 * $n_reads)");
is($node->safe_psql('postgres', "SELECT queue_length - queue_visible_length FROM pgmq.metrics('behind')"), $n_leased,
	"$n_leased messages at the head are leased");

my $versions = q{SELECT versions('pgmq.q_behind'), pg_relation_size('pgmq.q_behind')};
my $before = $node->safe_psql('postgres', $versions);
$node->safe_psql('postgres', "CHECKPOINT; CALL measure(100); TRUNCATE timing; CALL measure($n_reads)");
is($node->safe_psql('postgres', $versions), $before, 'reads leave no row versions behind');

my ($behind, $bare) = split /\n/, $node->safe_psql('postgres', q{
	SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FROM timing WHERE queue = 'behind';
	SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FROM timing WHERE queue = 'bare'});
diag("median of a read: $behind ms behind $n_leased leases, $bare ms without");
cmp_ok($behind, '<', 1.5 * $bare, 'a read behind them takes as long as without them');
is($node->safe_psql('postgres', q{
		SELECT queue, count(DISTINCT msg_id), count(*), bool_and(in_order) FROM (
			SELECT queue, msg_id, msg_id > lag(msg_id, 1, 0::bigint) OVER (PARTITION BY queue ORDER BY ctid) AS in_order FROM timing) t
		GROUP BY queue ORDER BY queue}),
	"bare|$n_reads|$n_reads|t\nbehind|$n_reads|$n_reads|t", 'and each got another message, in order');
queues_are_sound($node, [qw(behind bare)]);
$node->stop;
done_testing();
