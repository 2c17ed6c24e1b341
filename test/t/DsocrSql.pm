# Short forms for tests of the SQL surface.
package DsocrSql;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(sql try_sql verbose log_of);

# Output of SQL that must not fail; options db, user.
sub sql
{
	my ($node, $query, %option) = @_;
	my @user = $option{user} ? (extra_params => [ '-U', $option{user} ]) : ();

	return $node->safe_psql($option{db} // 'postgres', $query, @user);
}

# Output and error output of SQL that may fail.
sub try_sql
{
	my ($node, $query, %option) = @_;
	my @user = $option{user} ? (extra_params => [ '-U', $option{user} ]) : ();
	my ($rc, $out, $err);

	# where it cannot connect psql may be gone before it was given the query, which is an exception
	eval { ($rc, $out, $err) = $node->psql($option{db} // 'postgres', $query, @user); 1 } or ($out, $err) = ('', $@);
	return ($out, $err);
}

# The same query with SQLSTATEs in its messages.
sub verbose
{
	return "\\set VERBOSITY verbose\n$_[0]";
}

sub log_of
{
	my ($node) = @_;
	local $/;
	open my $file, '<', $node->logfile or die "open log: $!";
	return <$file>;
}

1;
