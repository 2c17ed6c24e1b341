/*-------------------------------------------------------------------------
 *
 * html_page.c
 *		Scans and their text side by side: one HTML file that needs no other.
 *
 * A page is a section: the scan on the left as SVG with a rectangle for each
 * box, the text on the right.  Both sides of an element have the same data-b,
 * and a few lines of script light them up together.  Figures on the right are
 * windows onto the scan, so no image is there twice.
 *
 * What a page says is text and never HTML: everything is escaped, tables are
 * built anew from their cells.  The content security policy lets nothing in
 * but images of data: and this style and script, by their hashes.
 *
 *-------------------------------------------------------------------------
 */
#include "html_page.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "encoding.h"
#include "html_table.h"
#include "html_text.h"
#include "text_lines.h"

/* Tallest figure beside the text, pixels of the screen. */
#define FIGURE_HEIGHT 240.0

static const char style[] =
	":root{color-scheme:light dark;--page:#f3f2ee;--paper:#fff;--ink:#1d1d1f;--mute:#6b6b70;"
	"--line:#d9d7d0;--on:#ffb000}\n"
	"@media(prefers-color-scheme:dark){:root{--page:#17181a;--paper:#202124;--ink:#e8e6e3;"
	"--mute:#9a9aa0;--line:#3a3b3f}}\n"
	"*{box-sizing:border-box}\n"
	"body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\n"
	"section{display:grid;grid-template-columns:minmax(0,1fr) minmax(0,1fr);gap:1.5rem;"
	"max-width:110rem;margin:0 auto;padding:1.5rem;border-bottom:1px solid var(--line);"
	"content-visibility:auto;contain-intrinsic-size:auto 60rem}\n"
	"section>h1{grid-column:1/-1;margin:0;font-size:.9rem;font-weight:600;color:var(--mute)}\n"
	".scan{position:sticky;top:1rem;align-self:start}\n"
	".scan svg{display:block;width:100%;max-height:calc(100vh - 2rem);background:#fff;"
	"border:1px solid var(--line)}\n"
	".scan rect{fill:#ffb000;fill-opacity:0;stroke:#ffb000;stroke-opacity:.35;stroke-width:1;"
	"vector-effect:non-scaling-stroke;cursor:pointer}\n"
	".scan rect.on{fill-opacity:.28;stroke-opacity:1;stroke-width:2}\n"
	".text{background:var(--paper);border:1px solid var(--line);padding:.75rem 1rem;"
	"align-self:start;overflow-x:auto}\n"
	".text>div{padding:.15rem .5rem;border-left:4px solid transparent;border-radius:3px;"
	"scroll-margin:2rem}\n"
	".text>div.on{border-color:var(--on);background:color-mix(in srgb,var(--on) 18%,transparent)}\n"
	".text>div:focus-visible{outline:2px solid var(--on);outline-offset:1px}\n"
	".text p,.text h2,.text h3{margin:.35rem 0;white-space:pre-wrap;overflow-wrap:anywhere}\n"
	".text h2{font-size:1.35rem;line-height:1.25}.text h3{font-size:1.1rem}\n"
	".quiet p{color:var(--mute);font-size:.875rem}\n"
	".text svg{display:block;max-width:100%;height:auto;background:#fff}\n"
	"table{border-collapse:collapse;margin:.4rem 0;font-size:.9375rem}\n"
	"td,th{border:1px solid var(--line);padding:.2rem .5rem;text-align:left;vertical-align:top;"
	"white-space:pre-line}\n"
	".why{color:var(--mute);font-style:italic}\n"
	"@media(max-width:50rem){section{grid-template-columns:minmax(0,1fr)}.scan{position:static}}\n"
	"@media print{section{break-after:page;content-visibility:visible}.scan{position:static}}\n";

