# Breaks: a queue is published, or no longer published, while consumers hold messages of it;
# transactions are streamed to the subscriber before they end, or prepared; the subscriber's
# own consumers and the apply worker want the same messages; both sides make one msg_id.
#
# How we know: what is decoded of a hot queue's changes is, line by line, what is decoded of
# a heap queue's; the subscriber's rows are the publisher's after each of these; messages
# that are undecided on the publisher are had by nobody on the subscriber, and what arrives
# there wakes who waits for it.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = qq{
pgmq.worker_naptime = 50ms
wal_retrieve_retry_interval = 100ms
logical_decoding_work_mem = 64kB
max_logical_replication_workers = 12
max_worker_processes = 24
};
my $publisher = new_node('publisher', init => [ allows_streaming => 'logical' ], conf => $conf);
my $subscriber = new_node('subscriber', conf => "wal_level = replica\n$conf");

# ---- what is decoded ----

# With the time standing still, the same calls leave the same rows
my @work = (
	q{SELECT pgmq.send('Q', '{"n": 13}'), pgmq.send('Q', '{"n": 14}', '{"h": 1}', 60)},
	q{SELECT count(*) FROM pgmq.send_batch('Q', (SELECT array_agg(to_jsonb(i)) FROM generate_series(15, 20) i))},
	q{SELECT pgmq.send('Q', to_jsonb(repeat(md5('toasted'), 500) || (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) i)))},
	q{SELECT pgmq.read('Q', 60, 3)},
	q{SELECT pgmq.read('Q', 60, 1, '20')},
	q{BEGIN; SELECT pgmq.read('Q', 60, 100); ROLLBACK},
	q{BEGIN; SELECT pgmq.read('Q', 60, 1); SAVEPOINT s; SELECT pgmq.read('Q', 60, 3); ROLLBACK TO s; SELECT pgmq.read('Q', 0, 1); COMMIT},
	q{SELECT pgmq.read_grouped('Q', 60, 2)},
	q{SELECT pgmq.set_vt('Q', 3, 90), pgmq.set_vt('Q', 12, 90)},
	q{SELECT pgmq.delete('Q', 1), pgmq.delete('Q', 10), pgmq.delete('Q', 15)},
	q{SELECT pgmq.delete('Q', ARRAY[2, 11])},
	q{SELECT pgmq.archive('Q', 3), pgmq.archive('Q', 12)},
	q{SELECT pgmq.pop('Q', 2)},
	q{BEGIN; SELECT pgmq.send('Q', '21'); SELECT pgmq.read('Q', 60, 1); SELECT pgmq.delete('Q', 9); COMMIT},
	q{UPDATE pgmq."q_Q" SET message = '"by hand"' WHERE msg_id IN (4, 16, 18)},
	q{UPDATE pgmq."q_Q" SET vt = vt + '1 s' WHERE read_ct > 0},
	q{DELETE FROM pgmq."q_Q" WHERE msg_id IN (5, 17)},
	q{SELECT pgmq.read('Q', 60, 100)},
	q{SELECT pgmq.purge_queue('Q')});

# decoded(QUEUE, STORAGE, IDENTITY): what a slot tells about all this, in terms of a queue Q
sub decoded
{
	my ($queue, $storage, $identity) = @_;
	my $preamble = "SET pgmq.test_clock = '2100-01-01 00:00:00+00'; SET pgmq.queue_storage = $storage; ";
	my $at_work = join(";\n", @work);

	$at_work =~ s/"q_Q"/q_$queue/g;
	$at_work =~ s/'Q'/'$queue'/g;
	$publisher->safe_psql('postgres', $preamble . qq{
SELECT pgmq.create('$queue');
SELECT count(*) FROM pgmq.send_batch('$queue', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 12) i));
SELECT pgmq.read('$queue', 60, 2), pgmq.read('$queue', 0, 1);
ALTER TABLE pgmq.q_$queue REPLICA IDENTITY $identity;
CREATE PUBLICATION $queue FOR TABLE pgmq.q_$queue, pgmq.a_$queue;
SELECT pg_create_logical_replication_slot('$queue', 'test_decoding')});
	$publisher->safe_psql('postgres', "$preamble$at_work");
	my $text = $publisher->safe_psql('postgres', qq{
SELECT data FROM pg_logical_slot_get_changes('$queue', NULL, NULL, 'include-xids', '0', 'skip-empty-xacts', '1');
SELECT pg_drop_replication_slot('$queue')});
	$text =~ s/([qa])_$queue/$1_Q/g;
	$text =~ s/(enqueued_at|archived_at)\[timestamp with time zone\]:'[^']*'/$1/g;
	# The order in which a statement changes rows is nobody's business
	return join '', map { join("\n", sort split(/\n/, $_)) . "\n" } split /^(?=BEGIN)/m, $text;
}

