/*-------------------------------------------------------------------------
 *
 * test_program.c
 *		dsocr-engine as the server and the user start it, with the small model.
 *
 * DSOCR_TEST_ENGINE names the program and DSOCR_TEST_MODEL the model folder;
 * without them there is nothing to test.
 *
 *-------------------------------------------------------------------------
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../reference/serve_peer.h"
#include "weights.h"

#define MAX_OPTIONS 8

static int
run_program(int fd, void *arg)
{
	const char *const *more = arg;
	const char *program = getenv("DSOCR_TEST_ENGINE");
	char number[16];
	const char *argv[16] = {program, "serve",	"--fd",
							number,	 "--model", getenv("DSOCR_TEST_MODEL")};
	int n = 6;

	snprintf(number, sizeof(number), "%d", fd);
	while (*more != NULL)
		argv[n++] = *more++;
	execv(program, (char *const *) argv);
	return 127;
}

static void
need_program(void)
{
	if (getenv("DSOCR_TEST_ENGINE") == NULL || getenv("DSOCR_TEST_MODEL") == NULL)
		skip();
}

/* A white picture of 2 x 2 pixels. */
static const uint8_t png[] = {
	0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44,
	0x52, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x00, 0x00, 0x00, 0x57,
	0xdd, 0x52, 0xf8, 0x00, 0x00, 0x00, 0x0e, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0xf8,
	0xff, 0x9f, 0xe1, 0xff, 0x7f, 0x00, 0x0b, 0xfa, 0x03, 0xfd, 0xe0, 0x25, 0x8a, 0x10, 0x00,
	0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};

/* Pictures and noise, read together; a cancel; the end. */
static void
read_pictures(const char **options)
{
	Peer p = dsocr_peer_start(run_program, options, 120);

	assert_int_equal(dsocr_peer_next(&p, false).header.type, DSOCR_FRAME_READY);
	assert_true(strstr(p.info.sandbox, "no_new_privs") != NULL);
	for (uint64_t id = 1; id <= 8; id++)
		dsocr_peer_ask(&p, id, png, sizeof(png), 2);
	dsocr_peer_ask(&p, 9, "this is no picture", 18, 2);
	for (int i = 0; i < 9; i++)
	{
		Frame f = dsocr_peer_next(&p, true);

		if (f.header.id == 9)
			assert_int_equal(f.status.code, DSOCR_E_IMAGE);
		else if (f.status.code != DSOCR_OK)
			fail_msg("%s", f.status.message);
		else
			assert_true(f.result.width == 2 && f.result.text_tokens <= 2);
		dsocr_result_free(&f.result);
	}
	dsocr_peer_ask(&p, 10, png, sizeof(png), 0);
	dsocr_peer_say(&p, DSOCR_FRAME_CANCEL, 10);
	assert_int_equal(dsocr_peer_next(&p, true).status.code, DSOCR_E_CANCELLED);
	dsocr_peer_finish(&p);
}

static void
test_reads(void **state)
{
	const char *one[MAX_OPTIONS] = {"--threads", "1", NULL};
	const char *two[MAX_OPTIONS] = {"--threads", "2", "--precision", "fp32", NULL};
	const char *all[MAX_OPTIONS] = {NULL};

	need_program();
	read_pictures(one);
	read_pictures(two);
	read_pictures(all);
}

/* Pages alone, then together: the same tokens with the same probabilities, in all weights. */
static void
test_company(void **state)
{
	static const char *const names[] = {"test/samples/letter.png", "test/samples/notice.png",
										"test/samples/recipe.jpg"};
	static const char *const precisions[] = {"bf16", "int8", "int4"};
	enum
	{
		N = 3,
		TOGETHER = 2 * N,
		TOKENS = 12
	};
	DsocrBuffer page[N];

	need_program();
	for (int i = 0; i < N; i++)
		assert_true(dsocr_read_file(names[i], (size_t) 1 << 24, &page[i], NULL));
	for (int k = 0; k < 3; k++)
	{
		const char *options[MAX_OPTIONS] = {"--precision", precisions[k], NULL};
		Peer p = dsocr_peer_start(run_program, options, 600);
		Frame alone[N];

		assert_int_equal(dsocr_peer_next(&p, false).header.type, DSOCR_FRAME_READY);
		for (int i = 0; i < N; i++)
		{
			dsocr_peer_ask(&p, (uint64_t) i + 1, page[i].data, page[i].len, TOKENS);
			alone[i] = dsocr_peer_next(&p, true);
			assert_int_equal(alone[i].status.code, DSOCR_OK);
			assert_int_equal(alone[i].result.text_tokens, TOKENS);
		}
		assert_string_not_equal(alone[0].result.raw, alone[1].result.raw);
		for (int i = 0; i < TOGETHER; i++)
			dsocr_peer_ask(&p, (uint64_t) i + 10, page[i % N].data, page[i % N].len, TOKENS);
		for (int i = 0; i < TOGETHER; i++)
		{
			Frame f = dsocr_peer_next(&p, true);
			const DsocrResult *same = &alone[(f.header.id - 10) % N].result;

			assert_int_equal(f.status.code, DSOCR_OK);
			assert_string_equal(f.result.raw, same->raw);
			assert_memory_equal(&f.result.mean_logprob, &same->mean_logprob, sizeof(double));
			dsocr_result_free(&f.result);
		}
		for (int i = 0; i < N; i++)
			dsocr_result_free(&alone[i].result);
		dsocr_peer_finish(&p);
	}
	for (int i = 0; i < N; i++)
		dsocr_buffer_free(&page[i]);
}

