/*-------------------------------------------------------------------------
 *
 * dsocr.h
 *		Declarations shared by the files of the module.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_H
#define DSOCR_H

#include "postgres.h"

#include "compat.h"

#define DSOCR_VERSION "0.1.0"
#define DSOCR_MAX_DEVICES 16
#define DSOCR_MAX_SLOTS 1024

/* settings (guc.c) */
extern char *dsocr_model;			/* empty: the embedded one */
extern char *dsocr_devices;			/* comma-separated list: "cpu" */
extern int dsocr_mode;				/* DsocrMode */
extern int dsocr_weights;			/* DsocrPrecision */
extern int dsocr_max_requests;		/* slots */
extern int dsocr_queue_memory;		/* kB */
extern int dsocr_queue_timeout;		/* ms, 0 = wait forever */
extern int dsocr_timeout;			/* ms, 0 = none */
extern int dsocr_max_tokens;		/* 0 = as many as the context holds */
extern int dsocr_max_image_bytes;	/* kB */
extern int dsocr_max_pixels;		/* pixels */
extern int dsocr_on_error;			/* DsocrOnError */
extern char *dsocr_no_repeat_ngram; /* "size, window" */
extern int dsocr_ngram_size;		/* parsed from it */
extern int dsocr_ngram_window;
extern int dsocr_max_requests_per_role; /* 0 = no limit */
extern int dsocr_threads;				/* of the engine, 0 = all cores */
extern bool dsocr_log_requests;

typedef enum DsocrOnError
{
	DSOCR_ON_ERROR_ERROR,
	DSOCR_ON_ERROR_NULL,
	DSOCR_ON_ERROR_WARNING
} DsocrOnError;

extern void dsocr_guc_init(void);
extern void dsocr_shmem_init(void);
extern void dsocr_worker_init(void); /* registers one worker per device */

/* The folder of the model in use: dsocr.model, or the embedded one. palloc'd. */
extern char *dsocr_model_path(void);

#endif /* DSOCR_H */
