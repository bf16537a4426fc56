# Breaks: transaction ids and multixact ids come close to their end while queues are in use:
# both counters are moved two thousand million on, so autovacuum must freeze everything
# against producers and consumers; then all of it again after a second jump.
#
# How we know: every message sent before and in between is delivered once, leases that were
# given before a jump hold, no client sees an error, the tables' oldest ids are young again,
# and ring and table agree.
#
# PGMQ_WRAPAROUND_SECONDS sets how long clients run each time.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = $ENV{PGMQ_WRAPAROUND_SECONDS} // 3;
my $seed = random_seed();
my $node = new_node(
	'wraparound', conf => q{
pgmq.worker_naptime = 100ms
autovacuum_naptime = 1s
autovacuum_max_workers = 5
autovacuum_vacuum_cost_delay = 0
});

$node->safe_psql('postgres', q{
CREATE TABLE sent (queue text, msg_id bigint);
CREATE TABLE gone (queue text, msg_id bigint);
CREATE TABLE leases (msg_id bigint, taken timestamptz, until timestamptz);
CREATE TABLE kept_leases (LIKE leases);
SELECT pgmq.create('q'), pgmq.create('still');
INSERT INTO sent SELECT 'still', send_batch FROM pgmq.send_batch('still', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 1000) i));
INSERT INTO kept_leases SELECT msg_id, last_read_at, vt FROM pgmq.read('still', 86400, 400);
});

my @scripts = (
	[ 3, 'send', q{INSERT INTO sent SELECT 'q', send FROM pgmq.send('q', '{"sent": true}');} ],
	[ 3, 'read', q{INSERT INTO leases SELECT msg_id, last_read_at, vt FROM pgmq.read('q', 1, 3);} ],
	[ 2, 'pop', q{INSERT INTO gone SELECT 'q', msg_id FROM pgmq.pop('q', 1);} ],
	# Two lockers make a multixact; consumers pass such rows over, or see that they are free again
	[ 2, 'share', q{
BEGIN;
SELECT count(*) FROM (SELECT FROM pgmq.q_q ORDER BY msg_id LIMIT 5 FOR KEY SHARE SKIP LOCKED) s;
SAVEPOINT s;
SELECT count(*) FROM (SELECT FROM pgmq.q_q ORDER BY msg_id LIMIT 5 FOR SHARE SKIP LOCKED) s;
COMMIT;
} ],
	[ 1, 'sql', q{
WITH c AS (SELECT msg_id FROM pgmq.q_q WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT 1 FOR UPDATE SKIP LOCKED),
	d AS (DELETE FROM pgmq.q_q q USING c WHERE q.msg_id = c.msg_id RETURNING q.msg_id)
	INSERT INTO gone SELECT 'q', msg_id FROM d;
} ]);
my @files = map {
	my ($weight, $name, $text) = @$_;
	my $file = $node->basedir . "/$name.sql";
	append_to_file($file, $text);
	('-f', "$file\@$weight")
} @scripts;

# A file of zeroes where the server looks for the state of the ids to come
sub add_zeroes
{
	my ($file) = @_;

	append_to_file($node->data_dir . "/$file", "\0" x (32 * 8192)) unless -e $node->data_dir . "/$file";
	return;
}

# A segment holds a million transactions, 65536 multixacts
sub jump_to
{
	my ($id) = @_;

	# The oldest multixact must be less than 2^31 behind the one that comes next then
	$node->poll_query_until('postgres', q{SELECT max(mxid_age(datminmxid)) < 140000000 FROM pg_database})
	  or die 'autovacuum did not freeze multixacts';
	$node->safe_psql('postgres', 'CHECKPOINT');
	my ($multi) = $node->safe_psql('postgres', 'SELECT next_multixact_id FROM pg_control_checkpoint()');
	my ($oldest) = $node->safe_psql('postgres', 'SELECT oldest_multi_xid FROM pg_control_checkpoint()');

	$node->stop;
	add_zeroes(sprintf('pg_xact/%04X', $id / 1048576));
	add_zeroes(sprintf('pg_multixact/offsets/%04X', $id / 65536));
	$node->command_ok([ 'pg_resetwal', '-x', $id, '-m', "$id,$oldest", '-D', $node->data_dir ], "the counters are at $id");
	$node->start;
	return;
}

sub run_clients
{
	my ($when) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ $node->installed_command('pgbench'), '-n', '-c', 6, '-j', 1, '-T', $seconds, "--random-seed=$seed", @files,
			'-h', $node->host, '-p', $node->port, 'postgres' ], '>', \$out, '2>', \$err);
	is($?, 0, "$when: all clients got through") or diag($err);
	unlike($err, qr/ERROR/, "$when: no client saw an error");
	return;
}

sub check_books
{
	my ($when) = @_;

	balance_books($node, q{SELECT 'q', msg_id FROM pgmq.q_q UNION ALL SELECT 'still', msg_id FROM pgmq.q_still UNION ALL SELECT * FROM gone}, $when);
	is($node->safe_psql('postgres', q{SELECT count(*) FROM kept_leases k JOIN pgmq.q_still q USING (msg_id)
			WHERE q.vt = k.until AND q.last_read_at = k.taken AND q.read_ct = 1}), 400, "$when: old leases hold");
	queues_are_sound($node, [qw(q still)], $when);
	return;
}

run_clients('before');
check_books('before');
foreach my $id (2_000_000_000, 4_000_000_000)
{
	jump_to($id);
	check_books("after a jump to $id");
	run_clients("under autovacuum at $id");
	wait_until('all that is old is frozen', sub {
			$node->safe_psql('postgres', q{SELECT count(*) FROM pg_database
				WHERE age(datfrozenxid) > 1000000000 OR mxid_age(datminmxid) > 1000000000}) == 0 }, 120);
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_class
			WHERE relname IN ('q_q', 'q_still') AND (age(relfrozenxid) > 1000000000 OR mxid_age(relminmxid) > 1000000000)}),
		0, 'the queues are frozen');
	run_clients("frozen at $id");
	check_books("frozen at $id");
}
is($node->safe_psql('postgres', q{SELECT count(*), min(read_ct), max(read_ct) FROM pgmq.read('still', 60, 1000)}), '600|1|1',
	'what was not leased is read');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal (6|11)|could not access status/, 'no process was lost');
$node->stop;
done_testing();
