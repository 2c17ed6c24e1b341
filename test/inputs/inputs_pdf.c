/*-------------------------------------------------------------------------
 *
 * inputs_pdf.c
 *		PDF files as programs write them.  A point is a pixel for the test.
 *
 *-------------------------------------------------------------------------
 */
#include "inputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../reference/make_image.h"
#include "../reference/pdf_maker.h"
#include "inputs_pdf.h"

#define PIXELS (IN_WIDTH * IN_HEIGHT)

void
in_pdf_pages(DsocrBuffer *out, int n, const char *entries, const char *content)
{
	*out = dsocr_pdf_pages(n, IN_WIDTH, IN_HEIGHT, entries, content);
}

static void
make_pages(DsocrBuffer *out, int n)
{
	in_pdf_pages(out, n, "", IN_QUARTERS);
}

static void
make_rotated(DsocrBuffer *out, int degrees)
{
	char entries[32];

	snprintf(entries, sizeof(entries), "/Rotate %d", degrees);
	in_pdf_pages(out, 1, entries, IN_QUARTERS);
}

enum
{
	CROPPED,
	USER_UNIT,
	NOTHING,
	TEXT,
	INLINE,
	NO_RESOURCES,
	INVERTED,
	OFFSET,
	CLIPPED,
	TURNED_ODD,
	TYPE_3,
	SHADED,
	MASKED,
	HIDDEN_TEXT
};

static void
make_page(DsocrBuffer *out, int what)
{
	static const char *const entries[] = {
		[CROPPED] = "/MediaBox[-100 -100 300 300]/CropBox[0 0 64 48]",
		[USER_UNIT] = "/UserUnit 2",
		[NOTHING] = "",
		[TEXT] = "",
		[INLINE] = "",
		[NO_RESOURCES] = "/Resources null",
		[INVERTED] = "/MediaBox[64 48 0 0]",
		[OFFSET] = "/MediaBox[-32 -24 32 24]",
		[CLIPPED] = "/CropBox[-500 -500 900 900]",
		[TURNED_ODD] = "/Rotate 45",
		[TYPE_3] =
			"/Resources<</Font<</F<</Type/Font/Subtype/Type3/FontBBox[0 0 32 24]/FontMatrix[1 0 0 "
			"1 0 0]/FirstChar 65/LastChar 65/Widths[32]/Encoding<</Differences[65/a]>>"
			"/CharProcs<</a null>>>>>>>>",
		[SHADED] = "/Resources<</Shading<</S<</ShadingType 2/ColorSpace/DeviceRGB/Coords[0 0 64 0]"
				   "/Function<</FunctionType 2/Domain[0 1]/N 1/C0[1 0 0]/C1[0 0 1]>>>>>>>>",
		[MASKED] = "/Resources<</ExtGState<</G<</ca 0.5/BM/Multiply>>>>>>",
		[HIDDEN_TEXT] = ""};
	/* a letter I of which both left quarters see the stem */
	static const char *const contents[] = {
		[CROPPED] = IN_QUARTERS,
		[USER_UNIT] = IN_QUARTERS,
		[NOTHING] = "",
		[TEXT] = "BT /F 60 Tf 7.7 2 Td (I) Tj ET",
		[INLINE] = "q 64 0 0 48 0 0 cm BI/W 2/H 2/CS/RGB/BPC 8/F/AHx ID "
				   "ff000000ff000000ffffffff> EI Q",
		[NO_RESOURCES] = IN_QUARTERS,
		[INVERTED] = IN_QUARTERS,
		[OFFSET] = "1 0 0 1 -32 -24 cm " IN_QUARTERS,
		[CLIPPED] = IN_QUARTERS,
		[TURNED_ODD] = IN_QUARTERS,
		[TYPE_3] = IN_QUARTERS " BT /F 1 Tf (A) Tj ET",
		[SHADED] = "/S sh",
		[MASKED] = IN_QUARTERS " /G gs 0 g 0 0 64 48 re f",
		[HIDDEN_TEXT] = IN_QUARTERS " 0 g BT 3 Tr /F 60 Tf 7.7 2 Td (I) Tj ET"};

	in_pdf_pages(out, 1, entries[what], contents[what]);
}

/* ---- pages that are an image ---- */

