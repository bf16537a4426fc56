# Breaks: with debug_discard_caches every look at a catalog hears that everything may have
# changed: relcache entries are rebuilt while we hold pointers into them, syscache entries
# go, and what we remember of a queue is computed again and again.  Memory that was freed is
# overwritten on a server with assertions, the only one that has the setting.
#
# How we know: the same calls, on queues with triggers, groups, topics and an archive, answer
# the same as in a session that keeps its caches, and nobody crashes.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('caches');

if ($node->psql('postgres', 'SET debug_discard_caches = 1') != 0)
{
	$node->stop;
	plan(skip_all => 'the server has no debug_discard_caches');
}

# Calls on queue NAME, whose answers are without times.  The INSERT keeps NAME_2 open while a
# send looks at the triggers of NAME: then each one's memory is soon the other's.
my $calls = q{
SELECT pgmq.create('NAME');
SELECT pgmq.enable_notify_insert('NAME', 0);
SELECT * FROM pgmq.send('NAME', '{"n": 1}');
CREATE TABLE heard_NAME (msg_id bigint);
CREATE FUNCTION hear_NAME() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN INSERT INTO heard_NAME VALUES (NEW.msg_id); RETURN NEW; END';
CREATE TRIGGER zz_hear BEFORE INSERT ON pgmq.q_NAME FOR EACH ROW EXECUTE FUNCTION hear_NAME();
SELECT * FROM pgmq.send('NAME', '{"n": 2}');
SELECT pgmq.create('NAME_2');
SELECT pgmq.enable_notify_insert('NAME_2', 0);
INSERT INTO pgmq.q_NAME_2 (vt, message) SELECT now(), '{}' FROM pgmq.send('NAME', '{"n": 3}');
SELECT * FROM pgmq.send('NAME', '{"n": 4}');
ALTER TABLE pgmq.q_NAME DISABLE TRIGGER zz_hear;
SELECT * FROM pgmq.send('NAME', '{"n": 3}', '{"x-pgmq-group": "a"}'::jsonb);
ALTER TABLE pgmq.q_NAME ENABLE TRIGGER zz_hear;
SELECT * FROM pgmq.send_batch('NAME', ARRAY['{"n": 4}', '{"n": 5}']::jsonb[], 0);
DROP TRIGGER zz_hear ON pgmq.q_NAME;
SELECT * FROM pgmq.send_batch('NAME', ARRAY['{"n": 6}', '{"n": 7}']::jsonb[],
	ARRAY['{"x-pgmq-group": "a"}', '{"x-pgmq-group": "b"}']::jsonb[]);
SELECT msg_id FROM heard_NAME ORDER BY 1;
SELECT msg_id, read_ct, message FROM pgmq.read('NAME', 60, 2);
SELECT msg_id, read_ct FROM pgmq.set_vt('NAME', 1, 0);
SELECT msg_id, read_ct FROM pgmq.read_grouped('NAME', 60, 2);
SELECT msg_id, read_ct FROM pgmq.read_with_poll('NAME', 60, 1, 1, 100);
BEGIN;
SAVEPOINT s;
SELECT msg_id FROM pgmq.pop('NAME');
ROLLBACK TO s;
SELECT msg_id FROM pgmq.pop('NAME', 2);
COMMIT;
SELECT pgmq.archive('NAME', 1);
SELECT * FROM pgmq.archive('NAME', ARRAY[2, 99]);
SELECT pgmq.delete('NAME', 3);
SELECT msg_id FROM pgmq.a_NAME ORDER BY 1;
SELECT msg_id, read_ct, message FROM pgmq.q_NAME ORDER BY msg_id;
SELECT pgmq.bind_topic('t.NAME.#', 'NAME');
SELECT pgmq.send_topic('t.NAME.x', '{"n": 8}');
SELECT queue_length, total_messages FROM pgmq.metrics('NAME');
SELECT pgmq.purge_queue('NAME');
ALTER TABLE pgmq.q_NAME SET ACCESS METHOD heap;
SELECT * FROM pgmq.send('NAME', '{"n": 9}');
SELECT msg_id, read_ct, message FROM pgmq.read('NAME', 60, 2);
SELECT pgmq.drop_queue('NAME');
};
$calls =~ s/ALTER TABLE \S+ SET ACCESS METHOD heap;// if major_version($node) < 15;

sub answers
{
	my ($name, $settings) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $settings . $calls =~ s/NAME/$name/gr);

	is($status, 0, "$name: all calls are made");
	return $out . $err =~ s/$name/NAME/gr;
}

my $expected = answers('kept', '');
like($expected, qr/^3\|1$/m, 'the calls do something');
is(answers('discarded', 'SET debug_discard_caches = 1;'), $expected, 'answers do not depend on caches');
is($node->safe_psql('postgres', 'SELECT 1'), 1, 'the server stands');

$node->stop;
done_testing();
