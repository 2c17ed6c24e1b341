/*-------------------------------------------------------------------------
 *
 * molecules.h
 *		Molecules as they lie on the page.
 *
 *-------------------------------------------------------------------------
 */
#ifndef RENDER_MOLECULES_H
#define RENDER_MOLECULES_H

#include "page.h"

#define MAX_ATOMS 32
#define MAX_BONDS 40
#define MAX_SMILES 160

typedef struct Atom
{
	float x, y;
	char element[3];
	int hydrogens, charge;
	float toward[2][4]; /* directions of its bonds */
	int bonds;
	bool named;
	Box box; /* of all its letters */
	Box letter;
} Atom;

typedef struct Bond
{
	int from, to, order, side;
} Bond;

typedef struct Molecule
{
	char smiles[MAX_SMILES]; /* canonical, as molecules.py knows it */
	Atom atom[MAX_ATOMS];
	Bond bond[MAX_BONDS];
	int atoms, bonds;
	float length; /* of a bond */
	float thick;
} Molecule;

/* Emits the SMILES that follows the drawing. */
extern void smiles_emit(Page *p, const Molecule *m);

#endif
