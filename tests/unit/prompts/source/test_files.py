import os
from dataclasses import replace
from pathlib import Path

import pytest

from sidlsg.prompts.source.files import InputFile, find_inputs, format_of, search_inputs
from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.files import sha256_bytes
from sidlsg.storage.uri import PROMPTS


def names(*places):
    return [(file.label, file.name, file.format) for file in find_inputs([str(place) for place in places])]


def refusal(*places):
    with pytest.raises(InputError) as caught:
        find_inputs([str(place) for place in places])
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_single_file(write):
    path = write("some.table.TXT", b"one\n")
    file = InputFile(place=str(path), name="some.table.TXT", label="some.table", format="text", size=4)
    (found,) = find_inputs([str(path)])
    assert found == replace(file, version=str(path.stat().st_mtime_ns))
    assert file.is_local
    assert not file.packing


def test_a_relative_path_becomes_absolute(write, monkeypatch, tmp_path):
    write("data/a.txt")
    monkeypatch.chdir(tmp_path / "data")
    (file,) = find_inputs(["a.txt"])
    assert file.place == str(tmp_path / "data" / "a.txt")
    (file,) = find_inputs(["."])
    assert (file.place, file.label) == (str(tmp_path / "data" / "a.txt"), "data")


def test_a_folder_is_searched_at_all_depths_without_hidden_and_unknown_files(write, tmp_path):
    for name in ("b.parquet", "x/a.jsonl", "x/y/c.txt.gz", ".h.txt", "_SUCCESS", "_delta_log/a.txt", ".git/a.txt"):
        write(f"laion/{name}")
    for name in ("x/read.md", "x/info.json", "x/t.xlsx", "x/_a.txt", "x/t.parquet.crc", ".txt"):
        write(f"laion/{name}")
    assert names(tmp_path / "laion") == [
        ("laion", "b.parquet", "parquet"),
        ("laion", "x/a.jsonl", "jsonl"),
        ("laion", "x/y/c.txt.gz", "text"),
    ]


def test_the_order_does_not_depend_on_that_of_the_uris(write):
    places = [write("b/1.txt").parent, f"zz={write('c/0.txt')}", f"aa={write('d/9.jsonl').parent}"]
    assert (
        names(*places)
        == names(*reversed(places))
        == [
            ("aa", "9.jsonl", "jsonl"),
            ("b", "1.txt", "text"),
            ("zz", "0.txt", "text"),
        ]
    )


def test_a_label_before_a_uri_and_a_path_that_looks_like_one(write, monkeypatch, tmp_path):
    path = write("part=1/a.txt")
    monkeypatch.chdir(tmp_path)
    assert names("my-source_1.0=part=1") == [("my-source_1.0", "a.txt", "text")]
    assert names("part=1/a.txt") == [("a", "a.txt", "text")]
    assert names(path.parent) == [("part=1", "a.txt", "text")]
    assert "there is nothing at" in refusal("part=2/a.txt")


def test_bundled_prompts():
    (file,) = find_inputs([f"tiny={PROMPTS}"])
    assert (file.name, file.label, file.format) == ("prompts.parquet", "tiny", "parquet")
    assert Path(file.place).stat().st_size == file.size
    assert find_inputs([PROMPTS])[0].label == "prompts"


def test_a_uri_with_a_digest_is_checked(write):
    path = write("a.txt", b"one\n")
    assert names(f"{path}@sha256:{sha256_bytes(b'one' + bytes([10]))}") == [("a", "a.txt", "text")]
    with pytest.raises(ContentError):
        find_inputs([f"{path}@sha256:{'0' * 64}"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.parquet", "parquet"),
        ("a.PARQ", "parquet"),
        ("a/b.text", "text"),
        ("a.ndjson", "jsonl"),
        ("a.jsonl.GZ", "jsonl"),
        ("a.text.gz", "text"),
        ("a.txt.bz2", "text"),
        ("a.jsonl.zst", "jsonl"),
        ("a.csv", "csv"),
        ("a.TSV.xz", "csv"),
        ("a.parquet.gz", ""),
        ("a.gz", ""),
        ("a.json", ""),
        ("parquet", ""),
        ("x/.txt", ""),
    ],
)
def test_formats_by_suffix(name, kind):
    assert format_of(name) == kind


