/*-------------------------------------------------------------------------
 *
 * smiles.c
 *		Is a text a well-formed SMILES string?
 *
 * After the OpenSMILES specification.  One pass over the text keeps the atom
 * that the next one is bound to, a stack of those where branches began, and
 * the rings that are open.
 *
 *-------------------------------------------------------------------------
 */
#include "smiles.h"

#include <string.h>

#define RINGS 100
#define NO_ATOM (-1)

typedef struct Ring
{
	int atom; /* NO_ATOM: not open */
	char bond;
	int at;
} Ring;

typedef struct Parser
{
	const char *text;
	int n;
	int at;
	const char *why;

	int atoms;
	int16_t parent[DSOCR_MAX_SMILES]; /* atom that this one was bound to, NO_ATOM for the first */
	int16_t depth[DSOCR_MAX_SMILES];
	int16_t place[DSOCR_MAX_SMILES];
	bool aromatic[DSOCR_MAX_SMILES];
	bool in_ring[DSOCR_MAX_SMILES];

	int last;  /* atom that the next one is bound to */
	char bond; /* written before the next atom or ring, 0: none */
	int16_t branches[DSOCR_MAX_SMILES];
	int open_branches;
	Ring rings[RINGS];
	int open_rings;
} Parser;

static const char *const elements =
	" H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
	"Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
	"Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf "
	"Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og ";
static const char *const aromatic_elements = " b c n o p s se as te si ";

static bool
fail(Parser *p, const char *why)
{
	if (p->why == NULL)
		p->why = why;
	return false;
}

