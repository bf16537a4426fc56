# Scenarios that reach the failpoints of the source, and what must be true after any of
# them stopped one; for t/020_crash_points.pl and t/021_error_points.pl.
#
# A scenario is a list of steps, each a transaction, done by one session after a setup.
# A first run without failure says what the tables hold after each step.  A run that is
# stopped at a point has acknowledged its first k steps, and must leave what the tables
# held after k of them, or, if the process ended between making a step durable and saying
# so, after k + 1.  The clock stands still, so leases are compared to the microsecond.
package CrashScenarios;

use strict;
use warnings;

use Exporter 'import';
use FindBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(failpoints scenarios crash_node learn run_stopped check_outcome is_up memory_only);

my $clock = '2100-01-01 00:00:00+00';

# name => { kind, place } of every point in the source
sub failpoints
{
	my %points;

	foreach my $line (split /\n/, `$FindBin::RealBin/../scripts/failpoints`)
	{
		my ($kind, $name, $place) = split / /, $line;
		$points{$name} = { kind => $kind, place => $place };
	}
	return %points;
}

# Points between which nothing durable happens: a crash at one is as good as at another
sub memory_only
{
	return $_[0] =~ /^(?:ring|tree|pool|cold|group|link-waiter|unlink-waiter)-/;
}

