# A client that does random things to queues and keeps a ledger outside the database: what
# it is about to do that may take effect, and what the server said of it.
#
# Lines of the ledger, fields separated by tabs:
#
#	N round				a client starts; what was open before has an unknown outcome
#	A effects			about to run one statement; its effects, as far as known
#	I effects			about to COMMIT; all effects of the transaction
#	P gid effects		about to PREPARE TRANSACTION
#	D gid verb			about to COMMIT or ROLLBACK what is prepared
#	K time effects		acknowledged; after A these effects are what happened
#	F code				refused: nothing happened
#	E code message		an error that should not have been
#
# Times are microseconds since 1970.  An A, I, P or D without K or F after it may or may
# not have taken effect.  What was rolled back is in no line.
#
# Effects, fields separated by colons:
#
#	S:queue:key:not_before						sent; read no earlier
#	L:queue:key:id:read_ct:last_read_at:vt		leased
#	V:queue:key:id:read_ct:vt					set_vt: the lease ends at vt now
#	v:queue:key:bound							set_vt, to no earlier than bound
#	X:queue:key:how								d deleted, a archived, p popped,
#	X:queue:key:p:id:read_ct:vt:before			as it was, at some time before
#	M:queue:key									asked for by id, and not there
#	r:queue:n, x:queue:n						up to n leased, popped: unknown which
package LedgerClient;

use strict;
use warnings;

use List::Util qw(min);
use PgWire;
use Time::HiRes qw(sleep time);

our @general = qw(orders topic_a topic_b groups scratch);
our @queues = (@general, 'pops');

# What cancels, time limits and concurrency bring about, and a connection's end
my %is_expected = map { $_ => 1 } qw(
  57014 55P03 40001 40P01 57P01 57P02 57P03 57P05 22012 25P02 53300);

my $lease_columns = "msg_id, read_ct, us(last_read_at), us(vt), message->>'k'";
my $row_columns = "msg_id, read_ct, us(vt), message->>'k'";

my ($slot, $round, $backlog_is_long, $large, $log, $db, $stop);
my ($n_keys, $n_transactions, $mark);
my @mine;       # leased to us for long: { queue, id, key, mark }
my @prepared;
my $effects;    # of the transaction under way, or undef
my $has_old_snapshot;    # it looks at the tables as they were when it began

sub now_us { return int(time() * 1_000_000) - 2; }
sub one_of { return $_[ rand @_ ]; }
sub chance { return rand() < $_[0]; }

sub note_line
{
	my $line = join("\t", @_) . "\n";

	syswrite($log, $line) == length $line or die "ledger: $!";
	return;
}

# ---- operations: { sql, before => effects as far as known, after => code(rows) } ----

sub new_key { return "$slot.$round." . ++$n_keys; }

sub payload
{
	my ($key) = @_;
	my $n = chance(0.01) ? 700 : int(rand(4));

	return sprintf(q{{"k": "%s", "n": %d, "p": "%s", "c": %d}}, $key, $n, $key x $n, rand 4);
}

sub headers
{
	my ($queue) = @_;

	return $queue eq 'groups' ? sprintf(q{'{"x-pgmq-group": "g%d"}'::jsonb}, rand 20) : 'NULL::jsonb';
}

# SQL of a delay, and the earliest time it can end
sub delay
{
	my $seconds = chance(0.75) ? 0 : one_of(1, 1, 2, 3600);
	my $until = now_us() + $seconds * 1_000_000;

	return (', 0', $until) if !$seconds && chance(0.5);
	return ("", $until) if !$seconds;
	return (", $seconds", $until) if chance(0.7);
	return (", clock_timestamp() + '$seconds s'", $until);
}

sub sends
{
	my ($sql, @sent) = @_;

	return { sql => $sql, before => \@sent, after => sub { return @sent; } };
}

sub op_send
{
	my $queue = one_of(@general, 'orders', 'orders', 'pops');
	my $key = new_key();
	my ($delay, $until) = delay();

	return sends("SELECT pgmq.send('$queue', '" . payload($key) . "', " . headers($queue) . "$delay)",
		"S:$queue:$key:$until");
}

