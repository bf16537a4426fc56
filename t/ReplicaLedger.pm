# A load of psql clients on a queue "orders", each of which writes to a file outside the
# database what the server has acknowledged to it, and the comparison of those files with
# the tables: as they are now, or as they were at a position of the WAL.
#
# A client logs:
#	L lsn				where the WAL stood between two operations
#	S id key			sent			B ids... key	a batch, sent with keys key.1, key.2, ...
#	X id key			sent, then rolled back; a failover may give the id to another message
#	R id read_ct last_read_at vt		leased, or its lease extended
#	I id, D id gone		about to delete, deleted		J id, A id gone		the same to archive
#	G gid id key		prepared a send; U gid: about to commit or roll it back
package ReplicaLedger;

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;

my $statements_per_client = 4000;
my $lease = 'msg_id AS id, read_ct AS ct, us(last_read_at) AS at, us(vt) AS until';

# What is said before the load: the functions and the queue it needs
our $setup = q{
	SELECT pgmq.create('orders');
	CREATE TABLE load_ends ();
	CREATE FUNCTION us(timestamptz) RETURNS bigint LANGUAGE sql AS
		'SELECT (extract(epoch FROM $1) * 1000000)::bigint'};

# \gset wants a row; one of nulls leaves its variables unset
my $maybe = 'FROM (SELECT) AS one LEFT JOIN';

sub when_read
{
	my ($then) = @_;

	return "\\if :{?id}\n$then\\unset id\n\\endif\n";
}

sub send_one
{
	my ($n) = @_;
	my $delay = $n % 7 == 0 ? ', 1' : $n % 11 == 0 ? ', 3600' : '';
	my $send = "SELECT send AS id FROM pgmq.send('orders', jsonb_build_object('k', :'who' || '.$n')$delay) \\gset\n";

	return "BEGIN;\n${send}ROLLBACK;\n\\echo X :id :who.$n\n" if $n % 5 == 0;
	return "$send\\echo S :id :who.$n\n";
}

sub send_batch
{
	my ($n) = @_;

	return "CHECKPOINT;\n" if $n % 300 == 299;
	return "VACUUM pgmq.q_orders;\n" if $n % 100 == 99;
	return "SELECT string_agg(id::text, ' ' ORDER BY place) AS ids FROM pgmq.send_batch('orders', "
	  . "(SELECT array_agg(jsonb_build_object('k', :'who' || '.$n.' || i)) FROM generate_series(1, 3) i), "
	  . "(SELECT array_agg(jsonb_build_object('x-pgmq-group', 'g' || i)) FROM generate_series(1, 3) i)) "
	  . "WITH ORDINALITY AS s(id, place) \\gset\n\\echo B :ids :who.$n\n";
}

sub lease_for_long
{
	my ($n) = @_;

	return "SELECT 'R', $lease FROM pgmq.read('orders', 3600, 2);\n" if $n % 2;
	return "SELECT 'R', $lease FROM pgmq.read_grouped_head('orders', 3600, 2);\n";
}

sub lease_for_short
{
	my ($n) = @_;

	return "BEGIN;\nSELECT count(*) AS n FROM pgmq.read('orders', 3600, 3) \\gset\nROLLBACK;\n" if $n % 3 == 0;
	return "SELECT 'R', $lease FROM pgmq.read('orders', 1, 1);\n" if $n % 3 == 1;
	return "BEGIN;\nSELECT $lease $maybe pgmq.read('orders', 1, 1) ON true \\gset\nSAVEPOINT s;\n"
	  . "SELECT count(*) AS n FROM pgmq.read('orders', 3600, 2) \\gset\nROLLBACK TO s;\nCOMMIT;\n"
	  . when_read("\\echo R :id :ct :at :until\n");
}

