# Breaks: one of the ring's moves is wrong, in an order of events nobody thought of: a
# claim, a rollback to a savepoint and a row lock, a scan of the table between the moment
# a transaction's rows become visible and its COMMIT callback, a pool that is full.
#
# How we know: t/ringdriver compiles src/shmem and src/xact once more and drives them with
# random operations of five sessions in one process, one step at a time.  After each step
# the rings' invariants are looked at, and what reads return is compared with a model
# of plain arrays (t/ringdriver/model.c); nobody may be asleep while there is a message that
# it could have and nobody was woken for (t/ringdriver/sleepers.c).  In half of the episodes others run at the
# failpoints within callbacks, while undecided messages are settled, and in reads by group.
#
# An error names the seed of its episode: repeat it with PGMQ_TEST_SEED.  Other episodes each
# time by default; PGMQ_RING_OPERATIONS=1000000 does as many operations.  PGMQ_RING_CFLAGS are
# further options of the compiler, such as -fsanitize=address,undefined.
use strict;
use warnings;

use FindBin;
use IPC::Run;
use lib $FindBin::RealBin;
use PgmqTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $episode = 1500;    # operations

my $build = PostgreSQL::Test::Utils::tempdir;
my $here = "$FindBin::RealBin/ringdriver";
my $errors = '';
system_or_bail('cp', glob("$here/*"), $build);
IPC::Run::run(
	[
		'make', '-s', '-C', $build, "SOURCES=$FindBin::RealBin/../src",
		'COPT=-DUSE_ASSERT_CHECKING ' . ($ENV{PGMQ_RING_CFLAGS} // '')
	],
	'>', '/dev/null', '2>', \$errors) or die "could not build the driver: $errors";

my $node = PostgreSQL::Test::Cluster->new('ringdriver');
$node->init;
$node->start;
$node->safe_psql('postgres', qq{
CREATE FUNCTION ring_model(seed bigint, operations bigint, check_interval int)
RETURNS text LANGUAGE c AS '$build/ringdriver.so', 'ring_model'});

my $seed = random_seed();
my $operations = $ENV{PGMQ_RING_OPERATIONS} // 30 * $episode;
my ($done, $status, $out, $err) = (0, 0, '', '');

while ($done < $operations)
{
	($status, $out, $err) = $node->psql('postgres', "SELECT ring_model($seed, $episode, 1)");
	last if $status != 0;
	$seed++;
	$done += $episode;
}
is($err, '', "ring and model agree over $done operations") or diag("PGMQ_TEST_SEED=$seed");
note($out);
like($out, qr/granted [1-9]\d*, compared calls [1-9]/, 'messages were handed out, and compared');

$node->stop;
done_testing();