sub op_send_batch
{
	my $queue = one_of(@general, 'orders', 'orders', 'pops');
	my @keys = map { new_key() } 1 .. (chance($large / 5000) ? $large : 2 + int(rand(20)));
	my ($delay, $until) = delay();
	my $messages = join(', ', map { "'" . payload($_) . "'" } @keys);
	my $headers = join(', ', map { headers($queue) } @keys);

	return sends("SELECT pgmq.send_batch('$queue', ARRAY[$messages]::jsonb[], ARRAY[$headers]$delay)",
		map { "S:$queue:$_:$until" } @keys);
}

sub op_send_topic
{
	my @keys = map { new_key() } 1 .. 1 + int(rand(4));
	my $until = now_us();
	my $messages = join(', ', map { "'" . payload($_) . "'" } @keys);
	my $to = chance(0.5) ? 'topic.both' : 'topic.a';
	my @queues_bound = $to eq 'topic.both' ? qw(topic_a topic_b) : ('topic_a');
	my $sql = @keys == 1 ? "SELECT pgmq.send_topic('$to', $messages)"
	  : "SELECT count(*) FROM pgmq.send_batch_topic('$to', ARRAY[$messages]::jsonb[])";

	return sends($sql, map { my $key = $_; map { "S:$_:$key:$until" } @queues_bound } @keys);
}

sub op_insert
{
	my $queue = one_of(@general);
	my $key = new_key();

	return sends("INSERT INTO pgmq.q_$queue (vt, message, headers) "
		  . "VALUES (clock_timestamp(), '" . payload($key) . "', " . headers($queue) . ')',
		"S:$queue:$key:" . now_us());
}

sub lease_effects
{
	my ($queue, $rows) = @_;
	my @leases;

	foreach (@$rows)
	{
		my ($id, $ct, $at, $vt, $key) = @$_;
		push @leases, "L:$queue:$key:$id:$ct:$at:$vt";
		push @mine, { queue => $queue, id => $id, key => $key, mark => $mark }
		  if $vt - $at > 15_000_000;
	}
	return @leases;
}

sub reads
{
	my ($queue, $n, $sql) = @_;

	return { sql => $sql, before => ["r:$queue:$n"], after => sub { return lease_effects($queue, @_); } };
}

sub op_read
{
	my $queue = one_of(@queues);
	my $seconds = one_of(0, 1, 1, 2, 30, 30, 60, 60, 120, 3600);
	my $n = chance($backlog_is_long ? 0.4 : 0.1) ? $large : one_of(1, 1, 2, 5, 20);
	my $verb = $queue ne 'groups' || chance(0.2) ? 'read' : one_of(qw(read_grouped read_grouped_rr read_grouped_head));
	my $more = '';

	if (chance(0.05))
	{
		$verb .= '_with_poll';
		$more = ', 1, 50';
		$more .= q{, '{"c": 1}'} if $verb eq 'read_with_poll' && chance(0.3);
	}
	elsif ($verb eq 'read' && chance(0.25))
	{
		$more = q{, '{"c": 2}'};
	}
	return reads($queue, $n, "SELECT $lease_columns FROM pgmq.$verb('$queue', $seconds, $n$more)");
}

sub op_lease_by_sql
{
	my $queue = one_of(@queues);
	my $seconds = one_of(1, 30, 60);
	my $n = one_of(1, 3);

	return reads($queue, $n, "WITH c AS (SELECT msg_id AS id FROM pgmq.q_$queue WHERE vt <= clock_timestamp() "
		  . "ORDER BY msg_id LIMIT $n FOR UPDATE SKIP LOCKED) "
		  . "UPDATE pgmq.q_$queue SET read_ct = read_ct + 1, last_read_at = clock_timestamp(), "
		  . "vt = clock_timestamp() + '$seconds s' FROM c WHERE msg_id = id RETURNING $lease_columns");
}

