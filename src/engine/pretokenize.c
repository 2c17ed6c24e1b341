/*-------------------------------------------------------------------------
 *
 * pretokenize.c
 *		Cutting text into words by the patterns of tokenizer.json.
 *
 * The patterns are written for Oniguruma.  PCRE2 reads nearly the same
 * language; what differs silently is \s (PCRE2 counts U+180E), \w, \h, \v,
 * the possessive "+", set operations and nesting inside [], "{n}?", and the
 * line anchors.  The translation writes \s out and refuses the others.
 *
 *-------------------------------------------------------------------------
 */
#include "pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#define MAX_PATTERN_BYTES 65536

/* White_Space, for use inside a class. */
#define SPACE_RANGES                                                                               \
	"\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"             \
	"\\x{202f}\\x{205f}\\x{3000}"

typedef struct Translation
{
	const char *p; /* rest of the pattern, NUL-terminated */
	DsocrBuffer *out;
	bool in_class;
	bool can_repeat; /* is there something for a quantifier to repeat? */
	DsocrError *err;
} Translation;

/* One cutting of one text. */
typedef struct Cutter
{
	const DsocrPretokenizer *pretokenizer;
	pcre2_match_data *match[DSOCR_MAX_SPLITS];
	pcre2_match_context *limits;
	DsocrWordHandler handler;
	void *arg;
	DsocrError *err;
} Cutter;

static bool
emit(Translation *t, const char *text, size_t len)
{
	return dsocr_buffer_append(t->out, text, len, t->err);
}

static bool
refuse(Translation *t, const char *what)
{
	return dsocr_fail(t->err, DSOCR_E_MODEL, "%s in a pre-tokenizer pattern is not supported",
					  what);
}

/* \p{L}, \P{Nd}: general categories only; p points behind the p. */
static bool
translate_property(Translation *t)
{
	size_t n = strcspn(t->p, "}");

	if (t->p[0] != '{' || t->p[n] != '}' || n < 2 || n > 3 || strchr("LMNPSZC", t->p[1]) == NULL ||
		(n == 3 && !(t->p[2] >= 'a' && t->p[2] <= 'z')))
		return refuse(t, "a property that is not a general category");
	if (!emit(t, t->p - 2, n + 3))
		return false;
	t->p += n + 1;
	return true;
}

/* p points behind the backslash */
static bool
translate_escape(Translation *t)
{
	char c = *t->p++;

	switch (c)
	{
		case 's':
			if (t->in_class)
				return emit(t, SPACE_RANGES, strlen(SPACE_RANGES));
			return emit(t, "[" SPACE_RANGES "]", strlen(SPACE_RANGES) + 2);
		case 'S':
			if (t->in_class)
				return refuse(t, "\\S inside a class");
			return emit(t, "[^" SPACE_RANGES "]", strlen(SPACE_RANGES) + 3);
		case 'd':
			return emit(t, "\\p{Nd}", 6);
		case 'D':
			return emit(t, "\\P{Nd}", 6);
		case 'p':
		case 'P':
			return translate_property(t);
		case 'r':
		case 'n':
		case 't':
			return emit(t, t->p - 2, 2);
		default:
			if (c > ' ' && c < 127 && !(c >= '0' && c <= '9') && !(c >= 'A' && c <= 'Z') &&
				!(c >= 'a' && c <= 'z'))
				return emit(t, t->p - 2, 2);
			return refuse(t, "an escape");
	}
}

/* A character inside []; p points behind it. */
static bool
translate_class(Translation *t, char c)
{
	if (c == ']')
		t->in_class = false;
	else if (c == '[')
		return refuse(t, "a class inside a class");
	else if (c == '&' && *t->p == '&')
		return refuse(t, "a set operation");
	return emit(t, &c, 1);
}

/* "?", "*", "+", "{n,m}" with at most a "?" behind; p points behind the first. */
static bool
translate_quantifier(Translation *t, char c)
{
	if (!t->can_repeat)
		return refuse(t, "a quantifier without an operand");
	t->can_repeat = false;
	if (c == '{')
	{
		size_t n = strspn(t->p, "0123456789");

		if (n > 0 && t->p[n] == ',')
		{
			n++;
			n += strspn(t->p + n, "0123456789");
		}
		if (n == 0 || t->p[n] != '}')
			return refuse(t, "a brace");
		n++;
		if (t->p[n] == '?' || t->p[n] == '+')
			return refuse(t, "a quantifier on a quantifier");
		if (!emit(t, t->p - 1, n + 1))
			return false;
		t->p += n;
		return true;
	}
	if (!emit(t, &c, 1))
		return false;
	if (*t->p == '?')
	{
		t->p++;
		return emit(t, "?", 1);
	}
	return true;
}

