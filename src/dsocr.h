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
#define DSOCR_MAX_WORKERS (DSOCR_MAX_DEVICES + 1) /* and the page server */
#define DSOCR_PAGES_DEVICE "pages"				  /* its name among the devices */
#define DSOCR_MAX_SLOTS 1024
#define DSOCR_MAX_WEIGHT 1000	 /* of a role */
#define DSOCR_DEVICE_NAME_MAX 32 /* bytes, with NUL */

/* settings (guc.c) */
extern char *dsocr_model;			 /* empty: the embedded one */
extern char *dsocr_devices;			 /* comma-separated list: "cpu" */
extern int dsocr_mode;				 /* DsocrMode */
extern int dsocr_weights;			 /* dsocr_weights_name() */
extern int dsocr_max_requests;		 /* slots */
extern int dsocr_queue_memory;		 /* kB */
extern int dsocr_queue_timeout;		 /* ms, 0 = wait forever */
extern int dsocr_timeout;			 /* ms, 0 = none */
extern int dsocr_max_tokens;		 /* 0 = as many as the context holds */
extern int dsocr_max_image_bytes;	 /* kB */
extern int dsocr_max_pixels;		 /* pixels */
extern int dsocr_max_document_bytes; /* kB */
extern int dsocr_max_pages;			 /* of a document */
extern int dsocr_auto_rotate;		 /* DsocrAutoRotate */
extern bool dsocr_page_server;		 /* documents of several pages can be read */
extern char *dsocr_pages_path;		 /* empty: beside the engine */
extern int dsocr_on_error;			 /* DsocrOnError */
extern char *dsocr_no_repeat_ngram;	 /* "size, window" */
extern int dsocr_ngram_size;		 /* parsed from it */
extern int dsocr_ngram_window;
extern int dsocr_role_weight;			/* of the current role, against others */
extern int dsocr_max_requests_per_role; /* 0 = no limit */
extern int dsocr_threads;				/* of the engine, 0 = all cores */
extern int dsocr_gpu_memory;			/* MB, 0 = what is free */
extern int dsocr_max_sequences;			/* of an engine, 0 = as many as suit the device */
extern int dsocr_prefetch;				/* readings of a query or of a document in flight */
extern bool dsocr_batch_scan;			/* queries read ahead */
extern bool dsocr_log_requests;
extern int dsocr_cache_size;	 /* kB, 0 = no cache */
extern bool dsocr_cache_table;	 /* and table dsocr.cache */
extern bool dsocr_cache;		 /* this session uses it */
extern int dsocr_engine_timeout; /* ms of silence after which a busy engine is replaced */
extern char *dsocr_engine_path;	 /* empty: beside the server's programs */

extern int dsocr_run_jobs;
extern int dsocr_runners;			  /* databases served at the same time */
extern int dsocr_runner_idle_timeout; /* ms */
extern int dsocr_max_attempts;
extern int dsocr_retry_delay;		   /* ms, before the second attempt */
extern int dsocr_keep_jobs;			   /* minutes */
extern int dsocr_worker_lease;		   /* ms */
extern char *dsocr_worker_fingerprint; /* that remote workers must have; empty: any */

/* Which jobs the processes of this server run: in order, each more than those before. */
typedef enum DsocrRunJobs
{
	DSOCR_RUN_NONE,
	DSOCR_RUN_REMOTE, /* rows of attached tables are queued; documents are for others */
	DSOCR_RUN_ALL
} DsocrRunJobs;

typedef enum DsocrOnError
{
	DSOCR_ON_ERROR_ERROR,
	DSOCR_ON_ERROR_NULL,
	DSOCR_ON_ERROR_WARNING
} DsocrOnError;

typedef enum DsocrAutoRotate
{
	DSOCR_ROTATE_OFF,
	DSOCR_ROTATE_ARCHIVE, /* functions that store: hOCR, PDF, attached columns */
	DSOCR_ROTATE_ON
} DsocrAutoRotate;

extern void dsocr_guc_init(void);
extern void dsocr_guc_reserve(void); /* after the last setting was defined */
extern void dsocr_shmem_init(void);
extern void dsocr_launcher_init(void); /* registers what starts the runners of jobs */
extern void dsocr_worker_init(void);   /* registers one worker per device */

/*
 * Split a value of dsocr.devices.  Returns the number of devices, or -1 when
 * it is malformed.
 */
extern int dsocr_device_list(const char *setting,
							 char names[DSOCR_MAX_DEVICES][DSOCR_DEVICE_NAME_MAX]);

/* The names of dsocr.weights as the engine's --precision wants them. */
extern const char *dsocr_weights_name(int weights);

/* The folder of the model in use: dsocr.model, or the embedded one. palloc'd. */
extern char *dsocr_model_path(void);

#endif /* DSOCR_H */
