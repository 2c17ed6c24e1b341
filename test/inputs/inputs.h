/*-------------------------------------------------------------------------
 *
 * inputs.h
 *		Input files of every kind that dsocr may be given, good and bad.
 *
 * All show the same picture where they show anything: quarters of red, green,
 * blue and white; in gray black, dark gray, light gray and white; in one bit
 * a black quarter and three white ones.
 *
 *-------------------------------------------------------------------------
 */
#ifndef INPUTS_H
#define INPUTS_H

#include "base.h"

#define IN_WIDTH 64
#define IN_HEIGHT 48

/* What the test finds in them; a result begins with what the table says. */
#define IN_COLOUR "64 x 48: red green / blue white"
#define IN_GRAY "64 x 48: black dark / light white"
#define IN_LINE "64 x 48: black white / white white"
#define IN_CLIPPED "64 x 48: black white / white white"
#define IN_REFUSED "22P03: "

typedef struct Input
{
	const char *name;
	const char *what;	/* is special about it */
	const char *expect; /* beginning of the result */
	void (*make)(DsocrBuffer *out, int arg);
	int arg;
	const char *qpdf;	  /* instead of make: options, the last a file of this table */
	const char *password; /* to read it with */
} Input;

/* Each ends with a row without name. */
extern const Input in_png[];
extern const Input in_jpeg[];
extern const Input in_webp[];
extern const Input in_tiff[];
extern const Input in_tiff_bad[];
extern const Input in_pdf[];
extern const Input in_pdf_bad[];
extern const Input in_other[];

/* One sample of the picture, 0 to 255; channels of gray or RGB. */
extern int in_gray(int x, int y);
extern int in_rgb(int x, int y, int channel);

/* The picture with 1, 3 or 4 channels (4: alpha 255). */
extern void in_picture(uint8_t *out, int channels);

/* RGB as it must be stored so that the EXIF orientation makes the picture of it. */
extern void in_turned(uint8_t *out, int orientation, int *width, int *height);

/* The one-bit picture in CCITT group 4, black being 1: the data of a strip. */
extern void in_group4(DsocrBuffer *out);

/* The colour picture as baseline JPEG. */
extern void in_baseline(DsocrBuffer *out);

/* A file of this folder. */
extern void in_file(DsocrBuffer *out, const char *name);

extern void in_fail(const char *what);

#endif /* INPUTS_H */
