# Breaks: a transaction fails after its leases were written to their pages, between our
# PRE_COMMIT and the commit record.
#
# How we know: a module that is called after ours raises an error there.  The messages are
# ready again at once with the values they had before, for the functions, for plain
# queries, for updates and deletes by hand; a crash before anybody has touched them leaves
# the lease standing and nothing else.
use strict;
use warnings;

use File::Copy;
use FindBin;
use IPC::Run;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Build the module
my $build = PostgreSQL::Test::Utils::tempdir;
copy("$FindBin::RealBin/late_failure/$_", $build) for qw(Makefile late_failure.c);
my $errors = '';
IPC::Run::run([ 'make', '-s', '-C', $build ], '>', '/dev/null', '2>', \$errors)
  or die "could not build the test module: $errors";

my $node = new_node('late');
my $path = $node->safe_psql('postgres', 'SHOW dynamic_library_path');

$node->append_conf('postgresql.conf', qq{
shared_preload_libraries = 'late_failure, pgmq'
dynamic_library_path = '$build:$path'
pgmq.worker = off
});
$node->restart;

# commit_late(SQL): SQL in a transaction whose commit fails late
sub commit_late
{
	my ($sql) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "BEGIN; $sql; SET LOCAL late_failure.fail = on; COMMIT");

	like($err, qr/late failure/, "the commit of \"$sql\" fails late");
	return;
}

my $state = q{SELECT msg_id, read_ct, last_read_at IS NULL, vt <= clock_timestamp() FROM pgmq.q_l ORDER BY 1};

$node->safe_psql('postgres', q{
SELECT pgmq.create('l');
SELECT count(*) FROM pgmq.send_batch('l', '{1,2,3,4,5,6}'::jsonb[])});
commit_late(q{SELECT msg_id FROM pgmq.read('l', 3600, 6)});
my $untouched = join("\n", map { "$_|0|t|t" } 1 .. 6);
is($node->safe_psql('postgres', $state), $untouched, 'queries see the rows as they were');
queues_are_sound($node, ['l'], 'with a lease to take back');

is($node->safe_psql('postgres', q{UPDATE pgmq.q_l SET message = '"updated"' WHERE msg_id = 1 RETURNING read_ct, last_read_at IS NULL}),
	'0|t', 'an update finds the row as it was');
is($node->safe_psql('postgres', q{DELETE FROM pgmq.q_l WHERE msg_id = 2 AND vt <= clock_timestamp() RETURNING read_ct}),
	'0', 'so does a delete');
is($node->safe_psql('postgres', q{SELECT msg_id, read_ct FROM pgmq.read('l', 0, 10)}),
	join("\n", map { "$_|1" } 1, 3 .. 6), 'and so does a read');
queues_are_sound($node, ['l'], 'after the rows were touched');

commit_late(q{SELECT msg_id FROM pgmq.set_vt('l', 3, 3600)});
is($node->safe_psql('postgres', q{SELECT pgmq.delete('l', 3)}), 't', 'delete by id takes it');
commit_late(q{SELECT pgmq.delete('l', 4)});
is($node->safe_psql('postgres', q{SELECT msg_id FROM pgmq.set_vt('l', 4, 0)}), '4', 'a failed delete is none');
commit_late(q{SELECT pgmq.send('l', '7')});
is($node->safe_psql('postgres', q{SELECT queue_length, queue_visible_length FROM pgmq.metrics('l')}),
	'4|4', 'a failed send is none');
queues_are_sound($node, ['l']);

# What copies or indexes rows as they are stored meets them as they were
$node->safe_psql('postgres', q{
SELECT pgmq.create('m');
SELECT count(*) FROM pgmq.send_batch('m', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 300) i))});
foreach my $statement ('CREATE INDEX ON pgmq.q_m (vt)', 'CREATE INDEX CONCURRENTLY ON pgmq.q_m (vt)', 'CLUSTER pgmq.q_m USING by_id',
	'VACUUM FULL pgmq.q_m', "ALTER TABLE pgmq.q_m SET (fillfactor = 90), ALTER message TYPE jsonb USING message || '1'")
{
	$node->safe_psql('postgres', 'CREATE INDEX IF NOT EXISTS by_id ON pgmq.q_m (msg_id)');
	commit_late(q{SELECT count(*) FROM pgmq.read('m', 3600, 250)});
	$node->safe_psql('postgres', $statement);
	is($node->safe_psql('postgres', q{SET enable_seqscan = off; SELECT count(*) FROM pgmq.q_m WHERE vt <= now()}),
		300, "$statement keeps no lease that is taken back");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pgmq.q_m WHERE read_ct = 0 AND vt <= clock_timestamp()}),
		300, 'nor does the table');
	queues_are_sound($node, ['m'], "after $statement");
	$node->safe_psql('postgres', 'DROP INDEX IF EXISTS pgmq.q_m_vt_idx');
}

# Nobody touches it before the crash: the page is the truth then
commit_late(q{SELECT msg_id FROM pgmq.read('l', 3600, 1)});
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', q{SELECT count(*), count(*) FILTER (WHERE vt > clock_timestamp()) <= 1 FROM pgmq.q_l}),
	'4|t', 'a crash in between costs a delay at most, never a message');
queues_are_sound($node, ['l'], 'after the crash');

$node->stop;
done_testing();
