# Breaks: bindings reach a server by other ways than a call there: restored from a dump,
# replayed on a standby, read by a library that is not preloaded.
#
# How we know: every key goes to the same queues everywhere, as the server's own matcher
# says; the standby shows the bindings and refuses to send.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @queues = qw(orders bills audit);
my $node = new_node('topics', init => [ allows_streaming => 1 ]);

# routes(NODE, DATABASE): what each of some keys is sent to, by send_batch_topic
sub routes
{
	my ($where, $database) = @_;

	return $where->safe_psql($database, q{
		SELECT k, string_agg(queue_name, ' ' ORDER BY ordinality)
		FROM unnest('{orders.eu.new,orders.new,bills.x,ORDERS.eu.new,x,a.b}'::text[]) k
		LEFT JOIN LATERAL pgmq.send_batch_topic(k, '{1}') WITH ORDINALITY ON true GROUP BY k ORDER BY k});
}

# The same by the server's matcher, which writes nothing
sub expected_routes
{
	my ($where, $database) = @_;

	return $where->safe_psql($database, q{
		SELECT k, string_agg(DISTINCT queue_name, ' ')
		FROM unnest('{orders.eu.new,orders.new,bills.x,ORDERS.eu.new,x,a.b}'::text[]) k
		LEFT JOIN LATERAL pgmq.test_routing(k) ON true GROUP BY k ORDER BY k});
}

$node->safe_psql('postgres', q{
	SELECT pgmq.create('orders'), pgmq.create('audit');
	SET pgmq.queue_storage = heap;
	SELECT pgmq.create('bills');
	SELECT pgmq.bind_topic('orders.*.new', 'orders'), pgmq.bind_topic('bills.#', 'bills'),
		pgmq.bind_topic('*.*', 'audit'), pgmq.bind_topic('orders.#', 'bills');
	INSERT INTO pgmq.topic_bindings VALUES ('x', 'orders'), ('a+.(b', 'audit')});
my $routes = expected_routes($node, 'postgres');
like($routes, qr/^orders\.eu\.new\|bills orders$/m, 'keys go to several queues');
is(routes($node, 'postgres'), $routes, 'sent as the patterns say');

# ---- dumped and restored ----

my $dump = "$PostgreSQL::Test::Utils::tmp_check/topics.sql";
my $bindings = 'SELECT * FROM pgmq.topic_bindings ORDER BY pattern, queue_name';

$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'restored');
is($node->safe_psql('restored', $bindings), $node->safe_psql('postgres', $bindings), 'bindings are restored as they were');
is(routes($node, 'restored'), $routes, 'a restored database sends to the same queues');
is($node->safe_psql('restored', "SELECT pgmq.drop_queue('audit'); SELECT count(*) FROM pgmq.list_topic_bindings('audit')"),
	"t\n0", 'a restored binding goes with its queue');

# ---- on a standby ----

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('topics_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', q{SELECT pgmq.bind_topic('a.*', 'orders'), pgmq.unbind_topic('x', 'orders')});
$routes = expected_routes($node, 'postgres');
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is(expected_routes($standby, 'postgres'), $routes, 'a standby knows of new bindings');
is($standby->safe_psql('postgres', q{SELECT pgmq.send_topic('nobody.at.all', '1')}), '0', 'a key without queues is no write');
my ($status, $out, $error) = $standby->psql('postgres', q{SELECT pgmq.send_topic('a.b', '1')});
like($error, qr/cannot execute INSERT in a read-only transaction/, 'a standby does not send');
$standby->promote;
is(routes($standby, 'postgres'), $routes, 'sent after the promotion');
queues_are_sound($standby, [ 'orders', 'audit' ]);
$standby->stop;

# ---- without the ring ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(routes($node, 'postgres'), $routes, 'sent without preloading');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pgmq'");
$node->restart;
is(routes($node, 'postgres'), $routes, 'sent with the ring again');
queues_are_sound($node, \@queues);

done_testing();
