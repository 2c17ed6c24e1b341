/*-------------------------------------------------------------------------
 *
 * smiles.h
 *		Is a text a well-formed SMILES string?
 *
 * The model writes chemical formulas as SMILES.  This looks at the form only:
 * atoms, brackets, bonds, branches, rings, and aromatic atoms outside of
 * rings.  Valences are chemistry and are not checked.
 *
 * Linked into the engine and into the PostgreSQL module.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SMILES_H
#define DSOCR_SMILES_H

#include "base.h"

typedef enum DsocrSmiles
{
	DSOCR_SMILES_NONE,	/* does not look like one: other characters, blanks, too long */
	DSOCR_SMILES_VALID, /* well-formed */
	DSOCR_SMILES_BROKEN /* looks like one and is not well-formed */
} DsocrSmiles;

/* Bytes of the longest text that is looked at. */
#define DSOCR_MAX_SMILES 4096

/*
 * Blanks at both ends are left out.  For a broken one *at, which may be NULL,
 * is the byte where it breaks and *why, which may be NULL, says how.
 */
extern DsocrSmiles dsocr_smiles_check(const char *text, size_t len, size_t *at, const char **why);

#endif /* DSOCR_SMILES_H */
