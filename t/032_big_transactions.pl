# Breaks: transactions that are large (hundreds of thousands of messages, beyond what a
# transaction lists), deep (thousands of savepoints, of which many are rolled back) and long
# (looking at the same locked messages again and again), while the ring is rebuilt under them.
#
# How we know: others see all or nothing of them, a table of what was done to what agrees
# with the queue, what was rolled back can be had at once, the memory of a long transaction
# does not grow, and ring and table agree after each.
#
# PGMQ_BIG_MESSAGES sets how many messages the large ones have (150000; 524288 are listed).
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $n = $ENV{PGMQ_BIG_MESSAGES} // 150_000;
my $seed = random_seed();
my $node = new_node('big', conf => "pgmq.worker_naptime = 100ms\nmax_wal_size = 4GB\nautovacuum = off\npgmq.ring_memory = @{[ int($n / 8) + 65536 ]}kB\n");
local $PostgreSQL::Test::Utils::timeout_default = $PostgreSQL::Test::Utils::timeout_default + int($n / 5000);

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub counts { return sql(q{SELECT queue_length, queue_visible_length, (SELECT count(*) FROM pgmq.q_big) FROM pgmq.metrics('big')}); }

# Makes the ring be built anew, by whoever needs it next
sub rebuild { return sql("ALTER TABLE pgmq.q_$_[0] SET (fillfactor = @{[ 50 + int(rand(50)) ]})"); }

# ---- large ----

sql(q{SELECT pgmq.create('big')});
my $session = $node->background_psql('postgres');
$session->set_query_timer_restart;
my $send = "SELECT count(*) FROM pgmq.send_batch('big', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, $n) i))";
my $ids = 'ARRAY(SELECT msg_id FROM pgmq.q_big)';

foreach my $end ('ROLLBACK', 'COMMIT')
{
	my $left = $end eq 'COMMIT' ? $n : 0;

	is($session->query_safe("BEGIN; $send"), $n, "$n messages are sent");
	is(counts(), '0|0|0', 'others see none of them');
	rebuild('big');
	is(counts(), '0|0|0', 'nor after a rebuild');
	$session->query_safe($end);
	is(counts(), "$left|$left|$left", "$end: they are there, or not");
	queues_are_sound($node, ['big'], "after a large send, $end");
}
foreach my $statement ("SELECT count(*) FROM pgmq.read('big', 3600, $n)", "SELECT count(*) FROM pgmq.pop('big', $n)",
	"SELECT count(*) FROM pgmq.delete('big', $ids)", "SELECT count(*) FROM pgmq.set_vt('big', $ids, 3600)",
	"SELECT count(*) FROM (SELECT * FROM pgmq.read('big', 3600, $n / 2) UNION ALL SELECT * FROM pgmq.pop('big', $n)) x")
{
	is($session->query_safe("BEGIN; $statement"), $n, "$statement takes all");
	is(sql(q{SELECT count(*) FROM pgmq.read('big', 60, 5)}), 0, 'others get none of them');
	rebuild('big');
	is(sql(q{SELECT count(*) FROM pgmq.read('big', 60, 5)}), 0, 'nor after a rebuild');
	$session->query_safe('ROLLBACK');
	is(sql(q{SELECT count(*), min(read_ct), max(read_ct) FROM pgmq.read('big', 0, 5)}) =~ /^5\|/, 1, 'rolled back, they are to be had');
	is(counts(), "$n|$n|$n", 'all of them');
	queues_are_sound($node, ['big'], 'after a large rollback');
}
is($session->query_safe("BEGIN; SELECT count(*) FROM pgmq.read('big', 3600, $n); COMMIT"), $n, 'all are leased');
is(counts(), "$n|0|$n", 'and none is visible');
queues_are_sound($node, ['big'], 'after a large read');
is($session->query_safe("BEGIN; SELECT count(*) FROM pgmq.archive('big', $ids); COMMIT"), $n, 'all are archived');
is(counts() . sql('SELECT count(*) FROM pgmq.a_big'), "0|0|0$n", 'and gone');
queues_are_sound($node, ['big'], 'after a large archive');

# ---- deep ----

