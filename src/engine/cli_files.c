/*-------------------------------------------------------------------------
 *
 * cli_files.c
 *		Files of a model folder, written so that a crash leaves none in part.
 *
 *-------------------------------------------------------------------------
 */
#include "cli_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_COPY_BYTES ((size_t) 1 << 28)

/* The first two must be there. */
static const char *const copied_files[] = {
	"config.json",			 "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
	"processor_config.json", "dsocr.json",
};

#define N_REQUIRED 2

bool
dsocr_file_fail(const char *path, DsocrError *err)
{
	return dsocr_fail(err, DSOCR_E_IO, "\"%.160s\": %s", path, strerror(errno));
}

bool
dsocr_file_begin(DsocrNewFile *f, const char *dir, const char *name, DsocrError *err)
{
	int a = snprintf(f->path, sizeof(f->path), "%s/%s", dir, name);
	int b = snprintf(f->temporary, sizeof(f->temporary), "%s/%s.tmp", dir, name);

	if (a < 0 || b < 0 || (size_t) b >= sizeof(f->temporary))
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "name of the folder is too long");
	f->fd = open(f->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	return f->fd >= 0 || dsocr_file_fail(f->temporary, err);
}

bool
dsocr_file_end(DsocrNewFile *f, bool ok, DsocrError *err)
{
	if (ok && fsync(f->fd) != 0)
		ok = dsocr_file_fail(f->temporary, err);
	if (close(f->fd) != 0 && ok)
		ok = dsocr_file_fail(f->temporary, err);
	if (ok && rename(f->temporary, f->path) != 0)
		ok = dsocr_file_fail(f->path, err);
	if (!ok)
		unlink(f->temporary);
	return ok;
}

int
dsocr_file_write(int fd, const void *bytes, size_t len, off_t place)
{
	const char *p = bytes;

	while (len > 0)
	{
		ssize_t n = pwrite(fd, p, len, place);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		p += n;
		place += n;
		len -= (size_t) n;
	}
	return 0;
}

bool
dsocr_file_put(const char *dir, const char *name, const char *bytes, size_t len, DsocrError *err)
{
	DsocrNewFile f;
	bool ok = dsocr_file_begin(&f, dir, name, err);

	if (!ok)
		return false;
	errno = dsocr_file_write(f.fd, bytes, len, 0);
	if (errno != 0)
		ok = dsocr_file_fail(f.temporary, err);
	return dsocr_file_end(&f, ok, err);
}

static bool
copy_file(const char *from_dir, const char *to_dir, const char *name, bool required,
		  DsocrError *err)
{
	char path[PATH_MAX];
	DsocrBuffer bytes = {0};
	bool ok;

	snprintf(path, sizeof(path), "%s/%s", from_dir, name);
	if (!required && access(path, F_OK) != 0)
		return true;
	ok = dsocr_read_file(path, MAX_COPY_BYTES, &bytes, err) &&
		 dsocr_file_put(to_dir, name, bytes.data, bytes.len, err);
	dsocr_buffer_free(&bytes);
	return ok;
}

bool
dsocr_model_files_copy(const char *from, const char *to, DsocrError *err)
{
	bool ok = true;

	for (size_t i = 0; ok && i < sizeof(copied_files) / sizeof(copied_files[0]); i++)
		ok = copy_file(from, to, copied_files[i], i < N_REQUIRED, err);
	return ok;
}

bool
dsocr_folder_sync(const char *dir, DsocrError *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool ok = fd >= 0 && fsync(fd) == 0;

	if (!ok)
		dsocr_file_fail(dir, err);
	if (fd >= 0)
		close(fd);
	return ok;
}