/* "(" with what may follow it; p points behind it. */
static bool
translate_group(Translation *t)
{
	t->can_repeat = false;
	if (*t->p != '?')
		return emit(t, "(", 1);
	if (t->p[1] != ':' && t->p[1] != '=' && t->p[1] != '!')
		return refuse(t, "an extended group");
	t->p += 2;
	return emit(t, t->p - 3, 3);
}

bool
dsocr_pretokenizer_translate(const char *pattern, DsocrBuffer *out, DsocrError *err)
{
	Translation t = {.p = pattern, .out = out, .err = err};

	while (*t.p != '\0')
	{
		char c = *t.p++;
		bool ok;

		if (c == '\\')
		{
			if (*t.p == '\0')
				return refuse(&t, "a backslash at the end");
			ok = translate_escape(&t);
			t.can_repeat = true;
		}
		else if (t.in_class)
			ok = translate_class(&t, c);
		else if (c == '[')
		{
			size_t n = *t.p == '^' ? 1 : 0;

			if (t.p[n] == ']')
				return refuse(&t, "a class that begins with ]");
			t.in_class = true;
			t.can_repeat = true;
			ok = emit(&t, t.p - 1, n + 1);
			t.p += n;
		}
		else if (c == '?' || c == '*' || c == '+' || c == '{')
			ok = translate_quantifier(&t, c);
		else if (c == '(')
			ok = translate_group(&t);
		else if (c == '^' || c == '$' || c == '}' || c == ']')
			return refuse(&t, "an anchor or a stray bracket");
		else if (c == '.')
		{
			ok = emit(&t, "[^\\n]", 5);
			t.can_repeat = true;
		}
		else
		{
			ok = emit(&t, &c, 1);
			t.can_repeat = c != '|';
		}
		if (!ok)
			return false;
	}
	return !t.in_class || refuse(&t, "a class without end");
}

static pcre2_code *
compile(const char *pattern, DsocrError *err)
{
	DsocrBuffer translated = {0};
	pcre2_code *code = NULL;
	int number = 0;
	PCRE2_SIZE offset = 0;
	uint32_t matches_empty = 1;

	if (strlen(pattern) > MAX_PATTERN_BYTES)
		dsocr_fail(err, DSOCR_E_MODEL, "pre-tokenizer pattern is too long");
	else if (pattern[0] == '\0')
		dsocr_fail(err, DSOCR_E_MODEL, "pre-tokenizer pattern is empty");
	else if (dsocr_pretokenizer_translate(pattern, &translated, err))
	{
		code =
			pcre2_compile((PCRE2_SPTR) translated.data, translated.len,
						  PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &number, &offset, NULL);
		if (code == NULL && number == PCRE2_ERROR_HEAP_FAILED)
			dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for a pre-tokenizer pattern");
		else if (code == NULL)
		{
			char text[120];

			pcre2_get_error_message(number, (PCRE2_UCHAR *) text, sizeof(text));
			dsocr_fail(err, DSOCR_E_MODEL, "pre-tokenizer pattern is wrong: %s", text);
		}
	}
	dsocr_buffer_free(&translated);
	if (code == NULL)
		return NULL;
	pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
	if (matches_empty != 0)
	{
		pcre2_code_free(code);
		dsocr_fail(err, DSOCR_E_MODEL, "pre-tokenizer pattern matches the empty text");
		return NULL;
	}
	/* a failure only means that matching is interpreted */
	(void) pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
	return code;
}

static bool
read_split(DsocrPretokenizer *p, json_t *split, DsocrError *err)
{
	const char *behavior = json_string_value(json_object_get(split, "behavior"));
	const char *pattern =
		json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));

	if (pattern == NULL)
		return dsocr_fail(err, DSOCR_E_MODEL, "pre-tokenizer Split has no Regex");
	if (behavior == NULL || strcmp(behavior, "Isolated") != 0 ||
		json_is_true(json_object_get(split, "invert")))
		return dsocr_fail(err, DSOCR_E_MODEL, "pre-tokenizer Split is not Isolated");
	if (p->n == DSOCR_MAX_SPLITS)
		return dsocr_fail(err, DSOCR_E_MODEL, "pre-tokenizer has more than %d Splits",
						  DSOCR_MAX_SPLITS);
	p->patterns[p->n] = compile(pattern, err);
	if (p->patterns[p->n] == NULL)
		return false;
	p->n++;
	return true;
}

