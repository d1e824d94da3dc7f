import itertools

import numpy as np
import polars as pl
import pytest

from sidlsg.prompts.duplicates.candidates import NEIGHBOURS, candidate_pairs, connected

BANDS = {"band": pl.UInt64, "ref": pl.UInt64}


def pairs(keys, refs, **options):
    return candidate_pairs(pl.DataFrame({"band": keys, "ref": refs}, BANDS), **options).rows()


def by_hand(keys, refs, most):
    runs = {}
    for key, ref in zip(keys, refs, strict=True):
        runs.setdefault(key, set()).add(ref)
    found = set()
    for run in map(sorted, runs.values()):
        for i, j in itertools.combinations(range(len(run)), 2):
            if len(run) <= most or i < NEIGHBOURS or j - i <= NEIGHBOURS:
                found.add((run[i], run[j]))
    return sorted(found)


@pytest.mark.parametrize("most", [2, 12, 32])
def test_runs_of_all_lengths_in_any_order(most):
    draw = np.random.default_rng(most)
    # Keys that differ in their last bits alone, and texts' numbers that need all 64.
    keys = (draw.zipf(1.4, 3000) % 300).astype(np.uint64) + (np.uint64(7) << np.uint64(60))
    refs = draw.integers(0, 900, 3000).astype(np.uint64) * np.uint64(2**54 + 1)
    wanted = by_hand(keys.tolist(), refs.tolist(), most)
    assert pairs(keys, refs, most=most) == wanted
    order = draw.permutation(3000)
    assert pairs(keys[order], refs[order], most=most) == wanted


def test_nothing_in_common():
    assert pairs([], []) == []
    assert pairs([1], [1]) == []
    assert pairs([1, 2, 3], [5, 5, 6]) == []
    assert pairs([1, 1], [5, 5]) == []


def test_all_in_one_run_is_linear():
    found = pairs([0] * 100_000, range(100_000))
    assert 15 * 100_000 < len(found) <= 16 * 100_000


def groups(edges):
    refs, roots = connected(np.array(edges, np.uint64).reshape(-1, 2))
    assert refs.dtype == roots.dtype == np.uint64
    return dict(zip(refs.tolist(), roots.tolist(), strict=True))


def test_the_lowest_of_each_group_is_its_root():
    high = 2**63
    wanted = {3: 3, 5: 3, 9: 3, 4: 4, high + 1: 4, high: high, high + 2: high}
    assert groups([(9, 5), (3, 9), (4, high + 1), (high, high + 2), (3, 9)]) == wanted
    assert list(groups([(9, 5), (3, 9)])) == [3, 5, 9]


def test_a_long_chain_and_no_edges():
    chain = [(i, i + 1) for i in range(5000)]
    assert set(groups(chain[::-1]).values()) == {0}
    assert groups([]) == {}


def test_more_parallel_edges_than_a_byte_counts():
    assert groups([(1, 2)] * 256 + [(2, 3)] * 512) == {1: 1, 2: 1, 3: 1}
