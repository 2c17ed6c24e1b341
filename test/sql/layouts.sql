-- What is made of layouts that are handed in: tables, hOCR.

-- A layout of one page with one element.
CREATE FUNCTION layout_of(type text, content text, box int[] DEFAULT '{100,100,500,300}')
RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT jsonb_build_object('pages', jsonb_build_array(jsonb_build_object('page', 1,
		'width', 1000, 'height', 1400, 'elements', jsonb_build_array(jsonb_build_object(
			'type', type, 'boxes', CASE WHEN box IS NULL THEN '[]'::jsonb
				ELSE jsonb_build_array(to_jsonb(box)) END, 'text', content)))))
$$;

-- The grid of the table in a text.
CREATE FUNCTION grid(content text) RETURNS SETOF jsonb LANGUAGE sql STABLE AS $$
	SELECT jsonb_array_elements(grid) FROM dsocr_tables(layout_of('table', content))
$$;

SELECT page, ord, complete, box, html FROM dsocr_tables(layout_of('table',
	'Before <table border="1"><tr><th>A</th></tr></table> between <TABLE><tr><td>B</td></tr>'));
SELECT c FROM dsocr_tables(layout_of('table', '<table>
	<thead><tr><td rowspan="2">Year</td><td colspan="2">Harvest</td></tr>
	<tr><td>wheat</td><td>rye</td></tr></thead>
	<tbody><tr><th>1901</th><td>12.5</td><td>8</td></tr></tbody></table>')) t,
	jsonb_array_elements(t.cells) c;
SELECT grid('<table><tr><td rowspan="2">Year</td><td colspan="2">Harvest</td></tr>
	<tr><td>wheat</td><td>rye</td></tr><tr><td>1901</td><td>12.5</td></tr></table>');

-- What models leave out: end tags, rows, quotes, the rest of the table.
SELECT grid('<table><tr><td>a<td>b<tr><td>c<td>d</table>');
SELECT grid('<table><td>a</td><td colspan=2>b</td></tr><tr><td>c</td><td>d</td><td>e</td>');
SELECT grid('<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td>cut of');
SELECT grid('<table><tr><td>a</td><td rowspan="');
SELECT grid('<table><tr></tr><tr><td></td></tr></table>');
SELECT grid('<table></table>'), grid('<table');

-- Text of cells: entities, breaks, tags, signs that are no tags.
SELECT grid('<table><tr><td> a
	b<br>c <b>d</b><sup>2</sup></td><td>x &lt; y &amp;&#x41;&#66;&nbsp;&euro;&unknown;&#xd800;&</td><td>p<q and 3 < 4 <unk></td></tr></table>');
SELECT grid('<table><caption>no cell</caption><tr><td><script>alert(1)</script></td><td><!-- gone -->x</td></tr></table>');
SELECT grid('<table><tr><td>out<table><tr><td>in</td><td>side</td></tr></table>er</td><td>next</td></tr></table>');

-- Spans: as far as there are rows and columns, and never over another cell.
SELECT grid('<table><tr><td rowspan="0">a</td><td>b</td></tr><tr><td>c</td></tr><tr><td>d</td></tr></table>');
SELECT grid('<table><tr><td>a</td><td rowspan="2">b</td></tr><tr><td colspan="3">c</td><td>d</td></tr></table>');
SELECT c->'rowspan' AS rowspan, c->'colspan' AS colspan, c->'col' AS col
FROM dsocr_tables(layout_of('table', '<table><tr><td rowspan="1000000000" colspan="1000000000">x</td></tr><tr><td>y</td></tr></table>')) t,
	jsonb_array_elements(t.cells) c;
SELECT c->'rowspan' AS rowspan, c->'colspan' AS colspan
FROM dsocr_tables(layout_of('table', '<table><tr><td rowspan="-1" colspan="abc">x</td><td rowspan= colspan>y</td></tr></table>')) t,
	jsonb_array_elements(t.cells) c;

-- Too large for a grid: each cell takes one slot, nothing is lost.
SELECT jsonb_array_length(cells) AS cells, jsonb_array_length(grid) AS rows, grid->0 AS first, complete
FROM dsocr_tables(layout_of('table', '<table><tr><td rowspan="65534" colspan="1000">x</td><td>y</td></tr>'
	|| repeat('<tr><td colspan="1000">z</td></tr>', 10000) || '</table>'));
SELECT jsonb_array_length(grid) AS rows, jsonb_array_length(grid->0) AS cols, pg_column_size(grid) < 100000 AS small
FROM dsocr_tables(layout_of('table', '<table><tr><td colspan="999">' || repeat('x', 50000)
	|| '</td><td>y</td></tr></table>'));
SELECT jsonb_array_length(cells) AS cells, length(cells->0->>'text') AS nested
FROM dsocr_tables(layout_of('table', '<table><tr><td>' || repeat('<table><tr><td>', 20000) || 'deep'));
SELECT dsocr_tables(layout_of('table', '<table>' || repeat('<td>', 1000001)));

-- Several pages; tables that stand in text.
SELECT page, ord, grid FROM dsocr_tables('{"pages": [
	{"page": 2, "width": 10, "height": 10, "elements": [{"type": "text", "text": "no table"},
		{"type": "text", "text": "a <table><tr><td>1</td></tr></table> b"}]},
	{"page": 5, "status": "undecodable", "error": "why", "elements": []},
	{"page": 7, "width": 10, "height": 10, "elements": [{"type": "table", "text": "<table><tr><td>2</td></tr></table>"}]}]}'::jsonb);
SELECT * FROM dsocr_tables(NULL::jsonb);
SELECT dsocr_hocr(NULL::jsonb) IS NULL AS none;

-- hOCR: elements, lines and words with their places.
\pset format unaligned
SELECT dsocr_hocr('{"pages": [{"page": 1, "width": 1000, "height": 1400, "confidence": 0.95, "elements": [
	{"type": "title", "boxes": [[100, 50, 900, 100]], "text": "# A **title** & <more>", "confidence": 0.934},
	{"type": "text", "boxes": [[100, 200, 500, 400]], "text": "The quick brown fox jumps over the lazy dog, and then it does so once more because nobody looked the first time; it will never do it again after that."},
	{"type": "table", "boxes": [[100, 500, 900, 700]], "text": "<table><tr><td>Name<td>Value</tr><tr><td>alpha<td>12.5</tr></table>"},
	{"type": "image", "boxes": [[500, 1200, 100, 800]], "text": ""},
	{"type": "text", "boxes": [], "text": "without a box"},
	{"type": "text", "boxes": [[-50, 1300, 2000, 1500]], "text": "outside"}]},
	{"page": 2, "width": 1000, "height": 600, "rotation": 90, "elements": [
		{"type": "text", "boxes": [[100, 50, 150, 550]], "text": "on its side"}]},
	{"page": 3, "status": "undecodable", "error": "a --> b"}]}'::jsonb);

