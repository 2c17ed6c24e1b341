/*-------------------------------------------------------------------------
 *
 * inputs.c
 *		make_inputs FOLDER SOURCES: write all input files and print what they
 *		are.  SOURCES is the folder of this file, where some lie ready.
 *
 * A line for each file: name, what is special, the beginning of the result,
 * the password; separated by tabs.
 *
 *-------------------------------------------------------------------------
 */
#include "inputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../reference/make_image.h"

static const char *sources;

void
in_fail(const char *what)
{
	fprintf(stderr, "make_inputs: %s\n", what);
	exit(1);
}

/* ---- the picture ---- */

int
in_gray(int x, int y)
{
	return (x < IN_WIDTH / 2 ? 0 : 85) + (y < IN_HEIGHT / 2 ? 0 : 170);
}

int
in_rgb(int x, int y, int channel)
{
	static const uint8_t colours[4][3] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 255}};

	return colours[(x < IN_WIDTH / 2 ? 0 : 1) + (y < IN_HEIGHT / 2 ? 0 : 2)][channel];
}

void
in_picture(uint8_t *out, int channels)
{
	for (int y = 0; y < IN_HEIGHT; y++)
		for (int x = 0; x < IN_WIDTH; x++)
			for (int c = 0; c < channels; c++)
				*out++ = (uint8_t) (channels == 1 ? in_gray(x, y) : c == 3 ? 255 : in_rgb(x, y, c));
}

void
in_turned(uint8_t *out, int orientation, int *width, int *height)
{
	bool sides = orientation > 4 && orientation < 9;
	int w = sides ? IN_HEIGHT : IN_WIDTH;
	int h = sides ? IN_WIDTH : IN_HEIGHT;

	for (int y = 0; y < IN_HEIGHT; y++)
		for (int x = 0; x < IN_WIDTH; x++)
		{
			int sx = sides ? y : x;
			int sy = sides ? x : y;

			if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8)
				sx = w - 1 - sx;
			if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7)
				sy = h - 1 - sy;
			for (int c = 0; c < 3; c++)
				out[(sy * w + sx) * 3 + c] = (uint8_t) in_rgb(x, y, c);
		}
	*width = w;
	*height = h;
}

void
in_file(DsocrBuffer *out, const char *name)
{
	DsocrError err = {0};
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", sources, name);
	if (!dsocr_read_file(path, 1 << 20, out, &err))
		in_fail(err.message);
}

/* ---- the files ---- */

static void
write_made(const char *folder, const Input *in)
{
	DsocrBuffer b = {0};
	char path[4096];
	FILE *f;

	in->make(&b, in->arg);
	snprintf(path, sizeof(path), "%s/%s", folder, in->name);
	f = fopen(path, "wb");
	if (f == NULL || fwrite(b.data == NULL ? "" : b.data, 1, b.len, f) != b.len || fclose(f) != 0)
		in_fail(path);
	dsocr_buffer_free(&b);
}

static void
write_by_qpdf(const char *folder, const Input *in)
{
	char command[8192];

	snprintf(command, sizeof(command), "cd '%s' && qpdf %s '%s'", folder, in->qpdf, in->name);
	if (system(command) != 0)
		in_fail(command);
}

static void
write_all(const char *folder, const Input *in)
{
	for (; in->name != NULL; in++)
	{
		if (in->make != NULL)
			write_made(folder, in);
		else
			write_by_qpdf(folder, in);
		printf("%s\t%s\t%s\t%s\n", in->name, in->what, in->expect,
			   in->password == NULL ? "" : in->password);
	}
}

int
main(int argc, char **argv)
{
	static const Input *const all[] = {in_png,		in_jpeg, in_webp,	 in_tiff,
									   in_tiff_bad, in_pdf,	 in_pdf_bad, in_other};

	if (argc != 3)
		in_fail("usage: make_inputs FOLDER SOURCES");
	sources = argv[2];
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		write_all(argv[1], all[i]);
	return 0;
}