foreach my $identity ('DEFAULT', 'FULL')
{
	my $name = lc $identity;
	my $hot = decoded("hot_$name", 'hot', $identity);
	my $heap = decoded("heap_$name", 'heap', $identity);

	cmp_ok(scalar(() = $heap =~ /UPDATE:/g), '>', 20, "REPLICA IDENTITY $identity: leases are decoded");
	is($hot, $heap, 'of a hot queue as of a heap queue');
}

# Without an identity, what subscribers could not follow is refused, as on a heap queue
my %refused;
foreach my $storage ('hot', 'heap')
{
	$publisher->safe_psql('postgres', qq{
SET pgmq.queue_storage = $storage;
SELECT pgmq.create('nothing_$storage');
SELECT pgmq.send('nothing_$storage', '1');
SELECT pgmq.read('nothing_$storage', 0, 1);
ALTER TABLE pgmq.q_nothing_$storage REPLICA IDENTITY NOTHING;
CREATE PUBLICATION nothing_$storage FOR TABLE pgmq.q_nothing_$storage;
SELECT pgmq.send('nothing_$storage', '2')});
	foreach my $call ('read(Q, 60, 1)', 'read_with_poll(Q, 60, 1, 1)', 'pop(Q)', 'set_vt(Q, 1, 1)',
		'delete(Q, 1)', 'delete(Q, ARRAY[1])', 'archive(Q, 1)', 'archive(Q, ARRAY[1])')
	{
		my $sql = $call =~ s/Q/'nothing_$storage'/r;
		my ($status, $out, $err) = $publisher->psql('postgres', "SELECT pgmq.$sql");
		$refused{$storage} .= join("\n", grep { /ERROR|DETAIL|HINT/ } split /\n/, $err =~ s/psql.*?: //r =~ s/_$storage/_Q/r) . "\n";
	}
}
like($refused{heap}, qr/cannot update table.*cannot delete from table/s, 'REPLICA IDENTITY NOTHING is refused');
is($refused{hot}, $refused{heap}, 'on a hot queue as on a heap queue');

# ---- subscriptions ----

sub rows
{
	my ($node, $queue) = @_;

	return $node->safe_psql('postgres', "SELECT * FROM pgmq.q_$queue ORDER BY msg_id");
}

# Both nodes get a queue; the publisher's has n messages
sub make_queue
{
	my ($queue, $n) = @_;

	$_->safe_psql('postgres', "SELECT pgmq.create('$queue')") foreach $publisher, $subscriber;
	return $publisher->safe_psql('postgres',
		"SELECT count(*) FROM pgmq.send_batch('$queue', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, $n) i))");
}

sub wait_for_copies
{
	return $subscriber->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_subscription_rel WHERE srsubstate NOT IN ('r', 's')})
	  || die "no initial copy";
}

