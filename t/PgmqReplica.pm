# What the tests of standbys and restores share: standbys with our settings, and the
# comparison of what two servers have on disk, page by page.
package PgmqReplica;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(
  replay_check new_standby catch_up pages_of pages_are_equal has_extension run_ok
);

# Settings of a server whose replay compares each page with what it was, but for generic
# records: their mask keeps hint bits.  'all' has no exceptions, so they are listed.
sub replay_check
{
	return "wal_consistency_checking = 'heap,heap2,btree,hash,gin,gist,sequence,spgist,brin'\n";
}

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

# Wait until the standby has replayed all that the primary has written; an empty transaction
# makes sure that it is flushed
sub catch_up
{
	my ($primary, $standby) = @_;
	my $lsn = $primary->safe_psql('postgres', "SET synchronous_commit = local;
		SELECT 1 FROM pg_current_xact_id();
		SELECT pg_current_wal_flush_lsn()") =~ s/.*\n//sr;

	$standby->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'")
	  or die $standby->name . " does not replay up to $lsn";
	return $lsn;
}

sub has_extension
{
	my ($node, $name) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = '$name'");
}

# pages_of(NODE, TABLE [, DETAIL]): a line for each page of a heap, its LSN and a hash of all
# that WAL determines: line pointers, rows with their lease bytes, what locks them; not hint
# bits and command ids.  With DETAIL a line for each row.
sub pages_of
{
	my ($node, $table, $detail) = @_;
	my $row = q{concat_ws(' ', lp, lp_off, lp_flags, lp_len, t_xmin, t_xmax, t_ctid, t_infomask2,
			t_infomask & CASE WHEN t_infomask & 768 = 768 THEN x'f3ff'::int ELSE x'f0ff'::int END,
			t_hoff, t_bits, encode(t_data, 'hex'))};
	my $out = $detail ? "'block ' || block || ': ' || $row"
	  : "concat_ws(' ', block, max(h.lsn), max(h.lower), max(h.upper), md5(string_agg($row, E'\\n' ORDER BY lp)))";

	return $node->safe_psql('postgres', "
		SELECT $out
		FROM generate_series(0, pg_relation_size('$table') / current_setting('block_size')::int - 1) block,
			get_raw_page('$table', block) raw, page_header(raw) h
			LEFT JOIN heap_page_items(raw) ON true
		WHERE h.upper > 0 " . ($detail ? 'ORDER BY block, lp' : 'GROUP BY block ORDER BY block'));
}

# pages_are_equal(A, B, TABLES, WHEN): what a primary at rest and its standby have on disk;
# a vacuum may still be under way
sub pages_are_equal
{
	my ($a, $b, $tables, $when) = @_;
	my @different = @$tables;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for (my $i = 0; $i < 10 && @different; $i++)
	{
		catch_up($a, $b) if $b->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 't';
		@different = grep { pages_of($a, $_) ne pages_of($b, $_) } @different;
	}
	my $ok = is("@different", '', 'pages of ' . $b->name . ' are those of ' . $a->name . " $when");

	foreach my $table (@different)
	{
		my @rows = map { { map { $_ => 1 } split /\n/, pages_of($_, $table) . "\n" . pages_of($_, $table, 1) } } ($a, $b);
		diag("$table, only in $_->[0]: $_->[1]")
		  for grep { defined $_->[1] } map { ([ $a->name, $_->[0] ], [ $b->name, $_->[1] ]) } map {
			my $i = $_;
			[ map { my $s = $_; (sort grep { !$rows[ 1 - $s ]{$_} } keys %{ $rows[$s] })[$i] } (0, 1) ]
		  } (0 .. 5);
	}
	return $ok;
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
