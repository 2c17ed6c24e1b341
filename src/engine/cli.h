/*-------------------------------------------------------------------------
 *
 * cli.h
 *		The subcommands of dsocr-engine.
 *
 * Each gets the arguments behind its own name (argv[0] is that name) and
 * returns the exit status: 0 = done, 1 = failed, 2 = wrong usage.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CLI_H
#define DSOCR_CLI_H

#include "backend.h"
#include "request.h"

/* The build gives it; a build by hand has none. */
#ifndef DSOCR_VERSION
#define DSOCR_VERSION "0.1.0"
#endif

extern int dsocr_cli_ocr(int argc, char **argv);
extern int dsocr_cli_check(int argc, char **argv);
extern int dsocr_cli_bench(int argc, char **argv);
extern int dsocr_cli_quantize(int argc, char **argv);
extern int dsocr_cli_synth(int argc, char **argv);
extern int dsocr_cli_info(int argc, char **argv);
extern int dsocr_cli_serve(int argc, char **argv);
extern int dsocr_cli_join(int argc, char **argv); /* with libpq */
extern int dsocr_cli_load(int argc, char **argv); /* with libpq */

/*
 * The model folder when none is named: the environment variable DSOCR_MODEL,
 * else the share folder that belongs to this executable, else ./models/nano.
 */
extern void dsocr_cli_default_model(char *path, size_t size);

/* A line on stderr, in one write so that lines of several processes do not mix. */
extern void dsocr_cli_log(const char *message);

/*
 * Read the value of an option; a wrong one is reported on stderr.  Numbers
 * are decimal and lie between min and max.
 */
extern bool dsocr_cli_number(const char *option, const char *value, long long min, long long max,
							 long long *number);
extern bool dsocr_cli_precision(const char *value, DsocrPrecision *precision, DsocrDtype *weights);

/* Index of a name in a list, -1 and a line on stderr when it is not there. */
extern int dsocr_cli_name(const char *option, const char *value, const char *const *names, int n);

#endif /* DSOCR_CLI_H */