# A subscription has the name of the publication
sub subscribe
{
	my ($name, $options) = @_;

	$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION $name CONNECTION '" . $publisher->connstr
		. " dbname=postgres' PUBLICATION $name " . ($options // ''));
	return wait_for_copies();
}

sub rows_are_equal
{
	my ($queue, $when) = @_;

	wait_for_copies();
	$publisher->wait_for_catchup($_) foreach split /\n/, $subscriber->safe_psql('postgres', 'SELECT subname FROM pg_subscription');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(rows($subscriber, $queue), rows($publisher, $queue), "$queue: rows are the publisher's, $when");
}

# ---- published while messages are held ----

# hold(QUEUE): a session that has leased, extended and rolled back, and has not ended; unless
# rows store NULL it has no transaction id, so no slot's creation waits for it
sub hold
{
	my ($queue) = @_;
	my $session = $publisher->background_psql('postgres');

	$session->query_safe(qq{
		BEGIN;
		SELECT pgmq.read('$queue', 3600, 2);
		SAVEPOINT s; SELECT pgmq.read('$queue', 3600, 2); ROLLBACK TO s;
		SELECT pgmq.set_vt('$queue', 7, 3600);
		SAVEPOINT t; SELECT pgmq.read('$queue', 3600, 1); RELEASE t});
	return $session;
}

# It leases and sends once more, and commits
sub let_go
{
	my ($session, $queue) = @_;

	$session->query_safe("SELECT pgmq.read('$queue', 3600, 1), pgmq.send('$queue', '11'); COMMIT");
	return $session->quit;
}

# (a hot subscriber would show what a row stores for NULL as NULL)
make_queue($_, 10) foreach qw(late keyless whole);
$subscriber->safe_psql('postgres', q{SELECT pgmq.convert_queue('late', 'heap')});
my $session = hold('late');
$publisher->safe_psql('postgres', 'CREATE PUBLICATION late FOR TABLE pgmq.q_late');
subscribe('late');
$session->query_safe('COMMIT'); # with no word from the server in between
$session->quit;
rows_are_equal('late', 'published while messages were held');

# No longer, and again
$session = hold('late');
$publisher->safe_psql('postgres', 'ALTER PUBLICATION late DROP TABLE pgmq.q_late');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION late REFRESH PUBLICATION; TRUNCATE pgmq.q_late');
let_go($session, 'late');
$publisher->safe_psql('postgres', q{SELECT pgmq.read('late', 60, 1), pgmq.delete('late', 1), pgmq.send('late', '12')});
$session = hold('late');
$publisher->safe_psql('postgres', 'ALTER PUBLICATION late ADD TABLE pgmq.q_late');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION late REFRESH PUBLICATION');
let_go($session, 'late'); # it has an id by now: the copy waits for it
rows_are_equal('late', 'published again while messages were held');

# The same of a transaction that is prepared
$publisher->safe_psql('postgres', 'ALTER PUBLICATION late DROP TABLE pgmq.q_late');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION late REFRESH PUBLICATION; TRUNCATE pgmq.q_late');
my $delayed = $publisher->safe_psql('postgres', q{SELECT pgmq.send('late', '"never read"', 60)});
$session = $publisher->background_psql('postgres');
$session->query_safe("BEGIN; SELECT pgmq.set_vt('late', $delayed, 3600)");
$publisher->safe_psql('postgres', 'ALTER PUBLICATION late ADD TABLE pgmq.q_late');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION late REFRESH PUBLICATION');
wait_for_copies();
$session->query_safe(q{PREPARE TRANSACTION 'late'; COMMIT PREPARED 'late'});
$session->quit;
rows_are_equal('late', 'published while what is then prepared was held');

# At the last moment: the commit has seen that the queue is not published, and writes its lease
# when the subscriber has copied the row.  Then the same of a commit that fails later on.
SKIP:
{
	my ($status) = $publisher->psql('postgres', "SET pgmq.failpoint = ''", stderr => \my $ignored);
	skip 'the library was built without failpoints', 6 if $status != 0;
	foreach my $fails (0, 1)
	{
		my $queue = "moment$fails";
		make_queue($queue, 10);
		my $gate = $publisher->background_psql('postgres');
		$gate->query_safe('SELECT pg_advisory_lock(1)');
		$session = $publisher->background_psql('postgres', on_error_stop => 0);
		$session->query_safe("SET pgmq.failpoint = 'lease-page-before=wait:1" . ($fails ? ", pre-commit-leased=error'" : "'"));
		$session->query_until(qr/going/, "\\echo going\nSELECT pgmq.read('$queue', 3600, 2);\n");
		$publisher->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'})
		  or die 'the commit did not get there';
		$publisher->safe_psql('postgres', "CREATE PUBLICATION $queue FOR TABLE pgmq.q_$queue");
		subscribe($queue);
		$gate->query_safe('SELECT pg_advisory_unlock(1)');
		$_->quit foreach $gate, $session;
		rows_are_equal($queue, 'published when the lease was about to be written' . ($fails ? ', in vain' : ''));
		is($publisher->safe_psql('postgres', "SELECT count(*) FROM pgmq.read('$queue', 60, 100)"), $fails ? 10 : 8, 'what is leased stays leased');
		queues_are_sound($publisher, [$queue]);
	}
}

# The publication is dropped while messages are held: no error, and reads go on
$session = hold('late');
$publisher->safe_psql('postgres', 'DROP PUBLICATION late');
let_go($session, 'late');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION late');
is($publisher->safe_psql('postgres', q{SELECT count(*) FROM pgmq.read('late', 0, 100)}),
	$publisher->safe_psql('postgres', q{SELECT count(*) FROM pgmq.q_late WHERE vt <= clock_timestamp()}), 'no longer published, it is read as before');

# What needs a key, or rows that say NULL, waits for who holds messages
foreach my $how ([ 'keyless', 'DROP CONSTRAINT q_keyless_pkey' ], [ 'whole', 'REPLICA IDENTITY FULL' ])
{
	my ($queue, $alter) = @$how;

	$publisher->safe_psql('postgres', "ALTER TABLE pgmq.q_$queue $alter");
	$session = hold($queue);
	my $other = $publisher->background_psql('postgres');
	$other->query_until(qr/going/, "\\echo going\nCREATE PUBLICATION $queue FOR TABLE pgmq.q_$queue;\n");
	$publisher->poll_query_until('postgres', q{
		SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'relation'}) or die 'nobody waits';
	let_go($session, $queue);
	$other->quit;
	subscribe($queue);
	rows_are_equal($queue, 'published with a wait');
	$publisher->safe_psql('postgres', "SELECT pgmq.delete('$queue', 8), pgmq.read('$queue', 3600, 2), pgmq.pop('$queue')");
	rows_are_equal($queue, 'after a delete and a read');
}

# ---- streamed and prepared ----

make_queue('big', 10);
$publisher->safe_psql('postgres', 'CREATE PUBLICATION big FOR TABLE pgmq.q_big');
subscribe('big', 'WITH (streaming = on' . (major_version($publisher) >= 15 ? ', two_phase)' : ')'));
my $large = q{
SELECT count(*) FROM pgmq.send_batch('big', (SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(1, 2000) i));
SELECT count(*) FROM pgmq.read('big', 3600, 1500);
SAVEPOINT s;
SELECT count(*) FROM pgmq.delete('big', (SELECT array_agg(i::bigint) FROM generate_series(100, 900) i));
SELECT count(*) FROM pgmq.send_batch('big', (SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(1, 500) i));
ROLLBACK TO s;
SELECT count(*) FROM pgmq.delete('big', (SELECT array_agg(i::bigint) FROM generate_series(5, 400) i));
};
$publisher->safe_psql('postgres', "BEGIN; $large COMMIT");
$publisher->safe_psql('postgres', "BEGIN; $large ROLLBACK");
rows_are_equal('big', 'streamed');
cmp_ok($publisher->safe_psql('postgres', "SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = 'big'"), '>', 0, 'it was streamed');

SKIP:
{
	skip 'two_phase subscriptions came with 15', 4 if major_version($publisher) < 15;
	foreach my $end ('COMMIT', 'ROLLBACK')
	{
		my $before = rows($subscriber, 'big');
		$publisher->safe_psql('postgres', qq{
BEGIN;
SELECT pgmq.send('big', '"$end"'), pgmq.read('big', 3600, 3), pgmq.delete('big', 1000 + (SELECT count(*) FROM pgmq.q_big) % 7);
PREPARE TRANSACTION 'p'});
		$publisher->wait_for_catchup('big');
		is($subscriber->safe_psql('postgres', q{SELECT count(*) FROM pg_prepared_xacts}), 1, 'what is prepared is prepared there');
		is($subscriber->safe_psql('postgres', qq{
			BEGIN; SELECT count(*) FROM pgmq.read('big', 60, 10000) WHERE message = '"$end"'; ROLLBACK}), 0, 'and had by nobody');
		$publisher->safe_psql('postgres', "$end PREPARED 'p'");
		rows_are_equal('big', "after $end PREPARED");
		is(rows($subscriber, 'big') eq $before, $end eq 'ROLLBACK', 'which decided');
	}
}

# ---- the subscriber's consumers ----

make_queue('shared', 10);
$publisher->safe_psql('postgres', 'CREATE PUBLICATION shared FOR TABLE pgmq.q_shared');
subscribe('shared');

# Claims and row locks keep the apply worker waiting, and it keeps consumers from what it has
$session = $subscriber->background_psql('postgres');
$session->query_safe(q{BEGIN; SELECT pgmq.read('shared', 3600, 2)});
$publisher->safe_psql('postgres', q{SELECT pgmq.read('shared', 60, 3); SELECT pgmq.delete('shared', 2)});
$subscriber->poll_query_until('postgres', q{
	SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type ~ '^logical replication (apply )?worker' AND wait_event_type = 'Lock'})
  or die 'the apply worker does not wait';
$session->query_safe('COMMIT');
$session->quit;
rows_are_equal('shared', 'though consumers there had leased them, too');

# Who waits for a message there is woken by one that arrives
$subscriber->safe_psql('postgres', q{SELECT count(*) FROM pgmq.read('shared', 3600, 100)});
$session = $subscriber->background_psql('postgres');
$session->query_until(qr/going/, "\\echo going\nSELECT message FROM pgmq.read_with_poll('shared', 60, 1, 60, 60000);\n");
$subscriber->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event IN ('PgmqRead', 'Extension') AND query LIKE '%read_with_poll%' AND pid <> pg_backend_pid()});
my $sent = time();
$publisher->safe_psql('postgres', q{SELECT pgmq.send('shared', '"wake"')});
is($session->query('SELECT 1'), qq("wake"\n1), 'what arrives wakes a consumer');
cmp_ok(time() - $sent, '<', 40, 'before its poll interval is over');
$session->quit;