static const char script[] =
	"'use strict';\n"
	"let lit=null;\n"
	"const both=k=>document.querySelectorAll('[data-b=\"'+k+'\"]');\n"
	"function light(k){if(k===lit)return;if(lit)both(lit).forEach(e=>e.classList.remove('on'));"
	"lit=k;if(k)both(k).forEach(e=>e.classList.add('on'))}\n"
	"const key=e=>{const b=e.target.closest&&e.target.closest('[data-b]');"
	"return b?b.dataset.b:null};\n"
	"function go(from,k){const text=from.closest('.text');for(const e of both(k))"
	"if((e.closest('.text')===null)!==(text===null)){"
	"e.scrollIntoView({block:'nearest',behavior:'smooth'});break}}\n"
	"document.addEventListener('mouseover',e=>light(key(e)));\n"
	"document.addEventListener('focusin',e=>light(key(e)));\n"
	"document.addEventListener('focusout',()=>light(null));\n"
	"document.addEventListener('click',e=>{const k=key(e);"
	"if(k&&String(getSelection())==='')go(e.target,k)});\n"
	"document.addEventListener('keydown',e=>{if(e.key==='Enter'||e.key===' '){const k=key(e);"
	"if(k){go(e.target,k);e.preventDefault()}}});\n";

/* ---- bytes ---- */

/* Room in a value of 1 GB; said before a StringInfo says it in its own words. */
static void
make_room(StringInfo out, size_t bytes)
{
	if (bytes > MaxAllocSize - 65536 - out->len)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("the HTML would be larger than a value may be, 1 GB"),
						errhint("Make several files of it with the argument pages.")));
	enlargeStringInfo(out, (int) bytes);
}

static void
put_base64(StringInfo out, const uint8 *p, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *to;

	make_room(out, len / 3 * 4 + 8);
	to = out->data + out->len;
	for (; len > 0; p += 3, len -= Min(len, 3))
	{
		uint32 bits = (uint32) p[0] << 16;

		if (len > 1)
			bits |= (uint32) p[1] << 8;
		if (len > 2)
			bits |= p[2];
		*to++ = digits[bits >> 18];
		*to++ = digits[bits >> 12 & 63];
		*to++ = len > 1 ? digits[bits >> 6 & 63] : '=';
		*to++ = len > 2 ? digits[bits & 63] : '=';
	}
	*to = '\0';
	out->len = to - out->data;
}

static void
put_hash(StringInfo out, const char *source)
{
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	if (hash == NULL || pg_cryptohash_init(hash) < 0 ||
		pg_cryptohash_update(hash, (const uint8 *) source, strlen(source)) < 0 ||
		pg_cryptohash_final(hash, digest, sizeof(digest)) < 0)
		elog(ERROR, "could not hash the style of a page");
	pg_cryptohash_free(hash);
	appendStringInfoString(out, "'sha256-");
	put_base64(out, digest, sizeof(digest));
	appendStringInfoChar(out, '\'');
}

void
dsocr_html_begin(StringInfo out)
{
	initStringInfo(out);
	appendStringInfoSpaces(out, VARHDRSZ);
	appendStringInfoString(out, "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n"
								"<meta http-equiv=\"Content-Security-Policy\" "
								"content=\"default-src 'none'; img-src data:; style-src ");
	put_hash(out, style);
	appendStringInfoString(out, "; script-src ");
	put_hash(out, script);
	appendStringInfo(out,
					 "; base-uri 'none'; form-action 'none'\">\n"
					 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
					 "<meta name=\"generator\" content=\"dsocr " DSOCR_VERSION "\">\n"
					 "<title>Pages and their text</title>\n<style>%s</style>\n</head>\n<body>\n",
					 style);
}

text *
dsocr_html_end(StringInfo out)
{
	make_room(out, sizeof(script) + 64);
	appendStringInfo(out, "<script>%s</script>\n</body>\n</html>\n", script);
	SET_VARSIZE(out->data, out->len);
	return (text *) out->data;
}

/* ---- the text ---- */

