import pytest

from sidlsg.prompts.source.files import InputFile, find_inputs
from sidlsg.prompts.source.parquet import BadFile, Piece, cut_pieces
from sidlsg.runtime.errors import InputError
from unit.prompts.source.reading import one


def spans(path, rows_per_piece):
    pieces, bad = cut_pieces([one(path)], rows_per_piece)
    assert bad == []
    return [(piece.start, piece.stop, piece.rows, piece.first_row) for piece in pieces]


def test_parquet_is_cut_between_row_groups(write_parquet):
    path = write_parquet({"TEXT": ["a"] * 10}, row_group_size=3)
    assert spans(path, 100) == [(0, 4, 10, 0)]
    assert spans(path, 6) == [(0, 2, 6, 0), (2, 4, 4, 6)]
    assert spans(path, 5) == [(0, 1, 3, 0), (1, 2, 3, 3), (2, 4, 4, 6)]
    # A group is never cut.
    assert spans(path, 1) == [(0, 1, 3, 0), (1, 2, 3, 3), (2, 3, 3, 6), (3, 4, 1, 9)]


def test_text_is_cut_at_bytes(write):
    assert spans(write("a.txt", b"x" * 129), 1) == [(0, 64, 1, -1), (64, 128, 1, -1), (128, 129, 1, -1)]
    assert spans(write("a.jsonl", b"x" * 129), 2) == [(0, 128, 2, -1), (128, 129, 1, -1)]
    assert spans(write("a.txt.gz", b"x" * 129), 1) == [(0, 0, 3, -1)]


def test_empty_files(write, write_parquet):
    assert spans(write("a.txt", b""), 1) == [(0, 0, 0, -1)]
    (piece,) = spans(write_parquet({"TEXT": []}), 1)
    assert piece[2:] == (0, 0)


def test_files_on_s3_stay_whole():
    files = [
        InputFile(place=f"s3://b/{name}", name=name, label="b", format=kind, size=1000)
        for name, kind in (("a.parquet", "parquet"), ("a.txt", "text"))
    ]
    assert cut_pieces(files, 1)[0] == [
        Piece(file=0, start=0, stop=0, rows=16, first_row=0),
        Piece(file=1, start=0, stop=0, rows=16, first_row=-1),
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"TEXT,score\n", "not a parquet file"),
        (b"PAR1", "truncated or damaged"),
        (b"PAR1" + b"\0" * 100, "truncated or damaged"),
        (b"PAR1" + b"\0" * 100 + b"\xff\xff\xff\x0fPAR1", "truncated or damaged"),
    ],
)
def test_what_is_not_parquet_is_named_or_left_out(write, tmp_path, data, why):
    write("x/0.txt")
    path = write("x/bad.parquet", data)
    files = find_inputs([str(tmp_path / "x")])
    with pytest.raises(InputError, match=why) as caught:
        cut_pieces(files, 10)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    pieces, bad = cut_pieces(files, 10, skip_bad_files=True)
    assert [piece.file for piece in pieces] == [0]
    assert bad == [BadFile(name="bad.parquet", reason=str(caught.value))]
