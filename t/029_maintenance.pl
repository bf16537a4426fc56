# Breaks: tables, indexes and storage of a queue are maintained and altered in every way a
# user may think of, while producers and consumers, by functions and by plain SQL, go on.
#
# How we know: each client writes to a file outside the database what the server has
# acknowledged to it, and which errors it got.  In the end every message that was sent is
# in the queue, in the archive, or was taken by exactly one client; nobody read or took a
# message before an acknowledged lease of it had lapsed; payloads are what was sent; what
# rolled back left no trace.  No client saw an error, save where its table was not there for
# a while under its name, or a column under its.  Ring and table agree.
#
# PGMQ_MAINTENANCE_ROUNDS repeats the statements, in another order each time.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use List::Util qw(shuffle);
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $n_rounds = $ENV{PGMQ_MAINTENANCE_ROUNDS} // 1;

random_seed();
my $node = new_node(
	'maintenance', conf => q{
pgmq.worker_naptime = 100ms
autovacuum_naptime = 1s
autovacuum_vacuum_threshold = 10
autovacuum_vacuum_scale_factor = 0
allow_in_place_tablespaces = on
});
my $dir = $node->basedir;

$node->safe_psql('postgres', q{
CREATE ROLE app LOGIN;
CREATE ROLE other;
GRANT USAGE, CREATE ON SCHEMA pgmq, public TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON pgmq.meta TO app;
GRANT other TO app;
CREATE TABLESPACE elsewhere LOCATION '';
CREATE SCHEMA aside;
CREATE TABLE control (is_over bool);
INSERT INTO control VALUES (false);
GRANT SELECT ON control TO app;
SET ROLE app;
SELECT pgmq.create('orders'), pgmq.create('scratch');
CREATE FUNCTION us(timestamptz) RETURNS bigint LANGUAGE sql AS
	'SELECT (extract(epoch FROM $1) * 1000000)::bigint';
CREATE FUNCTION payload(key text) RETURNS jsonb LANGUAGE sql AS
	'SELECT jsonb_build_object(''k'', $1, ''pad'', repeat(''x'', length($1) * 40))';
CREATE FUNCTION do_nothing() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN RETURN CASE TG_OP WHEN ''DELETE'' THEN OLD ELSE NEW END; END';
CREATE FUNCTION count_and_drop() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	LOCK TABLE pgmq.q_scratch;
	SELECT count(*) INTO n FROM pgmq.q_scratch;
	PERFORM pgmq.drop_queue('scratch'), pgmq.create('scratch');
	RETURN n;
END $$;
});

# ---- the clients ----
#
#	S id key			sent to orders			X id			the same, then rolled back
#	B ids... key		sent as a batch, with keys key.1, key.2, ...
#	R id ct at until	leased, or extended
#	T id time			taken: popped, deleted or archived at this time or before
#	Z					sent to scratch
#	E state what		an error

my $lease = 'msg_id, read_ct, us(last_read_at), us(vt)';

