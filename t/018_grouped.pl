# Breaks: eight consumers read one queue by group in all three ways at once, while senders
# send; transactions roll back, in whole or to a savepoint, read twice, leave leases to
# lapse, and delete what they read at once or later. The same where the pool has room for
# a third of the messages, so that SQL looks for groups, and with a kill -9 in the middle.
# Then consumers sleep in blocking reads until a group is free.
#
# How we know: the messages of a group are sent by one session in order, and nobody reads
# but by group. So what one call takes of a group must be the first messages that the group
# has: a message is delivered out of order if, when its call has returned, a lower one of
# its group is in the table and was not returned by the same call. (It may be deliverable,
# leased, or claimed by others: in each case the group was not to be read.) Every call looks
# for such messages in its own transaction, and fails if there is one. One exception: a
# crash may leave a lease of a transaction that never committed, which is in no log.
#
# Every committed read is logged in its own transaction: no two leases of a message overlap.
# What was sent was deleted, once, at the end; ring and table agree.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $n_groups = 200;
my $n_consumers = 8;
my $seconds = $ENV{PGMQ_GROUPED_SECONDS} // 4;
my $sleep_ms = 20_000;	# poll interval: who is not woken looks again far too late

my $seed = random_seed();
my $node = new_node('grouped', conf => "pgmq.worker_naptime = 100ms\n");

