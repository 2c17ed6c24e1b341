# Blocks of the model's text as jsonb, as rows, and in dsocr_read.
use strict;
use warnings;
use Test::More;
use Dsocr;
use DsocrSql;

my $node = new_server('layout');

# The stand-in gives this text for an image of 1000 x 1000 pixels.
my $text = join "\n",
  '<|ref|>title<|/ref|><|det|>[[0, 0, 999, 100]]<|/det|>', '# Head', '',
  '<|ref|>text<|/ref|><|det|>[[100, 200, 500, 400], [500, 200, 900, 400]]<|/det|>', 'two boxes', '',
  '<|ref|>table<|/ref|><|det|>[]<|/det|>', '<table><tr><td>1</td></tr></table>';
sql($node, 'CREATE TABLE page (image bytea)');
sql($node, "INSERT INTO page VALUES (convert_to(\$t\$STUB:text=$text\$t\$, 'UTF8'))");

sub px { return int($_[0] / 999 * 1000) }

is(sql($node, 'SELECT ord, type, box, content FROM page, dsocr_blocks(image) ORDER BY ord, box[0] >> box[1], (box[1])[0]'),
	join("\n",
		'1|title|(1000,100),(0,0)|# Head',
		'2|text|(' . px(500) . ',' . px(400) . '),(' . px(100) . ',' . px(200) . ')|two boxes',
		'2|text|(' . px(900) . ',' . px(400) . '),(' . px(500) . ',' . px(200) . ')|two boxes',
		'3|table||<table><tr><td>1</td></tr></table>'),
	'a row for each block and box');
is(sql($node, "SELECT l #>> '{pages,0,page}', l #>> '{pages,0,width}', l #>> '{pages,0,height}',
	jsonb_array_length(l -> 'pages') FROM (SELECT dsocr_layout(image) AS l FROM page) s"),
	'1|1000|1000|1', 'page of the layout');
is(sql($node, "SELECT e ->> 'type', e ->> 'boxes', e ->> 'text' FROM page,
	jsonb_array_elements(dsocr_layout(image) #> '{pages,0,elements}') e"),
	join("\n",
		'title|[[0, 0, 1000, 100]]|# Head',
		'text|[[' . join(', ', map { px($_) } 100, 200, 500, 400) . '], [' .
			join(', ', map { px($_) } 500, 200, 900, 400) . ']]|two boxes',
		'table|[]|<table><tr><td>1</td></tr></table>'),
	'elements of the layout');
is(sql($node, "SELECT r.layout = dsocr_layout(image), r.markdown = dsocr_markdown(image)
	FROM page, dsocr_read(image) r"), 't|t', 'dsocr_read has the same');
is(sql($node, "SELECT r.raw FROM page, dsocr_read(image) r"), $text, 'raw text is what the model wrote');
is(sql($node, "SELECT r.raw = dsocr_generate(image, '<image>x') FROM page, dsocr_read(image) r"),
	't', 'dsocr_generate gives raw text');
unlike(sql($node, 'SELECT dsocr_markdown(image) FROM page'), qr/<\|/, 'markdown has no tags');
is(sql($node, "SELECT page, box FROM page, dsocr_locate(image, 'x') WHERE page = 1 LIMIT 1"),
	'1|(1000,100),(0,0)', 'dsocr_locate gives boxes');
is(sql($node, "SELECT count(*) FROM page, dsocr_locate(image, 'x')"), '3', 'all of them');

# columns of dsocr_result
is(sql($node, "SELECT finish_reason, image_tokens, valid_image_tokens, text_tokens,
	compression_ratio = text_tokens::float8 / valid_image_tokens, mean_logprob, model, error, sqlstate
	FROM dsocr_read('STUB:text=abcdefgh')"), 'stop|273|256|3|t|-0.125|model-a||', 'result');
is(sql($node, "SELECT pages #- '{0,timings,decode}' #- '{0,timings,queued}' FROM dsocr_read('STUB:text=abcdefgh', mode => 'gundam')"),
	'[{"grid": "1x1", "mode": "gundam", "page": 1, "skew": 0, "views": 1, "width": 1000, "height": 1000, "status": "ok", ' .
	'"timings": {"encode": 2.000, "prefill": 3.000, "preprocess": 1.000}, "attempts": [{"mode": "gundam", "text_tokens": 3, "finish_reason": "stop"}], "rotation": 0, "confidence": 0.8825, "text_tokens": 3, "image_tokens": 903, ' .
	'"finish_reason": "stop", "prompt_tokens": 908, "valid_image_tokens": 856}]', 'pages');

# swapped corners, huge coordinates, many blocks
is(sql($node, "SELECT box FROM dsocr_blocks('STUB:text=<|ref|>a<|/ref|><|det|>[[999, 999, 0, 0]]<|/det|>')"),
	'(1000,1000),(0,0)', 'type box orders corners');
is(sql($node, "SELECT dsocr_layout('STUB:text=<|ref|>a<|/ref|><|det|>[[999, 999, 0, 0]]<|/det|>') #>> '{pages,0,elements,0,boxes}'"),
	'[[1000, 1000, 0, 0]]', 'jsonb does not');
is(sql($node, "SELECT count(*), max(ord) FROM dsocr_blocks(convert_to('STUB:text=' ||
	repeat('<|ref|>a<|/ref|><|det|>[[1,2,3,4]]<|/det|>', 90), 'UTF8'))"), '90|90', 'many blocks');
is(sql($node, "SELECT ord, type, box IS NULL, content FROM dsocr_blocks('STUB:text= plain ')"),
	'1|text|t|plain', 'text without blocks is not lost');
is(sql($node, "SELECT ord, type, content FROM dsocr_blocks('STUB:text=before <|ref|>a<|/ref|><|det|>[[1,2,3,4]]<|/det|>after')"),
	"1|text|before\n2|a|after", 'nor is text before the first block');
is(sql($node, "SELECT (dsocr_layout('STUB:text=plain') #> '{pages,0,elements,0}') - 'confidence'"),
	'{"text": "plain", "type": "text", "boxes": []}', 'nor in the layout');
is(sql($node, "SELECT dsocr_layout('STUB:text=') #>> '{pages,0,elements}'"), '[]', 'no text, no element');

# the prompts of the functions reach the engine
is(sql($node, "SELECT dsocr_generate('STUB:prompt', 'Say \"hi\" <image>')"), 'Say "hi" <image>', 'prompt');
is(sql($node, "SELECT dsocr_generate('STUB:prompt', repeat('long ', 13000)) = repeat('long ', 13000)"),
	't', 'long prompt');
$node->stop;
done_testing();