def test_one_named_file_of_an_unknown_suffix_may_be_parquet(write):
    assert names(write("data-0001", b"PAR1...")) == [("data-0001", "data-0001", "parquet")]
    message = refusal(write("data.xlsx", b"TEXT\na\n"))
    assert "data.xlsx" in message
    assert ".parquet" in message
    assert "no format that is known" in refusal(write("empty", b""))


def test_json_is_refused_with_advice(write):
    assert "name the file .jsonl" in refusal(write("a.json", b"[]"))


def test_nothing_at_a_uri(write, tmp_path):
    assert "no source is given" in refusal()
    assert "there is nothing at" in refusal(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    message = refusal(tmp_path / "empty")
    assert f"there is nothing in {tmp_path / 'empty'}; files that end in .parquet, .parq, .txt" in message
    for index in range(7):
        write(f"others/{index}.xlsx")
    message = refusal(tmp_path / "others")
    assert str(tmp_path / "others") in message
    assert "no source file in" in message
    assert "only 0.xlsx, 1.xlsx, 2.xlsx, 3.xlsx, 4.xlsx and 2 more" in message


def test_neither_file_nor_folder(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    assert "neither a file nor a folder" in refusal(tmp_path / "a.txt")


def test_a_link_that_leads_nowhere_is_named(write, tmp_path):
    write("folder/a.txt")
    (tmp_path / "folder" / "b.txt").symlink_to(tmp_path / "gone")
    assert "b.txt cannot be read" in refusal(tmp_path / "folder")


def test_linked_folders_are_read_once(write, tmp_path):
    write("real/a.txt")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real")
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to(tmp_path / "real")
    assert names(tmp_path / "top") == [("top", "link/a.txt", "text")]


def test_the_same_file_twice(write, tmp_path):
    path = write("x/a.txt")
    assert "given twice" in refusal(path, path)
    assert "given twice" in refusal(path, f"other={path.parent}")
    link = tmp_path / "b.txt"
    link.symlink_to(path)
    message = refusal(path, link)
    assert str(path) in message
    assert str(link) in message


def test_files_with_equal_names_get_distinct_names(write):
    same = [write(name).parent for name in ("m/x/1.txt", "m/y/1.txt")]
    assert [name for _, name, _ in names(*same)] == ["x/1.txt", "y/1.txt"]
    # One of them is found as x/1.txt already.
    more = [*same, write("n/x/1.txt").parent, write("o/x/1.txt").parents[1], write("p/2.txt")]
    found = [name for _, name, _ in names(*more)]
    assert sorted(found) == ["2.txt", "m/x/1.txt", "n/x/1.txt", "o/x/1.txt", "y/1.txt"]
    assert names(*more) == names(*reversed(more))


def test_files_that_are_passed_over_are_counted_and_named_with_the_reason(write, tmp_path):
    for name in ("a.txt", "b.xlsx", "x/c.parquet.gz", "x/.d.txt", "_e/f.txt", *(f"y/{n}.json" for n in range(9))):
        write(f"in/{name}")
    files, passed_over = search_inputs([str(tmp_path / "in")])
    assert [file.name for file in files] == ["a.txt"]
    assert [(some.place, some.count, some.examples) for some in passed_over] == [
        (str(tmp_path / "in"), 2, ("_e/f.txt", "x/.d.txt")),
        (str(tmp_path / "in"), 11, ("b.xlsx", "x/c.parquet.gz", "y/0.json", "y/1.json", "y/2.json")),
    ]
    assert str(passed_over[1]) == (
        f"passed over 11 files in {tmp_path / 'in'}, which end in no suffix of a known format: "
        "b.xlsx, x/c.parquet.gz, y/0.json, y/1.json, y/2.json and 6 more"
    )
    assert search_inputs([str(tmp_path / "in/a.txt")])[1] == []


def test_folders_of_a_partitioned_table_have_values(write):
    path = write("t/LANGUAGE=de/a%20b=c%2Fd/none=__HIVE_DEFAULT_PARTITION__/x=y.txt")
    (file,) = find_inputs([str(path.parents[3])])
    assert file.folder_values == {"LANGUAGE": "de", "a b": "c/d", "none": None}
