# What another role can find out about documents that it does not have: nothing,
# not from jobs, the cache, views, errors, notifications or the log.
use strict;
use warnings;

use Dsocr;
use DsocrSql;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('others', cache => "'1MB'",
	conf => "dsocr.cache_table = on\ndsocr.log_requests = on\nmax_worker_processes = 16\nlog_statement = none\nlog_min_duration_statement = -1\nlog_min_error_statement = panic\nlog_min_messages = debug1\ndsocr.max_attempts = 1");

# Documents and prompts contain "secret ..." and give texts that do; statements do not.
my $go = $node->basedir . '/go';
sql($node, <<"END");
CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_read_all_stats; GRANT CREATE ON SCHEMA public TO alice, bob;
CREATE FUNCTION public.doc(text) RETURNS bytea LANGUAGE sql AS \$\$ SELECT convert_to('STUB:' || replace(replace(\$1, 'answer', reverse('rewsna terces')), 'reason', reverse('nosaer terces')), 'UTF8') \$\$;
CREATE FUNCTION public.what() RETURNS text LANGUAGE sql AS \$\$ SELECT reverse('tpmorp terces') \$\$;
SET ROLE alice;
CREATE TABLE public.scans (id int PRIMARY KEY, image bytea, body text);
SELECT dsocr_attach('scans', 'image', 'body', tsvector_column => 'words', side_table => 'scan_pages');
INSERT INTO public.scans VALUES (1, doc('text=answer one'));
END
my $done = sql($node, "SELECT dsocr_enqueue(doc('text=answer two'), what())", user => 'alice');
my $failed = sql($node, "SELECT dsocr_enqueue(doc('error=10:reason'))", user => 'alice');
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' }, 60), 'her jobs have ended');
like(sql($node, 'SELECT string_agg(text, \' \') FROM public.scan_pages', user => 'alice'), qr/secret answer one/, 'with a text');
is(sql($node, "SELECT dsocr_text(doc('text=answer three'))", user => 'alice'), 'secret answer three', 'an answer of hers is kept');
my $queued = sql($node, "SELECT dsocr_enqueue(doc('until=$go;text=answer four'))", user => 'alice');
my $reader = begin_sql($node, "SELECT dsocr_read(doc('until=$go;text=answer five'), what())", user => 'alice');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM dsocr.requests WHERE state = 'running'}), 'she reads');
cmp_ok(sql($node, 'SELECT count(*) FROM dsocr.cache'), '>=', 3, 'and there is what could be found');

