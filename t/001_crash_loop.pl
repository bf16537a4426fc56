# Breaks: the server, by kill -9 of all its processes (or of one backend, which makes the
# postmaster start afresh), again and again under load.
#
# How we know: each client writes to a file outside the database what the server has
# acknowledged to it.  After every restart the tables must agree with all files so far:
# what was sent is there until a delete was tried; what was deleted, popped, or rolled
# back is not; what was archived is archived; a leased row carries its lease; and no read
# ever returned a message before an acknowledged lease of it had lapsed.
#
# PGMQ_CRASH_ROUNDS sets the number of crashes.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $n_rounds = $ENV{PGMQ_CRASH_ROUNDS} // 20;
my $statements_per_client = 4000;
my @queues = qw(orders pops scratch);

random_seed();

# Replay compares pages with what they were, leases and all; not after generic records,
# whose mask keeps hint bits.
my $node = new_node(
	'crash', conf => qq{
restart_after_crash = on
synchronous_commit = on
max_wal_size = 64MB
pgmq.worker_naptime = 100ms
wal_consistency_checking = 'heap,heap2,btree,sequence'
});
my $dir = $node->basedir;

$node->safe_psql('postgres', q{
	SELECT pgmq.create('orders'), pgmq.create('pops'), pgmq.create_unlogged('scratch');
	CREATE FUNCTION us(timestamptz) RETURNS bigint LANGUAGE sql AS
		'SELECT (extract(epoch FROM $1) * 1000000)::bigint'});

# ---- what the clients do: statements, and what they log once they succeeded ----
#
#	S queue id key		sent			X queue id			sent, then rolled back
#	B queue ids... key	sent as a batch with keys key.1, key.2, ...
#	R queue id read_ct last_read_at vt	leased, or its lease extended
#	I id, D id gone		about to delete, deleted
#	J id, A id gone		about to archive, archived
#	Y, P id				about to pop, popped

my $lease_columns = 'msg_id AS id, read_ct AS ct, us(last_read_at) AS at, us(vt) AS until';

# \gset wants a row; one of nulls leaves its variables unset
my $maybe = 'FROM (SELECT) AS one LEFT JOIN';

