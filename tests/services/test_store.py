"""What holds for every store: a folder on disk and a prefix on a real S3 server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.store import Store
from sidlsg.storage.uri import open_store


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "a" / "store")
    return f"{request.getfixturevalue('s3_place')}/a/store"


@pytest.fixture
def store(place: str) -> Store:
    return open_store(place)


def put(store: Store, folder: Path, name: str, data: bytes) -> None:
    (folder / "source").write_bytes(data)
    store.put(name, folder / "source", sha256(data))


def test_what_went_in_comes_out(store: Store, place: str, tmp_path: Path) -> None:
    assert store.uri == place
    for name, data in {"a.bin": b"\x00\xff", "b/c.json": b"", "b/with space κ.txt": b"text"}.items():
        put(store, tmp_path, name, data)
        store.get(name, tmp_path / "new" / "back", sha256(data))
        assert (tmp_path / "new" / "back").read_bytes() == store.read(name) == data
    store.write("b/c.json", b"{}")
    assert store.read("b/c.json") == b"{}"
    assert store.names() == ["a.bin", "b/c.json", "b/with space κ.txt"]
    assert store.names("b/") == ["b/c.json", "b/with space κ.txt"]
    assert store.names("b/c") == ["b/c.json"]
    assert store.names("c") == []
    assert open_store(place, create=False).names() == store.names()


def test_a_later_content_replaces_an_earlier_one(store: Store, tmp_path: Path) -> None:
    for data in (b"first", b"second"):
        put(store, tmp_path, "a.bin", data)
        assert store.read("a.bin") == data
        store.get("a.bin", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == data


def test_what_is_deleted_is_gone_and_the_rest_is_not(store: Store) -> None:
    for name in ("a/b/c", "a/d", "e"):
        store.write(name, b"")
    store.delete(["a/b/c", "e", "never/there"])
    assert store.names() == ["a/d"]
    store.delete([])
    store.delete(store.names())
    assert store.names() == []


def test_another_content_than_promised_is_not_stored(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, "a.bin", b"old")
    (tmp_path / "source").write_bytes(b"new")
    with pytest.raises(ContentError, match=f"{sha256(b'new')}, but {sha256(b'other')} is expected"):
        store.put("a.bin", tmp_path / "source", sha256(b"other"))
    assert store.read("a.bin") == b"old"
    assert store.names() == ["a.bin"]


def test_another_content_than_promised_is_not_fetched(store: Store, tmp_path: Path) -> None:
    put(store, tmp_path, "a.bin", b"new")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "back").write_bytes(b"old")
    with pytest.raises(ContentError, match=f"{sha256(b'new')}, but {sha256(b'other')} is expected"):
        store.get("a.bin", tmp_path / "target" / "back", sha256(b"other"))
    assert (tmp_path / "target" / "back").read_bytes() == b"old"
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["back"]


def test_what_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    store.write("there/a", b"")
    attempts: list[Callable[[str], object]] = [store.read, lambda name: store.get(name, tmp_path / "target" / "x")]
    for attempt in attempts:
        for name in ("gone.json", "there", "there/a/b"):
            with pytest.raises(ContentError, match=r"there is no .*write it again") as caught:
                attempt(name)
            assert name in str(caught.value)
            assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("target/*"))


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "a\nb", "a\\b"])
def test_a_name_that_leads_elsewhere_is_refused(store: Store, name: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"")
    for attempt in (
        lambda: store.put(name, tmp_path / "source", sha256(b"")),
        lambda: store.get(name, tmp_path / "back"),
        lambda: store.write(name, b""),
        lambda: store.read(name),
        lambda: store.delete([name]),
    ):
        with pytest.raises(InputError, match="cannot name an object"):
            attempt()
    assert store.names() == []


def test_a_place_without_anything_is_refused_where_something_must_be(place: str) -> None:
    with pytest.raises(InputError, match=r"there is (no folder|nothing under)"):
        open_store(place, create=False)
