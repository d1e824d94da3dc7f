"""Copies a student's diffusers folder to where serving reads it: the digests last, then the name of the newest."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from sidlsg.errors import ContentError
from sidlsg.records import Student, file_refs
from sidlsg.registry.connect import connect
from sidlsg.registry.explain import explained
from sidlsg.registry.fetch import fetch_student
from sidlsg.registry.find import find_version
from sidlsg.registry.versions import alias_version
from sidlsg.store import open_store

DIGESTS = "SHA256SUMS"
"""Written last: a folder without it is not whole. `sha256sum -c` reads it."""
CURRENT = "current.json"
"""Names the folder of the version that the alias points to."""


@explained
def copy_student(model: str, version: str, alias: str, to: str, tracking_uri: str) -> str:
    """Copy a registered student to `TO/MODEL/VERSION-DIGEST/`, and let `TO/MODEL/current.json` name it.

    A copy that is whole stays as it is; one that was stopped is continued. `current.json` is not changed where the
    alias has moved on meanwhile.

    Args:
        model: the registered model's name.
        version: its number.
        alias: that points to it; empty for none, and then `current.json` stays.
        to: a folder or an `s3://` prefix.
        tracking_uri: where MLflow is, see `connect`.

    Returns:
        The place of the copy.

    Raises:
        InputError: there is no such version, or its files are damaged.
        StorageError: MLflow or the place does not answer.
    """
    record = find_version(tracking_uri, model, version)
    place = f"{to.rstrip('/')}/{model}"
    folder = f"{record.version}-{record.student_sha256[:16]}"
    store = open_store(f"{place}/{folder}")
    try:
        store.read(DIGESTS)
    except ContentError:
        with tempfile.TemporaryDirectory() as scratch:
            student = fetch_student(record, tracking_uri, Path(scratch) / "student")
            kept = {ref.path: ref.sha256 for ref in file_refs(Student.load(student).model)}
            for name, digest in kept.items():
                store.put(name, student / name, digest)
        store.write(DIGESTS, "".join(f"{digest}  {name}\n" for name, digest in sorted(kept.items())).encode())
    if alias and alias_version(connect(tracking_uri), model, alias) == record.version:
        told = {"version": record.version, "student_sha256": record.student_sha256, "folder": folder, "alias": alias}
        open_store(place).write(CURRENT, (json.dumps(told, indent=2, sort_keys=True) + "\n").encode())
    return f"{place}/{folder}"
