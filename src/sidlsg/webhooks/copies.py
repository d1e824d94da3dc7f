"""Copies a registered MLflow model to where serving reads it: first the files, then their digests, then the pointer."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sidlsg.registry.connection import connect, explained
from sidlsg.registry.files import fetch_model
from sidlsg.registry.package import MODEL_TAG, PATH_IN_MODEL
from sidlsg.registry.versions import alias_version, find_version
from sidlsg.runtime.errors import ContentError, InputError
from sidlsg.storage.files import SHA256SUMS, format_sha256sums, sha256_bytes, sha256_file
from sidlsg.storage.store import Store
from sidlsg.storage.uri import open_store

CURRENT = "current.json"
"""The pointer: it names the folder of the alias' version."""


@dataclass(frozen=True, kw_only=True)
class FinishedCopy:
    """A complete copy of a registered model."""

    uri: str
    """The folder that holds `MLmodel`: KServe's `storageUri`, where it is on S3."""
    sha256: str
    """Digest of its `SHA256SUMS`, so of everything in it."""


@explained
def copy_model(model: str, version: str, alias: str, to: str, tracking_uri: str) -> FinishedCopy:
    """Copy a registered model to `TO/MODEL/VERSION-DIGEST/`, and let `TO/MODEL/current.json` name that folder.

    The copy is the MLflow model as it was registered: `MLmodel`, the code that serves it, and the student's diffusers
    folder in `artifacts/student/`. A complete copy stays as it is; an interrupted one is completed.

    Args:
        model: the registered model's name.
        version: its number.
        alias: that points to it; `current.json` stays if it is empty or has moved on.
        to: a folder or an `s3://` prefix.
        tracking_uri: MLflow's address, see `connect`.

    Raises:
        InputError: there is no such version, or its files are damaged or have no registered digest.
        StorageError: MLflow or the store does not answer.
    """
    record = find_version(tracking_uri, model, version)
    client = connect(tracking_uri)
    model_sha256 = client.get_run(record.run_id).data.tags.get(MODEL_TAG, "")
    if not model_sha256:
        raise InputError(
            f"version {version} of {model!r} has no digest of its files ({MODEL_TAG}); register the student again"
        )
    uri = f"{to.rstrip('/')}/{model}"
    folder = f"{record.version}-{model_sha256[:16]}"
    store = open_store(f"{uri}/{folder}")
    digests = _digests(store)
    if not digests:
        with tempfile.TemporaryDirectory() as scratch:
            source = fetch_model(record, tracking_uri, Path(scratch) / "model")
            files = sorted(path for path in source.rglob("*") if path.is_file())
            sums = {path.relative_to(source).as_posix(): sha256_file(path) for path in files}
            for name, digest in sums.items():
                store.put(name, source / name, digest)
        digests = format_sha256sums(sums).encode()
        store.write(SHA256SUMS, digests)
    if alias and alias_version(client, model, alias) == record.version:
        current = {
            "version": record.version,
            "student_sha256": record.student_sha256,
            "model_sha256": model_sha256,
            "folder": folder,
            "student": f"{folder}/{PATH_IN_MODEL}",
            "alias": alias,
        }
        open_store(uri).write(CURRENT, (json.dumps(current, indent=2, sort_keys=True) + "\n").encode())
    return FinishedCopy(uri=f"{uri}/{folder}", sha256=sha256_bytes(digests))


def _digests(store: Store) -> bytes:
    """A copy's `SHA256SUMS`; empty if it is incomplete."""
    try:
        return store.read(SHA256SUMS)
    except ContentError:
        return b""