static void
image_page(DsocrBuffer *out, const char *entries, const DsocrBuffer *data)
{
	PdfMaker *m = calloc(1, sizeof(*m));
	static const char content[] = "64 0 0 48 0 0 cm /I Do";
	char all[512];

	if (m == NULL)
		in_fail("no memory");
	dsocr_pdf_object(m, "<</Type/Catalog/Pages 2 0 R>>");
	dsocr_pdf_object(m, "<</Type/Pages/Count 1/Kids[3 0 R]>>");
	dsocr_pdf_object(m, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 64 48]/Contents 4 0 R"
						"/Resources<</XObject<</I 5 0 R>>>>>>");
	dsocr_pdf_stream(m, "", content, sizeof(content) - 1);
	snprintf(all, sizeof(all), "/Type/XObject/Subtype/Image/Width 64/Height 48%s", entries);
	dsocr_pdf_stream(m, all, data->data, data->len);
	dsocr_pdf_end(m);
	*out = m->out;
	free(m);
}

/* A page of one generic region, which is coded as CCITT group 4 is. */
static void
jbig2(DsocrBuffer *b)
{
	DsocrBuffer region = {0};

	in_group4(&region);
	mk_be32(b, 0);
	mk_bytes(b, "\x30\0\x01", 3);
	mk_be32(b, 19);
	mk_be32(b, IN_WIDTH);
	mk_be32(b, IN_HEIGHT);
	mk_bytes(b, "\0\0\0\0\0\0\0\0\0\0\0", 11);
	mk_be32(b, 1);
	mk_bytes(b, "\x26\0\x01", 3);
	mk_be32(b, 18 + (uint32_t) region.len);
	mk_be32(b, IN_WIDTH);
	mk_be32(b, IN_HEIGHT);
	mk_bytes(b, "\0\0\0\0\0\0\0\0\0\x01", 10);
	mk_bytes(b, region.data, region.len);
	dsocr_buffer_free(&region);
}

enum
{
	JPEG,
	CMYK,
	CCITT,
	JBIG2,
	JPX,
	GRAY_16,
	INDEXED,
	SHORT,
	CLAIMS,
	NO_JPEG
};

static void
make_image(DsocrBuffer *out, int kind)
{
	static const char *const entries[] = {
		[JPEG] = "/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode",
		[CMYK] = "/ColorSpace/DeviceCMYK/BitsPerComponent 8",
		[CCITT] = "/ColorSpace/DeviceGray/BitsPerComponent 1/Filter/CCITTFaxDecode"
				  "/DecodeParms<</K -1/Columns 64/Rows 48>>",
		[JBIG2] = "/ColorSpace/DeviceGray/BitsPerComponent 1/Filter/JBIG2Decode",
		[JPX] = "/Filter/JPXDecode",
		[GRAY_16] = "/ColorSpace/DeviceGray/BitsPerComponent 16",
		[INDEXED] = "/ColorSpace[/Indexed/DeviceRGB 3<ff000000ff000000ffffffff>]/BitsPerComponent "
					"8",
		[SHORT] = "/ColorSpace/DeviceRGB/BitsPerComponent 8",
		[CLAIMS] = "/Width 60000/Height 60000/ColorSpace/DeviceRGB/BitsPerComponent 8",
		[NO_JPEG] = "/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/DCTDecode"};
	DsocrBuffer data = {0};

	if (kind == JPEG)
		in_baseline(&data);
	else if (kind == CCITT)
		in_group4(&data);
	else if (kind == JBIG2)
		jbig2(&data);
	else if (kind == JPX)
		in_file(&data, "picture.jp2");
	for (int i = 0; i < PIXELS; i++)
	{
		int x = i % IN_WIDTH;
		int y = i / IN_WIDTH;

		for (int c = 0; kind == CMYK && c < 4; c++)
			mk_bytes(&data, &(uint8_t){c == 3 ? 0 : (uint8_t) (255 - in_rgb(x, y, c))}, 1);
		for (int c = 0; kind == SHORT && y < IN_HEIGHT / 2 && c < 3; c++)
			mk_bytes(&data, &(uint8_t){(uint8_t) in_rgb(x, y, c)}, 1);
		if (kind == GRAY_16)
			mk_be16(&data, (uint32_t) in_gray(x, y) * 257);
		if (kind == INDEXED)
			mk_bytes(&data, &(uint8_t){(x < 32 ? 0 : 1) + (y < 24 ? 0 : 2)}, 1);
	}
	image_page(out, entries[kind], &data);
	dsocr_buffer_free(&data);
}

/* ---- annotations, fields, scripts ---- */

enum
{
	FIELD,
	NOTE,
	HIDDEN,
	SCRIPT,
	LAYER,
	ATTACHED
};

