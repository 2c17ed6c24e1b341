# Which files are read, and which program runs, is not up to ordinary users.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use Dsocr;
use DsocrSql;

my $node = new_server('model_path');
my $good = sql($node, 'SHOW dsocr.model');
my $dir = $node->basedir;
symlink '/etc', "$dir/link" or die $!;
sql($node, 'CREATE ROLE app LOGIN; CREATE ROLE maker LOGIN CREATEROLE CREATEDB; CREATE DATABASE owned OWNER app');

# whatever the path is, and however it is set
my @paths = ('/etc', "$dir/link", "$dir/../x", '/', '../model', 'model', '/proc/self/root/etc', '', $good, '/dev/stdin', '~', "/tmp/\x01");
for my $path (@paths)
{
	for my $how ("SET dsocr.model = '%s'", "SELECT set_config('dsocr.model', '%s', false)", "SET LOCAL dsocr.model = '%s'",
		"ALTER SYSTEM SET dsocr.model = '%s'", "ALTER ROLE app SET dsocr.model = '%s'", "ALTER DATABASE owned SET dsocr.model = '%s'")
	{
		my ($out, $err) = try_sql($node, sprintf($how, $path), user => 'app', db => 'owned');
		like($err, qr/ERROR:  (permission denied|parameter "dsocr.model" cannot be changed|invalid value for parameter)/,
			'app: ' . sprintf($how, $path =~ s/[^ -~]/?/gr));
	}
}
for my $setting (qw(model engine_path devices weights threads engine_timeout max_requests queue_memory max_image_bytes max_pixels max_requests_per_role log_requests))
{
	for my $role (qw(app maker))
	{
		my ($out, $err) = try_sql($node, "SET dsocr.$setting = '1'", user => $role);
		like($err, qr/ERROR:  (permission denied to set parameter|parameter "dsocr.$setting" cannot be changed)/, "$role: dsocr.$setting");
	}
}
my ($out, $err) = try_sql($node, 'SHOW dsocr.model', user => 'app');
like($err, qr/ERROR:  (must be superuser|permission denied)/, 'nor may they see the path');
unlike(sql($node, 'SELECT to_jsonb(w) FROM dsocr.workers w', user => 'app'), qr{/}, 'which dsocr.workers does not tell either');

# through the connection's options
($out, $err) = (undef, undef);
{
	local $ENV{PGOPTIONS} = '-c dsocr.model=/etc';
	my $rc;
	($rc, $out, $err) = $node->psql('postgres', 'SELECT 1', extra_params => [ '-U', 'app' ]);
	like($err, qr/dsocr.model.* cannot be changed|permission denied/, 'options of the connection');
}

# what even the administrator cannot set
for my $path ('relative', '../up', '/a/../b', "$dir/..")
{
	($out, $err) = try_sql($node, "ALTER SYSTEM SET dsocr.model = '$path'");
	like($err, qr/ERROR:  invalid value for parameter "dsocr.model"/, "administrator: $path");
}

# no function takes a path: these are prompts, passwords, names of tasks and the like
is(sql($node, q{SELECT string_agg(DISTINCT name, ' ' ORDER BY name) FROM pg_proc, unnest(proargnames[1:pronargs], proargtypes::oid[]) AS a (name, type)
	WHERE proname ~ '^dsocr_' AND pronamespace = 'public'::regnamespace AND type = 'text'::regtype}), 'content description fingerprint fk formula html model part password pk prompt query release start_mark stop_mark task what', 'text arguments');

# a document that is a path is only bytes
for my $path ('/etc/passwd', 'file:///etc/passwd', 'http://localhost/', '\\\\server\\share', "$good/config.json")
{
	is(sql($node, "SELECT dsocr_text(convert_to(\$p\$$path\$p\$, 'UTF8'))"), 'stub: ' . length($path) . ' bytes', "document $path");
}
is(sql($node, 'SELECT state FROM dsocr.workers'), 'ready', 'the engine still runs');
is(sql($node, 'SELECT restarts FROM dsocr.workers'), '0', 'and was never replaced');

# nor do errors tell ordinary users where the model should be
$node->append_conf('postgresql.conf', "dsocr.model = '/secret/place'");
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT state = 'failed' FROM dsocr.workers}), 'model is missing');
my $where = q{SELECT error FROM dsocr.workers; SELECT error FROM dsocr_try('x'); SELECT dsocr_text('x')};
($out, $err) = try_sql($node, $where, user => 'app');
like("$out $err", qr/^the model could not be loaded\nthe model could not be loaded .*ERROR:  the model could not be loaded\nHINT:  An administrator/s, 'app: what');
unlike("$out $err", qr/secret/, 'app: not where');
sql($node, 'CREATE ROLE watcher LOGIN IN ROLE pg_monitor');
for my $role ('watcher', undef)
{
	($out, $err) = try_sql($node, $where, user => $role);
	is(scalar(() = "$out $err" =~ m{"/secret/place"}g), 3, ($role // 'administrator') . ': where');
}
$node->stop;
done_testing();