sub op_pop
{
	my $queue = $effects ? one_of(@queues) : 'pops';
	my $n = $backlog_is_long ? one_of(1, 50, $large) : one_of(1, 1, 3);

	return {
		sql => "SELECT $row_columns FROM pgmq.pop('$queue', $n)",
		before => ["x:$queue:$n"],
		after => sub {
			my $before = now_us() + 4;
			return map { "X:$queue:$_->[3]:p:$_->[0]:$_->[1]:$_->[2]:$before" } @{ $_[0] };
		} };
}

# Some of what is leased to us, of one queue; it is ours no more
sub take_mine
{
	my ($n) = @_;
	my (@taken, @left);

	return if !@mine;
	my $queue = one_of(@mine)->{queue};
	push @{ $_->{queue} eq $queue && @taken < $n ? \@taken : \@left }, $_ for @mine;
	@mine = @left;
	return ($queue, @taken);
}

# Asked for by id, and not there. topic_b is converted to and fro: a rewrite makes it look
# empty to older snapshots, as any ALTER TABLE that rewrites.
sub missed
{
	my ($queue, $key) = @_;

	return $has_old_snapshot && $queue eq 'topic_b' ? () : "M:$queue:$key";
}

# What became of each message of which the server returned the ids
sub acknowledged
{
	my ($queue, $how, $taken, $rows) = @_;
	my %gone = map { $_->[0] => 1 } @$rows;

	return map { $gone{ $_->{id} } ? "X:$queue:$_->{key}:$how" : missed($queue, $_->{key}) } @$taken;
}

sub op_acknowledge
{
	my ($queue, @taken) = take_mine(chance(0.3) ? 2 * $large : one_of(1, 1, 5, 20));

	return op_read() if !@taken;
	# An unlogged queue's archive is logged, and survives what the queue does not
	my $verb = $queue eq 'scratch' ? 'delete' : one_of(qw(delete delete archive));
	my $how = substr($verb, 0, 1);
	my $ids = 'ARRAY[' . join(', ', map { $_->{id} } @taken) . ']::bigint[]';
	my $sql = @taken == 1 ? "SELECT $taken[0]{id} WHERE pgmq.$verb('$queue', $taken[0]{id}::bigint)"
	  : $how eq 'd' && chance(0.2) ? "DELETE FROM pgmq.q_$queue WHERE msg_id = ANY($ids) RETURNING msg_id"
	  : "SELECT pgmq.$verb('$queue', $ids)";

	return {
		sql => $sql,
		before => [ map { "X:$queue:$_->{key}:$how" } @taken ],
		after => sub { return acknowledged($queue, $how, \@taken, @_); } };
}

sub op_set_vt
{
	my ($queue, @taken) = take_mine(one_of(1, 1, 10));

	return op_read() if !@taken;
	my %key = map { $_->{id} => $_->{key} } @taken;
	my $seconds = one_of(-5, 0, 1, 60, 3600);
	my $bound = now_us() + $seconds * 1_000_000;
	my $until = chance(0.3) ? "clock_timestamp() + '$seconds s'" : $seconds;
	my $ids = @taken == 1 ? "$taken[0]{id}::bigint" : 'ARRAY[' . join(', ', keys %key) . ']::bigint[]';

	return {
		sql => "SELECT msg_id, read_ct, us(vt) FROM pgmq.set_vt('$queue', $ids, $until)",
		before => [ map { "v:$queue:$_->{key}:$bound" } @taken ],
		after => sub {
			my %found = map { $_->[0] => $_ } @{ $_[0] };
			push @mine, map { +{ %$_, mark => $mark } } @taken if $seconds > 15;
			return map { my $row = $found{$_}; $row ? join(':', 'V', $queue, $key{$_}, @$row) : missed($queue, $key{$_}) } keys %key;
		} };
}

# No effect on what the ledger knows
sub without_effect
{
	my ($sql) = @_;

	return { sql => $sql, before => [], after => sub { return; } };
}

sub op_touch
{
	my $entry = @mine ? one_of(@mine) : { queue => 'orders', id => 1 };

	return without_effect("UPDATE pgmq.q_$entry->{queue} SET headers = headers || '{\"t\": 1}' WHERE msg_id = $entry->{id}");
}

