#!/usr/bin/env python3
"""molecules.py PACK: structural formulae for the renderer, by RDKit.

Molecules are put together at random from rings and groups, so there are as many
as --count asks for; a fifth is held out.  PACK/{train,held}/molecules.txt has
one a line: canonical SMILES, atoms and bonds, separated by tabs.  An atom, in the
order of the SMILES, is x,y,element,hydrogens,charge, where 100 is the length of a
bond; a bond is from,to,order,side, where side (1, -1, 0) says on which side of
from-to a double bond has its second line, 0 on both.
"""
import argparse
import math
import os
import random

from rdkit import Chem, RDLogger
from rdkit.Chem import rdDepictor

from pack import held_out

COUNT = 40_000
CORES = ("c1ccccc1 c1ccccc1 c1ccncc1 c1ccoc1 c1ccsc1 c1cc[nH]c1 c1cnc[nH]1 c1cocn1 c1cncnc1 c1ccc2ccccc2c1 c1ccc2[nH]ccc2c1 "
         "c1ccc2ncccc2c1 C1CCCCC1 C1CCCC1 C1CCC1 C1CC1 C1CCNCC1 C1COCCN1 C1CNCCN1 O=C1CCCCC1 C1CCOC1 C1=CCCCC1 C CC CCC CCCC "
         "C=C CC=O CC#C").split()
# joined by their first atom
PIECES = ("C C C CC C(C)C CCC O O OC OCC N N NC N(C)C F Cl Cl Br I C#N C(=O)O C(=O)O C(=O)OC C(C)=O C(N)=O C(=O)NC NC(C)=O C=O "
          "S SC S(C)(=O)=O S(N)(=O)=O [N+](=O)[O-] C(F)(F)F C=C C#C CO CN P(=O)(O)O C(=O)Cl B(O)O").split()


def grow(rng, most):
    """A random molecule of about most heavy atoms."""
    mol = Chem.MolFromSmiles(rng.choice(CORES))
    while mol.GetNumAtoms() < most:
        free = [a.GetIdx() for a in mol.GetAtoms() if a.GetTotalNumHs() > 0 and a.GetFormalCharge() == 0]
        if not free:
            break
        piece = Chem.MolFromSmiles(rng.choice(CORES if rng.random() < 0.15 else PIECES))
        both = Chem.RWMol(Chem.CombineMols(mol, piece))
        at, to = rng.choice(free), mol.GetNumAtoms()
        both.AddBond(at, to, Chem.BondType.SINGLE)
        for i in (at, to):
            # an explicit hydrogen, as of pyrrole, makes room
            atom = both.GetAtomWithIdx(i)
            atom.SetNumExplicitHs(max(0, atom.GetNumExplicitHs() - 1))
        try:
            Chem.SanitizeMol(both)
        except Chem.MolSanitizeException:
            break
        mol = both.GetMol()
    return Chem.MolFromSmiles(Chem.MolToSmiles(mol))


def cross(a, b, c):
    return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x)


def second_line(mol, bond, place):
    """The side of the second line of a double bond: into the ring, else where more of the neighbours are."""
    a, b = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    rings = [r for r in mol.GetRingInfo().AtomRings() if a in r and b in r]
    if rings:
        others = min(rings, key=len)
    else:
        if min(bond.GetBeginAtom().GetDegree(), bond.GetEndAtom().GetDegree()) == 1:
            return 0
        others = {n.GetIdx() for x in (bond.GetBeginAtom(), bond.GetEndAtom()) for n in x.GetNeighbors()}
    side = sum(cross(place[a], place[b], place[i]) for i in others)
    return 0 if abs(side) < 0.1 else 1 if side > 0 else -1


def is_clear(mol, place):
    """Nothing is drawn over anything else."""
    bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()]
    n = len(place)
    if any(math.dist((place[i].x, place[i].y), (place[j].x, place[j].y)) < 0.7 for i in range(n) for j in range(i)):
        return False
    for k, (a, b) in enumerate(bonds):
        for c, d in bonds[:k]:
            if len({a, b, c, d}) == 4 and cross(place[a], place[b], place[c]) * cross(place[a], place[b], place[d]) < 0 \
                    and cross(place[c], place[d], place[a]) * cross(place[c], place[d], place[b]) < 0:
                return False
    return True


def line_of(mol):
    """The molecule as the renderer reads it, or None if its drawing would not be clear."""
    smiles = Chem.MolToSmiles(mol)
    mol = Chem.RenumberAtoms(mol, list(map(int, mol.GetProp("_smilesAtomOutputOrder").strip("[],").split(","))))
    rdDepictor.Compute2DCoords(mol, bondLength=1.0)
    place = [mol.GetConformer().GetAtomPosition(i) for i in range(mol.GetNumAtoms())]
    if not is_clear(mol, place):
        return None
    Chem.Kekulize(mol, clearAromaticFlags=True)
    atoms = [f"{round(100 * p.x)},{round(100 * p.y)},{a.GetSymbol()},{a.GetTotalNumHs()},{a.GetFormalCharge()}"
             for a, p in zip(mol.GetAtoms(), place)]
    bonds = [f"{b.GetBeginAtomIdx()},{b.GetEndAtomIdx()},{int(b.GetBondTypeAsDouble())},"
             f"{second_line(mol, b, place) if b.GetBondTypeAsDouble() == 2 else 0}" for b in mol.GetBonds()]
    return f"{smiles}\t{' '.join(atoms)}\t{' '.join(bonds)}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("pack")
    p.add_argument("--count", type=int, default=COUNT)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    RDLogger.DisableLog("rdApp.*")
    rng = random.Random(a.seed)
    found = {}
    while len(found) < a.count:
        mol = grow(rng, rng.randint(2, 22))
        if mol is None or not 2 <= mol.GetNumAtoms() <= 24:
            continue
        smiles = Chem.MolToSmiles(mol)
        if smiles not in found and (line := line_of(mol)):
            found[smiles] = line
    # the file that says that all is there comes last
    for split in ("held", "train"):
        path = f"{a.pack}/{split}/molecules.txt"
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.writelines(line + "\n" for s, line in found.items() if held_out(s) == (split == "held"))
        os.replace(path + ".new", path)


if __name__ == "__main__":
    main()