# Each: who, what is asked, what must come (a pattern of output or error), or nothing in particular.
my $denied = qr/permission denied/;
my @cases = (
	[ 'requests', 'SELECT to_jsonb(r) FROM dsocr.requests r' ],
	[ 'statistics', 'SELECT to_jsonb(s) FROM dsocr.stats s; SELECT to_jsonb(s) FROM dsocr_status() s; SELECT to_jsonb(w) FROM dsocr.workers w' ],
	[ 'usage', 'SELECT to_jsonb(u) FROM dsocr.usage u' ],
	[ 'jobs', 'SELECT count(*) FROM dsocr.jobs', qr/^0$/ ],
	[ 'failures', 'SELECT count(*) FROM dsocr.failures', qr/^0$/ ],
	[ 'progress', 'SELECT count(*) FROM dsocr.progress', qr/^0$/ ],
	[ 'table of queued jobs', 'SELECT * FROM dsocr.job_queue', $denied ],
	[ 'table of ended jobs', 'SELECT * FROM dsocr.job_done', $denied ],
	[ 'table of failed jobs', 'SELECT * FROM dsocr.job_failed', $denied ],
	[ 'quarantine', 'SELECT * FROM dsocr.job_quarantine', $denied ],
	[ 'table of answers', 'SELECT * FROM dsocr.cache', $denied ],
	[ 'table of answers, as a file', 'COPY dsocr.cache TO STDOUT', $denied ],
	[ 'table of answers, through a view', 'CREATE VIEW v AS SELECT * FROM dsocr.cache; SELECT * FROM v', $denied ],
	[ 'waiting for a job', "SELECT dsocr_wait($done, '1 s')", qr/job $done does not exist|permission denied/ ],
	[ 'waiting for a failed job', "SELECT dsocr_wait($failed, '1 s')", qr/job $failed does not exist|permission denied/ ],
	[ 'cancelling a job', "SELECT dsocr_cancel($queued)", qr/^f$/ ],
	[ 'trying a job again', "SELECT dsocr_retry($failed)", qr/^f$/ ],
	[ 'the attached table', 'SELECT * FROM scans', $denied ],
	[ 'a job on it', q{SELECT dsocr_enqueue_row('scans', '{"id": 1}', 'image')}, $denied ],
	[ 'searching in it', q{SELECT * FROM dsocr_search('scans', 'answer')}, $denied ],
	[ 'a function that tells', 'CREATE FUNCTION tell(text) RETURNS bool COST 0.0001 LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE \'told %\', $1; RETURN true; END $$; '
		  . 'SELECT count(*) FROM dsocr.jobs WHERE tell(id::text); SELECT count(*) FROM dsocr.failures WHERE tell(reason)', qr/^0\n0$/ ],
	[ 'the answer without the bytes', q{SELECT dsocr_text('STUB:text=mine')}, qr/^mine$/ ],
	[ 'the answer to another question', q{SELECT dsocr_generate(doc('text=answer three') || 'x', 'Free OCR.')}, undef, 'own' ],
	[ 'clearing and pruning', "SELECT dsocr_cache_prune('0 s')", $denied ],
	[ 'the rights of a worker', "SELECT dsocr_worker_claim(1, 1)", qr/permission denied|does not exist/ ],
	[ 'sessions', 'SELECT string_agg(query, \' \') FROM pg_stat_activity WHERE usename = \'alice\'' ],
	[ 'notifications', 'LISTEN dsocr_done; SELECT pg_sleep(0.1)' ],
	[ 'her role', 'SET ROLE alice', $denied ]);
my %seen;
for my $case (@cases)
{
	my ($name, $query, $pattern, $own) = @$case;
	for my $who ('bob', $name =~ /^(requests|statistics|usage|jobs|failures)$/ ? 'watcher' : ())
	{
		my ($out, $err) = try_sql($node, $query, user => $who);
		$pattern = undef if $who eq 'watcher';
		like($out . $err, $pattern, "$who, $name: is told") if defined $pattern;
		unlike($out . $err, qr/secret|STUB:text=answer|told/, "$who, $name: nothing of hers") unless $own;
		$seen{$name}++;
	}
}
cmp_ok(scalar keys %seen, '>=', 24, 'cases');

# Of the cache one learns with the very bytes that they were read before, and by nothing else.
sub hits { return sql($node, 'SELECT sum(cache_hits) FROM dsocr.stats'); }
my $hits = hits();
for my $other (q{SELECT dsocr_text(doc('text=answer three') || ' ')}, q{SELECT dsocr_describe(doc('text=answer three'))}, q{SELECT dsocr_text(doc('text=answer three'), max_tokens => 7)})
{
	sql($node, $other, user => 'bob');
	is(hits(), $hits, 'no hit for other bytes or another question');
}
sql($node, q{SELECT dsocr_text(doc('text=answer three'))}, user => 'bob');
is(hits(), $hits + 1, 'one for the same');

# Errors tell the reason to who asked, and no bytes to anybody; the log has neither.
append_to_file($go, '');
is((end_sql($reader))[0], 0, 'she has her answer');
my (undef, $error) = try_sql($node, verbose(q{SELECT dsocr_text(doc('error=1:reason'))}), user => 'alice');
like($error, qr/ERROR:  22P03: secret reason/, 'she is told why');
unlike($error, qr/STUB|DETAIL/, 'without the bytes');
ok(wait_until(sub { sql($node, 'SELECT count(*) FROM dsocr.job_queue') eq '0' }, 60), 'her last job has ended');
my $log = log_of($node);
like($log, qr/dsocr request: /, 'requests are logged');
unlike($log, qr/secret (answer|prompt)|STUB:/, 'without text, prompt or image');
$node->stop;

done_testing;