sub op_undone
{
	my $queue = one_of(@queues);

	return without_effect(qq{DO \$\$ BEGIN
		PERFORM pgmq.send('$queue', '{"k": "undone", "n": 0, "p": ""}');
		PERFORM pgmq.read('$queue', 3600, 2);
		PERFORM pgmq.pop('$queue');
		PERFORM 1 / 0;
	EXCEPTION WHEN division_by_zero THEN END \$\$});
}

sub op_look
{
	return without_effect(one_of(
		"SELECT pgmq.metrics('orders')", 'SELECT pgmq.metrics_all()', 'SELECT 1 / 0', 'SELECT 1'));
}

my @sending = (\&op_send, \&op_send_batch, \&op_send_topic, \&op_insert);
my @other = (
	[ 36, \&op_read ], [ 5, \&op_lease_by_sql ], [ 7, \&op_pop ], [ 34, \&op_acknowledge ],
	[ 10, \&op_set_vt ], [ 3, \&op_touch ], [ 3, \&op_undone ], [ 2, \&op_look ]);

sub random_operation
{
	my $at = rand(100);

	# Where there is too much already few send
	return one_of(@sending)->() if chance($backlog_is_long ? 0.05 : 0.25);
	foreach (@other)
	{
		return $_->[1]->() if ($at -= $_->[0]) < 0;
	}
	return;
}

# Concurrent maintenance; a queue whose messages are in no ledger
my @maintenance = (
	q{SELECT count(*) FROM pgmq.send_batch('side', array_fill('{}'::jsonb, ARRAY[100]))},
	q{SELECT count(*) FROM pgmq.read('side', 1, 30)}, q{SELECT pgmq.purge_queue('side')},
	'VACUUM pgmq.q_side', 'TRUNCATE pgmq.q_side', 'VACUUM FULL pgmq.q_side', 'VACUUM pgmq.q_orders',
	"SELECT pgmq.convert_queue('topic_b', 'heap')", "SELECT pgmq.convert_queue('topic_b', 'hot')",
	'VACUUM pgmq.q_groups', 'ANALYZE pgmq.q_pops', 'CHECKPOINT', 'VACUUM pgmq.a_orders');

# ---- running them ----

sub note_error
{
	my ($answer) = @_;
	my $message = $answer->{message} =~ s/\s+/ /gr;

	note_line('E', $answer->{code}, $message)
	  if $answer->{code} && !$is_expected{ $answer->{code} }
	  && $message !~ /maximum number of prepared|cannot PREPARE a transaction that has executed/;
	return;
}

# A statement's answer; a lost connection is noted
sub ask
{
	my ($sql) = @_;
	my $answer = $db->ask($sql);

	note_error($answer) if $answer->{fate} ne 'done';
	undef $db if $db->{is_lost};
	return $answer;
}

# The last line was an intent: say what came of it
sub note_outcome
{
	my ($answer, @what) = @_;

	note_line('K', now_us(), @what) if $answer->{fate} eq 'done';
	note_line('F', $answer->{code}) if $answer->{fate} eq 'refused';
	return;
}

sub single_statement
{
	my ($operation) = @_;

	$mark = 0;
	note_line('A', @{ $operation->{before} });
	my $answer = ask($operation->{sql});
	note_outcome($answer, $answer->{fate} eq 'done' ? $operation->{after}->($answer->{rows}) : ());
	return;
}

# Take back what is known of the transaction since the mark
sub forget_since
{
	my ($since) = @_;

	splice @$effects, $since->{n_effects};
	@mine = grep { $_->{mark} < $since->{mark} } @mine;
	return;
}