/* Three quarters are content; what is annotated is the first one. */
static void
make_annotated(DsocrBuffer *out, int kind)
{
	static const char content[] = "0 1 0 rg 32 24 32 24 re f 0 0 1 rg 0 0 32 24 re f";
	static const char look[] = "1 0 0 rg 0 0 32 24 re f";
	static const char *const notes[] = {[FIELD] = "/Subtype/Widget/FT/Tx/T(name)/V(red)/F 4",
										[NOTE] = "/Subtype/Square/F 4",
										[HIDDEN] = "/Subtype/Square/F 2",
										[SCRIPT] = "/Subtype/Square/F 4",
										[LAYER] = "/Subtype/Square/F 4/OC 7 0 R",
										[ATTACHED] = "/Subtype/FileAttachment/FS 7 0 R"};
	static const char *const more[] = {
		[FIELD] = "/AcroForm<</Fields[5 0 R]>>",
		[NOTE] = "",
		[HIDDEN] = "",
		[SCRIPT] = "/OpenAction<</S/JavaScript/JS(while\\(true\\){app.alert\\(1\\)})>>"
				   "/Names<</JavaScript<</Names[(a)<</S/JavaScript/JS(exit\\(\\))>>]>>>>",
		[LAYER] = "/OCProperties<</OCGs[7 0 R]/D<</OFF[7 0 R]>>>>",
		[ATTACHED] = "/Names<</EmbeddedFiles<</Names[(a)7 0 R]>>>>"};
	PdfMaker *m = calloc(1, sizeof(*m));

	if (m == NULL)
		in_fail("no memory");
	dsocr_pdf_object(m, "<</Type/Catalog/Pages 2 0 R%s>>", more[kind]);
	dsocr_pdf_object(m, "<</Type/Pages/Count 1/Kids[3 0 R]>>");
	dsocr_pdf_object(m, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 64 48]/Contents 4 0 R"
						"/Resources<<>>/Annots[5 0 R]>>");
	dsocr_pdf_stream(m, "", content, sizeof(content) - 1);
	dsocr_pdf_object(m, "<</Type/Annot%s/Rect[0 24 32 48]/AP<</N 6 0 R>>>>", notes[kind]);
	dsocr_pdf_stream(m, "/Type/XObject/Subtype/Form/BBox[0 0 32 24]", look, sizeof(look) - 1);
	if (kind == LAYER)
		dsocr_pdf_object(m, "<</Type/OCG/Name(red)>>");
	if (kind == ATTACHED)
	{
		dsocr_pdf_object(m, "<</Type/Filespec/F(a.exe)/EF<</F 8 0 R>>>>");
		dsocr_pdf_stream(m, "/Type/EmbeddedFile", "MZ", 2);
	}
	dsocr_pdf_end(m);
	*out = m->out;
	free(m);
}

#define LOCKED_BY "'--encrypt' 'open sesame' owner "

