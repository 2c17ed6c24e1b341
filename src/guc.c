/*-------------------------------------------------------------------------
 *
 * guc.c
 *		The settings of dsocr.
 *
 * Settings that only the server's administrator may choose (files, devices,
 * memory) are POSTMASTER or SIGHUP; limits that protect others are SUSET;
 * the rest belongs to the user.  Without preloading, the POSTMASTER settings
 * cannot be defined and are left out.
 *
 *-------------------------------------------------------------------------
 */
#include "dsocr.h"

#include "engine/request.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"

#define DAY_MS (24 * 60 * 60 * 1000)
#define MAX_NGRAM_SIZE 1000
#define MAX_NGRAM_WINDOW 100000
#define MAX_THREADS 1024
#define MAX_RUNNERS 64
#define MAX_SEQUENCES 512 /* rows of a decoder step */

char *dsocr_model = NULL;
char *dsocr_devices = NULL;
int dsocr_mode = DSOCR_MODE_AUTO;
int dsocr_weights = 0;
int dsocr_max_requests = 64;
int dsocr_queue_memory = 256 * 1024;
int dsocr_queue_timeout = 60 * 1000;
int dsocr_timeout = 0;
int dsocr_max_tokens = 0;
int dsocr_max_image_bytes = 64 * 1024;
int dsocr_max_pixels = 100 * 1000 * 1000;
int dsocr_max_document_bytes = 256 * 1024;
int dsocr_max_pages = 10000;
int dsocr_auto_rotate = DSOCR_ROTATE_ARCHIVE;
bool dsocr_page_server = true;
char *dsocr_pages_path = NULL;
int dsocr_on_error = DSOCR_ON_ERROR_ERROR;
char *dsocr_no_repeat_ngram = NULL;
int dsocr_ngram_size = 30;
int dsocr_ngram_window = 90;
int dsocr_role_weight = 1;
int dsocr_max_requests_per_role = 0;
int dsocr_threads = 0;
int dsocr_gpu_memory = 0;
int dsocr_max_sequences = 0;
int dsocr_prefetch = 32;
bool dsocr_batch_scan = true;
bool dsocr_log_requests = false;
int dsocr_cache_size = 32 * 1024;
bool dsocr_cache = true;
bool dsocr_cache_table = false;
int dsocr_engine_timeout = 120 * 1000;
char *dsocr_engine_path = NULL;
int dsocr_run_jobs = DSOCR_RUN_ALL;
int dsocr_runners = 2;
int dsocr_runner_idle_timeout = 10 * 1000;
int dsocr_max_attempts = 3;
int dsocr_retry_delay = 5 * 1000;
int dsocr_keep_jobs = 7 * 24 * 60;
int dsocr_worker_lease = 60 * 1000;
char *dsocr_worker_fingerprint = NULL;

static const struct config_enum_entry mode_options[] = {
	{"auto", DSOCR_MODE_AUTO, false},		  {"tiny", DSOCR_MODE_TINY, false},
	{"small", DSOCR_MODE_SMALL, false},		  {"base", DSOCR_MODE_BASE, false},
	{"large", DSOCR_MODE_LARGE, false},		  {"gundam", DSOCR_MODE_GUNDAM, false},
	{"gundam_m", DSOCR_MODE_GUNDAM_M, false}, {NULL, 0, false}};

static const struct config_enum_entry weights_options[] = {{"bf16", 0, false},
														   {"fp32", 1, false},
														   {"int8", 2, false},
														   {"int4", 3, false},
														   {NULL, 0, false}};

static const struct config_enum_entry on_error_options[] = {
	{"error", DSOCR_ON_ERROR_ERROR, false},
	{"null", DSOCR_ON_ERROR_NULL, false},
	{"warning", DSOCR_ON_ERROR_WARNING, false},
	{NULL, 0, false}};

/* it can be written as a boolean, too */
static const struct config_enum_entry run_jobs_options[] = {
	{"on", DSOCR_RUN_ALL, false},	 {"remote", DSOCR_RUN_REMOTE, false},
	{"off", DSOCR_RUN_NONE, false},	 {"true", DSOCR_RUN_ALL, true},
	{"yes", DSOCR_RUN_ALL, true},	 {"1", DSOCR_RUN_ALL, true},
	{"false", DSOCR_RUN_NONE, true}, {"no", DSOCR_RUN_NONE, true},
	{"0", DSOCR_RUN_NONE, true},	 {NULL, 0, false}};