static void
put_tables_cells(StringInfo out, const DsocrTable *table)
{
	int i = 0;

	appendStringInfoString(out, "<table>\n");
	for (int row = 0; row < table->n_rows; row++)
	{
		appendStringInfoString(out, "<tr>");
		for (; i < table->n_cells && table->cells[i].row == row; i++)
		{
			const DsocrTableCell *c = &table->cells[i];

			appendStringInfoString(out, c->header ? "<th" : "<td");
			if (c->rowspan > 1)
				appendStringInfo(out, " rowspan=\"%d\"", c->rowspan);
			if (c->colspan > 1)
				appendStringInfo(out, " colspan=\"%d\"", c->colspan);
			appendStringInfoChar(out, '>');
			dsocr_html_escape(out, c->text, strlen(c->text));
			appendStringInfoString(out, c->header ? "</th>" : "</td>");
		}
		appendStringInfoString(out, "</tr>\n");
	}
	appendStringInfoString(out, "</table>");
}

/* Text between tables, as a heading where the element is one. */
static void
put_paragraph(StringInfo out, const DsocrBlock *block, const char *from, size_t len)
{
	const char *tag = strcmp(block->label, "title") == 0	   ? "h2"
					  : strcmp(block->label, "sub_title") == 0 ? "h3"
															   : "p";
	DsocrBlock part = {.label = block->label, .content = pnstrdup(from, len)};
	char *plain = dsocr_text_plain(&part);

	if (plain[0] != '\0')
	{
		appendStringInfo(out, "<%s>", tag);
		dsocr_html_escape(out, plain, strlen(plain));
		appendStringInfo(out, "</%s>", tag);
	}
	pfree(plain);
	pfree(part.content);
}

static void
put_content(StringInfo out, const DsocrBlock *block)
{
	const char *p = block->content;
	const char *end = p + strlen(p);

	while (p < end)
	{
		const char *before = p;
		DsocrTable table;
		bool found = dsocr_table_next(&p, end, &table);

		put_paragraph(out, block, before, (found ? table.html : end) - before);
		if (found)
			put_tables_cells(out, &table);
	}
}

/* Headers, footers and page numbers are not what one reads. */
static bool
is_quiet(const DsocrBlock *block)
{
	static const char *const labels[] = {"header", "footer", "page_number", "footnote"};

	for (int i = 0; i < (int) lengthof(labels); i++)
		if (strcmp(block->label, labels[i]) == 0)
			return true;
	return false;
}

/* A window onto the scan, of the same shape so that nothing beside it is seen. */
static void
put_figure(StringInfo out, int page, double x, double y, double w, double h)
{
	appendStringInfo(out,
					 "<svg role=\"img\" aria-label=\"figure\" viewBox=\"%.0f %.0f %.0f %.0f\" "
					 "width=\"%.0f\"><use href=\"#scan-%d\"/></svg>",
					 x, y, w, h, Max(Min(w, FIGURE_HEIGHT * w / h), 1.0), page);
}

static void
put_element(StringInfo out, const DsocrLayoutPage *page, int n, bool with_image)
{
	const DsocrBlock *block = &page->blocks[n];
	DsocrRect r;

	appendStringInfo(out, "<div data-b=\"%d-%d\" tabindex=\"0\"%s title=\"", page->number, n + 1,
					 is_quiet(block) ? " class=\"quiet\"" : "");
	dsocr_html_escape(out, block->label, strlen(block->label));
	if (block->confidence > 0)
		appendStringInfo(out, ", confidence %.0f %%", Min(block->confidence, 1.0f) * 100);
	appendStringInfoString(out, "\">");
	if (with_image && dsocr_layout_is_image(block) && dsocr_text_frame(page, block, &r))
		put_figure(out, page->number, r.x1, r.y1, r.x2 - r.x1, r.y2 - r.y1);
	put_content(out, block);
	appendStringInfoString(out, "</div>\n");
}

/* ---- the scan ---- */

