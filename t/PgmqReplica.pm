# What the tests of standbys and restores share: standbys with our settings, and the
# comparison of what two servers have on disk, page by page.
package PgmqReplica;

use strict;
use warnings;

use Exporter 'import';
use PgmqTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  new_standby ask end_sessions catch_up pages_are_equal pages_in_files has_extension run_ok
);

# new_standby(NAME, SOURCE, BACKUP [, CONF]): a running standby that streams from SOURCE
sub new_standby
{
	my ($name, $source, $backup, $conf) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$standby->init_from_backup($source, $backup, has_streaming => 1);
	$standby->append_conf('postgresql.conf', $conf) if $conf;
	$standby->start;
	return $standby;
}

# ask(NODE, SQL): what the node answers, in a session that stays: a process less for each of
# many questions.  To be ended before the node is.
my %sessions;

sub ask
{
	my ($node, $sql) = @_;

	if (!$sessions{ $node->name })
	{
		$sessions{ $node->name } = $node->background_psql('postgres');
		$sessions{ $node->name }->set_query_timer_restart;
		$sessions{ $node->name }->query_safe(
			'SET client_min_messages = error; SET jit = off; SET synchronous_commit = local');
	}
	return $sessions{ $node->name }->query_safe($sql);
}

sub end_sessions
{
	$_->quit foreach values %sessions;
	%sessions = ();
	return;
}

# Wait until the standby has replayed all that the primary has written; a transaction makes
# sure that it is flushed
sub catch_up
{
	my ($primary, $standby) = @_;

	ask($primary, 'SELECT pg_current_xact_id()');
	my $lsn = ask($primary, 'SELECT pg_current_wal_flush_lsn()');
	wait_until($standby->name . " replays up to $lsn", sub { ask($standby, "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' });
	return;
}

sub has_extension
{
	my ($node, $name) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = '$name'");
}

# pages_of(NODE, TABLES [, %HOW]): a line for each page of some heaps, with its LSN and a hash
# of all that WAL determines: line pointers, rows with their lease bytes, what locks them; not
# hint bits and command ids.  With by_row a line for each row.
sub pages_of
{
	my ($node, $tables, %how) = @_;
	my $row = q{concat_ws(' ', lp, lp_off, lp_flags, lp_len, t_xmin, t_xmax, t_ctid, t_infomask2,
			t_infomask & CASE WHEN t_infomask & 768 = 768 THEN x'f3ff'::int ELSE x'f0ff'::int END,
			t_hoff, t_bits, encode(t_data, 'hex'))};
	my $out = $how{by_row} ? "name, block, $row"
	  : "name, block, max(h.lsn), max(h.lower), max(h.upper), md5(string_agg($row, E'\\n' ORDER BY lp))";
	my ($size, $page) = $how{in_files}
	  ? ('(pg_stat_file(pg_relation_filepath(name))).size', 'pg_read_binary_file(pg_relation_filepath(name), block * size, size)')
	  : ('pg_relation_size(name)', 'get_raw_page(name, block)');

	return ask($node, "
		SELECT $out
		FROM unnest('{" . join(',', @$tables) . "}'::text[]) name,
			CAST(current_setting('block_size') AS int) size,
			generate_series(0, $size / size - 1) block,
			$page raw, page_header(raw) h
			LEFT JOIN heap_page_items(raw) ON true
		WHERE h.upper > 0 " . ($how{by_row} ? 'ORDER BY name, block, lp' : 'GROUP BY name, block ORDER BY name, block'));
}

# The same from the files, for a server that cannot open the tables
sub pages_in_files
{
	my ($node, $tables) = @_;

	ask($node, 'CHECKPOINT');
	return pages_of($node, $tables, in_files => 1);
}

# pages_are_equal(A, B, TABLES, WHEN): what a primary at rest and its standby have on disk;
# a vacuum may still be under way
sub pages_are_equal
{
	my ($a, $b, $tables, $when) = @_;
	my @pages;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for (my $i = 0; $i < 10 && (!@pages || $pages[0] ne $pages[1]); $i++)
	{
		catch_up($a, $b);
		# No vacuum cuts the last pages off while they are looked at
		ask($a, 'BEGIN; LOCK TABLE ' . join(', ', @$tables) . ' IN SHARE UPDATE EXCLUSIVE MODE');
		@pages = map { pages_of($_, $tables) } ($a, $b);
		ask($a, 'COMMIT');
	}
	my $ok = ok($pages[0] eq $pages[1], 'pages of ' . $b->name . ' are those of ' . $a->name . " $when");
	show_difference($a, $b, $tables) if !$ok;
	return $ok;
}

sub show_difference
{
	my ($a, $b, $tables) = @_;
	my @lines = map { { map { $_ => 1 } split /\n/, pages_of($_, $tables) . "\n" . pages_of($_, $tables, by_row => 1) } } ($a, $b);

	foreach my $i (0, 1)
	{
		my @only = sort grep { !$lines[ 1 - $i ]{$_} } keys %{ $lines[$i] };
		diag('only in ' . ($a, $b)[$i]->name . ":\n" . join("\n", splice(@only, 0, 10)));
	}
	return;
}

# A program that must succeed, but is not the test
sub run_ok
{
	my (@command) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run(\@command, '>', \$out, '2>', \$err) or die "@command: $out$err";
	return $out;
}

1;
