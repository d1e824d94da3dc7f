"""Uploads to MLflow with artifacts on S3: in parts, and read back."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sidlsg.registry.files import stored_digest, upload
from sidlsg.registry.server.stack import ARTIFACTS, Stack
from sidlsg.runtime.errors import StorageError
from sidlsg.storage.files import sha256_file

MB = 1 << 20


def key_of(client: MlflowClient, run_id: str, path: str) -> str:
    """The object's key: MLflow's addresses leave out the bucket."""
    return f"{client.get_run(run_id).info.artifact_uri.removeprefix('mlflow-artifacts:/')}/{path}"


@pytest.mark.parametrize("straight_to_s3", [False, True])
def test_a_large_file_goes_in_parts(
    servers: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, straight_to_s3: bool
) -> None:
    if straight_to_s3:
        # The client's own parts, by signed addresses; else they are the server's.
        monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
        monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(5 * MB))
        monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(5 * MB))
    client = MlflowClient(servers.mlflow.address)
    run_id = client.create_run("0").info.run_id
    large = tmp_path / "model" / "unet" / "weights.safetensors"
    large.parent.mkdir(parents=True)
    large.write_bytes(random.Random(0).randbytes(17 * MB))
    upload(client, run_id, tmp_path / "model", "model")
    assert stored_digest(client, run_id, "model/unet/weights.safetensors") == sha256_file(large)
    place = key_of(client, run_id, "model/unet/weights.safetensors")
    found = servers.s3.client().head_object(Bucket=ARTIFACTS, Key=place, PartNumber=1)
    assert found["ETag"].strip('"').rpartition("-")[2] == ("4" if straight_to_s3 else "3")


def test_a_store_that_changes_a_byte_is_found_out(
    servers: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(servers.mlflow.address)
    run_id = client.create_run("0").info.run_id
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"a": 1}')
    original = MlflowClient.log_artifact

    def corrupting(self: MlflowClient, run_id: str, local: str, parent: str) -> None:
        original(self, run_id, local, parent)
        place = key_of(client, run_id, "model/config.json")
        servers.s3.client().put_object(Bucket=ARTIFACTS, Key=place, Body=b'{"a": 2}')

    monkeypatch.setattr(MlflowClient, "log_artifact", corrupting)
    with pytest.raises(StorageError, match=r"model/config\.json of run .* came back"):
        upload(client, run_id, tmp_path / "model", "model")