static const struct config_enum_entry rotate_options[] = {{"off", DSOCR_ROTATE_OFF, false},
														  {"archive", DSOCR_ROTATE_ARCHIVE, false},
														  {"on", DSOCR_ROTATE_ON, false},
														  {NULL, 0, false}};

const char *
dsocr_weights_name(int weights)
{
	return weights_options[weights].name;
}

/* One name of the list: "cpu", "cuda:0", "auto". */
static bool
device_name(const char *from, size_t len, char *name)
{
	if (len == 0 || len >= DSOCR_DEVICE_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
	{
		char c = from[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == ':' || c == '_'))
			return false;
	}
	memcpy(name, from, len);
	name[len] = '\0';
	return true;
}

int
dsocr_device_list(const char *setting, char names[DSOCR_MAX_DEVICES][DSOCR_DEVICE_NAME_MAX])
{
	const char *p = setting;
	int n = 0;

	if (strspn(p, " \t") == strlen(p))
		return 0;
	for (;;)
	{
		size_t len;
		size_t trimmed;

		p += strspn(p, " \t");
		len = strcspn(p, ",");
		for (trimmed = len; trimmed > 0 && strchr(" \t", p[trimmed - 1]) != NULL; trimmed--)
			;
		if (n == DSOCR_MAX_DEVICES || !device_name(p, trimmed, names[n]))
			return -1;
		n++;
		if (p[len] == '\0')
			return n;
		p += len + 1;
	}
}

static bool
check_devices(char **newval, void **extra, GucSource source)
{
	char names[DSOCR_MAX_DEVICES][DSOCR_DEVICE_NAME_MAX];

	if (dsocr_device_list(*newval, names) >= 0)
		return true;
	GUC_check_errdetail("It must list at most %d devices such as \"cpu\" or \"cuda:0\", separated "
						"by commas.",
						DSOCR_MAX_DEVICES);
	return false;
}

/* An absolute path that does not climb. */
static bool
check_path(char **newval, void **extra, GucSource source)
{
	const char *p = *newval;

	if (*p == '\0')
		return true;
	if (!is_absolute_path(p))
	{
		GUC_check_errdetail("The path must be absolute.");
		return false;
	}
	for (p = strstr(p, "/.."); p != NULL; p = strstr(p + 1, "/.."))
	{
		if (p[3] == '/' || p[3] == '\0')
		{
			GUC_check_errdetail("The path must not contain \"..\".");
			return false;
		}
	}
	return true;
}

static bool
parse_ngram(const char *setting, int *size, int *window)
{
	int end = 0;

	return sscanf(setting, " %9d , %9d %n", size, window, &end) == 2 && setting[end] == '\0' &&
		   *size >= 0 && *size <= MAX_NGRAM_SIZE && *window >= 0 && *window <= MAX_NGRAM_WINDOW;
}

static bool
check_ngram(char **newval, void **extra, GucSource source)
{
	int size;
	int window;

	if (parse_ngram(*newval, &size, &window))
		return true;
	GUC_check_errdetail(
		"It must be \"size, window\" with a size of 0 to %d (0 is off) and a window "
		"of 0 to %d (0 is the whole text).",
		MAX_NGRAM_SIZE, MAX_NGRAM_WINDOW);
	return false;
}

static void
assign_ngram(const char *newval, void *extra)
{
	int size;
	int window;

	if (parse_ngram(newval, &size, &window))
	{
		dsocr_ngram_size = size;
		dsocr_ngram_window = window;
	}
}

/* What has to be known before the server's memory is laid out. */
static void
define_startup_settings(void)
{
	DefineCustomStringVariable("dsocr.devices",
							   "Devices that read images, one worker each (list, default cpu).",
							   "\"cpu\", \"cuda:N\", or \"auto\": the first GPU that can be used, "
							   "else the CPU.",
							   &dsocr_devices, "cpu", PGC_POSTMASTER, 0, check_devices, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.max_requests", "Requests that can be in flight at once (count, default 64).", NULL,
		&dsocr_max_requests, 64, 1, DSOCR_MAX_SLOTS, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.queue_memory",
		"Shared memory for the images and results of all requests (kB, default 256MB).",
		"It is taken when images arrive, not at server start.", &dsocr_queue_memory, 256 * 1024,
		1024, INT_MAX, PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.cache_size", "Shared memory for answers that are kept (kB, default 32MB, 0: none).",
		"The same image with the same options is not read again.", &dsocr_cache_size, 32 * 1024, 0,
		16 * 1024 * 1024, PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"dsocr.engine_path",
		"Program to run as the engine (path, default empty: beside the server's programs).",
		"For tests and packaging.", &dsocr_engine_path, "", PGC_POSTMASTER, GUC_SUPERUSER_ONLY,
		check_path, NULL, NULL);
	DefineCustomBoolVariable(
		"dsocr.page_server",
		"Runs the page server, which opens PDF and TIFF of several pages (boolean, default on).",
		NULL, &dsocr_page_server, true, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"dsocr.pages_path",
		"Program to run as the page server (path, default empty: dsocr-pages beside the engine).",
		"For tests and packaging.", &dsocr_pages_path, "", PGC_POSTMASTER, GUC_SUPERUSER_ONLY,
		check_path, NULL, NULL);
}

