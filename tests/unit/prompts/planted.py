"""A corpus of captions by seed that knows what was planted in it, and the exact similarity of texts in plain Python."""

from __future__ import annotations

import json
import random
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from unit.prompts.planted_words import (
    ACCENTS,
    ADJECTIVES,
    DOING,
    ENDS,
    FOREIGN,
    FOREIGN_ALLOWED,
    JUNK,
    LETTERS,
    LOOK_ALIKES,
    NOUNS,
    PEOPLE,
    STYLES,
    UNSAFE,
    UNSAFE_SENTENCES,
    VERBS,
    WHERE,
)

TARGETS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table, or one line of text."""

    kind: str
    """Why it was planted."""
    text: bytes | None
    means: str = ""
    """The text that it is, once cleaned, whatever its disguise."""
    score: float | None = 7.0
    punsafe: float = 0.01
    nsfw: str = "UNLIKELY"
    language: str | None = None
    marker: str = ""
    """A word that no other text has."""


@dataclass(kw_only=True)
class Corpus:
    """Rows, and what is known of them."""

    rows: list[Row]
    """Of the tables."""
    lines: list[Row]
    """Of plain text, which has no scores."""
    captions: list[str]
    """For evaluation."""
    near: list[tuple[str, str, float]] = field(default_factory=list)
    """Pairs of texts with their exact similarity."""

    def of(self, *kinds: str) -> list[Row]:
        """The rows of some kinds."""
        return [row for row in (*self.rows, *self.lines) if row.kind in kinds]

    def write(
        self,
        folder: Path,
        *,
        files: int = 5,
        row_group: int = 500,
        shuffle: int = 0,
        text: bool = True,
        names: str = "part-{:03}",
    ) -> Path:
        """Write the rows to a folder: parquet, one jsonl, perhaps one text file, and an empty one of each kind.

        Args:
            folder: new.
            files: of parquet and jsonl together, the last being jsonl.
            row_group: rows.
            shuffle: seed of the rows' order; 0 for theirs.
            text: whether there is a text file.
            names: of the files.
        """
        folder.mkdir(parents=True)
        rows = random.Random(shuffle).sample(self.rows, len(self.rows)) if shuffle else self.rows
        for number in range(files):
            part = rows[number * len(rows) // files : (number + 1) * len(rows) // files]
            path = folder / names.format(number)
            if number == files - 1:
                path.with_suffix(".jsonl").write_bytes(b"".join(map(_object, part)))
            else:
                pq.write_table(_table(part, other_names=number == 1), path.with_suffix(".parquet"), row_group)
        pq.write_table(_table([], other_names=False), folder / "no-rows.parquet")
        (folder / "empty.jsonl").touch()
        if text:
            lines = random.Random(shuffle).sample(self.lines, len(self.lines)) if shuffle else self.lines
            (folder / "lines.txt").write_bytes(b"\n".join(row.text or b"" for row in lines))
            (folder / "empty.txt").touch()
        return folder


def plant(seed: int, base: int = 3000) -> Corpus:
    """Make a corpus.

    Args:
        seed: equal ones give equal corpora.
        base: captions that nothing is wrong with.
    """
    chance = random.Random(seed)
    texts = _distinct_captions(chance, base + base // 30)
    spare, texts = texts[base:], texts[:base]
    rows = [Row(kind="base", text=text.encode(), means=text, score=_score(chance)) for text in texts]
    lines = [replace(row, score=None) for row in rows[: base // 6]]
    rows = rows[base // 6 :]
    rows += [_copy(chance, chance.choice(rows)) for _ in range(base // 5)]
    rows += [replace(_copy(chance, chance.choice(lines)), score=_score(chance)) for _ in range(base // 50)]
    near = []
    for number, text in enumerate(texts[base // 6 : base // 6 + base // 4]):
        found, similarity = similar(chance, text, TARGETS[number % len(TARGETS)])
        near.append((text, found, similarity))
        rows.append(Row(kind="near", text=found.encode(), means=found, score=_score(chance)))
    captions = _captions(chance, 300)
    held_out = [edited for caption in captions for edited in _edited(chance, caption)]
    rows += [Row(kind="held_out", text=text.encode(), means=text) for text in held_out]
    lines += [Row(kind="held_out", text=text.encode(), means=text) for text in held_out[::7]]
    for word in UNSAFE:
        for disguised in _disguises(word):
            for sentence in UNSAFE_SENTENCES:
                marker = _word(chance)
                text = f"{sentence.format(disguised)}, {marker}"
                rows.append(Row(kind="unsafe", text=text.encode(), means=text, marker=marker))
    for number, text in enumerate(spare):
        row = Row(kind="unscored", text=text.encode(), means=text, score=(5.99, None, float("nan"))[number % 3])
        if number % 3 == 0:
            unsafe = replace(row, kind="unsafe_columns", score=7.0)
            row = replace(unsafe, punsafe=0.9) if number % 2 else replace(unsafe, nsfw="NSFW")
        rows.append(row)
    rows += [Row(kind="foreign", text=text.encode(), means=text) for text in FOREIGN]
    lines += [Row(kind="foreign", text=text.encode(), means=text, score=None) for text in FOREIGN]
    coded = zip(_distinct_captions(random.Random(f"{seed} coded"), 12), ("de", "fra", "pl", "zh-CN") * 3, strict=True)
    rows += [Row(kind="foreign_column", text=text.encode(), means=text, language=code) for text, code in coded]
    rows += [Row(kind="foreign_allowed", text=text.encode(), means=text) for text in FOREIGN_ALLOWED]
    rows += [Row(kind="junk", text=text.encode(), means=text) for text in JUNK]
    lines += [Row(kind="junk", text=text.encode(), means=text, score=None) for text in JUNK]
    for bad in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf"):
        for place in (rows, lines):
            marker = _word(chance)
            text = f"a photo of {marker} ".encode() + bad + b" with the sea"
            place.append(Row(kind="broken", text=text, marker=marker, score=None if place is lines else 7.0))
    for place in (rows, lines):
        marker = _word(chance)
        huge = (f"a photo of {marker} with the sea, " * 40_000).encode()[: 1 << 20]
        place.append(Row(kind="huge", text=huge, marker=marker, score=None if place is lines else 7.0))
    rows += [Row(kind="null", text=None)] * 5
    chance.shuffle(rows)
    chance.shuffle(lines)
    return Corpus(rows=rows, lines=lines, captions=captions, near=near)


def key(text: str) -> str:
    """A text's letters, marks and digits, case-folded."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")


