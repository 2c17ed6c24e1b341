"""Measures of read pages, in the terms of OmniDocBench, and of figures."""
import ast
import re
import unicodedata
from collections import Counter

from rapidfuzz.distance import Levenshtein

BLOCK = re.compile(r"<\|ref\|>(.*?)<\|/ref\|><\|det\|>\[\[(.*?)\]\]<\|/det\|>")


def plain(text):
    """What is compared: characters, without markup and without differences of blanks."""
    text = BLOCK.sub("", text)
    text = unicodedata.normalize("NFKC", text)
    text = re.sub(r"</?(table|tr|td)>", " ", text)
    text = re.sub(r"(?m)^\s*(#+|[-•*–])\s+", "", text)
    return re.sub(r"\s+", " ", text).strip()


def errors(truth, read):
    """Edits and characters of the truth."""
    a, b = plain(truth), plain(read)
    return Levenshtein.distance(a, b), len(a)


def words(truth, read):
    """Words read that stand in the truth, each as often as it does; words read; words of the truth."""
    a, b = Counter(plain(truth).split()), Counter(plain(read).split())
    return (a & b).total(), b.total(), a.total()


def order(truth, read):
    """Normalised edit distance of the sequence of blocks that were found; None for pages of one block."""
    blocks = [plain(b) for b in re.split(r"\n\s*\n", truth)]
    found = [plain(b) for b in re.split(r"\n\s*\n", read)]
    blocks, found = [b for b in blocks if b], [f for f in found if f]
    places = []
    for i, b in enumerate(blocks):
        best = min(((Levenshtein.normalized_distance(b, f), k) for k, f in enumerate(found)), default=(1, 0))
        if best[0] < 0.5:
            places.append((best[1], i))
    if len(blocks) < 2:
        return None
    return Levenshtein.normalized_distance(list(range(len(blocks))), [i for _, i in sorted(places)])


def cells(text):
    """Tables as lists of rows of cells."""
    return [[[plain(c) for c in re.findall(r"(?s)<td>(.*?)</td>", r)] for r in re.findall(r"(?s)<tr>(.*?)</tr>", t)]
            for t in re.findall(r"(?s)<table>(.*?)</table>", text)]


def right_cells(truth, read):
    """Cells of the truth that stand at the same place with the same text, and all of them."""
    right = total = 0
    read = cells(read)
    for t, table in enumerate(cells(truth)):
        for r, row in enumerate(table):
            for c, text in enumerate(row):
                total += 1
                try:
                    right += read[t][r][c] == text
                except IndexError:
                    pass
    return right, total


def table_distance(truth, read):
    """Normalised edit distance of tags and characters."""
    sequence = lambda s: re.findall(r"</?(?:table|tr|td)>|.", "".join(re.findall(r"(?s)<table>.*?</table>", s)))
    return Levenshtein.normalized_distance(sequence(truth), sequence(read))


def boxes(text):
    out = []
    for label, numbers in BLOCK.findall(text):
        try:
            out += [(label, [int(n) for n in part.split(",")]) for part in re.split(r"\]\s*,\s*\[", numbers)]
        except ValueError:
            continue
    return [(label, b) for label, b in out if len(b) == 4]


def overlap(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    area = lambda r: (r[2] - r[0]) * (r[3] - r[1])
    return w * h / (area(a) + area(b) - w * h)


def right_boxes(truth, read):
    """Blocks of the truth that one of the same type covers with an IoU of 0.5, and all of them."""
    left = boxes(read)
    right = 0
    want = boxes(truth)
    for label, b in want:
        best = max(left, key=lambda r: overlap(b, r[1]) if r[0] == label else 0, default=None)
        if best and best[0] == label and overlap(b, best[1]) >= 0.5:
            left.remove(best)
            right += 1
    return right, len(want)


def right_things(truth, read):
    """Things of the truth that were read, each as often as it is there, and all of them."""
    a, b = Counter(truth), Counter(read)
    return (a & b).total(), a.total()


def canonical(smiles):
    """One spelling for all of a molecule, None if it is none."""
    from rdkit import Chem, RDLogger
    RDLogger.DisableLog("rdApp.*")
    molecule = Chem.MolFromSmiles(smiles.strip()) if smiles.strip() else None
    return None if molecule is None else Chem.MolToSmiles(molecule)


def atoms(smiles):
    """How many atoms but hydrogen a molecule has."""
    from rdkit import Chem
    return Chem.MolFromSmiles(smiles).GetNumAtoms()


def right_molecule(truth, read):
    """(1, 1) if both are the same molecule."""
    return int(canonical(truth) == canonical(read)), 1


def geometry(text):
    """Lines, points and circles of a dictionary with their exact values; nothing of what is none."""
    point = r"\(\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*\)"
    place = lambda x, y: (float(x), float(y))
    out = []
    try:
        figure = ast.literal_eval(text.strip())
        lines, circles = figure["Line"], figure.get("Circle", {"circle_center": [], "radius": []})
        for line, kind in zip(lines["line"], lines["line_type"]):
            found = re.fullmatch(point + r"\s*--\s*" + point, line.strip())
            out += [("line", *sorted([place(*found.groups()[:2]), place(*found.groups()[2:])]), kind)] if found else []
        for end in lines["line_endpoint"]:
            found = re.fullmatch(r"(\S+)\s*:\s*" + point, end.strip())
            out += [("point", found[1], place(found[2], found[3]))] if found else []
        for centre, radius in zip(circles["circle_center"], circles["radius"]):
            found = re.search(point, centre)
            out += [("circle", place(found[1], found[2]), float(radius))] if found else []
    except (ValueError, SyntaxError, KeyError, TypeError, AttributeError, MemoryError, RecursionError):
        pass
    return out


def equations(text):
    """What stands between \\[ and \\], without blanks that mean nothing."""
    found = re.findall(r"(?s)\\\[(.*?)\\\]", text)
    return [re.sub(r"(\\[A-Za-z]+) (?![A-Za-z])", r"\1", re.sub(r"\s+", " ", re.sub(r"(?<!\w) | (?!\w)", "", f.strip())))
            for f in found]


def sentences(text):
    return [s for s in re.split(r"(?<=\.)\s+", text.strip()) if s]
