from sidlsg.teacher.embeddings import BLOCK, blocks


def test_blocks_are_consecutive_and_only_the_last_is_shorter():
    texts = [f"text {i}" for i in range(2 * BLOCK + 3)]
    parts = list(blocks(texts))
    assert [len(part) for part in parts] == [BLOCK, BLOCK, 3]
    assert [text for part in parts for text in part] == texts


def test_a_full_last_block_is_followed_by_none():
    assert [len(part) for part in blocks(["a"] * BLOCK)] == [BLOCK]
    assert list(blocks([])) == []


def test_no_more_is_read_than_a_block_needs():
    read = []
    parts = blocks(read.append(i) or "a" for i in range(3 * BLOCK))
    next(parts)
    assert len(read) == BLOCK
