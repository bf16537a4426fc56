# Breaks: queries on hot standbys while the primary leases in place, moves messages and
# vacuums, so that replay changes what they read under them, or takes it away.
#
# How we know: each transaction on the primary keeps the set of payloads what it is (it takes
# messages and sends their payloads again), so every snapshot must see each payload once, with
# the headers it was sent with; and what a row says of its lease must be what one lease wrote.
# Long queries, whatever the plan, give that answer or are cancelled as any query that is in
# the way of recovery (40001); where the standby tells the primary what it reads, dead rows
# are no reason.  Meanwhile base backups are taken of the primary and of a standby; the
# standbys made of them end with the primary's pages.
#
# PGMQ_HOT_STANDBY_SECONDS sets for how long.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use PgmqReplica;
use PgmqTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'pgbench tries again from 15 on' if `pgbench --help` !~ /max-tries/;

my $seconds = $ENV{PGMQ_HOT_STANDBY_SECONDS} // 6;
my $n_payloads = 400;

my $seed = random_seed();
my $primary = new_node(
	'primary', init => [ allows_streaming => 1 ], conf => replay_check() . q{
shared_buffers = 16MB
max_wal_size = 64MB
wal_keep_size = 4GB
pgmq.worker_naptime = 50ms
});
my $has_pages = has_extension($primary, 'pageinspect');

# One queue's messages move; the other's stay, with a payload that tells their msg_id, leased
# for one, two or three hours that were over before
$primary->safe_psql('postgres', qq{
	SELECT pgmq.create('moving'), pgmq.create('staying');
	CREATE INDEX ON pgmq.q_staying (msg_id);
	SELECT count(*) FROM pgmq.send_batch('moving',
		(SELECT array_agg(to_jsonb(i)) FROM generate_series(1, $n_payloads) i),
		(SELECT array_agg(jsonb_build_object('n', i, 'pad', repeat(md5(i::text), i % 20))) FROM generate_series(1, $n_payloads) i));
	SELECT count(*) FROM pgmq.send_batch('staying', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, $n_payloads) i));
	SELECT count(*) FROM pgmq.read('staying', -3600, $n_payloads);

	CREATE FUNCTION expect(what text, is_so text, should_be text) RETURNS void LANGUAGE plpgsql AS
		\$\$BEGIN IF is_so <> should_be THEN RAISE 'wrong answer: % is %, not %', what, is_so, should_be; END IF; END\$\$;
	CREATE FUNCTION moving_is_right() RETURNS void LANGUAGE sql AS
		\$\$SELECT expect('moving', format('%s of %s, %s strange', count(DISTINCT message), count(*),
				count(*) FILTER (WHERE message <> headers->'n' OR headers->>'pad' <> repeat(md5(message::text), message::int % 20))),
			'$n_payloads of $n_payloads, 0 strange') FROM pgmq.q_moving\$\$;
	-- A reader may see a lease being written, fields of two; not when it looks again
	CREATE FUNCTION is_strange(id bigint) RETURNS boolean LANGUAGE sql AS
		\$\$SELECT last_read_at - vt NOT IN ('1 hour', '2 hours', '3 hours') FROM pgmq.q_staying WHERE msg_id = id\$\$;
	CREATE FUNCTION staying_is_right() RETURNS void LANGUAGE sql AS
		\$\$SELECT expect('staying', format('%s, %s strange, %s leased strangely', count(DISTINCT msg_id),
				count(*) FILTER (WHERE message::bigint <> msg_id OR read_ct < 1),
				count(*) FILTER (WHERE last_read_at - vt NOT IN ('1 hour', '2 hours', '3 hours') AND is_strange(msg_id))),
			'$n_payloads, 0 strange, 0 leased strangely') FROM pgmq.q_staying WHERE msg_id BETWEEN 1 AND $n_payloads\$\$;
	CREATE FUNCTION staying_is_right_by_index() RETURNS void LANGUAGE sql SET enable_seqscan = off SET enable_bitmapscan = off AS
		'SELECT staying_is_right()';
	CREATE FUNCTION moving_is_right_slowly() RETURNS void LANGUAGE plpgsql AS \$\$
		DECLARE r record; n int := 0; sum int := 0;
		BEGIN
			FOR r IN SELECT message::int AS payload, (headers->>'n')::int AS header FROM pgmq.q_moving
			LOOP
				n := n + 1;
				sum := sum + r.payload;
				PERFORM expect('a header', r.header::text, r.payload::text);
				IF n % 60 = 0 THEN PERFORM pg_sleep(0.05); END IF;
			END LOOP;
			PERFORM expect('moving, slowly', n || ' ' || sum, '$n_payloads ' || $n_payloads * ($n_payloads + 1) / 2);
		END\$\$});
