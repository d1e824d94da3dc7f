import bz2
import gzip
import lzma
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidlsg.prompts.source.files import InputFile
from sidlsg.prompts.source.lines import read_lines
from sidlsg.runtime.errors import InputError

LIMIT = 100


def file_of(path: Path) -> InputFile:
    return InputFile(place=str(path), name=path.name, label="a", format="text", size=path.stat().st_size)


def lines_of(path: Path, start: int = 0, stop: int = 0, limit: int = LIMIT, block: int = 1 << 20):
    blocks = read_lines(path, file_of(path), start, stop, limit, block)
    return [(int(at), line) for starts, lines in blocks for at, line in zip(starts, lines, strict=True)]


def expected(data: bytes) -> list[tuple[int, bytes]]:
    """The same by the definition, on the whole."""
    found, at = [], 0
    for line in data.split(b"\n"):
        text = line.removesuffix(b"\r")
        if at == 0:
            text = text.removeprefix(b"\xef\xbb\xbf")
        if text.strip():
            found.append((at, text))
        at += len(line) + 1
    return found


def test_line_ends_blank_lines_and_the_byte_order_mark(write):
    path = write("a.txt", b"\xef\xbb\xbfone\r\n\r\n  \t\ntwo\r\r\nthr\ree\n\n\xef\xbb\xbffour")
    assert lines_of(path) == [(0, b"one"), (14, b"two\r"), (20, b"thr\ree"), (28, b"four")]


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"])
def test_no_lines(write, data):
    assert lines_of(write("a.txt", data)) == []


data = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"\n\n", b" ", b"a", b"bc", "ß".encode(), "漢".encode(), b"\xff"])
).map(b"".join)


@settings(deadline=None)
@given(data=data, mark=st.booleans(), cut=st.integers(1, 9), block=st.integers(1, 9))
def test_every_cut_gives_each_line_once(tmp_path_factory, data, mark, cut, block):
    data = b"\xef\xbb\xbf" * mark + data
    path = tmp_path_factory.mktemp("lines") / "a.txt"
    path.write_bytes(data)
    whole = expected(data)
    assert lines_of(path, block=block) == whole
    pieces = [lines_of(path, start, start + cut, block=block) for start in range(0, len(data), cut)]
    assert [line for piece in pieces for line in piece] == whole


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_long_lines_are_cut_at_a_characters_end_and_the_next_line_is_right(write, block):
    data = b"a" + "漢".encode() * 1000 + b"\n" + b"b" * 99 + b"\r\n" + b"c" * 101 + b"\nend"
    found = lines_of(write("a.txt", data), block=block)
    assert found == [
        (0, b"a" + "漢".encode() * 33),
        (3002, b"b" * 99),
        (3103, b"c" * 100),
        (3205, b"end"),
    ]
    # Cuts within the long line.
    path = write("a.txt", data)
    for cut in (1, 2, 150, 3001, 3002):
        assert lines_of(path, 0, cut, block=block) + lines_of(path, cut, block=block) == found


def test_a_line_of_many_blocks_is_cut(write):
    path = write("a.txt", b"x" * 5_000_000 + b"\nend")
    assert lines_of(path, block=1000) == [(0, b"x" * LIMIT), (5_000_001, b"end")]


def test_long_lines_that_are_not_utf8_are_not_cut_away(write):
    (at, line), *_ = lines_of(write("a.txt", b"\x80" * 200))
    assert at == 0
    assert 97 <= len(line) <= 100


PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("packing", PACKERS)
def test_packed_files_have_the_offsets_of_their_content(write, packing):
    data, pack = b"one\n\ntwo\n" * 1000, PACKERS[packing]
    # Written by two programs, one after the other.
    path = write(f"a.txt.{packing}", pack(data[:5000]) + pack(data[5000:]))
    assert lines_of(path, block=100) == expected(data)
    assert lines_of(path, start=5, stop=6) == [(5, b"two")]
    path.write_bytes(pack(data)[:-20])
    with pytest.raises(InputError, match=f"a.txt.{packing} cannot be read as {packing}: it is truncated or damaged"):
        lines_of(path)
    path.write_bytes(b"")
    assert lines_of(path) == []


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_with_a_byte_order_mark_is_read_as_utf_8(write, encoding, packing):
    data = "\ufeffein süßes Kätzchen\r\n\n猫 🐈\n".encode(encoding)
    path = write(f"a.txt{packing}", PACKERS[packing[1:]](data) if packing else data)
    assert lines_of(path, block=7) == [(0, "ein süßes Kätzchen".encode()), (24, "猫 🐈".encode())]
    assert lines_of(path, start=24, block=7) == [(24, "猫 🐈".encode())]


def test_wide_text_that_is_cut_off_is_named(write):
    path = write("a.txt", "\ufeffone\n🐈".encode("utf-16-le")[:-2])
    with pytest.raises(InputError, match=r"a.txt cannot be read as text: it is truncated or damaged"):
        lines_of(path)


@pytest.mark.parametrize("damage", [lambda d: d[:-20], lambda d: d[:200] + b"\0\0\0" + d[203:], lambda d: b"one\n" + d])
def test_damaged_gzip_is_named(write, damage):
    path = write("a.txt.gz", damage(gzip.compress(b"".join(b"line %d\n" % n for n in range(1000)))))
    with pytest.raises(InputError, match="cannot be read as gz: it is truncated or damaged") as caught:
        lines_of(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_gone(write):
    path = write("a.txt")
    file = file_of(path)
    path.unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        list(read_lines(path, file, 0, 0, LIMIT))