sub consume
{
	my ($n) = @_;
	my $verb = $n % 2 ? 'delete' : 'archive';
	my ($intent, $done) = $n % 2 ? qw(I D) : qw(J A);
	my $read = "SELECT $lease $maybe pgmq.read('orders', 60, 1) ON true \\gset\n";
	my $finish = "\\echo $intent :id\nSELECT pgmq.$verb('orders', :id::bigint) AS gone \\gset\n";
	my $log_read = "\\echo R :id :ct :at :until\n";
	my $log_done = "\\echo $done :id :gone\n";

	return "BEGIN;\n$read\\if :{?id}\n${finish}COMMIT;\n$log_read$log_done\\unset id\n\\else\nCOMMIT;\n\\endif\n"
	  if $n % 4 < 2;
	$log_read .= "SELECT $lease FROM pgmq.set_vt('orders', :id::bigint, 120) \\gset\n$log_read" if $n % 8 == 3;
	return $read . when_read($log_read . ($n % 16 == 3 ? '' : "$finish$log_done"));
}

# A lease of no length only: what a prepared transaction leases is not noted
sub prepare
{
	my ($n) = @_;
	my $how = $n % 3 ? 'COMMIT' : 'ROLLBACK';

	return "BEGIN;\nSELECT send AS id FROM pgmq.send('orders', jsonb_build_object('k', :'who' || '.$n')) \\gset\n"
	  . "\\set gid :who.$n\nPREPARE TRANSACTION :'gid';\n\\echo G :gid :id :gid\n\\echo U :gid\n$how PREPARED :'gid';\n"
	  . ($how eq 'COMMIT' ? "\\echo S :id :gid\n" : "\\echo X :id :gid\n");
}

my @roles = (\&send_one, \&send_batch, \&lease_for_long, \&lease_for_short, \&consume, \&prepare);

# Where the WAL stands, and whether to go on
my $look = q{SELECT pg_current_wal_insert_lsn() - '0/0' AS lsn, count(*) > 0 AS has_ended FROM load_ends \gset
\echo L :lsn
\if :has_ended
\quit
\endif
};

