/*-------------------------------------------------------------------------
 *
 * image_tiff_file.c
 *		A TIFF in memory as a file of libtiff.
 *
 *-------------------------------------------------------------------------
 */
#ifdef DSOCR_WITH_TIFF

#include "image_tiff_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static tmsize_t
file_read(thandle_t handle, void *buffer, tmsize_t size)
{
	DsocrTiffFile *f = (DsocrTiffFile *) handle;
	size_t left = f->at < f->len ? f->len - (size_t) f->at : 0;
	size_t n = size > 0 ? (size_t) size : 0;

	if (n > left)
		n = left;
	memcpy(buffer, f->bytes + (n > 0 ? f->at : 0), n);
	f->at += n;
	return (tmsize_t) n;
}

static tmsize_t
file_write(thandle_t handle, void *buffer, tmsize_t size)
{
	return -1;
}

static toff_t
file_seek(thandle_t handle, toff_t offset, int whence)
{
	DsocrTiffFile *f = (DsocrTiffFile *) handle;

	/* a negative step wraps around to what it means */
	f->at = whence == SEEK_SET ? offset : (whence == SEEK_CUR ? f->at : f->len) + offset;
	return f->at;
}

static int
file_close(thandle_t handle)
{
	return 0;
}

static toff_t
file_size(thandle_t handle)
{
	return ((DsocrTiffFile *) handle)->len;
}

static int
file_map(thandle_t handle, void **base, toff_t *size)
{
	DsocrTiffFile *f = (DsocrTiffFile *) handle;

	*base = (void *) f->bytes;
	*size = f->len;
	return 1;
}

static void
file_unmap(thandle_t handle, void *base, toff_t size)
{
}

#ifdef TIFFLIB_AT_LEAST
#define HAVE_OPEN_OPTIONS TIFFLIB_AT_LEAST(4, 5, 0)
#else
#define HAVE_OPEN_OPTIONS (TIFFLIB_VERSION >= 20221213)
#endif

static void
note_message(DsocrTiffFile *f, const char *fmt, va_list ap)
{
	char *wrapped;

	if (f->message[0] != '\0')
		return;
	vsnprintf(f->message, sizeof(f->message), fmt, ap);
	/* behind the end of the file libtiff counts bytes below zero */
	wrapped = strstr(f->message, "; got 18446744");
	if (wrapped != NULL)
		*wrapped = '\0';
}

#if HAVE_OPEN_OPTIONS

static int
on_error(TIFF *tif, void *user, const char *module, const char *fmt, va_list ap)
{
	note_message(user, fmt, ap);
	return 1;
}

static int
on_warning(TIFF *tif, void *user, const char *module, const char *fmt, va_list ap)
{
	return 1;
}

TIFF *
dsocr_tiff_open(DsocrTiffFile *f, uint64_t memory)
{
	TIFFOpenOptions *options = TIFFOpenOptionsAlloc();
	TIFF *tif;

	if (options == NULL)
		return NULL;
	TIFFOpenOptionsSetMaxSingleMemAlloc(options, (tmsize_t) memory);
	TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, f);
	TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, f);
	tif = TIFFClientOpenExt("TIFF", "rhD", f, file_read, file_write, file_seek, file_close,
							file_size, file_map, file_unmap, options);
	TIFFOpenOptionsFree(options);
	return tif;
}

#else

static void
on_error(thandle_t handle, const char *module, const char *fmt, va_list ap)
{
	note_message((DsocrTiffFile *) handle, fmt, ap);
}

/* Handlers are global in older versions; all threads set the same ones. */
TIFF *
dsocr_tiff_open(DsocrTiffFile *f, uint64_t memory)
{
	TIFFSetErrorHandler(NULL);
	TIFFSetWarningHandler(NULL);
	TIFFSetErrorHandlerExt(on_error);
	return TIFFClientOpen("TIFF", "rhD", f, file_read, file_write, file_seek, file_close, file_size,
						  file_map, file_unmap);
}

#endif

#endif