\pset format aligned

-- How sure the model was of each line, where the layout says it.
SELECT w[1] AS line, w[2] AS confidence FROM regexp_matches(dsocr_hocr(jsonb_set(jsonb_set(
	layout_of('text', E'first\n## second<br>third <b>line</b>\n\nfourth'), '{pages,0,elements,0,confidence}', '0.9'),
	'{pages,0,elements,0,lines}', '[{"text": "first", "confidence": 0.95}, {"text": "## second", "confidence": 0.75},
		{"text": "third <b>line</b>", "confidence": 0.5}, {"text": "not there", "confidence": 0.1}]')),
	'id="line_(\w+)" title="bbox[0-9 ]+; x_wconf (\d+)"', 'g') w;

-- Characters that XML does not have.
SELECT (regexp_match(dsocr_hocr(jsonb_set(layout_of('text', E'a\u0001b\u001bc'), '{pages,0,status}',
	'"\u0001odd\u001f"')), '<!-- page.*-->'))[1] AS status;

-- Layouts that are none.
\set VERBOSITY terse
SELECT dsocr_hocr('[]'::jsonb);
SELECT dsocr_hocr('1'::jsonb);
SELECT dsocr_hocr('{}'::jsonb);
SELECT dsocr_hocr('{"pages": {}}'::jsonb);
SELECT dsocr_hocr('{"pages": [1]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 0}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 1e100}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": "1"}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 1.5}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 2}, {"page": 2}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 1, "width": -1}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 1, "width": 10000000}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 1, "rotation": 45}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 1, "skew": 90}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 1, "elements": [{"type": "text"}]}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 1, "width": 9, "height": 9, "elements": {}}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 1, "width": 9, "height": 9, "elements": [[]]}]}'::jsonb);
SELECT dsocr_hocr('{"pages": [{"page": 1, "width": 9, "height": 9, "elements": [{}]}]}'::jsonb);
SELECT dsocr_hocr(jsonb_set(layout_of('t', 'x'), '{pages,0,elements,0,text}', '[]'));
SELECT dsocr_hocr(jsonb_set(layout_of('t', 'x'), '{pages,0,elements,0,confidence}', '2'));
SELECT dsocr_hocr(jsonb_set(layout_of('t', 'x'), '{pages,0,elements,0,lines}', '[1]'));
SELECT dsocr_hocr(jsonb_set(layout_of('t', 'x'), '{pages,0,elements,0,boxes}', '1'));
SELECT dsocr_hocr(jsonb_set(layout_of('t', 'x'), '{pages,0,elements,0,boxes}', '[1]'));
SELECT dsocr_hocr(jsonb_set(layout_of('t', 'x'), '{pages,0,elements,0,boxes}', '[[1,2,3]]'));
SELECT dsocr_hocr(jsonb_set(layout_of('t', 'x'), '{pages,0,elements,0,boxes}', '[[1,2,3,"4"]]'));
SELECT dsocr_hocr(jsonb_set(layout_of('t', 'x'), '{pages,0,elements,0,boxes}', '[[1,2,3,1e9]]'));
\set VERBOSITY default
SELECT dsocr_hocr('{"pages": [{"page": null}]}'::jsonb);

-- A box is no bigger than its page, and no smaller than a pixel.
SELECT (regexp_match(dsocr_hocr(layout_of('text', 'x', box)), 'block_1_1" title="(bbox [0-9 ]+)'))[1] AS box
FROM (VALUES (1, '{-100000000,-5,100000000,99999999}'::int[]), (2, '{5,5,5,5}'), (3, '{2000,2000,3000,3000}'),
	(4, '{-9,-9,-5,-5}'), (5, '{30,40,10,20}')) v(n, box) ORDER BY n;


-- Pages of an image; nothing where there is no document.
SELECT p.page, p.width, p.height, get_byte(p.image, 1) AS format FROM page, dsocr_pages(image) p WHERE name = 'letter';
SELECT count(*) FROM page, dsocr_pages(image, '[2,)') p WHERE name = 'letter';
SELECT * FROM dsocr_pages(NULL);
SELECT * FROM dsocr_images(NULL, '{"pages": []}');
SELECT * FROM dsocr_tables(NULL::bytea);
SELECT dsocr_overlay(NULL) IS NULL AS overlay, dsocr_hocr(NULL::bytea) IS NULL AS hocr,
	dsocr_searchable_pdf(NULL) IS NULL AS pdf, dsocr_html(NULL) IS NULL AS html;
SELECT dsocr_html(image, '[]') FROM page WHERE name = 'letter';
SELECT dsocr_searchable_pdf(image, '{}') FROM page WHERE name = 'letter';
SELECT dsocr_overlay(image, layout => '{"pages": 1}') FROM page WHERE name = 'letter';
SELECT dsocr_pages(image, dpi => 0) FROM page WHERE name = 'letter';
SELECT dsocr_overlay(image, -1) FROM page WHERE name = 'letter';

-- Geometry as the model writes it; other texts are none.
SELECT dsocr_geometry($$ {'Line': {'line': ['(0,0) -- (4,0)', '(4,3) -- (0,0)'], 'line_type': ['-','--'],
	'line_endpoint': ['A: (0,0)', 'B: (4,0)']}, 'Circle': {'circle_center': ['O: (2,1.5)'], 'radius': [2.5]}}$$);
SELECT dsocr_geometry('a chart'), dsocr_geometry('<table></table>'), dsocr_geometry(''), dsocr_geometry(NULL);
SELECT dsocr_geometry(repeat('{', 100000)), dsocr_geometry(repeat('[', 2000000));

DROP FUNCTION layout_of, grid;

-- what dsocr_figure writes: a chart, a formula
SELECT * FROM dsocr_table_cells('<table><tr><th>year</th><th>sales</th></tr><tr><td>2024</td><td>17</td></tr></table> and <table><tr><td>cut');
SELECT * FROM dsocr_table_cells('no table') UNION ALL SELECT * FROM dsocr_table_cells(NULL);
SELECT formula, c.* FROM unnest('{CC(=O)Oc1ccccc1C(=O)O,CC(=O,C1CC,"no formula",[NH4+],"",NULL}'::text[]) AS formula, dsocr_smiles_check(formula) AS c;
