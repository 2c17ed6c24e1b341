"""The tokenizer of nano: one token is one character.

The layout is the official tokenizer.json (bytes in the official order, the
official pre-tokenizer), but the only merges are those that put the bytes of
one character together, and the empty line.  Tags of tables are added tokens.
"""
import json

SPECIAL = ["<image>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>", "<td>", "</td>", "<tr>", "</tr>",
           "<|User|>", "<|Assistant|>"]
PLAIN = ["<table>", "</table>"]
BOS, EOS, PAD = ("<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
                 "<\uff5c\u2581pad\u2581\uff5c>")
BOS_ID, EOS_ID, PAD_ID = 0, 1, 2

# In the order of enum UnitTag in render/page.h.
TAGS = ["<table>", "</table>", "<tr>", "</tr>", "<td>", "</td>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>",
        "<|grounding|>"]
TAG_BASE = 0x110000

# The first characters are those of the first checkpoint, so that its rows keep their order.
_FIRST = ("".join(chr(c) for c in range(0xA1, 0x100) if c != 0xAD) + "ŒœŠšŽžŸŁłąęćśźżńőűčřěğış" + "–—‘’“”„…•€™→−≤≥×")
_LATIN = "".join(chr(c) for c in range(0x100, 0x180)) + "ȘșȚțƒẞ"
_GREEK = "".join(chr(c) for c in range(0x386, 0x3CF) if c not in (0x387, 0x38B, 0x38D, 0x3A2))
_CYRILLIC = "".join(chr(c) for c in range(0x400, 0x460)) + "Ґґ"
_MARKS = "‹›‚†‡‰′″←↑↓↔⇒∞√∑∂∫≠≈≡±÷∈∅∆∇·№℃☐☑✓■□●○▪◦"
CHARACTERS = "".join(dict.fromkeys(_FIRST + _LATIN + _GREEK + _CYRILLIC + _MARKS))
CHARSET = set(map(chr, range(32, 127))) | set(CHARACTERS)

PROMPTS = {
    "free": "\nFree OCR.",
    "markdown": "\n<|grounding|>Convert the document to markdown.",
    "ocr": "\n<|grounding|>OCR this image.",
    "figure": "\nParse the figure.",
    "describe": "\nDescribe this image in detail.",
    "locate": "\nLocate <|ref|>%s<|/ref|> in the image.",
}


def byte_letters():
    """The official printable stand-in of each byte."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    letters = {b: chr(b) for b in plain}
    for b in range(256):
        if b not in letters:
            letters[b] = chr(256 + len(letters) - len(plain))
    return letters


def build(template):
    """tokenizer.json out of one with the official pipeline."""
    letters = byte_letters()
    vocab = {BOS: BOS_ID, EOS: EOS_ID, PAD: PAD_ID}
    merges = []
    for letter in sorted(letters.values(), key=ord):
        vocab[letter] = len(vocab)

    def merge(a, b):
        if a + b not in vocab:
            vocab[a + b] = len(vocab)
            merges.append([a, b])
        return a + b

    newline = letters[10]
    merge(newline, newline)
    for c in CHARACTERS:
        parts = [letters[b] for b in c.encode()]
        word = parts[0]
        for part in parts[1:]:
            word = merge(word, part)
    added = []

    def add(content, number, special):
        added.append(dict(id=number, content=content, single_word=False, lstrip=False, rstrip=False,
                          normalized=False, special=special))

    for content in (BOS, EOS, PAD):
        add(content, vocab[content], True)
    for i, content in enumerate(SPECIAL + PLAIN):
        add(content, len(vocab) + i, content in SPECIAL)
    tokenizer = dict(template, added_tokens=added)
    tokenizer["model"] = dict(template["model"], vocab=vocab, merges=merges)
    return tokenizer


class Tokens:
    """Ids of characters and tags, read from a tokenizer.json as build() makes it."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.json = json.load(f)
        letters = byte_letters()
        vocab = self.json["model"]["vocab"]
        added = {a["content"]: a["id"] for a in self.json["added_tokens"]}
        self.size = max(list(vocab.values()) + list(added.values())) + 1
        self.tag = {t: added[t] for t in SPECIAL + PLAIN}
        self.char = {"\n": vocab[letters[10]]}
        for c in [chr(i) for i in range(32, 127)] + list(CHARACTERS):
            word = "".join(letters[b] for b in c.encode())
            if word in vocab:
                self.char[c] = vocab[word]
        self.blank_line = vocab[letters[10] * 2]
        self.by_code = {ord(c): i for c, i in self.char.items()}
        self.by_code.update({TAG_BASE + i: self.tag[t] for i, t in enumerate(TAGS)})
        # Classes of the auxiliary heads: 0 is "nothing", then every character that can be seen.
        self.classes = {c: i + 1 for i, c in enumerate(c for c in self.char if c != "\n")}
        self._text = {i: c for c, i in self.char.items()}
        self._text.update({i: t for t, i in self.tag.items()})
        self._text[self.blank_line] = "\n\n"
        # after these the next character stands elsewhere
        self.breaks = [self.char["\n"], self.blank_line, *(self.tag[t] for t in ("</td>", "<tr>", "<|ref|>"))]
        # after these another line or row of a table begins
        self.lines = [i for i in self.breaks if i != self.tag["</td>"]]
        self.digits = [self.char[c] for c in "0123456789"]
        self._bytes = {vocab[letter]: b for b, letter in letters.items()}

    def encode(self, text):
        """Ids of a prompt: tags as they are, everything else by character."""
        ids = []
        while text:
            tag = next((t for t in self.tag if text.startswith(t)), None)
            if tag:
                ids.append(self.tag[tag])
                text = text[len(tag):]
            elif text.startswith("\n\n"):
                ids.append(self.blank_line)
                text = text[2:]
            else:
                ids.append(self.char[text[0]])
                text = text[1:]
        return ids

    def decode(self, ids):
        out = bytearray()
        for i in ids:
            if i in self._text:
                out += self._text[i].encode()
            elif i in self._bytes:
                out.append(self._bytes[i])
        return out.decode(errors="replace")
