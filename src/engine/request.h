/*-------------------------------------------------------------------------
 *
 * request.h
 *		What is asked of the engine and what it answers: plain data.
 *
 * Shared by the engine, the wire protocol and the PostgreSQL module.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_REQUEST_H
#define DSOCR_REQUEST_H

#include "base.h"

typedef enum DsocrMode
{
	DSOCR_MODE_AUTO,	 /* what the model's own config names */
	DSOCR_MODE_TINY,	 /* 512, 64 tokens, squashed */
	DSOCR_MODE_SMALL,	 /* 640, 100 tokens, squashed */
	DSOCR_MODE_BASE,	 /* 1024, 256 tokens, padded */
	DSOCR_MODE_LARGE,	 /* 1280, 400 tokens, padded */
	DSOCR_MODE_GUNDAM,	 /* tiles of 640 and a global view of 1024 */
	DSOCR_MODE_GUNDAM_M, /* tiles of 1024 and a global view of 1280 */
	DSOCR_MODE_CUSTOM	 /* the numbers of DsocrViewSpec; tests only */
} DsocrMode;

#define DSOCR_N_MODES (DSOCR_MODE_GUNDAM_M + 1)

/* Sets of modes are bits 1 << mode. */
#define DSOCR_ALL_MODES ((1U << DSOCR_N_MODES) - (1U << DSOCR_MODE_TINY))

typedef enum DsocrTask
{
	DSOCR_TASK_MARKDOWN,
	DSOCR_TASK_TEXT,
	DSOCR_TASK_FIGURE,
	DSOCR_TASK_DESCRIBE,
	DSOCR_TASK_LOCATE,	/* prompt has one %s: what to look for */
	DSOCR_TASK_GENERATE /* the caller's prompt */
} DsocrTask;

#define DSOCR_N_TASKS (DSOCR_TASK_GENERATE + 1)

typedef enum DsocrRequestKind
{
	DSOCR_READ,		/* image to text */
	DSOCR_PROBE,	/* only grid and token counts, of an image or of a size */
	DSOCR_DOCUMENT, /* open a document; stays open until it is cancelled */
	DSOCR_PAGE		/* one page of an open document as an image */
} DsocrRequestKind;

#define DSOCR_N_REQUEST_KINDS (DSOCR_PAGE + 1)

/* Engines read; the page server opens documents and makes images of pages. */
static inline bool
dsocr_kind_is_of_pages(DsocrRequestKind kind)
{
	return kind == DSOCR_DOCUMENT || kind == DSOCR_PAGE;
}

/* What DSOCR_PAGE makes of a page. */
typedef enum DsocrPageOutput
{
	DSOCR_PAGE_RAW,	  /* PGM or PPM: quickest to write and to read */
	DSOCR_PAGE_PNG,	  /* PNG without alpha or interlacing; 1 bit, gray or RGB as suffices */
	DSOCR_PAGE_EMBED, /* the JPEG that the page is, at its own resolution; else as PNG */
	DSOCR_PAGE_DRAWN, /* PNG with boxes and shapes drawn: prompt is a list, see page_draw.h */
	DSOCR_PAGE_CROP	  /* PNG of the rectangle in crop */
} DsocrPageOutput;

#define DSOCR_N_PAGE_OUTPUTS (DSOCR_PAGE_CROP + 1)

typedef enum DsocrPriority
{
	DSOCR_INTERACTIVE,
	DSOCR_BULK
} DsocrPriority;

/* How an image is cut into views; derived from the mode unless DSOCR_MODE_CUSTOM. */
typedef struct DsocrViewSpec
{
	int base_size;	/* side of the global view, pixels */
	int image_size; /* side of a tile, or of the only view */
	bool crop;		/* tiles when the image is larger than 640 */
	int max_tiles;	/* 9 in the transformers code, 6 in the vLLM scripts */
	bool vllm;		/* prompt used unstripped, tiles of image_size; tests only */
} DsocrViewSpec;

typedef struct DsocrRequest
{
	uint64_t id; /* chosen by the caller, unique while in flight */
	DsocrRequestKind kind;
	DsocrTask task;
	DsocrPriority priority;
	DsocrMode mode;
	DsocrViewSpec spec;	  /* only read for DSOCR_MODE_CUSTOM */
	int32_t max_tokens;	  /* output tokens; 0 = as many as the context holds */
	int32_t ngram_size;	  /* 0 = no rule */
	int32_t ngram_window; /* 0 = whole text with prompt, else last output tokens with whitelist */
	int32_t probe_width;  /* DSOCR_PROBE without image: size in pixels */
	int32_t probe_height;
	uint64_t max_pixels; /* refuse larger images from the header */
	bool auto_rotate;	 /* READ: turn pages that lie on their side or head, and straighten them */
	bool ladder;		 /* READ: a page that loops or is cut is read again in the next mode */
	uint64_t document;	 /* PAGE: id of the open document; READ: that it is from, or 0 */
	int32_t page;		 /* PAGE: number from 1; READ: of the document, or 0 */
	int32_t dpi;		 /* DOCUMENT: of PDF pages, 0 = 144 */
	int32_t max_pages; /* DOCUMENT: refuse documents of more, 0 = no limit; PAGE, READ: there are */
	size_t room;	   /* memory kept for the answer; not sent, for the queue alone */
	DsocrPageOutput output; /* PAGE */
	int32_t crop[4];		/* PAGE, DSOCR_PAGE_CROP: x1, y1, x2, y2 in pixels of the page */
	const char *prompt;		/* GENERATE: the prompt; LOCATE: what; DOCUMENT: password; else NULL */
	const uint8_t *image;	/* encoded bytes: PNG, JPEG, WebP, TIFF, PNM; DOCUMENT: also PDF */
	size_t image_len;
} DsocrRequest;

