#!/usr/bin/perl
# Make report.png and report.json from report.html, in a browser that tells
# where everything lies.  Run in test/documents; needs Chromium.
use strict;
use warnings;
use lib '../t';

use Cwd;
use DsocrBrowser;
use File::Temp;
use JSON::PP;

my $browser = DsocrBrowser->start(
	profile => File::Temp->newdir,
	width => 1000,
	height => 1300) or die "Chromium is not installed\n";
$browser->open_file(getcwd . '/report.html');

my $elements = $browser->value(<<'END');
[...document.querySelectorAll('[data-type]')].map(e => {
	const r = e.getBoundingClientRect(), range = document.createRange();
	range.selectNodeContents(e);
	const t = e.tagName === 'svg' || e.tagName === 'TABLE' ? r : range.getBoundingClientRect();
	const plain = e.textContent.replace(/\s+/g, ' ').trim();
	return {
		type: e.dataset.type,
		boxes: [[t.left, t.top, t.right, t.bottom].map(Math.round)],
		text: e.tagName === 'TABLE' ? e.outerHTML.replace(/ (data-type|style)="[^"]*"/g, '').replace(/\s*\n\s*/g, '')
			: e.tagName === 'svg' ? '' : (e.tagName === 'H1' ? '# ' : e.tagName === 'H2' ? '## ' : '') + plain,
		confidence: 0.97,
	};
})
END
open my $png, '>:raw', 'report.png' or die "report.png: $!";
print $png $browser->screenshot;
close $png;
open my $json, '>', 'report.json' or die "report.json: $!";
print $json JSON::PP->new->ascii->canonical->indent->space_after->indent_length(1)
  ->encode({ pages => [ { page => 1, width => 1000, height => 1300, confidence => 0.97, elements => $elements } ] });
close $json;