sub when_read
{
	my ($then, $else) = @_;

	return "\\if :{?id}\n$then\\unset id\n\\else\n" . ($else // '') . "\\endif\n";
}

my @roles = (
	sub {    # sends, one by one
		my ($n) = @_;
		my $delay = $n % 7 == 0 ? ', 1' : $n % 11 == 0 ? ', 3600' : '';
		my $send = "SELECT send AS id FROM pgmq.send('orders', jsonb_build_object('k', :'who' || '.$n')$delay) \\gset\n";

		return "BEGIN;\n${send}ROLLBACK;\n\\echo X orders :id\n" if $n % 5 == 0;
		return "$send\\echo S orders :id :who.$n\n";
	},
	sub {    # sends batches
		my ($n) = @_;

		return "SELECT string_agg(id::text, ' ' ORDER BY place) AS ids FROM pgmq.send_batch('orders', "
		  . "(SELECT array_agg(jsonb_build_object('k', :'who' || '.$n.' || i)) FROM generate_series(1, 3) i)) "
		  . "WITH ORDINALITY AS s(id, place) \\gset\n\\echo B orders :ids :who.$n\n";
	},
	sub {    # leases for long, several at a time
		return "SELECT 'R orders', $lease_columns FROM pgmq.read('orders', 3600, 2);\n";
	},
	sub {    # leases for a second, rolls other leases back
		my ($n) = @_;

		return "BEGIN;\nSELECT count(*) AS n FROM pgmq.read('orders', 3600, 3) \\gset\nROLLBACK;\n" if $n % 3 == 0;
		return "SELECT 'R orders', $lease_columns FROM pgmq.read('orders', 1, 1);\n" if $n % 3 == 1;
		return "BEGIN;\nSELECT $lease_columns $maybe pgmq.read('orders', 1, 1) ON true \\gset\nSAVEPOINT s;\n"
		  . "SELECT count(*) AS n FROM pgmq.read('orders', 3600, 2) \\gset\nROLLBACK TO s;\nCOMMIT;\n"
		  . when_read("\\echo R orders :id :ct :at :until\n");
	},
	sub {    # consumes: reads, perhaps extends, then deletes or archives
		my ($n) = @_;
		my $verb = $n % 2 ? 'delete' : 'archive';
		my ($intent, $done) = $n % 2 ? qw(I D) : qw(J A);
		my $read = "SELECT $lease_columns $maybe pgmq.read('orders', 60, 1) ON true \\gset\n";
		my $finish = "\\echo $intent :id\nSELECT pgmq.$verb('orders', :id::bigint) AS gone \\gset\n";
		my $log_read = "\\echo R orders :id :ct :at :until\n";
		my $log_done = "\\echo $done :id :gone\n";

		return "BEGIN;\n$read" . when_read("${finish}COMMIT;\n$log_read$log_done", "COMMIT;\n")
		  if $n % 4 < 2;
		$log_read .= "SELECT $lease_columns FROM pgmq.set_vt('orders', :id::bigint, 120) \\gset\n$log_read"
		  if $n % 8 == 3;
		return $read . when_read($log_read . ($n % 16 == 3 ? '' : "$finish$log_done"));
	},
	sub {    # sends to and pops from a queue of its own; checkpoints; an unlogged queue
		my ($n) = @_;

		return "CHECKPOINT;\n" if $n % 400 == 399;
		return "SELECT count(*) AS n FROM pgmq.send('scratch', '{}') \\gset\n" if $n % 4 == 3;
		return "SELECT send AS id FROM pgmq.send('pops', jsonb_build_object('k', :'who' || '.$n')) \\gset\n\\echo S pops :id :who.$n\n"
		  if $n % 2 == 0;
		return "\\echo Y\nSELECT msg_id AS id $maybe pgmq.pop('pops') ON true \\gset\n" . when_read("\\echo P :id\n");
	});

sub client_file { return "$dir/client_$_[0].sql"; }
sub log_file { return "$dir/client_$_[0].log"; }

foreach my $i (0 .. $#roles)
{
	append_to_file(client_file($i), join('', map { $roles[$i]->($_) } 1 .. $statements_per_client));
	append_to_file(log_file($i), '');
}

# ---- what the files say ----

my %sent;                # queue -> id -> key
my %rolled_back;         # queue -> id
my %leases;              # queue -> id -> read_ct -> [last_read_at, vt], the latest vt
my %tried;               # id -> 'delete' or 'archive'
my %done;                # the same, acknowledged
my %popped;
my $n_pops_in_flight = 0;
my $n_acknowledged = 0;
my @problems;
my @offsets = map { 0 } @roles;

# An extension repeats the read_ct and last_read_at of the lease it extends
sub note_lease
{
	my ($queue, $id, $ct, $at, $vt) = @_;
	my $lease = $leases{$queue}{$id}{$ct} //= [ $at, $vt ];

	push @problems, "$queue $id: delivered twice as read $ct, at $lease->[0] and $at"
	  if $lease->[0] != $at;
	$lease->[1] = $vt if $vt > $lease->[1];
	return;
}

my %note = (
	S => sub { my ($queue, $id, $key) = @_; $sent{$queue}{$id} = $key; },
	B => sub {
		my ($queue, @ids) = @_;
		my $key = pop @ids;
		$sent{$queue}{ $ids[$_] } = "$key." . ($_ + 1) for 0 .. $#ids;
	},
	X => sub { my ($queue, $id) = @_; $rolled_back{$queue}{$id} = 1; },
	R => \&note_lease,
	I => sub { $tried{ $_[0] } = 'delete'; },
	J => sub { $tried{ $_[0] } = 'archive'; },
	D => sub { note_done('delete', @_); },
	A => sub { note_done('archive', @_); },
	Y => sub { $n_pops_in_flight++; },
	P => sub {
		$n_pops_in_flight--;
		push @problems, "pops $_[0]: popped twice" if $popped{ $_[0] }++;
	});

sub note_done
{
	my ($what, $id, $gone) = @_;

	push @problems, "orders $id: $what of a leased message said $gone" if $gone ne 't';
	$done{$id} = $what;
	return;
}

# A pop that found nothing is followed by the next pop or send: not in flight
sub read_log
{
	my ($i) = @_;
	my @lines = split /\n/, slurp_file(log_file($i), $offsets[$i]);
	my $in_flight = $n_pops_in_flight;

	$offsets[$i] = -s log_file($i);
	foreach my $line (@lines)
	{
		my ($what, @args) = split / /, $line;
		$n_pops_in_flight = $in_flight if $what ne 'P';
		$note{$what}->(@args);
		$n_acknowledged++ if $what !~ /[IJY]/;
	}
	return;
}

# ---- what the tables say ----

sub rows
{
	my ($sql) = @_;

	return map { [ split /\|/, $_ ] } split /\n/, $node->safe_psql('postgres', $sql);
}

sub check_leases_in_time
{
	my ($queue) = @_;

	while (my ($id, $by_ct) = each %{ $leases{$queue} })
	{
		my $before;
		foreach my $ct (sort { $a <=> $b } keys %$by_ct)
		{
			my $lease = $by_ct->{$ct};
			push @problems, "$queue $id: read $ct at $lease->[0] came before $before->[1], the end of an acknowledged lease"
			  if $before && $lease->[0] < $before->[1];
			$before = $lease;
		}
	}
	return;
}

sub check_lease_on_page
{
	my ($queue, $id, $row) = @_;
	my $by_ct = $leases{$queue}{$id} or return;
	my ($ct) = sort { $b <=> $a } keys %$by_ct;

	push @problems, "$queue $id: read_ct is $row->{ct}, $ct was acknowledged"
	  if $row->{ct} < $ct;
	push @problems, "$queue $id: vt is $row->{vt}, $by_ct->{$ct}[1] was acknowledged"
	  if $row->{ct} == $ct && $row->{vt} < $by_ct->{$ct}[1];
	return;
}

sub check_orders
{
	my (%live, %archived);

	foreach (rows("SELECT msg_id, message->>'k', read_ct, us(vt) FROM pgmq.q_orders"))
	{
		my ($id, $key, $ct, $vt) = @$_;
		push @problems, "orders $id: twice in the table" if $live{$id};
		$live{$id} = { key => $key, ct => $ct, vt => $vt };
		push @problems, "orders $id: rolled back but there" if $rolled_back{orders}{$id};
		push @problems, "orders $id: $done{$id}d but still in the queue" if $done{$id};
		check_lease_on_page('orders', $id, $live{$id});
	}
	foreach (rows("SELECT msg_id, message->>'k' FROM pgmq.a_orders"))
	{
		my ($id, $key) = @$_;
		$archived{$id} = { key => $key };
		push @problems, "orders $id: both in the queue and in the archive" if $live{$id};
		push @problems, "orders $id: archived by nobody" if ($tried{$id} // '') ne 'archive';
	}
	foreach my $id (keys %{ $sent{orders} })
	{
		my $row = $live{$id} // $archived{$id};
		push @problems, "orders $id: lost" if !$row && ($tried{$id} // '') ne 'delete';
		push @problems, "orders $id: is $row->{key}, was $sent{orders}{$id}"
		  if $row && $row->{key} ne $sent{orders}{$id};
	}
	foreach my $id (grep { $done{$_} eq 'archive' } keys %done)
	{
		push @problems, "orders $id: archived but not in the archive" if !$archived{$id};
	}
	check_leases_in_time('orders');
	return;
}

sub check_pops
{
	my %live = map { $_->[0] => $_->[1] } rows("SELECT msg_id, message->>'k' FROM pgmq.q_pops");
	my @missing = grep { !$popped{$_} && !exists $live{$_} } keys %{ $sent{pops} };

	push @problems, map { "pops $_: popped but there" } grep { $popped{$_} } keys %live;
	push @problems, "pops: lost @missing, with at most $n_pops_in_flight popped and not acknowledged"
	  if @missing > $n_pops_in_flight;
	return;
}

# ---- the loop ----

sub start_client
{
	my ($i, $round) = @_;

	return IPC::Run::start(
		[
			'psql', '-X', '-q', '-A', '-t', '-F', ' ', '-v', 'ON_ERROR_STOP=1', '-v', "who=$round.$i",
			'-d', $node->connstr('postgres'), '-f', client_file($i)
		],
		'>>', log_file($i), '2>', "$dir/client_$i.err");
}

# The loss of its connection is how a client is expected to end
sub finish_client
{
	my ($i, $client) = @_;

	$client->finish;
	my $errors = slurp_file("$dir/client_$i.err");
	push @problems, "client $i failed: $errors"
	  if $client->full_result(0) != 0 && ($errors !~ /connection/ || $errors =~ /ERROR:/);
	return;
}

sub log_size
{
	my $size = 0;

	$size += -s log_file($_) for 0 .. $#roles;
	return $size;
}

sub break_server
{
	my ($round) = @_;

	if ($round % 3 == 0)
	{
		my @backends = split /\n/, $node->safe_psql('postgres',
			"SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()");
		kill('KILL', $backends[ rand @backends ]);
	}
	else
	{
		crash($node);
	}
	return;
}

foreach my $round (1 .. $n_rounds)
{
	my @clients = map { start_client($_, $round) } 0 .. $#roles;
	my $enough = log_size() + 20_000 + int(rand(120_000));

	wait_until('the clients get on', sub { log_size() > $enough || !grep { $_->pumpable } @clients });
	break_server($round);
	finish_client($_, $clients[$_]) for 0 .. $#clients;
	$node->start if !defined $node->{_pid};
	$node->poll_query_until('postgres', 'SELECT true') or die "the server does not come back";

	read_log($_) for 0 .. $#roles;
	check_orders();
	check_pops();
	is(join("\n", splice(@problems, 0, 20)), '', "round $round: $n_acknowledged acknowledged, none broken");
	@problems = ();
	is($node->safe_psql('postgres', "SELECT queue_length FROM pgmq.metrics('scratch')"), 0,
		"round $round: an unlogged queue is empty");
	queues_are_sound($node, \@queues, "round $round");
}
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal (6|11)/, 'nothing but our kills ended a process');
$node->stop;
done_testing();
