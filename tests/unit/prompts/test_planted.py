"""What a curation finds of a corpus that knows what was planted in it."""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sidlsg.prompts.prompt_set import NEAR_DUPLICATES
from sidlsg.prompts.rules import CurationRules, ScoreRule
from sidlsg.prompts.shards import read_prompts
from sidlsg.prompts.text.keys import FUNCTION_WORDS
from sidlsg.stages.curate import curate
from unit.prompts.planted import TARGETS, Corpus, groups, jaccard, key, plant, windows

SEED = 7
SIMILAR = 0.8


@dataclass(frozen=True)
class Outcome:
    """A corpus, and what a curation made of it."""

    corpus: Corpus
    folder: Path
    texts: list[str]
    near: dict[bytes, bytes]
    """Digests of near duplicates, and of the texts that stayed for them."""

    @property
    def keys(self) -> set[str]:
        return {key(text) for text in self.texts}


def outcome(corpus: Corpus, source: Path, output: Path, rules: CurationRules) -> Outcome:
    curate([str(source)], output, rules, corpus.captions)
    rows = pq.read_table(output / NEAR_DUPLICATES).to_pylist()
    return Outcome(corpus, output, read_prompts(output), {row["key"]: row["kept"] for row in rows})


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return plant(SEED)


@pytest.fixture(scope="module")
def found(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Of everything, plain text too, which has no scores."""
    folder = tmp_path_factory.mktemp("planted")
    rules = CurationRules(score=ScoreRule(enabled=False))
    return outcome(corpus, corpus.write(folder / "in"), folder / "out", rules)


@pytest.fixture(scope="module")
def scored(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Of the tables, by the default rules."""
    folder = tmp_path_factory.mktemp("scored")
    return outcome(corpus, corpus.write(folder / "in", text=False), folder / "out", CurationRules())


def say(line: str) -> None:
    """Tell a rate to whoever runs this with -s."""
    print(line)  # noqa: T201


def digest(text: str) -> bytes:
    """What puts a text in its place."""
    return hashlib.sha256(text.casefold().encode()).digest()[:16]


def eligible(corpus: Corpus) -> list[str]:
    """All different texts that no step but the one for near duplicates drops."""
    kinds = ("base", "near", "unscored", "foreign_allowed")
    return list({key(row.means): row.means for row in corpus.of(*kinds)}.values())


def test_the_corpus_is_as_described(corpus: Corpus) -> None:
    assert repr(plant(SEED)) == repr(corpus)  # some scores are NaN, which equals nothing
    assert repr(plant(SEED + 1)) != repr(corpus)
    within = [
        abs(TARGETS[number % len(TARGETS)] - similarity) < 0.02 for number, (*_, similarity) in enumerate(corpus.near)
    ]
    assert sum(within) / len(within) > 0.95
    assert windows("a b-C") == {b"abc"}
    assert windows("abcde") == {b"abcd", b"bcde"}
    assert jaccard("abcde", "ABCD ef") == pytest.approx(2 / 3)
    few = random.Random(0).sample(eligible(corpus), 40) + [text for *pair, _ in corpus.near[:60] for text in pair]
    joined = [{n} for n in range(len(few))]
    for one, other in itertools.combinations(range(len(few)), 2):
        a, b = windows(few[one]), windows(few[other])
        if 10 * len(a & b) >= 8 * len(a | b):
            both = joined[one] | joined[other]
            for member in both:
                joined[member] = both
    roots = groups(few, SIMILAR)
    assert all((roots[a] == roots[b]) == (b in joined[a]) for a in range(len(few)) for b in range(len(few)))


def test_dropped_near_duplicates_are_near_duplicates(found: Outcome) -> None:
    texts = eligible(found.corpus)
    by_digest = {digest(text): number for number, text in enumerate(texts)}
    # Two texts that differ in punctuation alone are one key here and two texts there, which these corpora have not.
    assert found.near.keys() <= by_digest.keys()
    group = groups(texts, SIMILAR)
    kept = {digest(text) for text in found.texts}
    right = 0
    for gone, stays in found.near.items():
        assert gone not in kept
        assert stays in kept
        assert stays < gone
        right += group[by_digest[gone]] == group[by_digest[stays]]
    precision = right / len(found.near)
    say(f"near duplicates: {len(found.near)} dropped, precision {precision:.4f}")
    assert precision >= 0.99


def test_near_duplicates_are_found(found: Outcome) -> None:
    kept = found.keys
    share: dict[float, list[bool]] = {}
    for one, other, similarity in found.corpus.near:
        alone = (key(one) in kept) + (key(other) in kept) == 1
        share.setdefault(min(TARGETS, key=lambda target: abs(target - similarity)), []).append(alone)
    say("share of pairs by similarity of which one stays:")
    say(", ".join(f"{at}: {sum(hit) / len(hit):.3f} of {len(hit)}" for at, hit in sorted(share.items())))
    near = [(one, other) for one, other, similarity in found.corpus.near if similarity >= 0.85]
    recall = sum((key(one) in kept) + (key(other) in kept) == 1 for one, other in near) / len(near)
    say(f"recall at 0.85 and above: {recall:.4f} of {len(near)} pairs")
    assert recall >= 0.95


def test_every_text_occurs_once(found: Outcome) -> None:
    assert len({digest(text) for text in found.texts}) == len(found.texts)
    assert len(found.keys) == len(found.texts)
    assert [digest(text) for text in found.texts] == sorted(digest(text) for text in found.texts)


def test_the_best_of_equal_rows_stays(scored: Outcome) -> None:
    corpus = scored.corpus
    best: dict[str, float] = {}
    for row in corpus.rows:
        if row.kind in ("base", "copy", "near") and row.score is not None:
            best[key(row.means)] = max(best.get(key(row.means), 0.0), row.score)
    table = pq.read_table(scored.folder / "shards/00000.parquet", columns=["text", "score"])
    for text, score in zip(*(table.column(name).to_pylist() for name in ("text", "score")), strict=True):
        assert key(text) not in best or score == pytest.approx(best[key(text)], abs=1e-6)


def test_no_evaluation_caption_survives(found: Outcome, scored: Outcome) -> None:
    captions = found.corpus.captions
    same, meant = {key(caption) for caption in captions}, {content(caption) for caption in captions}
    planted = {key(row.means) for row in found.corpus.of("held_out")}
    for result in (found, scored):
        assert not result.keys & planted
        assert not result.keys & same
        assert not [text for text in result.texts if content(text) in meant]
        assert max(jaccard(text, caption) for text in result.texts for caption in captions) < 0.75


def content(text: str) -> tuple[str, ...]:
    """The words that say something, without the endings of plurals."""
    words = re.findall(r"[^\W_]+", text.casefold().replace("'", ""))
    return tuple(w[:-1] if len(w) > 3 and re.search("[^s]s$", w) else w for w in words if w not in FUNCTION_WORDS)


@pytest.mark.parametrize(
    "kind", ["unsafe", "unsafe_columns", "foreign", "foreign_column", "junk", "broken", "huge", "null"]
)
def test_nothing_bad_survives(found: Outcome, scored: Outcome, kind: str) -> None:
    bad = found.corpus.of(kind)
    assert bad
    for result in (found, scored):
        assert not result.keys & {key(row.means) for row in bad if row.means}
        for marker in [row.marker for row in bad if row.marker]:
            assert not [text for text in result.texts if marker in text]


def test_the_rules_let_short_foreign_texts_pass(found: Outcome) -> None:
    # Four words or fewer, or one that is spelled as a common English word: no detector can tell.
    allowed = found.corpus.of("foreign_allowed")
    assert {key(row.means) for row in allowed} <= found.keys


def test_scores_decide_where_they_are_asked_for(found: Outcome, scored: Outcome) -> None:
    texts = {key(row.means) for row in found.corpus.of("unscored")}
    texts -= {key(row.means) for row in found.corpus.of("base", "near")}
    assert not scored.keys & texts  # null, NaN, and just below the cut
    assert len(found.keys & texts) >= 0.9 * len(texts)


def test_hardly_a_good_caption_is_lost(found: Outcome) -> None:
    corpus, kept = found.corpus, found.keys
    texts = eligible(corpus)
    group = groups(texts, SIMILAR)
    sizes = {number: group.count(number) for number in set(group)}
    alone = {key(text) for text, number in zip(texts, group, strict=True) if sizes[number] == 1}
    good = {key(row.means): row.means for row in corpus.of("base") if key(row.means) in alone}
    lost = [text for name, text in good.items() if name not in kept]
    say(f"lost: {len(lost)} of {len(good)} safe and unique captions, {len(lost) / len(good):.4f}; {lost[:10]}")
    assert len(good) > 2000
    assert len(lost) <= 0.01 * len(good)
