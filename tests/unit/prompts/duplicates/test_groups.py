import numpy as np

from sidlsg.prompts.duplicates.candidates import connected


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