static void
put_boxes(StringInfo out, const DsocrLayoutPage *page)
{
	for (int i = 0; i < page->n_blocks; i++)
		for (int k = 0; k < page->blocks[i].n_boxes; k++)
		{
			int32_t b[4];

			CHECK_FOR_INTERRUPTS();
			dsocr_layout_clip(page, page->blocks[i].boxes[k], b);
			appendStringInfo(out,
							 "<rect data-b=\"%d-%d\" x=\"%d\" y=\"%d\" width=\"%d\" "
							 "height=\"%d\"/>\n",
							 page->number, i + 1, b[0], b[1], b[2] - b[0], b[3] - b[1]);
		}
}

/* The scan, turned upright; boxes are of the page as it is stored. */
static void
put_scan(StringInfo out, int number, const DsocrLayoutPage *layout, const DsocrHtmlImage *image)
{
	int rotation = layout == NULL ? 0 : layout->rotation;
	int w = layout == NULL || layout->width == 0 ? image->width : layout->width;
	int h = layout == NULL || layout->height == 0 ? image->height : layout->height;
	bool lies = rotation == 90 || rotation == 270;
	const char *turn;

	appendStringInfo(out,
					 "<div class=\"scan\"><svg role=\"img\" aria-label=\"scan of page %d\" "
					 "viewBox=\"0 0 %d %d\">",
					 number, lies ? h : w, lies ? w : h);
	turn = rotation == 90	 ? psprintf("matrix(0 1 -1 0 %d 0)", h)
		   : rotation == 180 ? psprintf("matrix(-1 0 0 -1 %d %d)", w, h)
		   : rotation == 270 ? psprintf("matrix(0 -1 1 0 0 %d)", w)
							 : "matrix(1 0 0 1 0 0)";
	appendStringInfo(out,
					 "<g id=\"scan-%d\" transform=\"%s\"><image width=\"%d\" height=\"%d\" "
					 "preserveAspectRatio=\"none\" href=\"data:image/%s;base64,",
					 number, turn, w, h, image->bytes[0] == 0xff ? "jpeg" : "png");
	put_base64(out, image->bytes, image->len);
	appendStringInfo(out, "\"/></g>\n<g transform=\"%s\">\n", turn);
	if (layout != NULL)
		put_boxes(out, layout);
	appendStringInfoString(out, "</g></svg></div>\n");
}

void
dsocr_html_add(StringInfo out, int number, const DsocrLayoutPage *layout,
			   const DsocrHtmlImage *image, const char *why, int *replaced)
{
	MemoryContext work =
		AllocSetContextCreate(CurrentMemoryContext, "dsocr HTML page", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(work);
	StringInfoData words;

	make_room(out, 1024);
	appendStringInfo(out, "<section id=\"page-%d\"><h1>Page %d</h1>\n", number, number);
	if (image != NULL)
		put_scan(out, number, layout, image);
	initStringInfo(&words);
	if (image == NULL)
		appendStringInfoString(&words, "<div class=\"scan\"></div>\n");
	appendStringInfoString(&words, "<div class=\"text\">\n");
	if (layout != NULL && (layout->error != NULL || strcmp(layout->status, "ok") != 0))
		why = psprintf("%s%s%s", layout->status, layout->error != NULL ? ": " : "",
					   layout->error != NULL ? layout->error : "");
	if (why != NULL)
	{
		appendStringInfoString(&words, "<p class=\"why\">");
		dsocr_html_escape(&words, why, strlen(why));
		appendStringInfoString(&words, "</p>\n");
	}
	for (int i = 0; layout != NULL && i < layout->n_blocks; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_element(&words, layout, i, image != NULL);
	}
	appendStringInfoString(&words, "</div>\n</section>\n");
	{
		char *converted = dsocr_encoding_to_server(words.data, replaced);

		make_room(out, strlen(converted));
		appendStringInfoString(out, converted);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
}