@lru_cache(maxsize=1 << 16)
def windows(text: str) -> frozenset[bytes]:
    """The distinct windows of four bytes of a text's key."""
    data = key(text).encode()
    return frozenset(data[at : at + 4] for at in range(max(1, len(data) - 3)))


def jaccard(one: str, other: str) -> float:
    """The exact similarity of two texts."""
    a, b = windows(one), windows(other)
    return len(a & b) / len(a | b)


def groups(texts: Sequence[str], least: float) -> list[int]:
    """The number of each text's group: texts that a chain of similarities of at least so much joins."""
    parents = list(range(len(texts)))

    def root(text: int) -> int:
        while parents[text] != text:
            parents[text] = parents[parents[text]]
            text = parents[text]
        return text

    for one, other in _pairs(texts, least):
        parents[root(one)] = root(other)
    return [root(text) for text in range(len(texts))]


def _pairs(texts: Sequence[str], least: float) -> Iterator[tuple[int, int]]:
    """All pairs of at least a similarity. Texts of which one has far more windows than the other cannot be one."""
    sets = [windows(text) for text in texts]
    numbers: dict[bytes, int] = defaultdict(lambda: len(numbers))
    # As bits of one number, two sets are compared several times faster than as sets.
    bits = [sum(1 << numbers[window] for window in found) for found in sets]
    order = sorted(range(len(texts)), key=lambda text: len(sets[text]))
    for at, one in enumerate(order):
        size = len(sets[one])
        for place in range(at + 1, len(order)):
            other = order[place]
            larger = len(sets[other])
            if size < least * larger:
                break
            shared = (bits[one] & bits[other]).bit_count()
            if shared >= least * (size + larger - shared):
                yield one, other


def similar(chance: random.Random, text: str, wanted: float) -> tuple[str, float]:
    """A text with about a similarity to another, and the exact one; common English words stay in it."""
    closest, distance = (text, 1.0), 1.0
    for attempt in range(400):
        if attempt % 40 == 0:
            best, how = text, 1.0
        words = best.split(" ")
        at = chance.choice([n for n, word in enumerate(words) if word in _CONTENT] or [0])
        edit = chance.randrange(5)
        if edit == 0:
            words[at] = chance.choice(NOUNS if words[at] in NOUNS else ADJECTIVES)
        elif edit == 1:
            words.insert(at, chance.choice(ADJECTIVES))
        elif edit == 2:
            words[at] += "s"
        else:
            words.append(chance.choice(NOUNS if edit == 3 else ("II", "3D", "no. 7", "2014")))
        found = " ".join(words)
        similarity = jaccard(text, found)
        if len(words) < 30 and abs(similarity - wanted) < abs(how - wanted):
            best, how = found, similarity
            if abs(how - wanted) < distance:
                closest, distance = (best, how), abs(how - wanted)
        if distance < 0.01:
            break
    return closest


_CONTENT = frozenset(ADJECTIVES) | frozenset(NOUNS)


def _distinct_captions(chance: random.Random, count: int) -> list[str]:
    found: dict[str, str] = {}
    while len(found) < count:
        text = _caption(chance)
        found.setdefault(key(text), text)
    return list(found.values())


def _caption(chance: random.Random) -> str:
    def thing() -> str:
        return f"{chance.choice(ADJECTIVES)} {chance.choice(NOUNS)}"

    start = chance.choice((f"{chance.choice(STYLES)} a", "a", "the", f"{thing()} and"))
    words = f"{start} {thing()} {chance.choice(VERBS)} the {thing()} {chance.choice(ENDS)}"
    if chance.random() < 0.3:
        words += f", {chance.choice(ADJECTIVES)} {chance.choice(NOUNS)}"
    return words[0].upper() + words[1:] if chance.random() < 0.5 else words