# Each: setup, stopped by nothing; steps; optionally also (another point that is armed),
# lease (a step leases, and does more than that: if the process ends after its leases are
# durable and before all is, they may stand, and the messages come late).  {q} is the queue's name.
sub scenarios
{
	my $send3 = q{SELECT count(*) FROM pgmq.send_batch('{q}', '{1,2,3}'::jsonb[])};
	my $create = q{SELECT pgmq.create('{q}')};
	my $groups = q{SELECT count(*) FROM pgmq.send_batch('{q}', '{1,2,3,4,5}'::jsonb[],
		ARRAY['{"x-pgmq-group": "a"}', '{"x-pgmq-group": "b"}', '{"x-pgmq-group": "a"}', '{"x-pgmq-group": "b"}', '{}']::jsonb[])};
	my $later = q{SET pgmq.test_clock = '2100-01-01 01:00:00+00'};
	my $prepare = qq{BEGIN; SELECT pgmq.send('{q}', '4'); SELECT pgmq.read('{q}', 60, 1); SELECT pgmq.delete('{q}', 2);
		SELECT pgmq.archive('{q}', 3); PREPARE TRANSACTION '{q}'};

	return (
		send => { setup => [$create], steps => [
			q{SELECT pgmq.send('{q}', '1')},
			q{SELECT pgmq.send('{q}', '2', 60)},
			q{SELECT count(*) FROM pgmq.send_batch('{q}', '{3,4,5}'::jsonb[])},
			q{BEGIN; SELECT pgmq.send('{q}', '6'); SAVEPOINT s; SELECT pgmq.send('{q}', '7'); ROLLBACK TO s; SELECT pgmq.send('{q}', '8'); RELEASE s; COMMIT},
			q{BEGIN; SELECT pgmq.send('{q}', '9'); ROLLBACK} ] },
		read => { setup => [ $create, $send3 ], steps => [
			q{SELECT * FROM pgmq.read('{q}', 60, 1)},
			q{BEGIN; SELECT * FROM pgmq.read('{q}', 60, 1); ROLLBACK},
			q{SELECT * FROM pgmq.read('{q}', 30, 5, '3')},
			q{SELECT queue_length FROM pgmq.metrics('{q}')},
			$later,
			q{SELECT * FROM pgmq.read('{q}', 60, 5)} ] },
		grouped => { setup => [ $create, $groups ], steps => [
			q{SELECT * FROM pgmq.read_grouped('{q}', 60, 2)},
			q{BEGIN; SELECT * FROM pgmq.read_grouped_rr('{q}', 60, 3); ROLLBACK},
			q{SELECT * FROM pgmq.read_grouped_head('{q}', 60, 3)},
			q{SELECT pgmq.delete('{q}', 2)},
			q{SELECT * FROM pgmq.read_grouped_rr('{q}', 60, 3)},
			q{SELECT pgmq.send('{q}', '6', '{"x-pgmq-group": "a"}'::jsonb)},
			q{BEGIN; SELECT pgmq.delete('{q}', 1); SELECT pgmq.archive('{q}', 3); SELECT * FROM pgmq.read_grouped('{q}', 60, 1); COMMIT} ] },
		acknowledge => { setup => [ $create, $send3, $send3 ], steps => [
			q{SELECT pgmq.delete('{q}', 1)},
			q{SELECT * FROM pgmq.archive('{q}', ARRAY[2, 3])},
			q{SELECT * FROM pgmq.pop('{q}')},
			q{BEGIN; SELECT * FROM pgmq.pop('{q}'); SELECT pgmq.archive('{q}', 6); ROLLBACK},
			q{SELECT * FROM pgmq.delete('{q}', ARRAY[5, 6, 7])} ] },
		consume => { lease => 1, setup => [ $create, $send3 ], steps => [
			q{BEGIN; SELECT * FROM pgmq.read('{q}', 60, 2); SELECT pgmq.delete('{q}', 1); SELECT pgmq.send('{q}', '4'); COMMIT},
			q{BEGIN; SELECT * FROM pgmq.read('{q}', 60, 2); SAVEPOINT s; SELECT pgmq.archive('{q}', 3); SELECT * FROM pgmq.set_vt('{q}', 2, 5);
				ROLLBACK TO s; SELECT pgmq.send('{q}', '5'); COMMIT} ] },
		extend => { setup => [ $create, $send3 ], steps => [
			q{SELECT * FROM pgmq.set_vt('{q}', 1, 60)},
			q{SELECT * FROM pgmq.set_vt('{q}', ARRAY[1, 2], 120)},
			q{BEGIN; SELECT * FROM pgmq.set_vt('{q}', 3, 5); ROLLBACK},
			q{SELECT * FROM pgmq.set_vt('{q}', 2, 0)} ] },
		savepoints => { setup => [ $create, $send3 ], steps => [
			q{BEGIN; SAVEPOINT a; SELECT * FROM pgmq.read('{q}', 60, 1); SAVEPOINT b; SELECT pgmq.delete('{q}', 1); SELECT pgmq.archive('{q}', 2);
				ROLLBACK TO b; SELECT * FROM pgmq.read('{q}', 60, 1); ROLLBACK TO a; SELECT * FROM pgmq.read('{q}', 60, 1); COMMIT},
			q{BEGIN; SELECT pgmq.delete('{q}', 3); SAVEPOINT a; SELECT pgmq.delete('{q}', 2); RELEASE a; COMMIT} ] },
		prepared => { setup => [ $create, $send3 ], steps => [
			$prepare,
			q{COMMIT PREPARED '{q}'},
			q{SELECT * FROM pgmq.read('{q}', 60, 5)} ] },
		unprepared => { setup => [ $create, $send3 ], steps => [
			$prepare,
			q{ROLLBACK PREPARED '{q}'},
			q{SELECT * FROM pgmq.read('{q}', 60, 5)} ] },
		prepared_groups => { setup => [ $create, $groups, q{SELECT count(*) FROM pgmq.read_grouped('{q}', 0, 1)} ], steps => [
			q{BEGIN; SELECT count(*) FROM pgmq.read_grouped('{q}', 60, 2); SELECT pgmq.send('{q}', '6', '{"x-pgmq-group": "b"}'::jsonb); PREPARE TRANSACTION '{q}'},
			q{COMMIT PREPARED '{q}'},
			q{SELECT * FROM pgmq.read_grouped('{q}', 60, 5)} ] },
		settle_taken_back => { setup => [ $create, $send3,
			q{BEGIN; SET LOCAL pgmq.failpoint = 'pre-commit-end=error'; SELECT * FROM pgmq.read('{q}', 60, 2); \set ON_ERROR_STOP off
COMMIT; \set ON_ERROR_STOP on
} ], steps => [
			q{SELECT * FROM pgmq.read('{q}', 30, 1)},
			q{SELECT pgmq.delete('{q}', 2)} ] },
		rebuild => { setup => [ $create, $send3, q{SELECT * FROM pgmq.read_grouped('{q}', 0, 1)},
			q{ALTER TABLE pgmq.q_{q} SET (fillfactor = 50)} ], steps => [
			q{SELECT * FROM pgmq.read('{q}', 60, 1)},
			q{VACUUM FULL pgmq.q_{q}; SELECT * FROM pgmq.read_grouped('{q}', 60, 1)},
			q{ALTER TABLE pgmq.q_{q} ALTER COLUMN message SET STORAGE EXTERNAL},
			q{SELECT * FROM pgmq.read('{q}', 60, 1)} ] },
		cold => { setup => [ $create,
			q{SELECT count(*) FROM pgmq.send_batch('{q}', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 500) i), 60)},
			q{SELECT count(*) FROM pgmq.send_batch('{q}', (SELECT array_agg(to_jsonb(i)) FROM generate_series(501, 1000) i))} ], steps => [
			q{SELECT count(*) FROM pgmq.send_batch('{q}', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1001, 1600) i))},
			q{SELECT count(*) FROM pgmq.delete('{q}', (SELECT array_agg(i::bigint) FROM generate_series(501, 520) i))},
			q{SELECT count(*) FROM pgmq.read('{q}', 60, 600)},
			q{UPDATE pgmq.q_{q} SET message = '"new"' WHERE msg_id = 1100},
			q{SELECT pgmq.delete('{q}', 100)},
			$later,
			q{SELECT count(*) FROM pgmq.read('{q}', 60, 5)} ] },
		by_hand => { setup => [ $create, $send3, q{CREATE UNIQUE INDEX ON pgmq.q_{q} (msg_id)} ], steps => [
			q{INSERT INTO pgmq.q_{q} (vt, message) VALUES (now(), '4')},
			q{INSERT INTO pgmq.q_{q} (vt, message) VALUES ('2100-01-01', '5') ON CONFLICT DO NOTHING},
			qq{COPY pgmq.q_{q} (vt, message) FROM stdin;\n2100-01-01\t6\n2100-01-01\t7\n\\.\n},
			q{UPDATE pgmq.q_{q} SET message = '"new"' WHERE msg_id = 1},
			q{BEGIN; SELECT * FROM pgmq.q_{q} WHERE msg_id < 3 FOR UPDATE; SELECT * FROM pgmq.read('{q}', 60, 2); COMMIT},
			q{DELETE FROM pgmq.q_{q} WHERE msg_id = 2},
			q{SET pgmq.fast_path = off},
			q{SELECT * FROM pgmq.pop('{q}')},
			q{SELECT * FROM pgmq.read('{q}', 60, 1)} ] },
		lease_by_update => { setup => [ $create, $send3, q{CREATE PUBLICATION {q} FOR TABLE pgmq.q_{q}},
			q{SELECT pgmq.send('{q}', '4')}, q{DROP PUBLICATION {q}} ], steps => [
			q{SELECT * FROM pgmq.read('{q}', 60, 5)},
			q{SELECT * FROM pgmq.set_vt('{q}', 4, 90)} ] },
		locked_rows => { setup => [ $create, $send3, q{BEGIN; SELECT * FROM pgmq.q_{q} WHERE msg_id = 1 FOR UPDATE; PREPARE TRANSACTION '{q}'} ], steps => [
			q{SELECT * FROM pgmq.read('{q}', 60, 1)},
			q{ROLLBACK PREPARED '{q}'},
			q{SELECT * FROM pgmq.read('{q}', 60, 1)} ] },
		notify => { setup => [ $create, q{SELECT pgmq.enable_notify_insert('{q}', 0)} ], steps => [
			q{SELECT pgmq.send('{q}', '1')},
			q{SELECT pgmq.update_notify_insert('{q}', 100000)},
			q{SELECT pgmq.send('{q}', '2')},
			q{SELECT pgmq.send('{q}', '3')} ] },
		storage => { setup => [ $create, $send3 ], steps => [
			q{SELECT pgmq.purge_queue('{q}')},
			q{SELECT pgmq.send('{q}', '4')},
			q{BEGIN; SELECT pgmq.send('{q}', '5'); SELECT pgmq.purge_queue('{q}'); SELECT pgmq.send('{q}', '6'); SELECT pgmq.purge_queue('{q}'); ROLLBACK},
			q{BEGIN; TRUNCATE pgmq.q_{q}; SELECT pgmq.send('{q}', '7'); TRUNCATE pgmq.q_{q}; SELECT pgmq.send('{q}', '8'); COMMIT},
			q{BEGIN; SAVEPOINT s; TRUNCATE pgmq.q_{q}; SELECT pgmq.send('{q}', '9'); ROLLBACK TO s; SELECT * FROM pgmq.read('{q}', 60, 1); COMMIT},
			q{ALTER TABLE pgmq.q_{q} SET TABLESPACE other},
			q{SELECT pgmq.convert_queue('{q}', 'heap')},
			q{SELECT pgmq.convert_queue('{q}', 'hot')},
			q{SELECT pgmq.drop_queue('{q}')},
			q{SELECT pgmq.create('{q}')},
			q{SELECT pgmq.send('{q}', '10')} ] },
		fail_late => { lease => 1, also => 'pre-commit-end=error', setup => [ $create, $send3 ], steps => [
			qq{BEGIN; SELECT * FROM pgmq.read('{q}', 60, 2); SELECT pgmq.delete('{q}', 3);
\\set ON_ERROR_STOP off\nCOMMIT;\n\\set ON_ERROR_STOP on\nSELECT * FROM pgmq.read('{q}', 30, 1);\n} ] },
		pop_right => { setup => [ q{SELECT pgmq.create('{q}')}, $send3, q{GRANT SELECT, DELETE ON pgmq.q_{q} TO popper} ], steps => [
			q{BEGIN; SET LOCAL pgmq.fast_path = off; SET LOCAL ROLE popper; SELECT * FROM pgmq.pop('{q}'); COMMIT} ] },
		clocks => { setup => [ $create, $send3, q{SELECT * FROM pgmq.read('{q}', 60, 1)},
			"$later; BEGIN; SELECT * FROM pgmq.read('{q}', 60, 1); ROLLBACK; SET pgmq.test_clock = '$clock'" ], steps => [
			q{SELECT * FROM pgmq.read('{q}', 60, 2)} ] },
		poll => { setup => [$create], steps => [
			q{SELECT * FROM pgmq.read_with_poll('{q}', 60, 1, 1, 50)},
			q{SELECT pgmq.send('{q}', '1')} ] },
		parallel => { setup => [ $create, $send3, q{SELECT pgmq.send('{q}', '0')} ], is_parallel => 1, steps => [
			q{SELECT count(message) FROM pgmq.q_{q}},
			qq{\\set ON_ERROR_STOP off\nSELECT 1 / (message->>0)::int FROM pgmq.q_{q} WHERE message = '0';\n\\set ON_ERROR_STOP on\n} ] },
		database => { setup => [ $create, q{CREATE DATABASE {q}},
			qq{\\c {q}\nCREATE EXTENSION pgmq; SELECT pgmq.create('x'), pgmq.send('x', '1');\n\\c postgres\n} ], steps => [
			q{SELECT pgmq.send('{q}', '1')},
			q{DROP DATABASE {q}} ] },
	);
}

