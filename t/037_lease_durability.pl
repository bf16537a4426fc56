# Breaks: all processes of the server by kill -9, the moment after a read has reported
# success, with the WAL writer stopped: what the read has not flushed itself is lost.
#
# How we know: by default the lease is there after the crash, though the read has no
# transaction id, and the message is not delivered again.  With synchronous_commit or
# pgmq.synchronous_leases off the lease may be forgotten (here it is), and the message is
# delivered again, with its count of reads as before; the message itself is never lost.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('durable', conf => "autovacuum = off\npgmq.worker = off\nwal_writer_delay = 10s\n");

$node->safe_psql('postgres', q{
SELECT pgmq.create('q');
SELECT count(*) FROM pgmq.send_batch('q', (SELECT array_agg(to_jsonb(i)) FROM generate_series(1, 10) i));
SELECT count(*) FROM pgmq.metrics('q')});

# crash_after(SETTINGS, CALL): its answer, the WAL writer having slept all the time
sub crash_after
{
	my ($settings, $call) = @_;

	$node->safe_psql('postgres', 'CHECKPOINT');
	my $writer = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	kill('STOP', $writer) or die "no WAL writer";
	my $answer = $node->safe_psql('postgres', "$settings SELECT $call");
	crash($node);
	$node->start;
	return $answer;
}

# What is leased, and how often it was read
sub leased
{
	return $node->safe_psql('postgres', q{
		SELECT string_agg(msg_id || ':' || read_ct, ' ' ORDER BY msg_id) FROM pgmq.q_q WHERE vt > now()});
}

is(crash_after('', q{msg_id FROM pgmq.read('q', 3600, 1)}), '1', 'a message is read');
is(leased(), '1:1', 'its lease has survived the crash');
is(crash_after('SET pgmq.synchronous_leases = off;', q{msg_id FROM pgmq.read('q', 3600, 1)}), '2', 'another, not flushed');
is(leased(), '1:1', 'its lease is forgotten');
is(crash_after('SET synchronous_commit = off;', q{msg_id FROM pgmq.read('q', 3600, 1)}), '2', 'it comes again, not flushed either');
is(leased(), '1:1', 'its lease is forgotten, too');
is(crash_after('', q{msg_id FROM pgmq.set_vt('q', 2, 3600)}), '2', 'it is extended');
is(leased(), '1:1 2:0', 'which has survived');
is(crash_after('', q{pgmq.send('q', '11')}), '11', 'a message is sent');
is(crash_after('SET pgmq.synchronous_leases = off;', q{pgmq.delete('q', 3)}), 't', 'a message is deleted');
is($node->safe_psql('postgres', q{SELECT string_agg(msg_id::text, ' ' ORDER BY msg_id) FROM pgmq.read('q', 60, 100)}),
	'4 5 6 7 8 9 10 11', 'what is not leased or deleted is all there');
queues_are_sound($node, ['q']);
$node->stop;
done_testing();