static bool
read_steps(DsocrPretokenizer *p, json_t *description, DsocrError *err)
{
	const char *type = json_string_value(json_object_get(description, "type"));
	json_t *steps = json_object_get(description, "pretokenizers");
	size_t n = json_array_size(steps);

	if (type == NULL || strcmp(type, "Sequence") != 0)
		return dsocr_fail(err, DSOCR_E_MODEL, "pre-tokenizer is not a Sequence");
	for (size_t i = 0; i < n; i++)
	{
		json_t *step = json_array_get(steps, i);
		const char *step_type = json_string_value(json_object_get(step, "type"));
		bool last = i + 1 == n;

		if (step_type != NULL && !last && strcmp(step_type, "Split") == 0)
		{
			if (!read_split(p, step, err))
				return false;
		}
		else if (step_type != NULL && last && strcmp(step_type, "ByteLevel") == 0)
		{
			if (!json_is_false(json_object_get(step, "add_prefix_space")) ||
				!json_is_false(json_object_get(step, "use_regex")))
				return dsocr_fail(err, DSOCR_E_MODEL,
								  "pre-tokenizer ByteLevel changes or splits the text");
			return true;
		}
		else
			break;
	}
	return dsocr_fail(err, DSOCR_E_MODEL, "pre-tokenizer is not Splits with a ByteLevel behind");
}

bool
dsocr_pretokenizer_read(DsocrPretokenizer *p, json_t *description, DsocrError *err)
{
	memset(p, 0, sizeof(*p));
	if (read_steps(p, description, err))
		return true;
	dsocr_pretokenizer_free(p);
	return false;
}

void
dsocr_pretokenizer_free(DsocrPretokenizer *p)
{
	for (int i = 0; i < p->n; i++)
		pcre2_code_free(p->patterns[i]);
	memset(p, 0, sizeof(*p));
}

/* Find a match at or behind from; *found is false when there is none. */
static bool
find_match(Cutter *c, int stage, const char *text, size_t len, size_t from, bool *found)
{
	const pcre2_code *code = c->pretokenizer->patterns[stage];
	int rc = pcre2_match(code, (PCRE2_SPTR) text, len, from, PCRE2_NO_UTF_CHECK, c->match[stage],
						 c->limits);

	/* the compiled code has a small stack of its own; the interpreter uses the heap */
	if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
		rc = pcre2_match(code, (PCRE2_SPTR) text, len, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
						 c->match[stage], c->limits);
	if (rc == PCRE2_ERROR_NOMEMORY)
		return dsocr_fail(c->err, DSOCR_E_MEMORY, "out of memory while cutting text into words");
	if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
		return dsocr_fail(c->err, DSOCR_E_INTERNAL, "could not cut text into words: code %d", rc);
	*found = rc >= 0;
	return true;
}

/* Matches and what is between them become pieces for the next stage. */
static bool
cut(Cutter *c, int stage, const char *text, size_t len)
{
	size_t done = 0;

	if (stage == c->pretokenizer->n)
		return c->handler(c->arg, text, len, c->err);
	while (done < len)
	{
		const PCRE2_SIZE *span = pcre2_get_ovector_pointer(c->match[stage]);
		size_t start = len;
		size_t end = len;
		bool found = false;

		if (!find_match(c, stage, text, len, done, &found))
			return false;
		if (found)
		{
			start = span[0];
			end = span[1];
		}
		if (start > done && !cut(c, stage + 1, text + done, start - done))
			return false;
		if (end > start && !cut(c, stage + 1, text + start, end - start))
			return false;
		done = end;
	}
	return true;
}

bool
dsocr_pretokenizer_split(const DsocrPretokenizer *p, const char *text, size_t len,
						 DsocrWordHandler handler, void *arg, DsocrError *err)
{
	Cutter c = {.pretokenizer = p, .handler = handler, .arg = arg, .err = err};
	bool ok = true;

	c.limits = pcre2_match_context_create(NULL);
	if (c.limits == NULL)
		return dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for a match");
	pcre2_set_match_limit(c.limits, UINT32_MAX);
	pcre2_set_depth_limit(c.limits, UINT32_MAX);
	pcre2_set_heap_limit(c.limits, UINT32_MAX);
	for (int i = 0; ok && i < p->n; i++)
	{
		c.match[i] = pcre2_match_data_create_from_pattern(p->patterns[i], NULL);
		if (c.match[i] == NULL)
			ok = dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for a match");
	}
	ok = ok && cut(&c, 0, text, len);
	for (int i = 0; i < p->n; i++)
		pcre2_match_data_free(c.match[i]);
	pcre2_match_context_free(c.limits);
	return ok;
}
