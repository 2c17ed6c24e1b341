/*-------------------------------------------------------------------------
 *
 * fonts.h
 *		Font families and their rasterised glyphs.
 *
 * A glyph is rasterised once for each face, size, raster mode and horizontal
 * phase.  When the cache is full it is emptied as a whole: a pointer to a
 * glyph is good until the next call.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RENDER_FONTS_H
#define RENDER_FONTS_H

#include <stdbool.h>
#include <stdint.h>

#define FONTS_PHASES 4 /* of a pixel */

typedef enum RasterMode
{
	RASTER_PLAIN, /* no hinting, fractional positions: PDF viewers */
	RASTER_LIGHT, /* vertical hinting, fractional positions: desktops */
	RASTER_FULL,  /* hinted, whole positions: older screens */
	RASTER_MONO,  /* one bit: fax, old scanners */
	RASTER_MODES
} RasterMode;

typedef enum FaceStyle
{
	FACE_REGULAR,
	FACE_BOLD,
	FACE_ITALIC,
	FACE_STYLES
} FaceStyle;

typedef struct Glyph
{
	int left; /* of the bitmap from the pen */
	int top;  /* of the bitmap above the base line */
	int w, h; /* 0 for blanks */
	float advance;
	const uint8_t *bits; /* [h, w] coverage */
} Glyph;

typedef struct Family
{
	char name[40];
	bool held;			   /* never trained on */
	int face[FACE_STYLES]; /* the regular one where a style is missing */
} Family;

typedef struct Fonts Fonts;

/* DIR/fonts.txt: name, split, then one file for each style, separated by tabs. */
extern Fonts *fonts_open(const char *dir);
extern int fonts_count(const Fonts *f);
extern const Family *fonts_family(const Fonts *f, int i);
extern bool fonts_has(Fonts *f, int face, uint32_t c);
extern const Glyph *fonts_glyph(Fonts *f, int face, int size, RasterMode mode, int phase,
								uint32_t c);

#endif