sub prepare_database
{
	my ($server) = @_;

	$server->safe_psql('postgres', q{
	CREATE TABLE sent (queue text, msg_id bigint);
	CREATE TABLE gone (queue text, msg_id bigint, PRIMARY KEY (queue, msg_id));
	CREATE TABLE reads (queue text, verb text, msg_id bigint, read_ct int, taken timestamptz, until timestamptz);
	CREATE INDEX ON reads (msg_id);

	CREATE FUNCTION put(queue text, grp int, n int) RETURNS void LANGUAGE sql AS $$
		INSERT INTO sent SELECT queue, s FROM pgmq.send_batch(queue,
			array_fill('{}'::jsonb, ARRAY[n]), array_fill(jsonb_build_object('x-pgmq-group', grp), ARRAY[n])) s $$;

	-- One read, its log, and the look for what it overtook
	CREATE FUNCTION take(queue text, verb text, lease int, qty int) RETURNS bigint[] LANGUAGE plpgsql AS $$
	DECLARE
		ids bigint[];
		overtaken text;
	BEGIN
		EXECUTE format('WITH got AS (SELECT * FROM pgmq.%I(%L, %s, %s)),
			noted AS (INSERT INTO reads SELECT %2$L, %1$L, msg_id, read_ct, last_read_at, vt FROM got)
			SELECT coalesce(array_agg(msg_id ORDER BY msg_id), ''{}'') FROM got', verb, queue, lease, qty) INTO ids;
		EXECUTE format('SELECT format(''%%s of group %%s overtook %%s, to be read at %%s, now %%s'',
				m.msg_id, m.headers, k.msg_id, k.vt, clock_timestamp())
			FROM pgmq.q_%1$s m JOIN pgmq.q_%1$s k ON k.headers = m.headers AND k.msg_id < m.msg_id
			WHERE m.msg_id = ANY ($1) AND k.msg_id <> ALL ($1)
				AND (%1$L <> ''crashed'' OR k.vt <= clock_timestamp() OR EXISTS
					(SELECT FROM reads r WHERE r.msg_id = k.msg_id AND r.read_ct = k.read_ct AND r.queue = ''crashed''))
			LIMIT 1', queue) INTO overtaken USING ids;
		IF overtaken IS NOT NULL THEN
			RAISE EXCEPTION '%: %', verb, overtaken;
		END IF;
		RETURN ids;
	END $$;

	CREATE FUNCTION finish(queue text, ids bigint[]) RETURNS void LANGUAGE sql AS
		'INSERT INTO gone SELECT queue, d FROM pgmq.delete(queue, ids) d';

	-- Until nothing is left; what others leased is given back first
	CREATE PROCEDURE drain(queue text) LANGUAGE plpgsql AS $$
	DECLARE
		ids bigint[];
		verb text;
	BEGIN
		EXECUTE format('SELECT count(*) FROM pgmq.set_vt(%L, (SELECT array_agg(msg_id) FROM pgmq.q_%s), 0)', queue, queue);
		COMMIT;
		LOOP
			FOREACH verb IN ARRAY ARRAY['read_grouped', 'read_grouped_head', 'read_grouped_rr'] LOOP
				ids := take(queue, verb, 60, 300);
				PERFORM finish(queue, ids);
				COMMIT;
			END LOOP;
			EXIT WHEN ids = '{}';
		END LOOP;
	END $$});
	return;
}

# ---- the clients ----

my %verbs = (read_grouped => 4, read_grouped_rr => 3, read_grouped_head => 2);

# What becomes of a read
my %fates = (
	at_once => q{
BEGIN;
SELECT finish('QUEUE', take('QUEUE', 'VERB', 5, :qty));
COMMIT;
},
	later => q{
SELECT quote_literal(take('QUEUE', 'VERB', 5, :qty)) AS ids \gset
SELECT finish('QUEUE', :ids);
},
	rolled_back => q{
BEGIN;
SELECT take('QUEUE', 'VERB', 5, :qty);
ROLLBACK;
},
	lapses => q{
SELECT take('QUEUE', 'VERB', 1, :qty);
},
	given_back => q{
SELECT take('QUEUE', 'VERB', 0, :qty);
},
	savepoint => q{
BEGIN;
SAVEPOINT s;
SELECT take('QUEUE', 'VERB', 5, :qty);
ROLLBACK TO s;
SELECT finish('QUEUE', take('QUEUE', 'VERB', 5, :qty));
COMMIT;
},
	twice => q{
BEGIN;
SELECT finish('QUEUE', take('QUEUE', 'VERB', 5, 1));
SELECT finish('QUEUE', take('QUEUE', 'VERB', 5, :qty));
COMMIT;
});
my %weights = (at_once => 6, later => 6, rolled_back => 3, lapses => 1, given_back => 1, savepoint => 2, twice => 1);

sub consumer_scripts
{
	my ($queue) = @_;
	my @files;

	foreach my $verb (sort keys %verbs)
	{
		foreach my $fate (sort keys %fates)
		{
			my $file = $node->basedir . "/$queue-$verb-$fate.sql";
			my $text = "\\set qty random(1, 12)$fates{$fate}";
			$text =~ s/QUEUE/$queue/g;
			$text =~ s/VERB/$verb/g;
			append_to_file($file, $text) if !-e $file;
			push @files, '-f', "$file\@" . $verbs{$verb} * $weights{$fate};
		}
	}
	return @files;
}

# Each sender has groups of its own
sub sender_script
{
	my ($queue) = @_;
	my $file = $node->basedir . "/$queue-send.sql";

	append_to_file($file, qq{
\\set grp 2 * random(1, $n_groups / 2) + :client_id
\\set n random(1, 3)
\\set r random(1, 10)
BEGIN;
SELECT put('$queue', :grp, :n);
\\if :r = 1
ROLLBACK;
\\else
COMMIT;
\\endif
}) if !-e $file;
	return ('-R', 300, '-f', $file);
}

sub start_pgbench
{
	my ($server, $out, @arguments) = @_;

	$$out = '';
	return IPC::Run::start(
		[ 'pgbench', '-n', '-h', $server->host, '-p', $server->port, "--random-seed=$seed", @arguments, 'postgres' ],
		'>', \my $ignored, '2>', $out, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
}

sub errors_in
{
	return join("\n", grep { /ERROR|FATAL|PANIC|aborted/ } split /\n/, join("\n", @_));
}

# Consumers and senders for a while; none may get an error
sub clients_get_through
{
	my ($server, $queue, $for_seconds) = @_;
	my ($consumed, $sent);

	my @runs = (
		start_pgbench($server, \$consumed, '-c', $n_consumers, '-j', 2, '-T', $for_seconds, consumer_scripts($queue)),
		start_pgbench($server, \$sent, '-c', 2, '-T', $for_seconds, sender_script($queue)));
	$_->finish foreach @runs;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(errors_in($consumed, $sent), '', "$queue: no errors, and nothing was read out of order");
}

sub all_is_accounted_for
{
	my ($server, $queue) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	queues_are_sound($server, [$queue], 'before it is drained');
	is($server->safe_psql('postgres', qq{
		SELECT msg_id, taken, before FROM (SELECT *, lag(until) OVER (PARTITION BY msg_id ORDER BY read_ct) AS before
			FROM reads WHERE queue = '$queue') r WHERE taken < before}),
		'', "$queue: no two leases of a message overlap");
	$server->safe_psql('postgres', "CALL drain('$queue')");
	is($server->safe_psql('postgres', "SELECT count(*) FROM pgmq.q_$queue"), '0', "$queue: all is gone");
	is($server->safe_psql('postgres', qq{
		(SELECT msg_id FROM sent WHERE queue = '$queue' EXCEPT SELECT msg_id FROM gone WHERE queue = '$queue')
		UNION ALL (SELECT msg_id FROM gone WHERE queue = '$queue' EXCEPT SELECT msg_id FROM sent WHERE queue = '$queue')}),
		'', "$queue: what was sent was deleted, and nothing else");
	is($server->safe_psql('postgres', "SELECT count(DISTINCT verb) FROM reads WHERE queue = '$queue'"), '3',
		"$queue: messages were delivered by all three functions");
	note($queue . ': ' . $server->safe_psql('postgres', qq{
		SELECT (SELECT count(*) FROM sent WHERE queue = '$queue') || ' messages, ' || count(*) || ' deliveries'
		FROM reads WHERE queue = '$queue'}));
	queues_are_sound($server, [$queue], 'drained');
	return;
}

prepare_database($node);

# ---- room for all ----

$node->safe_psql('postgres', qq{
	SELECT pgmq.create('roomy');
	SELECT count(put('roomy', g, 5)) FROM generate_series(1, $n_groups) g});
clients_get_through($node, 'roomy', $seconds);
all_is_accounted_for($node, 'roomy');

# ---- a crash, and a ring that is built while some read by group and some do not ----

$node->safe_psql('postgres', qq{
	SELECT pgmq.create('crashed');
	SELECT count(put('crashed', g, 10)) FROM generate_series(1, $n_groups) g});
{
	my ($consumed, $sent);
	my @runs = (
		start_pgbench($node, \$consumed, '-c', $n_consumers, '-j', 2, '-T', 30, consumer_scripts('crashed')),
		start_pgbench($node, \$sent, '-c', 2, '-T', 30, sender_script('crashed')));
	$node->poll_query_until('postgres', "SELECT count(*) > 500 FROM gone WHERE queue = 'crashed'")
	  or die "consumers do not get on";
	crash($node);
	$_->finish foreach @runs;
	unlike("$consumed$sent", qr/overtook/, 'crashed: nothing was read out of order before the crash');
	$node->start;
}
clients_get_through($node, 'crashed', $seconds / 2);
all_is_accounted_for($node, 'crashed');

# ---- blocking reads ----

# A consumer asleep in a grouped read gets message `expected` when `trigger` is run
sub sleeper_gets
{
	my ($what, $verb, $expected, $trigger) = @_;
	my $consumer = $node->background_psql('postgres');

	$consumer->query_until(qr/^asleep$/m, qq{\\echo asleep
SELECT 'got', msg_id FROM pgmq.${verb}_with_poll('asleep', 60, 1, 20, $sleep_ms);
\\echo over
});
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE query ~ '_with_poll' AND wait_event_type = 'Extension'");
	my $start = time();
	ref $trigger ? $trigger->() : $node->safe_psql('postgres', $trigger);
	my ($got) = $consumer->query_until(qr/^over$/m, '') =~ /^got\|(\d+)$/m;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($got, $expected, "$what wakes a sleeper");
	cmp_ok(time() - $start, '<', $sleep_ms / 2000, 'at once');
	$consumer->quit;
	return;
}

# 1 and 2 are in one group, 1 is leased
my $two_in_a_group = q{
	SELECT pgmq.drop_queue('asleep');
	SELECT pgmq.create('asleep');
	SELECT count(put('asleep', 1, 2));
	SELECT msg_id FROM pgmq.read_grouped('asleep', 3600, 1)};

foreach my $verb (qw(read_grouped read_grouped_rr read_grouped_head))
{
	$node->safe_psql('postgres', $two_in_a_group);
	sleeper_gets("the deletion of the head ($verb)", $verb, 2, q{SELECT pgmq.delete('asleep', 1)});
}
$node->safe_psql('postgres', $two_in_a_group);
sleeper_gets('a head that is archived', 'read_grouped', 2, q{SELECT pgmq.archive('asleep', 1)});
$node->safe_psql('postgres', $two_in_a_group);
sleeper_gets('a head that moves to another group', 'read_grouped', 2,
	q{UPDATE pgmq.q_asleep SET headers = '{"x-pgmq-group": 2}' WHERE msg_id = 1});
$node->safe_psql('postgres', $two_in_a_group);
sleeper_gets('a head whose lease is ended', 'read_grouped', 1, q{SELECT msg_id FROM pgmq.set_vt('asleep', 1, 0)});
$node->safe_psql('postgres', $two_in_a_group);
sleeper_gets('a message of another group', 'read_grouped_rr', 3, q{SELECT put('asleep', 2, 1)});
$node->safe_psql('postgres', $two_in_a_group . q{; SELECT msg_id FROM pgmq.set_vt('asleep', 1, 0)});
{
	my $holder = $node->background_psql('postgres');
	$holder->query_safe(q{BEGIN; SELECT msg_id FROM pgmq.read_grouped('asleep', 3600, 1)});
	sleeper_gets('the rollback of a read', 'read_grouped_head', 1, sub { $holder->query_safe('ROLLBACK') });
	$holder->quit;
}
queues_are_sound($node, ['asleep']);
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|WARNING:  pgmq/, 'the log shows nothing odd');
$node->stop;

# ---- a pool with room for a third of the messages ----

my $small = new_node('small_pool', conf => "pgmq.ring_memory = 64kB\npgmq.worker_naptime = 100ms\n");
prepare_database($small);
$small->safe_psql('postgres', qq{
	SELECT pgmq.create('cramped');
	SELECT count(put('cramped', g, 15)) FROM generate_series(1, $n_groups) g});
clients_get_through($small, 'cramped', $seconds);
all_is_accounted_for($small, 'cramped');
$small->stop;
done_testing();