# Both make message 12: the apply worker stops at it, until one goes
$subscriber->safe_psql('postgres', q{INSERT INTO pgmq.q_shared (msg_id, vt, message) OVERRIDING SYSTEM VALUE VALUES (12, now(), '"ours"')});
$publisher->safe_psql('postgres', q{SELECT pgmq.send('shared', '"theirs"')});
wait_until('the conflict is told', sub { slurp_file($subscriber->logfile) =~ /(?:duplicate key value violates unique constraint|Key already exists in unique index) "q_shared_pkey"/ });
is($subscriber->safe_psql('postgres', q{SELECT message FROM pgmq.q_shared WHERE msg_id = 12}), '"ours"', 'one msg_id, one message');
$subscriber->safe_psql('postgres', q{SELECT pgmq.delete('shared', 12)});
$publisher->wait_for_catchup('shared');
is($subscriber->safe_psql('postgres', q{SELECT message FROM pgmq.pop('shared')}), '"theirs"', 'the other comes when it is gone');

queues_are_sound($publisher, [qw(late keyless whole big shared hot_default hot_full nothing_hot)], 'on the publisher');
queues_are_sound($subscriber, [qw(keyless whole big shared)], 'on the subscriber');
foreach my $node ($publisher, $subscriber)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal/, 'no process was lost on the ' . $node->name);
	$node->stop;
}
done_testing();