typedef enum DsocrFinish
{
	DSOCR_FINISH_STOP,	 /* the model wrote its end token */
	DSOCR_FINISH_LENGTH, /* max_tokens or the context was used up */
	DSOCR_FINISH_LOOP	 /* the text ran into a loop and was cut before it */
} DsocrFinish;

#define DSOCR_N_FINISHES (DSOCR_FINISH_LOOP + 1)

/* A line of a block's content: a run of text up to a line feed or a <br>. */
typedef struct DsocrLine
{
	int32_t start; /* byte in the content */
	int32_t length;
	float confidence; /* as of the page */
} DsocrLine;

/* One grounded block of the model's text, in reading order. */
typedef struct DsocrBlock
{
	char *label;   /* UTF-8, as the model wrote it: title, text, table, image, ... */
	char *content; /* text up to the next block, blanks at both ends removed */
	int n_boxes;
	int32_t (*boxes)[4]; /* x1, y1, x2, y2 in pixels of the page as stored */
	float confidence;	 /* of its tokens, tags and boxes included; 0 without any */
	int n_lines;
	DsocrLine *lines; /* in order, not overlapping */
} DsocrBlock;

#define DSOCR_MAX_ATTEMPTS 3

/* One reading of a page, in their order; the result is that of the best one, see its mode. */
typedef struct DsocrAttempt
{
	DsocrMode mode;
	DsocrFinish finish;
	int32_t text_tokens;
} DsocrAttempt;

typedef struct DsocrTimings /* microseconds */
{
	int64_t queued;		/* waiting for admission inside the engine */
	int64_t preprocess; /* decoding and resizing the image */
	int64_t encode;		/* DeepEncoder over all views */
	int64_t prefill;
	int64_t decode;
} DsocrTimings;

typedef struct DsocrResult
{
	char *raw;		/* model output, end token removed; valid UTF-8 */
	char *markdown; /* cleaned the official way; valid UTF-8 */
	char *prefix;	/* text before the first block (all if there is none), stripped of blanks */
	float prefix_confidence; /* as of a block; 0 when the prefix is empty */
	int n_prefix_lines;
	DsocrLine *prefix_lines; /* of the prefix, as those of a block */
	int n_blocks;
	DsocrBlock *blocks;
	DsocrFinish finish;
	DsocrMode mode; /* the mode that was used */
	int32_t width;	/* page as stored, its own orientation tag applied, pixels */
	int32_t height;
	int32_t rotation; /* degrees clockwise that the page was turned by to be read: 0 90 180 270 */
	float skew;		  /* degrees clockwise that it was straightened by after that */
	int32_t pages;	  /* DOCUMENT, PROBE of an image: pages it has */
	int32_t grid_columns; /* tiles; 1 x 1 means none */
	int32_t grid_rows;
	int32_t views;
	int32_t image_tokens;		/* with newlines and separator */
	int32_t valid_image_tokens; /* the official count, padding left out */
	int32_t prompt_tokens;		/* whole input sequence */
	int32_t text_tokens;		/* output, end token not counted */
	double mean_logprob;		/* mean natural log-probability of the output tokens; 0 if none */
	double confidence;			/* its exponential, mean probability of a token; 0 if none */
	int32_t n_attempts;
	DsocrAttempt attempts[DSOCR_MAX_ATTEMPTS];
	DsocrTimings timings;
	uint8_t *image; /* PAGE: the image; else NULL */
	size_t image_len;
} DsocrResult;

/* Where a running request stands. */
typedef struct DsocrProgress
{
	uint64_t id;
	int32_t views_done;
	int32_t views;
	int32_t image_tokens;
	int32_t text_tokens;
	int32_t pages; /* DOCUMENT: pages it has, 0 while it is being opened */
} DsocrProgress;

/* What a loaded model is; sent by the engine when it is ready. */
typedef struct DsocrModelInfo
{
	char name[64];
	char fingerprint[33]; /* hex; changes when config, tokenizer or weights change */
	char device[64];	  /* "cpu (avx512_bf16, 2 threads)" */
	char weights[16];	  /* "bf16", "fp32", "int8", "int4" */
	char sandbox[64];	  /* "seccomp,landlock,no_new_privs,rlimits"; empty: none */
	DsocrMode auto_mode;
	uint32_t modes; /* that the model was trained for: bits 1 << DsocrMode */
	int32_t max_positions;
	int32_t max_sequences; /* decoded together */
	int64_t parameters;
	int64_t weight_bytes;
	int64_t kv_bytes;
} DsocrModelInfo;

extern const char *const dsocr_mode_names[DSOCR_N_MODES];
extern const char *const dsocr_task_names[DSOCR_N_TASKS];

/* Free what a result owns; the struct itself stays with the caller. */
extern void dsocr_result_free(DsocrResult *r);

#endif /* DSOCR_REQUEST_H */
