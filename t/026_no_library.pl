# Breaks: a standby, and a restore from a base backup and the archived WAL, on servers where
# our library is neither preloaded nor to be had: the file is there, but broken, so that
# whoever loads it fails.
#
# How we know: both replay everything, comparing pages as they do, and end with the primary's
# pages, lease columns included.  They refuse what needs the library with the server's own
# error and serve everything else, also when writable.  Once the library is back no lease is
# forgotten, no message lost, ring and table agree.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use File::Path qw(make_path);
use PgmqReplica;
use PgmqTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node(
	'primary', init => [ allows_streaming => 1, has_archiving => 1 ], conf => replay_check() . q{
max_connections = 20
pgmq.worker_naptime = 50ms
});
my $has_pages = has_extension($primary, 'pageinspect');
my @tables = qw(pgmq.q_orders pgmq.a_orders);

# Settings under which nobody can load the library: by its name it is found in a folder of
# ours first (Debian's servers up to 17, all from 18 on)
my $dir = PostgreSQL::Test::Utils::tempdir;
my ($libdir) = run_ok('pg_config', '--pkglibdir') =~ /(.+)/;
make_path("$dir$libdir");
append_to_file($_, 'no library') foreach "$dir/pgmq.so", "$dir$libdir/pgmq.so";
my $no_library = "shared_preload_libraries = ''\ndynamic_library_path = '$dir:\$libdir'\nautovacuum = off\n";
$no_library .= "extension_destdir = '$dir'\n"
  if $primary->safe_psql('postgres', q{SELECT count(*) FROM pg_settings WHERE name = 'extension_destdir'});

# ---- work before, during and after the base backup ----

my $work = q{
	SELECT count(*) FROM pgmq.send_batch('orders', (SELECT array_agg(jsonb_build_object('n', i)) FROM generate_series(1, 1000) i));
	SELECT count(*) FROM pgmq.read('orders', 3600, 100);
	SELECT count(*) FROM pgmq.read('orders', 1, 50);
	SELECT count(*) FROM pgmq.delete('orders', (SELECT array_agg(msg_id) FROM (SELECT msg_id FROM pgmq.q_orders ORDER BY msg_id LIMIT 20) m));
	SELECT count(*) FROM pgmq.archive('orders', (SELECT array_agg(msg_id) FROM (SELECT msg_id FROM pgmq.q_orders ORDER BY msg_id LIMIT 20) m));
	BEGIN; SELECT count(*) FROM pgmq.read('orders', 3600, 500); ROLLBACK;
	VACUUM pgmq.q_orders;
	CHECKPOINT;
	SELECT count(*) FROM pgmq.read('orders', 3600, 10);
	SELECT count(*) FROM pgmq.set_vt('orders', (SELECT array_agg(msg_id) FROM (SELECT msg_id FROM pgmq.q_orders ORDER BY msg_id DESC LIMIT 20) m), 7200);
};
$primary->safe_psql('postgres', "SELECT pgmq.create('orders'); $work");
$primary->safe_psql('postgres', 'CREATE EXTENSION pageinspect') if $has_pages;
$primary->backup('base');
$primary->safe_psql('postgres', $work);

my $standby = new_standby('standby', $primary, 'base', $no_library);
$primary->safe_psql('postgres', $work . q{
	CREATE INDEX ON pgmq.q_orders (msg_id);
	VACUUM FULL pgmq.q_orders;
	BEGIN; SELECT send FROM pgmq.send('orders', '"prepared"'); PREPARE TRANSACTION 'p';
} . $work);
my $contents = "SELECT * FROM pgmq.q_orders ORDER BY msg_id";
my $rows = $primary->safe_psql('postgres', $contents);
my $archived = $primary->safe_psql('postgres', 'SELECT * FROM pgmq.a_orders ORDER BY msg_id');

# ---- without the library ----

my $no_library_error = qr/ERROR: .*(?:could not load library|could not access file) ".*pgmq/;

sub is_hidden
{
	my ($node) = @_;

	return $node->psql('postgres', "LOAD '\$libdir/pgmq'") != 0;
}