# One operation of a transaction, perhaps in a savepoint; false if the transaction is over
sub operation_inside
{
	my $has_savepoint = chance(0.35);
	my $since = { n_effects => scalar @$effects, mark => ++$mark };

	return 0 if $has_savepoint && ask('SAVEPOINT s')->{fate} ne 'done';
	my $operation = random_operation();
	my $answer = ask($operation->{sql});
	push @$effects, $operation->{after}->($answer->{rows}) if $answer->{fate} eq 'done';
	return 0 if !$db || (!$has_savepoint && $answer->{fate} ne 'done');
	return 1 if !$has_savepoint;
	if ($answer->{fate} eq 'done' && chance(0.6))
	{
		return 1 if chance(0.5);
		return ask('RELEASE SAVEPOINT s')->{fate} eq 'done';
	}
	forget_since($since);
	return ask('ROLLBACK TO SAVEPOINT s')->{fate} eq 'done';
}

sub end_by_prepare
{
	my $gid = "$slot.$round.$n_transactions";

	note_line('P', $gid, @$effects);
	my $answer = ask("PREPARE TRANSACTION '$gid'");
	if ($answer->{fate} eq 'done' && $answer->{tag} eq 'ROLLBACK')
	{
		note_line('F', 'ROLLBACK');
		return 0;
	}
	note_outcome($answer);
	push @prepared, $gid if $answer->{fate} eq 'done';
	return 0;
}

# True if the transaction's leases are ours
sub end_transaction
{
	my $way = rand();

	if ($way < 0.10) { ask('ROLLBACK'); return 0; }
	return end_by_prepare() if $way < 0.16;
	if ($way < 0.18) { undef $db; return 0; }
	sleep(0.03) if $way < 0.22;
	note_line('I', @$effects);
	my $answer = ask('COMMIT');
	die "COMMIT said $answer->{tag}" if $answer->{fate} eq 'done' && $answer->{tag} ne 'COMMIT';
	note_outcome($answer);
	return $answer->{fate} eq 'done';
}

sub transaction
{
	my $isolation = chance(0.8) ? 'READ COMMITTED' : one_of('REPEATABLE READ', 'SERIALIZABLE');
	my $is_alive = 1;

	$n_transactions++;
	$has_old_snapshot = $isolation ne 'READ COMMITTED';
	($mark, $effects) = (1, []);
	if (ask("BEGIN ISOLATION LEVEL $isolation")->{fate} eq 'done')
	{
		$is_alive &&= operation_inside() for 1 .. 1 + int(rand(4));
		ask('ROLLBACK') if !$is_alive && $db;
		$is_alive = $is_alive && end_transaction();
		@mine = grep { $_->{mark} == 0 } @mine if !$is_alive;
	}
	$_->{mark} = 0 for @mine;
	$has_old_snapshot = 0;
	undef $effects;
	return;
}

sub decide_prepared
{
	my $gid = splice(@prepared, rand @prepared, 1);
	my $verb = one_of(qw(COMMIT ROLLBACK));

	note_line('D', $gid, $verb);
	note_outcome(ask("$verb PREPARED '$gid'"));
	return;
}

sub connect_again
{
	my ($host, $port) = @_;

	$db = PgWire->new($host, $port, 'ledger', statement_timeout => 1500 + 5 * $large, lock_timeout => 100);
	sleep(0.02) if !$db;
	return;
}

sub step
{
	my $what = rand();

	if ($what < 0.02) { ask(one_of(@maintenance)); }
	elsif (@prepared && $what < 0.04) { decide_prepared(); }
	elsif ($what < 0.60) { single_statement(random_operation()); }
	else { transaction(); }
	return;
}

# After the transaction under way
sub stop
{
	$stop = 1;
	return;
}

# run(host, port, slot, round, seed, log, backlog_is_long, large): until stop()
sub run
{
	my (%client) = @_;

	($slot, $round, $backlog_is_long, $large) = @client{qw(slot round backlog_is_long large)};
	($n_keys, $n_transactions) = (0, 0);
	srand($client{seed});
	open($log, '>>', $client{log}) or die "$client{log}: $!";
	note_line('N', $round);
	my $parent = getppid();
	until ($stop || getppid() != $parent)
	{
		if ($db) { step(); } else { connect_again($client{host}, $client{port}); }
	}
	return;
}

1;