# ---- running ----

# What the tables hold; times of sending are not compared
# (through the ring it would make one, where the trial of the next step has none)
my $state = q{
SET pgmq.enable_scan = off;
SELECT CASE WHEN to_regclass('pgmq.q_{q}') IS NULL THEN 'no queue' ELSE 'queue' END;
SELECT show_rows('pgmq.q_{q}', $$msg_id, read_ct, last_read_at, CASE WHEN vt >= '2099-01-01' THEN vt END AS vt, message, headers$$);
SELECT show_rows('pgmq.a_{q}', 'msg_id, read_ct, last_read_at, vt, message');
SELECT 'prepared' FROM pg_prepared_xacts WHERE gid = '{q}';
SELECT 'meta' FROM pgmq.meta WHERE queue_name = '{q}';
SELECT 'am', amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = to_regclass('pgmq.q_{q}');
RESET pgmq.enable_scan;
};

sub crash_node
{
	my ($name) = @_;
	my $node = new_node($name, conf => qq{
restart_after_crash = on
pgmq.ring_memory = 64kB
pgmq.worker = off
autovacuum = off
max_connections = 20
max_prepared_transactions = 5
shared_buffers = 4MB
wal_buffers = 64kB
statement_timeout = 20s
log_min_messages = warning
log_checkpoints = off
});

	mkdir $node->basedir . '/other' or die;
	$node->safe_psql('postgres', 'CREATE ROLE popper; GRANT USAGE ON SCHEMA pgmq TO popper');
	$node->safe_psql('postgres', q{
CREATE FUNCTION show_rows(tab text, columns text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	IF to_regclass(tab) IS NOT NULL THEN
		RETURN QUERY EXECUTE format('SELECT t::text FROM (SELECT %s FROM %s ORDER BY msg_id, message::text) t', columns, tab);
	END IF;
END $$});
	$node->safe_psql('postgres', "CREATE TABLESPACE other LOCATION '" . $node->basedir . "/other'");
	return $node;
}

sub run
{
	my ($node, $queue, $sql) = @_;
	my ($out, $err);

	$sql =~ s/\{q\}/$queue/g;
	local $ENV{PGOPTIONS} = '-c pgmq.test_clock=' . $clock =~ s/ /\\ /r;
	my $status = $node->psql('postgres', $sql, stdout => \$out, stderr => \$err, on_error_stop => 1);
	return ($status, $out, $err);
}

# The setup and the steps, each acknowledged; around(N) gives what is put before step N
sub script_of
{
	my ($scenario, $before, $after) = @_;
	my @steps = @{ $scenario->{steps} };
	my $script = join('', map { ended($_) } $scenario->{is_parallel} ? parallel_setting() : (), @{ $scenario->{setup} });

	foreach my $i (1 .. @steps)
	{
		$script .= $before->($i) . ended($steps[ $i - 1 ]) . "\\echo\n\\echo ack $i\n" . $after->($i);
	}
	return $script;
}

# (psql reads no further after the data of COPY and an empty statement)
sub ended { return $_[0] =~ /\n\z/ ? $_[0] : "$_[0];\n"; }

# Renamed in 16
sub parallel_setting
{
	my $version = `psql --version` =~ /(\d+)/ ? $1 : 15;

	return 'SET ' . ($version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode') . ' = on';
}

# Points armed in each step, besides the one that is tried
sub armed { return join(',', $_[1], $_[0]->{also} // ()); }

# learn(NODE, SCENARIO, QUEUE): the states before and after each step, and which points
# each reaches
sub learn
{
	my ($node, $scenario, $queue) = @_;
	my $log_from = -s $node->logfile;
	my $show = "\\echo state\n$state\n\\echo end\n";
	my ($status, $out, $err) = run($node, $queue, script_of($scenario,
		sub { return ($_[0] == 1 ? $show : '') . "DO 'BEGIN RAISE LOG ''step $_[0] begins''; END';\nSET pgmq.failpoint = '" . armed($scenario, '*=log') . "';\n" },
		sub { return "SET pgmq.failpoint = '';\n$show" }));
	my $step = 0;

	die "$queue: $out$err" if $status != 0;
	$scenario->{states} = [ $out =~ /^state\n(.*?)^end$/msg ];
	foreach my $line (split /\n/, slurp_file($node->logfile, $log_from))
	{
		$step = $1 if $line =~ /step (\d+) begins/;
		$scenario->{steps_of}{$1}{$step} = 1 if $line =~ /reached point "([^"]+)"/;
	}
	my $problem = check_outcome($node, $scenario, $queue, scalar @{ $scenario->{steps} });
	die "$queue: $problem" if $problem ne '';
	return;
}

# The server answers; true if it had gone
sub is_up
{
	my ($node) = @_;

	wait_until('the server answers', sub {
		usleep(20_000);
		return defined answer_of($node, 'SELECT 1');
	});
	return;
}

# run_stopped(NODE, SCENARIO, QUEUE, STEP, 'point=action'): armed before that step.  The tables
# are looked at as learn() does, because that makes rings, too.
sub run_stopped
{
	my ($node, $scenario, $queue, $step, $what) = @_;
	my ($status, $out, $err) = run($node, $queue, script_of($scenario,
		sub { return ($_[0] == 1 ? $state : '') . ($_[0] == $step ? "SET pgmq.failpoint = '" . armed($scenario, $what) . "';\n" : '') },
		sub { return $_[0] == $step ? "\\q\n" : $state }));

	return { acknowledged => scalar(() = $out =~ /^ack /mg), status => $status, error => $err };
}

# What is left when whatever stopped has stopped; '' or what is wrong.  may_be_done: the
# step that was not acknowledged may have happened.
sub check_outcome
{
	my ($node, $scenario, $queue, $n_done, $may_be_done) = @_;
	my ($status, $out, $err) = run($node, $queue, "\\echo state\n$state\n\\echo end\n");
	my ($found) = $out =~ /^state\n(.*?)^end$/ms or return "no state: $out$err";
	my @allowed = grep { defined } @{ $scenario->{states} }[ $n_done .. $n_done + ($may_be_done ? 1 : 0) ];

	return "after $n_done steps the tables hold\n$found\nand should\n" . join("\nor\n", @allowed)
	  if !grep { $_ eq $found } @allowed and !($may_be_done && $scenario->{lease} && is_only_late($found, $allowed[0]));
	return check_use($node, $queue, $found);
}

# Is it this state, but that some messages come later, by leases that were written when
# their transaction failed?  (The one exception to "a failure leaves no trace".)
sub is_only_late
{
	my ($found, $before) = @_;
	my ($found_rest, @found) = without_leases($found);
	my ($before_rest, @before) = without_leases($before);

	return $found_rest eq $before_rest && !grep { $found[$_] lt $before[$_] } 0 .. $#found;
}

# The text of a state without read_ct, last_read_at and vt, and each row's vt
sub without_leases
{
	my ($text) = @_;
	my @vt;

	$text =~ s{^\((\d+),\d+,(?:"[^"]*")?,("[^"]*")?,}{push @vt, $2 // ''; "($1,"}gme;
	return ($text, @vt);
}

# Ring and table agree, the ready messages can be had, in order, and in the end all of them
sub check_use
{
	my ($node, $queue, $found) = @_;
	my $finish = $found =~ /^prepared$/m ? "COMMIT PREPARED '{q}';\n" : '';
	my ($status, $out, $err) = run($node, $queue, $finish . "\\echo use\n" . ($found =~ /^no queue/ ? 'SELECT 1;' : q{
SELECT 'problem', * FROM pgmq.check_queue('{q}') WHERE EXISTS (SELECT FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = 'pgmq.q_{q}'::regclass AND amname = 'pgmq');
BEGIN;
CREATE TEMP TABLE ready ON COMMIT DROP AS SELECT msg_id FROM pgmq.q_{q} WHERE vt <= '2100-01-01';
SELECT 'problem', 'to be had', array_agg(msg_id), (SELECT array_agg(msg_id) FROM ready) FROM pgmq.read('{q}', 30, 10000)
	HAVING array_agg(msg_id ORDER BY msg_id) IS DISTINCT FROM (SELECT array_agg(msg_id ORDER BY msg_id) FROM ready);
ROLLBACK;
SET pgmq.test_clock = '2200-01-01';
SELECT 'problem', 'at last', count(*) FROM pgmq.read('{q}', 0, 10000) HAVING count(*) <> (SELECT count(*) FROM pgmq.q_{q});
SELECT 'problem', 'not deleted', array_agg(id) FROM (SELECT msg_id AS id FROM pgmq.q_{q} EXCEPT
	SELECT pgmq.delete('{q}', (SELECT array_agg(msg_id) FROM pgmq.q_{q}))) x HAVING count(*) > 0;
SELECT 'problem', 'left', * FROM pgmq.q_{q};
SELECT 'problem', queue_length FROM pgmq.metrics('{q}') WHERE queue_length <> 0;
SELECT pgmq.send('{q}', '"last"');
SELECT 'problem', 'not popped' WHERE (SELECT message FROM pgmq.pop('{q}')) IS DISTINCT FROM '"last"';
SELECT 'problem', * FROM pgmq.check_queue('{q}') WHERE EXISTS (SELECT FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = 'pgmq.q_{q}'::regclass AND amname = 'pgmq');
SELECT pgmq.drop_queue('{q}');
}) . "\nDROP DATABASE IF EXISTS {q};\n");

	return $status == 0 && $out !~ /^problem/m ? '' : "use: $out$err";
}

1;