# Random calls below random savepoints; what stays of them is in a table, which rolls back too
sql(q{
SELECT pgmq.create('deep');
CREATE TABLE done (msg_id bigint, what text);
CREATE FUNCTION step() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	r int := random() * 99;
BEGIN
	IF r < 40 THEN
		INSERT INTO done SELECT send, 'sent' FROM pgmq.send('deep', '{}', (r < 4)::int * 3600);
	ELSIF r < 60 THEN
		INSERT INTO done SELECT msg_id, 'leased' FROM pgmq.read('deep', 3600, 1 + r % 3);
	ELSIF r < 70 THEN
		INSERT INTO done SELECT msg_id, 'gone' FROM pgmq.pop('deep', 1 + r % 2);
	ELSIF r < 85 THEN
		INSERT INTO done SELECT d, 'gone' FROM pgmq.delete('deep', ARRAY(SELECT msg_id FROM pgmq.q_deep ORDER BY random() LIMIT 2)) d;
	ELSE
		PERFORM pgmq.set_vt('deep', (SELECT min(msg_id) FROM done WHERE what = 'leased'), 3600);
	END IF;
END $$;
CREATE FUNCTION nest(depth int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		PERFORM step();
		IF depth > 0 THEN
			PERFORM nest(depth - 1);
		END IF;
		PERFORM step();
		IF random() < 0.05 + 0.3 * (depth < 3)::int THEN
			RAISE EXCEPTION USING errcode = 'P0009';
		END IF;
	EXCEPTION WHEN SQLSTATE 'P0009' THEN
		PERFORM step();
	END;
END $$});

sub check_deep
{
	my ($when) = @_;

	is(sql(q{SELECT count(*) FROM (SELECT msg_id FROM done GROUP BY 1
			HAVING count(*) FILTER (WHERE what = 'sent') = 1 AND count(*) FILTER (WHERE what = 'gone') = 0) d
			FULL JOIN pgmq.q_deep q USING (msg_id) WHERE d.msg_id IS NULL OR q.msg_id IS NULL}), 0, "$when: what was done and stayed is in the queue");
	is(sql(q{SELECT count(*) FROM pgmq.q_deep q JOIN done d USING (msg_id) WHERE d.what = 'leased' AND (q.vt < now() OR q.read_ct = 0)}), 0,
		"$when: leases that stayed are there");
	is(sql(q{SELECT count(*) FROM pgmq.q_deep q WHERE read_ct > 0 AND NOT EXISTS (SELECT FROM done d WHERE d.msg_id = q.msg_id AND what = 'leased')}), 0,
		"$when: and no others");
	queues_are_sound($node, ['deep'], $when);
	return;
}

foreach my $round (1 .. 3)
{
	$session->query_safe("SELECT setseed(@{[ ($seed + $round) % 1000 / 1000 ]}); BEGIN");
	foreach (1 .. 6)
	{
		$session->query_safe("SELECT count(nest($_ * 7)) FROM generate_series(1, 12)");
		rebuild('deep') if $_ % 2;
		sql(q{SELECT * FROM pgmq.metrics('deep')});
	}
	$session->query_safe($round == 2 ? 'ROLLBACK' : 'COMMIT');
	check_deep("round $round");
}
cmp_ok(sql('SELECT count(*) FROM done'), '>', 200, 'much was done');

# ---- long ----

sql(q{
SELECT pgmq.create('long');
SELECT count(*) FROM pgmq.send_batch('long', '{1,2,3}'::jsonb[])});
my $locker = $node->background_psql('postgres');
$locker->set_query_timer_restart;
my $memory = q{SELECT total_bytes FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext'};
my $poll = q{DO $$ BEGIN FOR i IN 1 .. 1000 LOOP
	PERFORM pgmq.read('long', 60, 5), pgmq.read_grouped_head('long', 60, 5), pgmq.pop('long', 2);
	BEGIN PERFORM pgmq.read('long', 60, 1 + i % 3); PERFORM pgmq.delete('long', 100 + i); EXCEPTION WHEN OTHERS THEN NULL; END;
END LOOP; END $$};
$locker->query_safe('BEGIN; SELECT msg_id FROM pgmq.q_long FOR UPDATE');
$session->query_safe("BEGIN; $poll");
my $at_first = $session->query_safe($memory);
$session->query_safe($poll) foreach 1 .. 3;
cmp_ok($session->query_safe($memory), '<=', $at_first, "a transaction that looks at locked messages does not grow, from $at_first bytes");
$locker->query_safe('ROLLBACK');
is($session->query_safe(q{SELECT count(*) FROM pgmq.read('long', 60, 5); COMMIT}), 3, 'and gets them in the end');
queues_are_sound($node, ['long']);

$_->quit foreach $session, $locker;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal (6|11)|WARNING/, 'no process was lost, no leak was reported');
$node->stop;
done_testing();
