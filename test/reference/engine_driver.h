/*-------------------------------------------------------------------------
 *
 * engine_driver.h
 *		What the tests of the engine share: pages, and a driver that keeps results.
 *
 * The pages are drawn: rows of digits.  Failures end the test.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_TEST_ENGINE_DRIVER_H
#define DSOCR_TEST_ENGINE_DRIVER_H

#include "engine.h"

#define ED_PAGES 6
#define ED_TOGETHER 16 /* most pages of ed_read_together */
#define ED_SIDE 192	   /* pixels of a view */
#define ED_OUTPUT 24   /* most tokens of a page */

typedef struct EdPng
{
	uint8_t *bytes;
	size_t len;
} EdPng;

/* What became of a request. */
typedef struct EdOutcome
{
	bool done;
	DsocrError error;
	char *raw;
	int32_t tokens;
	int32_t prompt_tokens;
	double logprob;
	DsocrFinish finish;
	DsocrMode mode;
	int n_attempts;
	DsocrAttempt attempts[DSOCR_MAX_ATTEMPTS];
	int progress; /* reports */
	DsocrProgress last;
} EdOutcome;

typedef struct EdDriver
{
	DsocrEngine *engine;
	EdOutcome outcomes[64]; /* by request id */
	int polls;
	int cancel_at_poll; /* cancel request cancel_id then; 0 = never */
	uint64_t cancel_id;
} EdDriver;

extern EdPng ed_pages[ED_PAGES];

/* Make and free ed_pages. */
extern void ed_setup(void);
extern void ed_teardown(void);

/* A page of side x side pixels, to be freed. */
extern EdPng ed_draw_page(unsigned seed, int side);

/*
 * An engine on DSOCR_TEST_MODEL (models/nano) and DSOCR_TEST_DEVICE (the CPU);
 * view_pixels: views encoded together, as on a fast device.
 */
extern DsocrEngine *ed_open(int sequences, size_t kv_bytes, DsocrPrecision precision,
							size_t view_pixels);

/* A request for a page; pages differ in length and rule, so that batches are uneven. */
extern DsocrRequest ed_request(uint64_t id, int page);
extern void ed_admit(EdDriver *d, const DsocrRequest *r);
extern DsocrEvents ed_events(EdDriver *d);

/* Step until nothing is left to do. */
extern void ed_run(EdDriver *d);
extern void ed_free(EdDriver *d);

/* All key/value pages are free. */
extern void ed_nothing_left(DsocrEngine *e);

/* Two results are the same to the last bit. */
extern void ed_same(const EdOutcome *a, const EdOutcome *b);

/* Each page alone; outcome i of d is that of page i. */
extern void ed_read_alone(DsocrEngine *e, EdDriver *d);

/*
 * One batch: a number of pages in an order of its own, with one victim
 * cancelled at a random poll in every third batch; all others as alone.
 */
extern void ed_read_together(DsocrEngine *e, const EdDriver *alone, unsigned seed);

#endif /* DSOCR_TEST_ENGINE_DRIVER_H */
