"""Everything joined, against comparing all pairs with plain sets."""

import itertools
import random

import numpy as np
import polars as pl
import pytest

from sidlsg.prompts.duplicates.candidates import candidate_pairs, connected
from sidlsg.prompts.duplicates.minhash import NEAR_DUPLICATES, band_keys, signatures
from sidlsg.prompts.duplicates.shingles import jaccard_of_keys, shingles


@pytest.mark.parametrize("seed", range(5))
def test_precision_and_recall(seed, near_copy, random_key, sets):
    draw = random.Random(seed)
    originals = [random_key(draw, draw.randint(25, 80)) for _ in range(200)]
    texts = originals + [near_copy(draw, key, draw.uniform(0.5, 0.95)) for key in originals]
    draw.shuffle(texts)

    keys = pl.Series(texts)
    bands = band_keys(signatures(*shingles(keys)), *NEAR_DUPLICATES)
    refs = np.repeat(np.arange(len(texts), dtype=np.uint64), bands.shape[1])
    pairs = candidate_pairs(pl.DataFrame({"band": bands.ravel(), "ref": refs}))
    edges = pairs.to_numpy()[jaccard_of_keys(keys.gather(pairs["low"]), keys.gather(pairs["high"])) >= 0.8]
    found = {tuple(pair) for pair in edges.tolist()}

    each = [sets(text) for text in texts]
    similar = {
        (i, j): len(each[i] & each[j]) / len(each[i] | each[j]) for i, j in itertools.combinations(range(len(texts)), 2)
    }
    near = {pair for pair, value in similar.items() if value >= 0.8}
    nearer = {pair for pair, value in similar.items() if value >= 0.85}
    assert found <= near
    assert len(found & nearer) >= 0.95 * len(nearer)

    members, roots = connected(edges)
    assert dict(zip(members.tolist(), roots.tolist(), strict=True)) == lowest(found)


def lowest(edges):
    root = {text: text for edge in edges for text in edge}
    changed = True
    while changed:
        changed = False
        for i, j in edges:
            least = min(root[i], root[j])
            changed |= root[i] != least or root[j] != least
            root[i] = root[j] = least
    return root