const Input in_pdf[] = {
	{"one.pdf", "one page", IN_COLOUR, make_pages, 1},
	{"three.pdf", "3 pages", "3 pages, all " IN_COLOUR, make_pages, 3},
	{"rotate-90.pdf", "/Rotate 90", "48 x 64: blue red / white green", make_rotated, 90},
	{"rotate-180.pdf", "/Rotate 180", "64 x 48: white blue / green red", make_rotated, 180},
	{"rotate-270.pdf", "/Rotate 270", "48 x 64: green white / red blue", make_rotated, 270},
	{"rotate-minus-90.pdf", "/Rotate -90", "48 x 64: green white / red blue", make_rotated, -90},
	{"crop-box.pdf", "crop box within a larger media box", IN_COLOUR, make_page, CROPPED},
	{"user-unit.pdf", "/UserUnit 2, which poppler ignores", IN_COLOUR, make_page, USER_UNIT},
	{"no-resources.pdf", "a page without resources", IN_COLOUR, make_page, NO_RESOURCES},
	{"inverted-box.pdf", "a media box from its upper right corner", IN_COLOUR, make_page, INVERTED},
	{"negative-box.pdf", "a media box around the origin", IN_COLOUR, make_page, OFFSET},
	{"large-crop.pdf", "a crop box beyond the media box", IN_COLOUR, make_page, CLIPPED},
	{"rotate-45.pdf", "/Rotate 45, which is no right angle", IN_COLOUR, make_page, TURNED_ODD},
	{"empty-page.pdf", "a page without content", "64 x 48: white white / white white", make_page,
	 NOTHING},
	{"no-fonts.pdf", "a letter in Helvetica, which is not embedded",
	 "64 x 48: black white / black white", make_page, TEXT},
	{"type-3.pdf", "a Type 3 font without its letter", IN_COLOUR, make_page, TYPE_3},
	{"shading.pdf", "shaded from red to blue", "64 x 48: #bd0042 #3e00c1", make_page, SHADED},
	{"transparent.pdf", "half transparent black, multiplied", "64 x 48: #7f0000", make_page,
	 MASKED},
	{"hidden-text.pdf", "invisible text over the picture", IN_COLOUR, make_page, HIDDEN_TEXT},
	{"inline-image.pdf", "inline image of 2 x 2 pixels, hexadecimal", IN_COLOUR, make_page, INLINE},
	{"scan-jpeg.pdf", "a scanned page, JPEG", IN_COLOUR, make_image, JPEG},
	{"scan-ccitt.pdf", "a scanned page, CCITT group 4", IN_LINE, make_image, CCITT},
	{"scan-jbig2.pdf", "a scanned page, JBIG2", IN_LINE, make_image, JBIG2},
	{"scan-jpx.pdf", "a scanned page, JPEG 2000", IN_COLOUR, make_image, JPX},
	{"scan-cmyk.pdf", "a CMYK image, in colours of print", "64 x 48: #ec1b24 ", make_image, CMYK},
	{"scan-gray-16.pdf", "a gray image of 16 bits", IN_GRAY, make_image, GRAY_16},
	{"scan-indexed.pdf", "an image with a palette", IN_COLOUR, make_image, INDEXED},
	{"short-image.pdf", "half of an image missing", "64 x 48: red green", make_image, SHORT},
	{"no-image.pdf", "a JPEG image without bytes", "64 x 48: white white / white white", make_image,
	 NO_JPEG},
	{"large-image.pdf", "an image that claims 60000 x 60000", "64 x 48: ", make_image, CLAIMS},
	{"field.pdf", "a form field makes the first quarter red", IN_COLOUR, make_annotated, FIELD},
	{"annotation.pdf", "an annotation makes the first quarter red", IN_COLOUR, make_annotated,
	 NOTE},
	{"hidden.pdf", "a hidden annotation", "64 x 48: white green / blue white", make_annotated,
	 HIDDEN},
	{"javascript.pdf", "JavaScript that would run for ever", IN_COLOUR, make_annotated, SCRIPT},
	{"layer.pdf", "an annotation on a layer that is switched off",
	 "64 x 48: white green / blue white", make_annotated, LAYER},
	{"attachment.pdf", "an attached program", IN_COLOUR, make_annotated, ATTACHED},
	{"linear.pdf", "linearised, 3 pages", "3 pages, all " IN_COLOUR, NULL, 0,
	 "--linearize three.pdf"},
	{"object-streams.pdf", "object streams", IN_COLOUR, NULL, 0,
	 "--object-streams=generate one.pdf"},
	{"aes-256.pdf", "encrypted by AES-256, right password", IN_COLOUR, NULL, 0,
	 LOCKED_BY "256 -- one.pdf", "open sesame"},
	{"aes-128.pdf", "encrypted by AES-128, right password", IN_COLOUR, NULL, 0,
	 "--allow-weak-crypto " LOCKED_BY "128 --use-aes=y -- one.pdf", "open sesame"},
	{"rc4-40.pdf", "encrypted by RC4 of 40 bits, right password", IN_COLOUR, NULL, 0,
	 "--allow-weak-crypto " LOCKED_BY "40 -- one.pdf", "open sesame"},
	{"owner-password.pdf", "encrypted, password of the owner", IN_COLOUR, NULL, 0,
	 LOCKED_BY "256 -- one.pdf", "owner"},
	{"no-user-password.pdf", "encrypted, opens without password", IN_COLOUR, NULL, 0,
	 "--encrypt '' owner 256 --print=none -- one.pdf"},
	{"wrong-password.pdf", "encrypted, wrong password", IN_REFUSED, NULL, 0,
	 LOCKED_BY "256 -- one.pdf", "open barley"},
	{"without-password.pdf", "encrypted, no password given", IN_REFUSED, NULL, 0,
	 LOCKED_BY "256 -- one.pdf"},
	{"needless-password.pdf", "a password where none is needed", IN_COLOUR, make_pages, 1, NULL,
	 "open sesame"},
	{0}};
