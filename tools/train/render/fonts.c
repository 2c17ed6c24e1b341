/*-------------------------------------------------------------------------
 *
 * fonts.c
 *		Font families and their rasterised glyphs.
 *
 *-------------------------------------------------------------------------
 */
#include "fonts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_OUTLINE_H

#include "rng.h"

#define MAX_FAMILIES 256
#define MAX_FACES (MAX_FAMILIES * FACE_STYLES)
#define CACHE_SLOTS (1 << 17)
#define COVERED 0x2700
#define CACHE_BYTES ((size_t) 64 << 20)

typedef struct Slot
{
	uint64_t key; /* 0 = empty */
	Glyph glyph;
} Slot;

struct Fonts
{
	FT_Library library;
	Family families[MAX_FAMILIES];
	int n_families;
	char *paths[MAX_FACES];
	FT_Face faces[MAX_FACES]; /* opened at first use */
	int sizes[MAX_FACES];	  /* that the face is set to */
	uint8_t *has[MAX_FACES];  /* [COVERED] characters */
	int n_faces;
	Slot *slots;
	int used;
	uint8_t *bytes;
	size_t filled;
};

static int
add_face(Fonts *f, const char *dir, const char *file)
{
	char path[4096];

	if (f->n_faces == MAX_FACES)
		return 0;
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f->paths[f->n_faces] = strdup(path);
	return f->n_faces++;
}

static bool
add_family(Fonts *f, const char *dir, char *line)
{
	Family *fam = &f->families[f->n_families];
	char *save = NULL;
	char *name = strtok_r(line, "\t\n", &save);
	char *split = strtok_r(NULL, "\t\n", &save);

	if (!name || !split || f->n_families == MAX_FAMILIES)
		return false;
	snprintf(fam->name, sizeof(fam->name), "%s", name);
	fam->held = strcmp(split, "held") == 0;
	for (int s = 0; s < FACE_STYLES; s++)
	{
		char *file = strtok_r(NULL, "\t\n", &save);

		if (!file && s == 0)
			return false;
		fam->face[s] = !file || strcmp(file, "-") == 0 ? fam->face[0] : add_face(f, dir, file);
	}
	f->n_families++;
	return true;
}

Fonts *
fonts_open(const char *dir)
{
	Fonts *f = calloc(1, sizeof(Fonts));
	char path[4096];
	char line[4096];
	FILE *list;

	snprintf(path, sizeof(path), "%s/fonts.txt", dir);
	list = fopen(path, "r");
	if (!f || !list || FT_Init_FreeType(&f->library))
	{
		fprintf(stderr, "render: cannot read %s\n", path);
		exit(1);
	}
	while (fgets(line, sizeof(line), list))
		add_family(f, dir, line);
	fclose(list);
	f->slots = calloc(CACHE_SLOTS, sizeof(Slot));
	f->bytes = malloc(CACHE_BYTES);
	if (!f->slots || !f->bytes || f->n_families == 0)
	{
		fprintf(stderr, "render: no fonts in %s\n", path);
		exit(1);
	}
	return f;
}

int
fonts_count(const Fonts *f)
{
	return f->n_families;
}

const Family *
fonts_family(const Fonts *f, int i)
{
	return &f->families[i];
}

static FT_Face
open_face(Fonts *f, int i, int size)
{
	if (!f->faces[i] && FT_New_Face(f->library, f->paths[i], 0, &f->faces[i]))
	{
		fprintf(stderr, "render: cannot open %s\n", f->paths[i]);
		exit(1);
	}
	if (f->sizes[i] != size)
	{
		FT_Set_Pixel_Sizes(f->faces[i], 0, (FT_UInt) size);
		f->sizes[i] = size;
	}
	return f->faces[i];
}

bool
fonts_has(Fonts *f, int face, uint32_t c)
{
	if (!f->has[face])
	{
		FT_Face ft = open_face(f, face, 16);

		f->has[face] = calloc(COVERED, 1);
		for (FT_ULong i = 0; f->has[face] && i < COVERED; i++)
			f->has[face][i] = FT_Get_Char_Index(ft, i) != 0;
	}
	return c < COVERED && f->has[face] && f->has[face][c];
}

static void
copy_bitmap(Fonts *f, Glyph *g, const FT_Bitmap *b)
{
	uint8_t *to = f->bytes + f->filled;

	g->w = (int) b->width;
	g->h = (int) b->rows;
	g->bits = to;
	for (int y = 0; y < g->h; y++)
	{
		const uint8_t *from = b->buffer + (ptrdiff_t) y * b->pitch;

		for (int x = 0; x < g->w; x++)
			*to++ = b->pixel_mode == FT_PIXEL_MODE_MONO ? (from[x >> 3] >> (7 - (x & 7)) & 1) * 255
														: from[x];
	}
	f->filled += (size_t) g->w * (size_t) g->h;
}

static void
rasterise(Fonts *f, Glyph *g, int face, int size, RasterMode mode, int phase, uint32_t c)
{
	static const FT_Int32 flags[RASTER_MODES] = {
		FT_LOAD_NO_HINTING,
		FT_LOAD_TARGET_LIGHT | FT_LOAD_FORCE_AUTOHINT,
		FT_LOAD_TARGET_NORMAL | FT_LOAD_FORCE_AUTOHINT,
		FT_LOAD_TARGET_MONO | FT_LOAD_FORCE_AUTOHINT,
	};
	FT_Face ft = open_face(f, face, size);
	FT_UInt index = FT_Get_Char_Index(ft, c);
	FT_GlyphSlot slot = ft->glyph;

	if (index == 0 || FT_Load_Glyph(ft, index, flags[mode] | FT_LOAD_NO_BITMAP))
		return;
	g->advance = mode >= RASTER_FULL ? (float) slot->advance.x / 64.0f
									 : (float) slot->linearHoriAdvance / 65536.0f;
	if (slot->format != FT_GLYPH_FORMAT_OUTLINE || slot->outline.n_points == 0)
		return;
	if (phase)
		FT_Outline_Translate(&slot->outline, phase * (64 / FONTS_PHASES), 0);
	if (FT_Render_Glyph(slot, mode == RASTER_MONO ? FT_RENDER_MODE_MONO : FT_RENDER_MODE_NORMAL))
		return;
	g->left = slot->bitmap_left;
	g->top = slot->bitmap_top;
	copy_bitmap(f, g, &slot->bitmap);
}

const Glyph *
fonts_glyph(Fonts *f, int face, int size, RasterMode mode, int phase, uint32_t c)
{
	uint64_t key = 1 | (uint64_t) mode << 1 | (uint64_t) phase << 4 | (uint64_t) c << 8 |
				   (uint64_t) size << 32 | (uint64_t) face << 44;
	uint32_t i = (uint32_t) (rng_mix(key) & (CACHE_SLOTS - 1));
	Slot *s;

	while (f->slots[i].key && f->slots[i].key != key)
		i = (i + 1) & (CACHE_SLOTS - 1);
	s = &f->slots[i];
	if (s->key)
		return &s->glyph;
	if (f->used > CACHE_SLOTS / 2 || f->filled + (size_t) size * (size_t) size * 16 > CACHE_BYTES)
	{
		memset(f->slots, 0, CACHE_SLOTS * sizeof(Slot));
		f->used = 0;
		f->filled = 0;
		s = &f->slots[rng_mix(key) & (CACHE_SLOTS - 1)];
	}
	s->key = key;
	f->used++;
	memset(&s->glyph, 0, sizeof(Glyph));
	rasterise(f, &s->glyph, face, size, mode, phase, c);
	return &s->glyph;
}
