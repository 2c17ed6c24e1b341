/*-------------------------------------------------------------------------
 *
 * cli_files.h
 *		Files of a model folder, written so that a crash leaves none in part.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CLI_FILES_H
#define DSOCR_CLI_FILES_H

#include "base.h"

#include <limits.h>
#include <sys/types.h>

/* A file that appears under its name only when it is complete. */
typedef struct DsocrNewFile
{
	char path[PATH_MAX];
	char temporary[PATH_MAX];
	int fd;
} DsocrNewFile;

/* An error that names the file and errno; returns false. */
extern bool dsocr_file_fail(const char *path, DsocrError *err);

extern bool dsocr_file_begin(DsocrNewFile *f, const char *dir, const char *name, DsocrError *err);

/* Put the file in its place if all went well, else remove it. */
extern bool dsocr_file_end(DsocrNewFile *f, bool ok, DsocrError *err);

/* All bytes at a place; 0, or the error number. */
extern int dsocr_file_write(int fd, const void *bytes, size_t len, off_t place);

/* A whole file at once. */
extern bool dsocr_file_put(const char *dir, const char *name, const char *bytes, size_t len,
						   DsocrError *err);

/* What a model folder has beside its weights. */
extern bool dsocr_model_files_copy(const char *from, const char *to, DsocrError *err);

/* The new names in a folder, too, must survive a crash. */
extern bool dsocr_folder_sync(const char *dir, DsocrError *err);

#endif /* DSOCR_CLI_FILES_H */