sub checked
{
	my ($what, $sql, $success) = @_;

	return "$sql\n\\if :ERROR\n\\echo E :LAST_ERROR_SQLSTATE $what\n\\else\n" . ($success // '') . "\\endif\n";
}

sub send_sql
{
	my ($n) = @_;
	my $headers = $n % 3 ? 'NULL' : qq{'{"x-pgmq-group": "g@{[$n % 5]}"}'};
	my $delay = $n % 7 ? 0 : 1 + $n % 2;

	return "SELECT send AS id FROM pgmq.send('orders', payload(:'who' || '.$n'), $headers, $delay) \\gset";
}

my $take_by_sql = q{WITH c AS (
	SELECT msg_id FROM pgmq.q_orders WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT 2 FOR UPDATE SKIP LOCKED)
DELETE FROM pgmq.q_orders q USING c WHERE q.msg_id = c.msg_id};

my %roles = (
	send => sub {
		my ($n) = @_;
		return "\\unset id\nBEGIN;\n" . checked('send', send_sql($n)) . "ROLLBACK;\n\\if :{?id}\n\\echo X :id\n\\endif\n" if $n % 5 == 0;
		return checked('send', send_sql($n), "\\echo S :id :who.$n\n");
	},
	batch => sub {
		my ($n) = @_;
		return checked('batch', "SELECT string_agg(id::text, ' ' ORDER BY place) AS ids FROM pgmq.send_batch('orders', "
			  . "(SELECT array_agg(payload(:'who' || '.$n.' || i)) FROM generate_series(1, 4) i)) WITH ORDINALITY AS s(id, place) \\gset",
			"\\echo B :ids :who.$n\n");
	},
	lease => sub {
		my ($n) = @_;
		my $read = $n % 4 == 0 ? "read_with_poll('orders', 1, 2, 1, 10)"
		  : $n % 4 == 1 ? "read_grouped_rr('orders', 1, 2)"
		  : $n % 4 == 2 ? "read('orders', 1, 3)" : "read('orders', 3600, 1)";
		return checked('lease', "SELECT 'R', $lease FROM pgmq.$read;");
	},
	consume => sub {
		my ($n) = @_;
		my $verb = $n % 2 ? 'delete' : 'archive';
		my $extend = $n % 3 ? '' : checked('extend', "SELECT 'R', $lease FROM pgmq.set_vt('orders', :id::bigint, 40);");
		return "\\unset id\n" . checked('read', "SELECT msg_id AS id, read_ct AS ct, us(last_read_at) AS at, us(vt) AS until "
			  . "FROM (SELECT) AS one LEFT JOIN pgmq.read('orders', 30, 1) ON true \\gset",
			"\\if :{?id}\n\\echo R :id :ct :at :until\n$extend"
			  . checked($verb, "SELECT pgmq.$verb('orders', :id::bigint) AS gone \\gset",
				"\\if :gone\n\\echo O :id\n\\else\n\\echo E none $verb :id\n\\endif\n")
			  . "\\endif\n");
	},
	take => sub {
		my ($n) = @_;
		return checked('pop', "SELECT 'T', msg_id, us(clock_timestamp()) FROM pgmq.pop('orders', 2);") if $n % 2;
		return checked('sql', "$take_by_sql RETURNING 'T', q.msg_id, us(clock_timestamp());");
	},
	scratch => sub {
		return checked('scratch', "SELECT count(*) FROM pgmq.send('scratch', '{}') \\gset", "\\echo Z\n");
	});
my @clients = qw(send send batch lease lease consume consume take scratch);

# Who sends does so at leisure: the queue is to be short, and all of it in motion
my %pause = (send => 'SELECT pg_sleep(0.004) AS slept \\gset', batch => 'SELECT pg_sleep(0.03) AS slept \\gset', scratch => 'SELECT pg_sleep(0.01) AS slept \\gset');

sub client_file { return "$dir/client_$_[0].sql"; }
sub log_file { return "$dir/client_$_[0].log"; }

foreach my $i (0 .. $#clients)
{
	append_to_file(client_file($i), join('', map {
		$roles{ $clients[$i] }->($_) . ($pause{ $clients[$i] } // '') . "\n" . ($_ % 4 ? '' : "SELECT is_over FROM control \\gset\n\\if :is_over\n\\q\n\\endif\n")
	} 1 .. 20000));
	append_to_file(log_file($i), '');
}

my @running;
my $n_starts = 0;

sub start_clients
{
	$node->safe_psql('postgres', 'UPDATE control SET is_over = false');
	$n_starts++;
	@running = map {
		IPC::Run::start([ 'psql', '-X', '-q', '-A', '-t', '-F', ' ', '-v', "who=$n_starts.$_", '-U', 'app',
				'-d', $node->connstr('postgres'), '-f', client_file($_) ],
			'>>', log_file($_), '2>>', "$dir/client_$_.err")
	} 0 .. $#clients;
	return;
}

sub stop_clients
{
	$node->safe_psql('postgres', 'UPDATE control SET is_over = true');
	$_->finish foreach @running;
	return is(join(' ', map { $_->full_result(0) } @running), join(' ', map { 0 } @running), 'all clients ended well');
}

# ---- the books ----

my %sent;           # id -> key
my %rolled_back;
my %leases;         # id -> read_ct -> [at, until]
my %taken;          # id -> time, or 0 where its taker had leased it
my $n_scratch = 0;
my $n_gone_from_scratch = 0;
my %errors;         # state and what -> times
my @problems;
my @offsets = map { 0 } @clients;

sub note_lease
{
	my ($id, $ct, $at, $until) = @_;
	my $known = $leases{$id}{$ct} //= [ $at, $until ];

	push @problems, "$id: delivered twice as read $ct, at $known->[0] and $at" if $known->[0] != $at;
	$known->[1] = $until if $until > $known->[1];
	return;
}

sub note_taken
{
	my ($id, $at) = @_;

	push @problems, "$id: taken twice" if defined $taken{$id};
	$taken{$id} = $at;
	return;
}

my %note = (
	S => sub { $sent{ $_[0] } = $_[1] },
	B => sub {
		my $key = pop;
		$sent{ $_[$_] } = "$key." . ($_ + 1) for 0 .. $#_;
	},
	X => sub { $rolled_back{ $_[0] } = 1 },
	R => \&note_lease,
	T => \&note_taken,
	O => sub { note_taken($_[0], 0) },
	Z => sub { $n_scratch++ },
	E => sub { $errors{"@_"}++ });

sub read_logs
{
	foreach my $i (0 .. $#clients)
	{
		foreach my $line (split /\n/, slurp_file(log_file($i), $offsets[$i]))
		{
			my ($what, @args) = split / /, $line;
			$note{$what}->(@args);
		}
		$offsets[$i] = -s log_file($i);
	}
	return;
}

sub check_leases
{
	while (my ($id, $by_ct) = each %leases)
	{
		my $before;
		foreach my $ct (sort { $a <=> $b } keys %$by_ct)
		{
			my $now = $by_ct->{$ct};
			push @problems, "$id: read $ct at $now->[0] came before $before->[1], the end of an acknowledged lease"
			  if $before && $now->[0] < $before->[1];
			$before = $now;
		}
		push @problems, "$id: taken at $taken{$id}, leased until $before->[1]" if $taken{$id} && $taken{$id} < $before->[1];
	}
	return;
}

sub rows
{
	my ($sql) = @_;

	return map { [ split /\|/, $_ ] } split /\n/, $node->safe_psql('postgres', $sql);
}

sub check_books
{
	my ($when) = @_;
	my %there;

	read_logs();
	check_leases();
	foreach (rows(q{SELECT msg_id, message->>'k', length(message->>'pad') = 40 * length(message->>'k'), read_ct, us(vt) FROM pgmq.q_orders
		UNION ALL SELECT msg_id, message->>'k', true, -1, NULL FROM pgmq.a_orders}))
	{
		my ($id, $key, $is_whole, $ct, $until) = @$_;
		push @problems, "$id: there twice" if $there{$id}++;
		push @problems, "$id: rolled back but there" if $rolled_back{$id};
		push @problems, "$id: sent by nobody" if !defined $sent{$id};
		push @problems, "$id: is $key ($is_whole), was $sent{$id}" if defined $sent{$id} && ($key ne $sent{$id} || $is_whole ne 't');
		push @problems, "$id: taken but in the queue" if $ct >= 0 && defined $taken{$id};
		my ($last) = sort { $b <=> $a } keys %{ $leases{$id} // {} };
		push @problems, "$id: read_ct is $ct, vt $until, acknowledged were $last, $leases{$id}{$last}[1]"
		  if $ct >= 0 && $last && ($ct < $last || ($ct == $last && $until != $leases{$id}{$last}[1]));
	}
	push @problems, map { "$_: lost" } grep { !$there{$_} && !defined $taken{$_} } keys %sent;
	push @problems, map { "$_: taken but sent by nobody" } grep { !defined $sent{$_} } keys %taken;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pgmq.q_scratch') + $n_gone_from_scratch, $n_scratch,
		"$when: what was purged, dropped and left over is what was sent");
	is(join("\n", splice(@problems, 0, 20)), '', sprintf('%s: %d sent, %d taken, %d leases, the books are right',
			$when, scalar keys %sent, scalar keys %taken, scalar keys %leases));
	@problems = ();
	is($node->safe_psql('postgres', q{SELECT queue_length = (SELECT count(*) FROM pgmq.q_orders) FROM pgmq.metrics('orders')}), 't',
		"$when: metrics() counts right");
	queues_are_sound($node, [qw(orders scratch)], $when);
	return;
}

# Errors that clients got, but for those that were to be expected
sub check_errors
{
	my ($when, $expected) = @_;
	my @unexpected = grep { !defined $expected || $_ !~ $expected } sort keys %errors;

	is(join(', ', @unexpected), '', "$when: no client got an error" . (defined $expected ? ' that was not expected' : ''));
	%errors = ();
	return;
}

# ---- what is done to the tables ----

my $q = 'pgmq.q_orders';
my @set_access_method = major_version($node) < 15 ? () :
  ([ "ALTER TABLE $q SET ACCESS METHOD heap", "ALTER TABLE $q SET ACCESS METHOD pgmq" ]);
my @harmless = (
	["VACUUM $q"], ["VACUUM FULL $q"], ["VACUUM FREEZE $q"], ["VACUUM (DISABLE_PAGE_SKIPPING, ANALYZE) $q"], ["ANALYZE $q"],
	[ "CREATE INDEX o_id ON $q (msg_id)", "CLUSTER $q USING o_id", "CLUSTER $q", "DROP INDEX pgmq.o_id" ],
	[ "CREATE INDEX o_vt ON $q (vt)", "VACUUM $q", "REINDEX INDEX pgmq.o_vt", "CLUSTER $q USING o_vt", 'DROP INDEX CONCURRENTLY pgmq.o_vt' ],
	[ "CREATE INDEX CONCURRENTLY o_vt ON $q (vt, read_ct)", "REINDEX TABLE CONCURRENTLY $q", "VACUUM FULL $q", 'DROP INDEX pgmq.o_vt' ],
	[ "CREATE INDEX CONCURRENTLY o_read ON $q (last_read_at) WHERE read_ct > 0", "REINDEX INDEX CONCURRENTLY pgmq.o_read",
		'DROP INDEX CONCURRENTLY pgmq.o_read' ],
	[ "CREATE UNIQUE INDEX CONCURRENTLY o_key ON $q (msg_id)", "ALTER TABLE $q ADD PRIMARY KEY USING INDEX o_key",
		"REINDEX TABLE $q", "ALTER TABLE $q REPLICA IDENTITY FULL", "ALTER TABLE $q REPLICA IDENTITY DEFAULT", "ALTER TABLE $q DROP CONSTRAINT o_key" ],
	[ "ALTER TABLE $q SET (fillfactor = 50)", "ALTER TABLE $q SET (autovacuum_enabled = off, toast.autovacuum_enabled = off)",
		"ALTER TABLE $q RESET (fillfactor, autovacuum_enabled, toast.autovacuum_enabled)" ],
	[ "ALTER TABLE $q ADD CONSTRAINT o_check CHECK (read_ct >= 0) NOT VALID", "ALTER TABLE $q VALIDATE CONSTRAINT o_check",
		"ALTER TABLE $q DROP CONSTRAINT o_check" ],
	[ "CREATE TRIGGER o_trigger BEFORE INSERT OR UPDATE OR DELETE ON $q FOR EACH ROW EXECUTE FUNCTION do_nothing()",
		"ALTER TABLE $q DISABLE TRIGGER o_trigger", "ALTER TABLE $q ENABLE ALWAYS TRIGGER o_trigger", "DROP TRIGGER o_trigger ON $q" ],
	[ "CREATE RULE o_rule AS ON INSERT TO $q DO ALSO NOTHING", "ALTER TABLE $q DISABLE RULE o_rule", "DROP RULE o_rule ON $q" ],
	[ "BEGIN; CREATE POLICY o_policy ON $q USING (true); ALTER TABLE $q ENABLE ROW LEVEL SECURITY; COMMIT",
		"ALTER TABLE $q FORCE ROW LEVEL SECURITY", "ALTER TABLE $q NO FORCE ROW LEVEL SECURITY",
		"ALTER TABLE $q DISABLE ROW LEVEL SECURITY", "DROP POLICY o_policy ON $q" ],
	[ "ALTER TABLE $q SET TABLESPACE elsewhere", "VACUUM (FULL, FREEZE) $q", "ALTER TABLE $q SET TABLESPACE pg_default" ],
	[ "ALTER TABLE $q SET UNLOGGED", "ALTER TABLE $q SET LOGGED" ],
	[ "BEGIN; ALTER TABLE $q OWNER TO other; GRANT ALL ON $q TO app; COMMIT", "ALTER TABLE $q OWNER TO app" ],
	[ "GRANT SELECT ON $q TO other", "REVOKE SELECT ON $q FROM other", "COMMENT ON TABLE $q IS 'maintained'" ],
	[ "CREATE TABLE aside.child () INHERITS ($q) USING heap", "ALTER TABLE aside.child NO INHERIT $q", 'DROP TABLE aside.child', "ANALYZE $q" ],
	[ "ALTER TABLE $q ALTER message SET STORAGE EXTERNAL", "ALTER TABLE $q ALTER message SET STATISTICS 10",
		"ALTER TABLE $q ALTER message SET STORAGE EXTENDED" ],
	[ "ALTER TABLE $q ALTER headers SET DEFAULT '{}'", "ALTER TABLE $q ALTER headers DROP DEFAULT",
		"ALTER TABLE $q ALTER message SET NOT NULL", "ALTER TABLE $q ALTER message DROP NOT NULL" ],
	[ "ALTER TABLE $q ALTER msg_id SET GENERATED BY DEFAULT", "ALTER TABLE $q ALTER msg_id SET INCREMENT BY 3",
		'ALTER SEQUENCE pgmq.q_orders_msg_id_seq CACHE 20', "ALTER TABLE $q ALTER msg_id SET INCREMENT BY 1 SET GENERATED ALWAYS" ],
	[ "BEGIN; ALTER TABLE $q ALTER msg_id DROP IDENTITY; ALTER TABLE $q ALTER msg_id ADD GENERATED ALWAYS AS IDENTITY (START 10000000); COMMIT" ],
	[ "ALTER TABLE $q ALTER vt TYPE timestamptz(6)", "ALTER TABLE $q ALTER vt TYPE timestamptz" ],
	[ "BEGIN; ALTER TABLE $q ALTER vt TYPE timestamp; ALTER TABLE $q ALTER vt TYPE timestamptz; COMMIT" ],
	[ "CREATE STATISTICS aside.o_stats ON msg_id, read_ct FROM $q", "ANALYZE $q", 'DROP STATISTICS aside.o_stats' ],
	[ q{SELECT pgmq.convert_queue('orders', 'heap')}, "VACUUM $q", q{SELECT pgmq.convert_queue('orders', 'hot')} ],
	@set_access_method,
	[ "ALTER EXTENSION pgmq UPDATE", "ALTER EXTENSION pgmq ADD TABLE $q", "ALTER EXTENSION pgmq DROP TABLE $q" ],
	[ "BEGIN; TRUNCATE $q; SELECT pgmq.send('orders', '{}'); ROLLBACK", "BEGIN; DROP TABLE $q; SAVEPOINT s; SELECT 1; ROLLBACK" ],
	[ "BEGIN; SAVEPOINT s; ALTER TABLE $q ADD x int DEFAULT random() * 10; SELECT count(*) FROM $q; ROLLBACK TO s; COMMIT" ],
	[ "CREATE INDEX o_id ON $q (msg_id)", "BEGIN; SELECT count(*) FROM pgmq.pop('orders', 5); SELECT count(*) FROM pgmq.read('orders', 60, 5); "
		  . "CLUSTER $q USING o_id; SELECT count(*) FROM pgmq.read('orders', 60, 5); ROLLBACK", 'DROP INDEX pgmq.o_id' ],
	[ "BEGIN; SAVEPOINT s; SELECT count(*) FROM pgmq.pop('orders', 3); ALTER TABLE $q SET UNLOGGED; ROLLBACK TO s; "
		  . "SELECT count(*) FROM pgmq.set_vt('orders', (SELECT min(msg_id) FROM $q WHERE vt < now()), 0) WHERE false; COMMIT" ],
	[ "BEGIN; ALTER TABLE $q RENAME TO q_away; ALTER TABLE pgmq.q_away RENAME TO q_orders; COMMIT" ],
	[ "BEGIN; ALTER TABLE $q SET SCHEMA aside; ALTER TABLE aside.q_orders SET SCHEMA pgmq; COMMIT" ],
	[ "BEGIN; ALTER TABLE $q RENAME vt TO til; ALTER TABLE $q RENAME til TO vt; COMMIT" ],
	[ q{PURGE SELECT pgmq.purge_queue('scratch')} ], [ q{PURGE SELECT pgmq.purge_queue('scratch')} ],
	[ 'PURGE SET ROLE app; SELECT count_and_drop()' ], [ 'PURGE SET ROLE app; SELECT count_and_drop()' ],
	[ 'BEGIN; SELECT pgmq.purge_queue(\'scratch\'); ROLLBACK', 'BEGIN; SET ROLE app; SELECT count_and_drop(); ROLLBACK' ]);

# Names are away for a moment: 42P01 no such table, 42703 no such column
my @awkward = (
	[ "ALTER TABLE $q RENAME TO q_away", 'VACUUM FULL pgmq.q_away', 'ALTER TABLE pgmq.q_away RENAME TO q_orders' ],
	[ "ALTER TABLE $q SET SCHEMA aside", 'ALTER TABLE aside.q_orders SET SCHEMA pgmq' ],
	[ "ALTER TABLE $q RENAME vt TO til", "ALTER TABLE $q RENAME til TO vt" ],
	[ "ALTER TABLE $q RENAME message TO body", "ALTER TABLE $q RENAME body TO message" ],
	[ 'ALTER TABLE pgmq.a_orders RENAME TO a_away', 'ALTER TABLE pgmq.a_away RENAME TO a_orders' ]);

# What leaves the table with another shape than it was made with
my @lasting = (
	[ "ALTER TABLE $q ADD extra int", "ALTER TABLE $q ADD more int DEFAULT random() * 10", "VACUUM FULL $q",
		"CREATE INDEX CONCURRENTLY o_more ON $q (more)", "ALTER TABLE $q DROP extra, DROP more", "VACUUM FULL $q" ],
	[ "ALTER TABLE $q ADD twice int GENERATED ALWAYS AS (read_ct * 2) STORED", "ALTER TABLE $q DROP twice" ],
	@set_access_method);

sub run_group
{
	my ($group) = @_;

	foreach my $statement (@$group)
	{
		my $purges = $statement =~ /^PURGE (.*)/;
		my $sql = $purges ? $1 : $statement;
		my ($status, $out, $err) = $node->psql('postgres', $sql);

		note($sql);
		fail("\"$sql\": $err") if $err =~ /ERROR|WARNING|FATAL/ || $status != 0;
		$n_gone_from_scratch += (split /\n/, $out)[-1] if $purges;
		my $size = -s log_file(0);
		wait_until('the clients get on', sub { -s log_file(0) > $size + 100 });
	}
	return;
}

foreach my $round (1 .. $n_rounds)
{
	start_clients();
	run_group($_) foreach shuffle(@harmless);
	stop_clients();
	check_books("round $round, maintained");
	check_errors("round $round, maintained");
	is($node->safe_psql('postgres', q{SELECT amname FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE c.oid = 'pgmq.q_orders'::regclass}),
		'pgmq', 'the queue is hot');
	$node->restart;

	start_clients();
	run_group($_) foreach shuffle(@awkward);
	stop_clients();
	check_books("round $round, renamed");
	check_errors("round $round, renamed", qr/^42P01 |^42703 /);
	$node->restart if $round % 2;
}

start_clients();
run_group($_) foreach @lasting;
stop_clients();
check_books('in another shape');
check_errors('in another shape');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal (6|11)|WARNING/, 'no process was lost, no leak was reported');
$node->stop;
done_testing();
