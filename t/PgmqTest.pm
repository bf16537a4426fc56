# What the tests of this folder share: servers with the extension, crashes, waiting,
# and the check that ends every test.
package PgmqTest;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use POSIX 'WNOHANG';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(
  new_node major_version remove_setting random_seed wait_until answer_of archive_wal queues_are_sound balance_books crash end_backend median
  children_of processes_left replay_check
);

# Settings of a server whose replay compares each page with what it was, but for generic
# records: their mask keeps hint bits.  'all' has no exceptions, so they are listed.  From 16
# on, rows are frozen as pages are vacuumed; where a row's own transaction had deleted it, and
# taken that back, HEAP_COMBOCID stays then, replay of a row lock clears it, and the mask of a
# frozen row keeps it.  So heap's own records are left out there.
sub replay_check
{
	my ($major) = `pg_config --version` =~ /(\d+)/;
	my @rmgrs = (($major < 16 ? 'heap' : ()), qw(heap2 btree hash gin gist sequence spgist brin));

	return "wal_consistency_checking = '" . join(',', @rmgrs) . "'\n";
}

# new_node(NAME, init => [...], conf => 'lines'): a running server with the extension
sub new_node
{
	my ($name, %params) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(@{ $params{init} // [] });
	$node->append_conf('postgresql.conf', "log_statement = none\n" . ($params{conf} // ''));
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION pgmq');
	return $node;
}

# The server's major version; 14's own modules do not say it
sub major_version
{
	my ($node) = @_;

	return int($node->safe_psql('postgres', 'SHOW server_version_num') / 10_000);
}

# Undoes ALTER SYSTEM SET where no session lives long enough to do it
sub remove_setting
{
	my ($node, $setting) = @_;
	my $file = $node->data_dir . '/postgresql.auto.conf';
	my $lines = join '', grep { !/^\Q$setting\E / } split /^/, slurp_file($file);

	open my $handle, '>', $file or die "$file: $!";
	print $handle $lines;
	close $handle or die "$file: $!";
	return;
}

# Seeds rand(): with PGMQ_TEST_SEED, or a number that is printed to be used again
sub random_seed
{
	my $seed = $ENV{PGMQ_TEST_SEED} // int(time() * 1000) % 1_000_000_000;

	diag("PGMQ_TEST_SEED=$seed");
	srand($seed);
	return $seed;
}

# wait_until(WHAT, CODE [, SECONDS]): the time it took until CODE was true; dies if never
sub wait_until
{
	my ($what, $code, $seconds) = @_;
	my $start = time();

	$seconds //= $PostgreSQL::Test::Utils::timeout_default;
	until ($code->())
	{
		die "waited $seconds s in vain: $what" if time() - $start > $seconds;
		usleep(10_000);
	}
	return time() - $start;
}

# What a server that may be down answers; undef if it does not.  (psql() writes the query to
# psql, and dies where that was refused and has gone before.)
sub answer_of
{
	my ($node, $query) = @_;
	my ($out, $err);

	IPC::Run::run([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $query ], '>', \$out, '2>', \$err)
	  or return;
	chomp $out;
	return $out;
}

# Waits until all that is written so far is in the archive
sub archive_wal
{
	my ($node) = @_;
	my $file = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal() - 1)');

	$node->poll_query_until('postgres', "SELECT last_archived_wal >= '$file' FROM pg_stat_archiver")
	  or die 'the WAL is not archived';
	return;
}

# Every test ends with it: the rings say what the tables say
sub queues_are_sound
{
	my ($node, $queues, $when) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my @problems = map {
		my $queue = $_;
		map { "$queue: $_" }
		  split /\n/, $node->safe_psql('postgres', "SELECT * FROM pgmq.check_queue('$queue')");
	} @$queues;
	return is(join("\n", @problems), '', "check_queue is clean for @$queues" . ($when ? ", $when" : ''));
}

# balance_books(NODE, EVERYTHING, WHEN): tables sent, and leases (msg_id, taken, until), hold
# what was acknowledged; EVERYTHING is a query of what there is, or was removed
sub balance_books
{
	my ($node, $everything, $when) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', "SELECT count(*) FROM (SELECT * FROM sent EXCEPT ALL ($everything)) x"), 0, "$when: nothing is lost");
	is($node->safe_psql('postgres', "SELECT count(*) FROM (($everything) EXCEPT ALL SELECT * FROM sent) x"),
		0, "$when: nothing is doubled, or came from nowhere");
	is($node->safe_psql('postgres', q{SELECT count(*) FROM
			(SELECT *, lag(until) OVER (PARTITION BY msg_id ORDER BY taken) AS before FROM leases) l WHERE taken < before}),
		0, "$when: no two leases of a message overlap");
	return;
}

sub children_of
{
	my ($pid) = @_;

	return map { /^\s*(\d+)\s+$pid\s*$/ ? $1 : () } split /\n/, `ps -A -o pid=,ppid=`;
}

# Those that have not ended; of one that has, whoever inherited it may not have taken note
sub processes_left
{
	my %pids = map { $_ => 1 } grep { kill(0, $_) } @_;

	return if !%pids;
	return map { /^\s*(\d+)\s+[^Z\s]/ && $pids{$1} ? $1 : () } split /\n/, `ps -A -o pid=,stat=`;
}

# kill -9 of all processes of a server at one instant: the postmaster is stopped first so
# that it neither starts any nor hears of their end
sub crash
{
	my ($node) = @_;
	my $postmaster = $node->{_pid};

	kill('STOP', $postmaster) or die "no postmaster";
	my @children = children_of($postmaster);
	kill('KILL', @children, $postmaster);
	wait_until('all processes are gone', sub {
		waitpid($postmaster, WNOHANG);    # should it be a child of ours
		!kill(0, $postmaster) && !processes_left(@children);
	});
	$node->{_pid} = undef;
	return;
}

# kill -9 of one server process: the postmaster ends the others and starts afresh
sub end_backend
{
	my ($node, $pid) = @_;

	kill('KILL', $pid);
	wait_until('the server answers', sub { defined answer_of($node, 'SELECT 1') });
	return;
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return $sorted[ $#sorted / 2 ];
}

1;