$primary->safe_psql('postgres', 'CREATE EXTENSION pageinspect') if $has_pages;
$primary->backup('base');
my $patient = new_standby('patient', $primary, 'base', "hot_standby_feedback = on\nwal_receiver_status_interval = 1\nmax_standby_streaming_delay = 30s\n");
my $hasty = new_standby('hasty', $primary, 'base', "hot_standby_feedback = off\nmax_standby_streaming_delay = 10ms\n");

my %load = (
	'move@3' => q{
BEGIN;
SELECT count(send) FROM pgmq.pop('moving', 3), LATERAL pgmq.send('moving', message, headers);
COMMIT;
},
	'lease@3' => q{
\set hours random(1, 3)
SELECT count(*) FROM pgmq.read('staying', -3600 * :hours, 50);
SELECT count(*) FROM pgmq.read('moving', 0, 20);
},
	'roll_back@1' => q{
BEGIN;
SELECT count(*) FROM pgmq.read('staying', 3600, 100);
SELECT count(*) FROM pgmq.pop('moving', 100);
ROLLBACK;
},
	'vacuum@1' => q{
SELECT pg_try_advisory_lock(1) AS is_mine \gset
\if :is_mine
VACUUM pgmq.q_moving;
VACUUM pgmq.q_staying;
SELECT pg_advisory_unlock(1);
\endif
});
my %queries = (
	'now@3' => "SELECT moving_is_right();\nSELECT staying_is_right();\nSELECT staying_is_right_by_index();\n",
	'slowly@2' => "SELECT moving_is_right_slowly();\n",
	'snapshot@2' => "BEGIN ISOLATION LEVEL REPEATABLE READ\\; SELECT moving_is_right()\\; SELECT pg_sleep(0.2)\\; SELECT moving_is_right_slowly()\\; COMMIT;\n");

# Many clients of pgbench; one that gets another error than 40001 ends the run with it
sub start_clients
{
	my ($node, $n, $scripts) = @_;
	my %run = (node => $node, out => '');
	my @files = map {
		my ($name, $weight) = split /@/;
		my $file = $node->basedir . "/$name.sql";
		append_to_file($file, $scripts->{$_});
		('-f', "$file\@$weight")
	} sort keys %$scripts;

	$run{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', $n, '-T', $seconds, "--random-seed=$seed", '--max-tries=0', @files, '-d', $node->connstr('postgres') ],
		'>', \$run{out}, '2>&1');
	return \%run;
}

# Recovery ends the session, not the query, where it finds it between two commands; pgbench
# does not connect again then, and goes on with the other clients
sub all_were_terminated
{
	my $run = shift;
	my $n_ended = () = $run->{out} =~ /client \d+ .*aborted/g;
	my $n_terminated = () = slurp_file($run->{node}->logfile) =~ /FATAL:  terminating connection due to conflict with recovery/g;

	return $n_ended > 0 && $n_ended == $n_terminated;
}

my @runs = (start_clients($primary, 4, \%load), map { start_clients($_, 3, \%queries) } $patient, $hasty);
$primary->backup('of_primary');
$patient->backup('of_standby');
$_->{run}->finish foreach @runs;
foreach my $run (@runs)
{
	my $name = $run->{node}->name;
	my ($n) = $run->{out} =~ /number of transactions actually processed: (\d+)/;
	my ($n_retried) = $run->{out} =~ /number of transactions retried: (\d+)/;

	ok(($run->{run}->full_result(0) == 0 || all_were_terminated($run)) && $n, "no wrong answer on $name") or diag($run->{out});
	note("$name: $n transactions, " . ($n_retried // 0) . ' of them retried');
}
unlike(slurp_file($patient->logfile), qr/might need to see row versions that must be removed/, 'what a standby says it needs is not taken from it');
queues_are_sound($primary, [qw(moving staying)]);

my @standbys = ($patient, $hasty,
	new_standby('from_primary', $primary, 'of_primary'), new_standby('from_standby', $patient, 'of_standby'));
foreach my $standby (@standbys)
{
	catch_up($primary, $standby);
	is(ask($standby, "SELECT concat($_())"), '', "$_ on " . $standby->name) foreach qw(moving_is_right staying_is_right);
	pages_are_equal($primary, $standby, [qw(pgmq.q_moving pgmq.q_staying)], 'at the end') if $has_pages;
}
end_sessions();
foreach my $node (reverse $primary, @standbys)
{
	$node->stop;
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal (?:6|11)|inconsistent page/, 'no process was lost on ' . $node->name);
}
done_testing();