def _copy(chance: random.Random, row: Row) -> Row:
    """The same text in another form."""
    text = row.means
    forms = (
        lambda: text,
        lambda: text.title(),
        lambda: "".join(c.upper() if chance.random() < 0.4 else c for c in text),
        lambda: "  " + text.replace(" ", "\u00a0 ") + "\t",
        lambda: "".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" else c for c in text),
        lambda: "".join(f"&#{ord(c)};" if chance.random() < 0.2 else c for c in text),
        lambda: text.replace("&", "&amp;amp;").replace(" ", "&nbsp;", 2),
        lambda: text.replace(" ", " \u200b", 3),
        lambda: f"<b>{text}</b>",
        lambda: unicodedata.normalize("NFD", text),
        lambda: f"“{text}”" if '"' not in text else text,
    )
    return replace(row, kind="copy", text=chance.choice(forms)().encode(), score=_score(chance))


def _captions(chance: random.Random, count: int) -> list[str]:
    texts = [f"A {who} {what} {where}." for who in PEOPLE for what in DOING for where in WHERE]
    return chance.sample(texts, count)


def _edited(chance: random.Random, caption: str) -> list[str]:
    words = caption.removesuffix(".").split(" ")
    nouns = [n for n, w in enumerate(words) if len(w) > 3 and w[-1] not in "gsxyh" and w not in ("near", "under")]
    plural = list(words)
    for at in chance.sample(nouns, min(2, len(nouns))):
        plural[at] += "s"
    others = {"a": "the", "A": "The", "the": "a", "in": "into", "on": "onto", "at": "by"}
    articles = [others.get(word, word) for word in words]
    dropped = [word for word in words if word.lower() not in ("a", "the")]
    found = [
        chance.choice((caption, caption.lower(), caption.title(), f"“{caption}”")),
        ", ".join(words) + chance.choice("!?…"),
        " ".join(plural).lower(),
        " ".join(articles) + ".",
        " ".join(dropped if len(dropped) > 2 else words),
        "There is " + " ".join(articles).lower() + "!",
    ]
    for _ in range(50):
        at = chance.randrange(len(caption) - 1)
        typo = caption[:at] + chance.choice(LETTERS) + caption[at + chance.randrange(2) :]
        if caption[at].isalpha() and 0.75 <= jaccard(caption, typo) < 1:
            return [*found, typo]
    return found


def _disguises(word: str) -> tuple[str, ...]:
    return (
        word,
        word.upper(),
        f"{word}s",
        "".join(chr(ord(c) + 0xFEE0) for c in word),
        "\u200b".join(word),
        word[:2] + "\u00ad\ufeff" + word[2:],
        "".join(ACCENTS.get(c, c) for c in word),
        "".join(LOOK_ALIKES.get(c, c) for c in word[:2]) + word[2:],
        word[:2] + "".join(LOOK_ALIKES.get(c, c) for c in word[2:]),
        ".".join(word),
        " ".join(word),
        "-".join(word.upper()),
        "_".join(word),
        "".join(f"&#{ord(c)};" for c in word),
        f"<i>{word}</i>",
        "\u200b.".join(word),
    )


def _word(chance: random.Random) -> str:
    return "qx" + "".join(chance.choice(LETTERS) for _ in range(7))


def _score(chance: random.Random) -> float:
    return round(chance.uniform(6.0, 7.5), 3)


def _object(row: Row) -> bytes:
    score = None if row.score is None or row.score != row.score else row.score
    values = {
        "TEXT": None if row.text is None else row.text.decode(errors="surrogateescape"),
        "AESTHETIC_SCORE": score,
        "punsafe": row.punsafe,
        "NSFW": row.nsfw,
        "LANGUAGE": row.language,
    }
    return (json.dumps(values, ensure_ascii=False) + "\n").encode(errors="surrogateescape")


def _table(rows: Sequence[Row], *, other_names: bool) -> pa.Table:
    texts = pa.array([row.text for row in rows], pa.binary())
    # Arrow checks what it makes strings of, and so these buffers get another type behind its back.
    strings = pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())
    columns = {
        "URL": pa.array(["https://example.invalid/"] * len(rows), pa.string()),
        "caption" if other_names else "TEXT": strings,
        "WIDTH": pa.array([512] * len(rows), pa.int32()),
        "HEIGHT": pa.array([640] * len(rows), pa.int32()),
        "similarity": pa.array([0.3] * len(rows), pa.float64()),
        "LANGUAGE": pa.array([row.language for row in rows], pa.string()),
        "punsafe": pa.array([row.punsafe for row in rows], pa.float32()),
        "NSFW": pa.array([row.nsfw for row in rows], pa.string()),
        "pwatermark": pa.array([0.1] * len(rows), pa.float64()),
        "aesthetic" if other_names else "AESTHETIC_SCORE": pa.array([row.score for row in rows], pa.float64()),
    }
    return pa.table(columns)