sub is_without_library
{
	my ($node, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($status, $out, $err);
	SKIP:
	{
		skip 'the library is in a folder of the server, found first', 2 if !is_hidden($node);
		foreach my $query ($contents, "SELECT pgmq.read('orders', 60, 1)")
		{
			($status, $out, $err) = $node->psql('postgres', $query);
			like($err, $no_library_error, "$what: no $query");
		}
	}
	is($node->safe_psql('postgres', 'SELECT * FROM pgmq.a_orders ORDER BY msg_id'), $archived, "$what: archives can be read");
	return;
}

# Nothing runs on the primary but its worker, which has nothing left to do once it has vacuumed
my $pages;
if ($has_pages)
{
	wait_until('the primary is at rest', sub {
		my $before = $pages // '';
		$pages = pages_in_files($primary, \@tables);
		catch_up($primary, $standby);
		$pages eq $before && $pages eq pages_in_files($standby, \@tables);
	});
	pass('pages of the standby are those of the primary');
}
is_without_library($standby, 'on the standby');
archive_wal($primary);
catch_up($primary, $standby);
end_sessions();
$primary->stop;

my $restored = PostgreSQL::Test::Cluster->new('restored');
$restored->init_from_backup($primary, 'base', has_restoring => 1, standby => 0);
$restored->append_conf('postgresql.conf', $no_library . "archive_mode = off\n");
$restored->start;
$standby->promote;

foreach my $node ($standby, $restored)
{
	my $name = $node->name;

	$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die "$name is not writable";
	# (first of all: what looks at rows sets hint bits, which is logged)
	is(pages_in_files($node, \@tables), $pages, "$name: pages are those of the primary") if $pages;
	end_sessions();
	is_without_library($node, "$name, writable") if $node == $restored;
	SKIP:
	{
		skip 'no pageinspect, or not without a library', 2 if !$has_pages || $node != $restored || !is_hidden($node);
		my ($status, $out, $err) = $node->psql('postgres', 'DROP EXTENSION pageinspect');
		like($err, $no_library_error, "$name: no extension can be dropped");
		$node->safe_psql('postgres', q{
			ALTER EVENT TRIGGER pgmq_before_drop_extension DISABLE;
			DROP EXTENSION pageinspect;
			ALTER EVENT TRIGGER pgmq_before_drop_extension ENABLE});
		pass("$name: but for who disables the event trigger");
	}
	is($node->safe_psql('postgres', q{
		CREATE TABLE other (i int);
		INSERT INTO other SELECT generate_series(1, 10);
		VACUUM other;
		SELECT count(*) FROM other;
		SELECT count(*) FROM pgmq.meta}), "10\n1", "$name: what is not ours works");

	# ---- the library is back, first not preloaded ----

	$node->append_conf('postgresql.conf', "dynamic_library_path = '\$libdir'\n" . slurp_file($ENV{TEMP_CONFIG}) . "shared_preload_libraries = ''\n");
	$node->restart;
	is($node->safe_psql('postgres', $contents), $rows, "$name: all rows are there");
	is($node->safe_psql('postgres', q{
		CREATE TABLE held AS SELECT msg_id FROM pgmq.q_orders WHERE vt > now() + interval '1 min';
		SELECT count(*) FROM (SELECT msg_id FROM pgmq.read('orders', 3600, 10)) r JOIN held USING (msg_id)}), '0',
		"$name: leases hold without a ring");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pgmq'\n");
	$node->restart;
	is($node->safe_psql('postgres', q{
		COMMIT PREPARED 'p';
		SELECT message FROM pgmq.read('orders', 60, 1, '"prepared"');
		CREATE TEMP TABLE got AS SELECT * FROM pgmq.read('orders', 60, 100000);
		SELECT count(*) FROM got JOIN held USING (msg_id);
		SELECT count(*) > 1000 FROM got;
		SELECT count(*) FROM pgmq.q_orders WHERE vt <= (SELECT min(last_read_at) FROM got)}), qq("prepared"\n0\nt\n0),
		"$name: leases hold, everything else is delivered");
	queues_are_sound($node, ['orders'], "on $name");
	$node->stop;
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP|signal|inconsistent page/, "$name: no process was lost");
}
done_testing();