/* The worker goes away while the engine loads, and while it works. */
static void
test_worker_gone(void **state)
{
	const char *options[MAX_OPTIONS] = {NULL};
	Peer p;

	need_program();
	p = dsocr_peer_start(run_program, options, 120);
	close(p.fd);
	dsocr_peer_expect_exit(&p, 60, 0);
	p = dsocr_peer_start(run_program, options, 120);
	assert_int_equal(dsocr_peer_next(&p, false).header.type, DSOCR_FRAME_READY);
	for (uint64_t id = 1; id <= 50; id++)
		dsocr_peer_ask(&p, id, png, sizeof(png), 0);
	usleep(50000);
	close(p.fd);
	dsocr_peer_expect_exit(&p, 5, 0);
}

/* Failures to load are said, not died of. */
static void
test_cannot_load(void **state)
{
	const char *little[MAX_OPTIONS] = {"--memory-limit", "4194304", NULL};
	const char *missing[MAX_OPTIONS] = {"--model", "/nonexistent/model", NULL};
	Peer p;
	Frame f;

	need_program();
	p = dsocr_peer_start(run_program, little, 120);
	f = dsocr_peer_next(&p, false);
	assert_int_equal(f.header.type, DSOCR_FRAME_FAILED);
	assert_int_equal(f.status.code, DSOCR_E_MEMORY);
	dsocr_peer_expect_exit(&p, 10, 0);
	p = dsocr_peer_start(run_program, missing, 120);
	f = dsocr_peer_next(&p, false);
	assert_int_equal(f.header.type, DSOCR_FRAME_FAILED);
	assert_int_equal(f.status.code, DSOCR_E_MODEL);
	dsocr_peer_expect_exit(&p, 10, 0);
}

/* Wrong options end with the usage and status 2. */
static void
test_usage(void **state)
{
	const char *wrong[][MAX_OPTIONS] = {
		{"--precision", "fp16", NULL}, {"--threads", "-1", NULL}, {"--threads", "two", NULL},
		{"--max-pixels", "1e9", NULL}, {"--unknown", NULL},		  {"extra", NULL},
	};

	need_program();
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
	{
		Peer p = dsocr_peer_start(run_program, wrong[i], 120);

		dsocr_peer_expect_exit(&p, 10, 2);
	}
}

/* Exit status of reading a file with the text going to output. */
static int
read_file_to(const char *file, const char *output)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
	{
		const char *program = getenv("DSOCR_TEST_ENGINE");

		if (freopen(output, "w", stdout) == NULL || freopen("/dev/null", "w", stderr) == NULL)
			_exit(126);
		execl(program, program, "ocr", "--model", getenv("DSOCR_TEST_MODEL"), "--max-tokens", "2",
			  "--json", file, (char *) NULL);
		_exit(127);
	}
	status = dsocr_peer_wait(pid, 60);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A text that could not be written is no success. */
static void
test_full_disk(void **state)
{
	char file[] = "/tmp/dsocr_test_programXXXXXX";
	int fd;

	need_program();
	fd = mkstemp(file);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, png, sizeof(png)), sizeof(png));
	close(fd);
	assert_int_equal(read_file_to(file, "/dev/null"), 0);
	assert_int_equal(read_file_to(file, "/dev/full"), 1);
	unlink(file);
	assert_int_equal(read_file_to(file, "/dev/null"), 1);
}

/* What synth writes is a model folder by itself: its weights are found. */
static void
test_synth_folder(void **state)
{
	char dir[] = "/tmp/dsocr_test_synthXXXXXX";
	char spec[64];
	char out[64];
	char command[512];
	DsocrError err = {0};
	DsocrWeights *w;
	FILE *f;

	need_program();
	assert_non_null(mkdtemp(dir));
	snprintf(spec, sizeof(spec), "%s/tensors.json", dir);
	snprintf(out, sizeof(out), "%s/out", dir);
	f = fopen(spec, "w");
	assert_non_null(f);
	fputs("[{\"name\":\"a\",\"shape\":[2,3],\"role\":\"v\",\"offset\":0,\"m\":139,\"e\":11,"
		  "\"row_scale\":false}]",
		  f);
	fclose(f);
	snprintf(command, sizeof(command), "'%s' synth --spec %s --out %s > /dev/null",
			 getenv("DSOCR_TEST_ENGINE"), dir, out);
	assert_int_equal(system(command), 0);
	w = dsocr_weights_open(out, &err);
	assert_string_equal(err.message, "");
	assert_non_null(w);
	assert_int_equal(dsocr_weights_find(w, "a")->count, 6);
	dsocr_weights_close(w);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads),		cmocka_unit_test(test_worker_gone),
		cmocka_unit_test(test_cannot_load), cmocka_unit_test(test_usage),
		cmocka_unit_test(test_full_disk),	cmocka_unit_test(test_synth_folder),
		cmocka_unit_test(test_company),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