static char
peek(const Parser *p)
{
	return p->at < p->n ? p->text[p->at] : '\0';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Is the symbol in a list of them with blanks around each? */
static bool
is_in(const char *list, const char *symbol, int n)
{
	char word[5] = " ";

	memcpy(word + 1, symbol, (size_t) n);
	word[n + 1] = ' ';
	return memmem(list, strlen(list), word, (size_t) n + 2) != NULL;
}

static bool
add_atom(Parser *p, bool aromatic, int place)
{
	int atom = p->atoms;

	if (p->last == NO_ATOM && p->bond != 0)
		return fail(p, "bond without an atom before it");
	p->parent[atom] = (int16_t) p->last;
	p->depth[atom] = p->last == NO_ATOM ? 0 : (int16_t) (p->depth[p->last] + 1);
	p->place[atom] = (int16_t) place;
	p->aromatic[atom] = aromatic;
	p->in_ring[atom] = false;
	p->atoms++;
	p->last = atom;
	p->bond = 0;
	return true;
}

/* ---- atoms ---- */

static void
skip_digits(Parser *p, int most)
{
	while (most-- > 0 && is_digit(peek(p)))
		p->at++;
}

/* Symbol of a bracket atom; *aromatic tells whether it is written small. */
static bool
read_symbol(Parser *p, bool *aromatic)
{
	const char *s = p->text + p->at;
	int left = p->n - p->at;

	*aromatic = left > 0 && s[0] >= 'a' && s[0] <= 'z';
	if (left > 0 && s[0] == '*')
	{
		p->at++;
		return true;
	}
	for (int n = 2; n >= 1; n--)
		if (left >= n && is_letter(s[0]) && (n == 1 || (s[1] >= 'a' && s[1] <= 'z')) &&
			is_in(*aromatic ? aromatic_elements : elements, s, n))
		{
			p->at += n;
			return true;
		}
	return fail(p, "unknown element in brackets");
}

/* @, @@, @TH1, @AL2, @SP3, @TB14, @OH30 */
static void
skip_chirality(Parser *p)
{
	static const char *const kinds[] = {"TH", "AL", "SP", "TB", "OH"};

	if (peek(p) != '@')
		return;
	p->at++;
	if (peek(p) == '@')
	{
		p->at++;
		return;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (p->n - p->at >= 3 && memcmp(p->text + p->at, kinds[i], 2) == 0 &&
			is_digit(p->text[p->at + 2]))
		{
			p->at += 2;
			skip_digits(p, 2);
			return;
		}
}

static void
skip_charge(Parser *p)
{
	char sign = peek(p);

	if (sign != '+' && sign != '-')
		return;
	p->at++;
	if (is_digit(peek(p)))
		skip_digits(p, 2);
	else
		while (peek(p) == sign)
			p->at++;
}

static bool
read_bracket(Parser *p)
{
	int place = p->at++;
	bool aromatic;

	skip_digits(p, 4); /* isotope */
	if (!read_symbol(p, &aromatic))
		return false;
	skip_chirality(p);
	if (peek(p) == 'H')
	{
		p->at++;
		skip_digits(p, 2);
	}
	skip_charge(p);
	if (peek(p) == ':')
	{
		p->at++;
		if (!is_digit(peek(p)))
			return fail(p, "atom class without a number");
		skip_digits(p, 6);
	}
	if (peek(p) != ']')
		return fail(p, "brackets hold more than an atom, or are not closed");
	p->at++;
	return add_atom(p, aromatic, place);
}

static bool
read_atom(Parser *p)
{
	char c = peek(p);
	char next = p->at + 1 < p->n ? p->text[p->at + 1] : '\0';
	int place = p->at;

	if ((c == 'C' && next == 'l') || (c == 'B' && next == 'r'))
		p->at += 2;
	else if (strchr("BCNOPSFI*bcnops", c) != NULL)
		p->at++;
	else
		return fail(p, "letter that is no atom outside of brackets");
	return add_atom(p, c >= 'a' && c <= 'z', place);
}

/* ---- rings ---- */

/* All atoms on the way between two are in a ring. */
static void
mark_ring(Parser *p, int a, int b)
{
	while (a != b)
	{
		int *deeper = p->depth[a] >= p->depth[b] ? &a : &b;

		p->in_ring[*deeper] = true;
		if (p->parent[*deeper] == NO_ATOM)
			return;
		*deeper = p->parent[*deeper];
	}
	p->in_ring[a] = true;
}

static bool
read_ring(Parser *p)
{
	int place = p->at;
	int number;
	Ring *r;

	if (p->last == NO_ATOM)
		return fail(p, "ring bond without an atom");
	if (peek(p) == '%')
	{
		if (p->n - p->at < 3 || !is_digit(p->text[p->at + 1]) || !is_digit(p->text[p->at + 2]))
			return fail(p, "% without two digits");
		number = (p->text[p->at + 1] - '0') * 10 + p->text[p->at + 2] - '0';
		p->at += 3;
	}
	else
		number = p->text[p->at++] - '0';
	r = &p->rings[number];
	if (r->atom == NO_ATOM)
	{
		*r = (Ring){p->last, p->bond, place};
		p->open_rings++;
	}
	else
	{
		if (r->atom == p->last)
			return fail(p, "ring from an atom to itself");
		if (p->parent[p->last] == r->atom || p->parent[r->atom] == p->last)
			return fail(p, "ring between atoms that are bound already");
		if (r->bond != 0 && p->bond != 0 && r->bond != p->bond && strchr("/\\", r->bond) == NULL)
			return fail(p, "ring opened and closed with different bonds");
		mark_ring(p, r->atom, p->last);
		r->atom = NO_ATOM;
		p->open_rings--;
	}
	p->bond = 0;
	return true;
}

/* ---- the whole ---- */

static bool
read_branch(Parser *p, char c)
{
	if (p->bond != 0)
		return fail(p, "bond without an atom behind it");
	if (c == '(')
	{
		if (p->last == NO_ATOM)
			return fail(p, "branch without an atom before it");
		p->branches[p->open_branches++] = (int16_t) p->last;
		if (p->at + 1 < p->n && (p->text[p->at + 1] == ')' || p->text[p->at + 1] == '('))
			return fail(p, "branch without an atom");
	}
	else
	{
		if (p->open_branches == 0)
			return fail(p, "branch closed that was not opened");
		p->last = p->branches[--p->open_branches];
	}
	p->at++;
	return true;
}

static bool
read_next(Parser *p)
{
	char c = peek(p);

	if (c == '[')
		return read_bracket(p);
	if (is_letter(c) || c == '*')
		return read_atom(p);
	if (is_digit(c) || c == '%')
		return read_ring(p);
	if (c == '(' || c == ')')
		return read_branch(p, c);
	if (strchr("-=#$:/\\.", c) == NULL)
		return fail(p, "character that belongs into brackets");
	if (p->bond != 0 || p->last == NO_ATOM)
		return fail(p, "bond without an atom");
	if (c == '.')
		p->last = NO_ATOM;
	else
		p->bond = c;
	p->at++;
	return true;
}

static bool
read_all(Parser *p)
{
	while (p->at < p->n)
		if (!read_next(p))
			return false;
	if (p->bond != 0 || p->last == NO_ATOM)
		return fail(p, "bond without an atom behind it");
	if (p->open_branches > 0)
		return fail(p, "branch that is not closed");
	for (int i = 0; i < RINGS && p->open_rings > 0; i++)
		if (p->rings[i].atom != NO_ATOM)
		{
			p->at = p->rings[i].at;
			return fail(p, "ring that is not closed");
		}
	for (int i = 0; i < p->atoms; i++)
		if (p->aromatic[i] && !p->in_ring[i])
		{
			p->at = p->place[i];
			return fail(p, "aromatic atom outside of a ring");
		}
	return true;
}

/* Only characters of SMILES, and an atom first: an ordinary text has others, or blanks. */
static bool
looks_like(const char *text, size_t len)
{
	bool atom = false;

	if (len == 0 || len > DSOCR_MAX_SMILES - 1 || (!is_letter(text[0]) && text[0] != '['))
		return false;
	for (size_t i = 0; i < len; i++)
	{
		if (!is_letter(text[i]) && !is_digit(text[i]) &&
			(text[i] == '\0' || strchr("[]()@+-=#$:/\\%.*", text[i]) == NULL))
			return false;
		atom = atom || (text[i] != '\0' && strchr("CNOSPcnos[", text[i]) != NULL);
	}
	if (!atom)
		return false;
	/* words have letters that are no atoms, but hardly square brackets */
	if (memchr(text, '[', len) != NULL || memchr(text, ']', len) != NULL)
		return true;
	for (size_t i = 0; i < len; i++)
		if (is_letter(text[i]) && strchr("BCNOPSFIbcnopslr", text[i]) == NULL)
			return false;
	return true;
}

DsocrSmiles
dsocr_smiles_check(const char *text, size_t len, size_t *at, const char **why)
{
	Parser p = {.last = NO_ATOM};
	size_t from = 0;

	while (len > 0 && (text[len - 1] == ' ' || (text[len - 1] >= '\t' && text[len - 1] <= '\r')))
		len--;
	while (from < len && (text[from] == ' ' || (text[from] >= '\t' && text[from] <= '\r')))
		from++;
	if (!looks_like(text + from, len - from))
		return DSOCR_SMILES_NONE;
	p.text = text + from;
	p.n = (int) (len - from);
	for (int i = 0; i < RINGS; i++)
		p.rings[i].atom = NO_ATOM;
	if (read_all(&p))
		return DSOCR_SMILES_VALID;
	if (at != NULL)
		*at = from + (size_t) p.at;
	if (why != NULL)
		*why = p.why;
	return DSOCR_SMILES_BROKEN;
}