/* What the workers use; a reload lets them start the engine anew. */
static void
define_engine_settings(void)
{
	DefineCustomStringVariable(
		"dsocr.model", "Folder of the model (path, default empty: the embedded model).", NULL,
		&dsocr_model, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_path, NULL, NULL);
	DefineCustomEnumVariable(
		"dsocr.weights",
		"Number format of the model's weights (bf16, fp32, int8 or int4, default bf16).", NULL,
		&dsocr_weights, 0, weights_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dsocr.threads",
							"Threads of an engine on the CPU (count, default 0: all cores).", NULL,
							&dsocr_threads, 0, 0, MAX_THREADS, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.gpu_memory", "Memory of a GPU that its engine takes (MB, default 0: what is free).",
		NULL, &dsocr_gpu_memory, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MB, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.max_sequences",
		"Images whose text one engine writes together (count, default 0: as suits the device).",
		"On a GPU 256, elsewhere 16.  dsocr.max_requests should be larger.", &dsocr_max_sequences,
		0, 0, MAX_SEQUENCES, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.engine_timeout",
		"Silence after which a busy or loading engine is replaced (ms, default 2min).", NULL,
		&dsocr_engine_timeout, 120 * 1000, 100, DAY_MS, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

/* Limits that protect the server and other users. */
static void
define_limit_settings(void)
{
	DefineCustomIntVariable("dsocr.max_image_bytes",
							"Largest encoded image that is accepted (kB, default 64MB).", NULL,
							&dsocr_max_image_bytes, 64 * 1024, 1, 1024 * 1024 - 1, PGC_SUSET,
							GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.max_pixels", "Largest image that is decoded (pixels, default 100000000).", NULL,
		&dsocr_max_pixels, 100 * 1000 * 1000, 1, INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dsocr.max_document_bytes",
							"Largest PDF or TIFF of several pages that is accepted (kB, default "
							"256MB).",
							NULL, &dsocr_max_document_bytes, 256 * 1024, 1, 1024 * 1024 - 1,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("dsocr.max_pages",
							"Longest document that is opened (pages, default 10000).",
							"It does not matter how many of them are to be read.", &dsocr_max_pages,
							10000, 1, INT_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("dsocr.cache_table",
							 "Keeps answers in table dsocr.cache, too (boolean, default off).",
							 "They survive restarts, and reading writes to the database.",
							 &dsocr_cache_table, false, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.role_weight", "Share of the role where several wait for the engines (default 1).",
		"A role of weight 2 gets twice the time of one of weight 1; see "
		"ALTER ROLE ... SET.",
		&dsocr_role_weight, 1, 1, DSOCR_MAX_WEIGHT, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dsocr.max_requests_per_role",
							"Requests one role can have in flight (count, default 0: no limit).",
							NULL, &dsocr_max_requests_per_role, 0, 0, DSOCR_MAX_SLOTS, PGC_SUSET, 0,
							NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"dsocr.log_requests",
		"Logs each request with its counts and timings (boolean, default off).",
		"Neither text nor image is logged.", &dsocr_log_requests, false, PGC_SUSET, 0, NULL, NULL,
		NULL);
}

/* How durable jobs are run. */
static void
define_job_settings(void)
{
	DefineCustomEnumVariable(
		"dsocr.run_jobs", "Runs durable jobs (on, remote or off, default on).",
		"With remote, documents are left to workers that have joined.  Jobs can be queued in any "
		"case.  A standby never runs them.",
		&dsocr_run_jobs, DSOCR_RUN_ALL, run_jobs_options, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dsocr.runners",
							"Databases whose jobs run at the same time (count, default 2).",
							"Each takes one of max_worker_processes while it has jobs.",
							&dsocr_runners, 2, 1, MAX_RUNNERS, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.runner_idle_timeout",
		"Time without jobs after which the process that runs them ends (ms, default 10s).", NULL,
		&dsocr_runner_idle_timeout, 10 * 1000, 0, DAY_MS, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL,
		NULL);
	DefineCustomIntVariable("dsocr.max_attempts",
							"Attempts after which a job has failed (count, default 3).",
							"A document that cannot be read fails at once.", &dsocr_max_attempts, 3,
							1, 1000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.retry_delay",
		"Pause before the second attempt of a job, doubled for each further one (ms, default 5s).",
		NULL, &dsocr_retry_delay, 5 * 1000, 1, DAY_MS, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.keep_jobs",
		"Time for which ended jobs and their results are kept (min, default 7d).",
		"Failed jobs are kept until they are queued again or cancelled.", &dsocr_keep_jobs,
		7 * 24 * 60, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.worker_lease",
		"Silence of a remote worker after which others get its jobs (ms, default 1min).",
		"Workers that join later follow; they say that they work four times in it.",
		&dsocr_worker_lease, 60 * 1000, 1000, DAY_MS, PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"dsocr.worker_fingerprint",
		"Fingerprint of the model that remote workers must have (text, default empty: any).",
		"Workers with another model are turned away when they join.", &dsocr_worker_fingerprint, "",
		PGC_SUSET, 0, NULL, NULL, NULL);
}

static void
define_user_settings(void)
{
	DefineCustomEnumVariable(
		"dsocr.mode", "How images are cut into views (mode, default auto: what the model names).",
		NULL, &dsocr_mode, DSOCR_MODE_AUTO, mode_options, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("dsocr.max_tokens",
							"Longest text (tokens, default 0: as many as the context holds).", NULL,
							&dsocr_max_tokens, 0, 0, 1000000, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable(
		"dsocr.no_repeat_ngram",
		"Rule against loops: no n-gram twice in a window (size, window in tokens, default 30, 90).",
		"Size 0 switches it off; window 0 is the whole text.", &dsocr_no_repeat_ngram, "30, 90",
		PGC_USERSET, 0, check_ngram, assign_ngram, NULL);
	DefineCustomEnumVariable("dsocr.on_error",
							 "What an image that cannot be read gives (error, null or warning, "
							 "default error).",
							 NULL, &dsocr_on_error, DSOCR_ON_ERROR_ERROR, on_error_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"dsocr.auto_rotate",
		"Turns and straightens pages before they are read (off, archive or on, default archive).",
		"archive: where the result is stored, as hOCR, searchable PDF or an attached column.",
		&dsocr_auto_rotate, DSOCR_ROTATE_ARCHIVE, rotate_options, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"dsocr.queue_timeout",
		"Longest wait for a place in the queue (ms, default 1min, 0: no limit).", NULL,
		&dsocr_queue_timeout, 60 * 1000, 0, DAY_MS, PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("dsocr.timeout",
							"Longest time for one request, waiting included (ms, default 0: no "
							"limit).",
							"Where a session has several in flight, since the last of them ended.",
							&dsocr_timeout, 0, 0, DAY_MS, PGC_USERSET, GUC_UNIT_MS, NULL, NULL,
							NULL);
}

/* How far queries and documents are read ahead. */
static void
define_reading_ahead(void)
{
	DefineCustomIntVariable(
		"dsocr.prefetch",
		"Pages that a query, or a document, has in flight at once (count, default 32).", NULL,
		&dsocr_prefetch, 32, 1, DSOCR_MAX_SLOTS, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("dsocr.batch_scan",
							 "Queries begin to read some rows ahead (boolean, default on).",
							 "Off: each call begins when it is evaluated.", &dsocr_batch_scan, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("dsocr.cache", "Uses answers that are kept (boolean, default on).",
							 "Off: every page is read, and its answer is not kept.", &dsocr_cache,
							 true, PGC_USERSET, 0, NULL, NULL, NULL);
}

void
dsocr_guc_init(void)
{
	if (process_shared_preload_libraries_in_progress)
		define_startup_settings();
	define_engine_settings();
	define_limit_settings();
	define_job_settings();
	define_user_settings();
	define_reading_ahead();
}

/*
 * Refuse unknown names.  Not without preloading: the settings of the
 * configuration file that are missing then are no spelling mistakes.
 */
void
dsocr_guc_reserve(void)
{
	if (process_shared_preload_libraries_in_progress)
		MarkGUCPrefixReserved("dsocr");
}

char *
dsocr_model_path(void)
{
	char share[MAXPGPATH];

	if (dsocr_model != NULL && dsocr_model[0] != '\0')
		return pstrdup(dsocr_model);
	get_share_path(my_exec_path, share);
	return psprintf("%s/dsocr/nano", share);
}
