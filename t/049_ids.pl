# Breaks: the server stops at once, and a standby takes over, after batches have taken their
# ids from the sequence in one step; and many sessions take ids at the same time.
#
# How we know: no id is given twice, whatever happens in between, and the sequence of the
# standby is nowhere behind the messages it has.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('ids', init => [ allows_streaming => 1 ], conf => replay_check());
$node->safe_psql('postgres', q{SELECT pgmq.create('q')});

# Sends a batch; the lowest and the highest of its ids
sub send_batch
{
	my ($server, $n) = @_;

	return split /\|/, $server->safe_psql('postgres',
		qq{SELECT min(id), max(id) FROM pgmq.send_batch('q', array_fill('{}'::jsonb, ARRAY[$n])) id});
}

my $highest = 0;

for my $n (16, 100, 20, 1000)
{
	my ($from, $to) = send_batch($node, $n);

	is($from, $highest + 1, "a batch of $n begins where the last one ended");
	$highest = $to;
	$node->stop('immediate');
	$node->start;
	($from, $to) = send_batch($node, 1);
	cmp_ok($from, '>', $highest, 'an id after a crash has not been given before');
	$highest = $to;
	$node->safe_psql('postgres', 'CHECKPOINT') if $n == 100;
	($from, $to) = send_batch($node, $n);
	is($from, $highest + 1, "a batch of $n goes on from it");
	$highest = $to;
}

# Some take one id, some many
my $scripts = PostgreSQL::Test::Utils::tempdir();
append_to_file("$scripts/one.sql", qq{SELECT pgmq.send('q', '{}');\n});
append_to_file("$scripts/many.sql",
	qq{\\set n random(10, 40)\nSELECT count(*) FROM pgmq.send_batch('q', array_fill('{}'::jsonb, ARRAY[:n::int]));\n});
$node->command_ok(
	[ 'pgbench', '-n', '-c', 6, '-j', 2, '-t', 200, '-f', "$scripts/one.sql\@2", '-f', "$scripts/many.sql\@1", 'postgres' ],
	'six sessions take ids at the same time');
is($node->safe_psql('postgres', q{SELECT count(*) - count(DISTINCT msg_id) FROM pgmq.q_q}), 0, 'none twice');
is($node->safe_psql('postgres', q{SELECT max(msg_id) = last_value FROM pgmq.q_q, pgmq.q_q_msg_id_seq GROUP BY last_value}),
	't', 'the sequence is where the last id is');

$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('ids_standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
(undef, $highest) = send_batch($node, 100);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($standby->safe_psql('postgres', q{SELECT last_value >= max(msg_id) FROM pgmq.q_q, pgmq.q_q_msg_id_seq GROUP BY last_value}),
	't', 'the sequence of a standby is not behind');
$node->stop('immediate');
$standby->promote;
my ($first) = send_batch($standby, 100);
cmp_ok($first, '>', $highest, 'a standby that takes over gives ids of its own');
queues_are_sound($standby, ['q']);

done_testing();
