/*-------------------------------------------------------------------------
 *
 * bench_look.c
 *		What a quick look says of image files, and how long it takes.
 *
 * bench_look FILE...: name, width, height, height of a line in pixels,
 * characters, the mode that the official model would read it in, milliseconds.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>

#include "page_look.h"

int
main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		DsocrBuffer file = {0};
		DsocrImage image = {0};
		DsocrPageLook look;
		DsocrError err = {0};
		int64_t start;

		if (!dsocr_read_file(argv[i], (size_t) 1 << 30, &file, &err) ||
			!dsocr_image_decode((const uint8_t *) file.data, file.len, 0, &image, &err))
		{
			fprintf(stderr, "%s: %s\n", argv[i], err.message);
			return 1;
		}
		start = dsocr_now_us();
		if (!dsocr_page_look(&image, &look, &err))
			return 1;
		printf("%s\t%d\t%d\t%.1f\t%d\t%s\t%.2f\n", argv[i], image.width, image.height,
			   (double) look.line, look.characters,
			   dsocr_mode_names[dsocr_mode_choose(&look, image.width, image.height, DSOCR_ALL_MODES,
												  DSOCR_MODE_GUNDAM)],
			   (double) (dsocr_now_us() - start) / 1000);
		dsocr_image_free(&image);
		dsocr_buffer_free(&file);
	}
	return 0;
}