# new(DIR [, with_lsn => 1]): an empty ledger, its files in DIR; with positions of the WAL,
# and clients that end between two operations when told so
sub new
{
	my ($class, $dir, %params) = @_;
	my $self = bless {
		dir => $dir, offsets => [], lsn => [], sent => {}, rolled_back => {}, leases => {},
		gone => {}, prepared => {}, problems => [], n => 0
	}, $class;
	my $between = $params{with_lsn} ? $look : '';

	foreach my $i (0 .. $#roles)
	{
		append_to_file("$dir/client_$i.sql",
			join('', map { $between . $roles[$i]->($_) } 1 .. $statements_per_client) . $between);
		append_to_file("$dir/client_$i.log", '');
	}
	return $self;
}

# start(NODE, TAG [, OPTIONS]): the clients; messages of one TAG have keys of their own
sub start
{
	my ($self, $node, $tag, $options) = @_;

	local $ENV{PGOPTIONS} = $options // '';
	$self->{clients} = [
		map {
			IPC::Run::start(
				[
					'psql', '-X', '-q', '-A', '-t', '-F', ' ', '-v', 'ON_ERROR_STOP=1', '-v', "who=$tag.$_",
					'-d', $node->connstr('postgres'), '-f', "$self->{dir}/client_$_.sql"
				],
				'>>', "$self->{dir}/client_$_.log", '2>', "$self->{dir}/client_$_.err")
		} 0 .. $#roles ];
	return;
}

# Have clients that look at the WAL's position come to an end, with everything acknowledged
sub end_load
{
	my ($self, $node) = @_;

	$node->safe_psql('postgres', 'INSERT INTO load_ends DEFAULT VALUES');
	$self->finish;
	$node->safe_psql('postgres', 'TRUNCATE load_ends');
	return;
}

sub size
{
	my ($self) = @_;
	my $size = 0;

	$size += -s "$self->{dir}/client_$_.log" for 0 .. $#roles;
	return $size;
}

sub is_running
{
	my ($self) = @_;

	return scalar grep { $_->pumpable } @{ $self->{clients} };
}

# Wait for the clients, whose connection may be lost, and read what they wrote
sub finish
{
	my ($self) = @_;

	foreach my $i (0 .. $#roles)
	{
		$self->{clients}[$i]->finish;
		my $errors = slurp_file("$self->{dir}/client_$i.err");
		push @{ $self->{problems} }, "client $i failed: $errors"
		  if $self->{clients}[$i]->full_result(0) != 0 && ($errors !~ /connection/ || $errors =~ /ERROR:/);
		$self->read_log($i);
	}
	return;
}

# An operation is noted with where the WAL stood before and after it
sub read_log
{
	my ($self, $i) = @_;
	my @lines = split /\n/, slurp_file("$self->{dir}/client_$i.log", $self->{offsets}[$i] // 0);
	my $span = { from => 0 };

	$self->{offsets}[$i] = -s "$self->{dir}/client_$i.log";
	foreach my $line (@lines)
	{
		my ($what, @args) = split / /, $line;
		if ($what eq 'L')
		{
			$span->{to} = $args[0];
			$span = { from => $args[0] };
			push @{ $self->{lsn} }, $args[0];
			next;
		}
		$self->note($span, $what, @args);
		$self->{n}++ if $what =~ /[SBRDAG]/;
	}
	return;
}

sub note
{
	my ($self, $span, $what, $id, @args) = @_;

	if ($what eq 'S') { $self->{sent}{$id} = { span => $span, key => $args[0] }; }
	elsif ($what eq 'B')
	{
		my @ids = ($id, @args);
		my $key = pop @ids;
		$self->{sent}{ $ids[$_] } = { span => $span, key => "$key." . ($_ + 1) } for 0 .. $#ids;
	}
	elsif ($what eq 'X') { $self->{rolled_back}{ $args[0] } = 1; }
	elsif ($what eq 'R') { $self->note_lease($span, $id, @args); }
	elsif ($what =~ /[IJ]/) { $self->{gone}{$id} = { span => { %$span, is_tried => 1 }, is_archived => $what eq 'J' }; }
	elsif ($what =~ /[DA]/)
	{
		push @{ $self->{problems} }, "$id: $what of a leased message said $args[0]" if $args[0] ne 't';
		$self->{gone}{$id}{span} = $span;
	}
	elsif ($what eq 'G') { $self->{prepared}{$id} = { id => $args[0], key => $args[1] }; }
	elsif ($what eq 'U') { $self->{prepared}{$id}{is_tried} = 1; }
	return;
}

# An extension repeats the read_ct and last_read_at of the lease it extends
sub note_lease
{
	my ($self, $span, $id, $ct, $at, $vt) = @_;
	my $lease = $self->{leases}{$id}{$ct} //= { at => $at, ends => [] };

	push @{ $self->{problems} }, "$id: delivered twice as read $ct, at $lease->{at} and $at" if $lease->{at} != $at;
	push @{ $lease->{ends} }, { span => $span, vt => $vt };
	return;
}

# Was it so at this position? 1, 0, or undef: perhaps.  Without a position: now
sub was
{
	my ($span, $lsn) = @_;

	return 0 if !$span;
	return $span->{is_tried} ? undef : 1 if !defined $lsn;
	return 1 if $span->{to} && $span->{to} <= $lsn;
	return $span->{from} >= $lsn ? 0 : undef;
}

sub check_lease
{
	my ($self, $id, $row, $lsn) = @_;
	my $by_ct = $self->{leases}{$id};
	my ($must, $may) = (0, 0);

	foreach my $ct (keys %$by_ct)
	{
		my $was = was($by_ct->{$ct}{ends}[0]{span}, $lsn);
		$must = $ct if $was && $ct > $must;
		$may = $ct if (!defined $was || $was) && $ct > $may;
	}
	return "$id: read_ct is $row->{ct}, $must was acknowledged" if $row->{ct} < $must;
	return "$id: read_ct is $row->{ct}, nobody read it more than $may times" if defined $lsn && $row->{ct} > $may;
	my $lease = $by_ct->{ $row->{ct} } or return;
	my @ends = grep { $_->{was} // 1 } map { { %$_, was => was($_->{span}, $lsn) } } @{ $lease->{ends} };
	my ($least) = sort { $b <=> $a } map { $_->{was} ? $_->{vt} : 0 } @ends;

	return "$id: last_read_at is $row->{at}, $lease->{at} was acknowledged" if $row->{at} != $lease->{at};
	return "$id: vt is $row->{vt}, $least was acknowledged" if $row->{vt} < $least;
	return "$id: vt is $row->{vt}, which is nobody's" if defined $lsn && !grep { $_->{vt} == $row->{vt} } @ends;
	return;
}

sub check_row
{
	my ($self, $id, $live, $archived, $lsn) = @_;
	my $row = $live // $archived;
	my $sent = $self->{sent}{$id} && was($self->{sent}{$id}{span}, $lsn);
	my $gone = $self->{gone}{$id} ? was($self->{gone}{$id}{span}, $lsn) : 0;
	my $verb = $self->{gone}{$id} && ($self->{gone}{$id}{is_archived} ? 'archive' : 'delete');

	return "$id: both in the queue and in the archive" if $live && $archived;
	return "$id: rolled back but there" if $row && $self->{rolled_back}{ $row->{key} };
	return "$id: lost" if $sent && !$row && (defined $gone && !$gone || $verb eq 'archive');
	return "$id: sent later but there" if $row && defined $lsn && defined $sent && !$sent;
	return "$id: is $row->{key}, was $self->{sent}{$id}{key}" if $sent && $row && $row->{key} ne $self->{sent}{$id}{key};
	return "$id: ${verb}d but still in the queue" if $gone && $live;
	return "$id: archived by nobody" if $archived && (defined $gone && !$gone || $verb ne 'archive');
	return "$id: archived, but not there" if $gone && $verb eq 'archive' && !$archived;
	return $self->check_lease($id, $live, $lsn) if $live && ($sent || !defined $lsn);
	return;
}

# No read ever returned a message before an acknowledged lease of it had lapsed
sub early_reads
{
	my ($self) = @_;
	my @problems;

	foreach my $id (keys %{ $self->{leases} })
	{
		my $by_ct = $self->{leases}{$id};
		my $end = 0;
		foreach my $ct (sort { $a <=> $b } keys %$by_ct)
		{
			push @problems, "$id: read $ct at $by_ct->{$ct}{at} came before $end, the end of an acknowledged lease"
			  if $by_ct->{$ct}{at} < $end;
			$end = $by_ct->{$ct}{ends}[-1]{vt};
		}
	}
	return @problems;
}

# problems(NODE [, LSN]): where the tables disagree with the ledger, and what clients noticed
sub problems
{
	my ($self, $node, $lsn) = @_;
	my (%live, %archived);
	my @problems = splice @{ $self->{problems} };

	foreach (split /\n/, $node->safe_psql('postgres', q{
		SELECT msg_id, message->>'k', read_ct, us(last_read_at), us(vt), 'live' FROM pgmq.q_orders
		UNION ALL SELECT msg_id, message->>'k', read_ct, us(last_read_at), us(vt), 'archived' FROM pgmq.a_orders}))
	{
		my ($id, $key, $ct, $at, $vt, $where) = split /\|/;
		my $in = $where eq 'live' ? \%live : \%archived;
		push @problems, "$id: twice in a table" if $in->{$id};
		$in->{$id} = { key => $key, ct => $ct, at => $at, vt => $vt };
	}
	my %ids = (%{ $self->{sent} }, %live, %archived);
	push @problems, map { $self->check_row($_, $live{$_}, $archived{$_}, $lsn) } sort { $a <=> $b } keys %ids;
	push @problems, $self->early_reads();
	return splice @problems, 0, 20;
}

# End what was prepared and not decided; what was acknowledged as prepared must be there
sub finish_prepared
{
	my ($self, $node) = @_;
	my %there = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', 'SELECT gid FROM pg_prepared_xacts');

	foreach my $gid (sort keys %{ $self->{prepared} })
	{
		my $prepared = delete $self->{prepared}{$gid};

		push @{ $self->{problems} }, "prepared transaction $gid is lost" if !$prepared->{is_tried} && !$there{$gid};
		next if !delete $there{$gid};
		if (rand() < 0.5)
		{
			$node->safe_psql('postgres', "ROLLBACK PREPARED '$gid'");
			$self->{rolled_back}{ $prepared->{key} } = 1;
			next;
		}
		$node->safe_psql('postgres', "COMMIT PREPARED '$gid'");
		$self->{sent}{ $prepared->{id} } = { span => { from => 0, to => 0 }, key => $prepared->{key} };
	}
	$node->safe_psql('postgres', "COMMIT PREPARED '$_'") foreach keys %there;
	return;
}

1;
