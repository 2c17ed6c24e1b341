/*-------------------------------------------------------------------------
 *
 * cli_load_files.c
 *		Files of a folder: finding and reading them.
 *
 * Folders are whatever somebody put there.  Pipes, sockets and devices are
 * never opened for long, links are followed only on demand, and what changes
 * between finding and reading is noticed.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_load.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image_sniff.h"

/* Where dsocr_image_sniff looks for the header of a PDF. */
#define HEAD_BYTES 1024

static int
by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool
add(DsocrLoadFiles *out, const FTSENT *e, size_t root_len, DsocrError *err)
{
	DsocrLoadFile *f;

	if (out->n == out->cap)
	{
		size_t cap = out->cap == 0 ? 1024 : out->cap * 2;
		DsocrLoadFile *files = dsocr_alloc(cap, sizeof(*files), err);

		if (files == NULL)
			return false;
		if (out->n > 0)
			memcpy(files, out->files, out->n * sizeof(*files));
		dsocr_free(out->files);
		out->files = files;
		out->cap = cap;
	}
	f = &out->files[out->n];
	f->path = dsocr_strdup(e->fts_path, err);
	if (f->path == NULL)
		return false;
	/* the folder itself may have been named with slashes behind it */
	f->name = e->fts_level == 0 ? f->path + (e->fts_pathlen - e->fts_namelen) : f->path + root_len;
	while (f->name[0] == '/')
		f->name++;
	f->named = e->fts_level == 0;
	f->bytes = e->fts_statp->st_size;
	out->bytes += f->bytes;
	out->n++;
	return true;
}

/* What is no file and no folder. */
static void
tell_of(const FTSENT *e, DsocrLoadTell tell, void *arg)
{
	switch (e->fts_info)
	{
		case FTS_SL:
		case FTS_SLNONE:
			tell(arg, DSOCR_LOAD_SKIPPED, e->fts_path, "a symbolic link");
			break;
		case FTS_DC:
			tell(arg, DSOCR_LOAD_SKIPPED, e->fts_path, "a link back to a folder above it");
			break;
		case FTS_DEFAULT:
			tell(arg, DSOCR_LOAD_SKIPPED, e->fts_path, "no regular file");
			break;
		case FTS_DNR:
		case FTS_ERR:
		case FTS_NS:
			tell(arg, DSOCR_LOAD_FAILED, e->fts_path, strerror(e->fts_errno));
			break;
		default:
			break;
	}
}

bool
dsocr_load_walk(const char *root, bool follow, DsocrLoadTell tell, void *arg, DsocrLoadFiles *out,
				DsocrError *err)
{
	char *path = dsocr_strdup(root, err);
	char *paths[] = {path, NULL};
	/* the root may be a link in any case: it was named */
	int options = FTS_NOCHDIR | FTS_COMFOLLOW | (follow ? FTS_LOGICAL : FTS_PHYSICAL);
	struct stat st;
	FTS *fts;
	FTSENT *e;
	bool ok = path != NULL;

	if (ok && stat(root, &st) != 0)
		ok = dsocr_fail(err, DSOCR_E_IO, "\"%.160s\": %s", root, strerror(errno));
	fts = ok ? fts_open(paths, options, by_name) : NULL;
	if (ok && fts == NULL)
		ok = dsocr_fail(err, DSOCR_E_IO, "\"%.160s\": %s", root, strerror(errno));
	errno = 0;
	while (ok && dsocr_load_stop == 0 && (e = fts_read(fts)) != NULL)
	{
		if (e->fts_info == FTS_F)
			ok = add(out, e, strlen(root), err);
		else
			tell_of(e, tell, arg);
		errno = 0;
	}
	if (ok && errno != 0)
		ok = dsocr_fail(err, DSOCR_E_IO, "\"%.160s\": %s", root, strerror(errno));
	if (fts != NULL)
		fts_close(fts);
	dsocr_free(path);
	return ok;
}

void
dsocr_load_files_free(DsocrLoadFiles *files)
{
	for (size_t i = 0; i < files->n; i++)
		dsocr_free(files->files[i].path);
	dsocr_free(files->files);
	*files = (DsocrLoadFiles){0};
}

/* So many bytes, or fewer at the end of the file; -1: errno says why. */
static ssize_t
read_all(int fd, char *bytes, size_t len)
{
	size_t got = 0;

	while (got < len)
	{
		ssize_t n = read(fd, bytes + got, len - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		got += (size_t) n;
	}
	return (ssize_t) got;
}

/* Is a file with this beginning something to read? */
static bool
is_document(const char *head, size_t len, DsocrError *err)
{
	DsocrFormat format = dsocr_image_sniff((const uint8_t *) head, len);

	if (format == DSOCR_FORMAT_UNKNOWN)
		return dsocr_fail(err, DSOCR_E_IMAGE, "no image and no PDF");
	if (format > DSOCR_FORMAT_PDF)
		return dsocr_fail(err, DSOCR_E_IMAGE, "%s cannot be read", dsocr_format_name(format));
	return true;
}

/* Of an open file with size bytes. */
static DsocrLoadState
read_rest(int fd, size_t size, bool any, char **bytes, DsocrError *err)
{
	size_t head = size < HEAD_BYTES ? size : HEAD_BYTES;
	char *buffer = dsocr_alloc(size + 1, 1, err);
	DsocrLoadState state = DSOCR_LOAD_FAILED;
	ssize_t n;

	if (buffer == NULL)
		return state;
	n = read_all(fd, buffer, head);
	if (n == (ssize_t) head && !any && !is_document(buffer, head, err))
		state = DSOCR_LOAD_SKIPPED;
	else if (n == (ssize_t) head)
	{
		/* one byte more shows whether it has grown */
		n = read_all(fd, buffer + head, size - head + 1);
		if (n >= 0 && (size_t) n == size - head)
		{
			*bytes = buffer;
			return DSOCR_LOAD_PENDING;
		}
	}
	if (n < 0)
		dsocr_fail(err, DSOCR_E_IO, "%s", strerror(errno));
	else if (state == DSOCR_LOAD_FAILED)
		dsocr_fail(err, DSOCR_E_IO, "it changed while it was read");
	dsocr_free(buffer);
	return state;
}

DsocrLoadState
dsocr_load_read(const DsocrLoadFile *file, bool follow, bool any, int64_t limit, char **bytes,
				size_t *len, DsocrError *err)
{
	/* not blocking: a pipe that has taken the place of a file must not hold us up */
	int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
								  (follow || file->named ? 0 : O_NOFOLLOW));
	DsocrLoadState state = DSOCR_LOAD_FAILED;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		dsocr_fail(err, DSOCR_E_IO, "%s", strerror(errno));
	else if (!S_ISREG(st.st_mode))
		dsocr_fail(err, DSOCR_E_IO, "it is no regular file any more");
	else if (st.st_size > limit)
		dsocr_fail(err, DSOCR_E_IMAGE, "it has %lld bytes, the limit is %lld",
				   (long long) st.st_size, (long long) limit);
	else if (st.st_size == 0 && !any)
	{
		dsocr_fail(err, DSOCR_E_IMAGE, "empty");
		state = DSOCR_LOAD_SKIPPED;
	}
	else
	{
		*len = (size_t) st.st_size;
		state = read_rest(fd, *len, any, bytes, err);
	}
	if (fd >= 0)
		close(fd);
	return state;
}
