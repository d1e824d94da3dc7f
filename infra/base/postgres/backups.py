"""Keeps dumps of a database on S3: `store` puts the newest there and deletes the oldest, `fetch` brings one back.

The environment says what and where: BACKUP_FOLDER, BACKUP_PLACE (s3://BUCKET/PREFIX), BACKUPS_KEPT for `store`,
BACKUP_NAME for `fetch` (empty for the newest), and the AWS variables. It needs nothing but boto3.
"""

import hashlib
import os
import sys
from pathlib import Path

import boto3
from botocore.config import Config

DIGEST = "sha256"
"""The object's metadata that holds the hex SHA-256 of its content."""
ENDING = ".dump"


class BackupError(Exception):
    """No backup was made, or none brought back; the message says why."""


def client() -> object:
    """An S3 client of the environment's server and keys."""
    return boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))


def stored(s3, bucket: str, prefix: str) -> list[str]:
    """The names of all backups, the oldest first: by the time at which the server got them, not by their names."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    entries = [entry for page in pages for entry in page.get("Contents", [])]
    found = sorted((entry["LastModified"], entry["Key"].removeprefix(f"{prefix}/")) for entry in entries)
    return [name for _, name in found if name.endswith(ENDING) and "/" not in name]


def store(s3, folder: Path, bucket: str, prefix: str, kept: int) -> str:
    """Put the folder's dump on S3, read back what arrived, then delete all but the newest.

    Raises:
        BackupError: there is not one dump, or what arrived is another; then nothing is deleted.
    """
    if kept < 1:
        raise BackupError(f"BACKUPS_KEPT is {kept}; give 1 or more")
    found = sorted(path for path in folder.glob(f"*{ENDING}") if not path.name.startswith("."))
    if len(found) != 1:
        raise BackupError(f"{len(found)} dumps are in {folder}; there must be one")
    (dump,) = found
    digest = hashlib.file_digest(dump.open("rb"), "sha256").hexdigest()
    s3.upload_file(str(dump), bucket, f"{prefix}/{dump.name}", ExtraArgs={"Metadata": {DIGEST: digest}})
    body = s3.get_object(Bucket=bucket, Key=f"{prefix}/{dump.name}")["Body"]
    arrived = hashlib.sha256()
    for chunk in body.iter_chunks(1 << 20):
        arrived.update(chunk)
    if arrived.hexdigest() != digest:
        raise BackupError(f"s3://{bucket}/{prefix}/{dump.name} is not what was sent; look at the S3 server")
    others = [name for name in stored(s3, bucket, prefix) if name != dump.name]
    for name in others[: max(0, len(others) - (kept - 1))]:
        s3.delete_object(Bucket=bucket, Key=f"{prefix}/{name}")
    return dump.name


def fetch(s3, folder: Path, bucket: str, prefix: str, name: str) -> str:
    """Bring a backup back into a folder without one, and check its digest.

    Raises:
        BackupError: there is none of that name, or it is damaged.
    """
    names = stored(s3, bucket, prefix)
    name = name or (names[-1] if names else "")
    if name not in names:
        raise BackupError(f"no backup {name!r} under s3://{bucket}/{prefix}; there are: {', '.join(names) or 'none'}")
    told = s3.head_object(Bucket=bucket, Key=f"{prefix}/{name}")["Metadata"].get(DIGEST)
    s3.download_file(bucket, f"{prefix}/{name}", str(folder / name))
    if hashlib.file_digest((folder / name).open("rb"), "sha256").hexdigest() != told:
        (folder / name).unlink()
        raise BackupError(f"s3://{bucket}/{prefix}/{name} is damaged; set BACKUP_NAME to another of {', '.join(names)}")
    return name


def main(command: str) -> None:
    """Do one of the two, and print the backup's name."""
    bucket, _, prefix = os.environ["BACKUP_PLACE"].removeprefix("s3://").strip("/").partition("/")
    folder = Path(os.environ["BACKUP_FOLDER"])
    if command == "store":
        print("stored", store(client(), folder, bucket, prefix, int(os.environ["BACKUPS_KEPT"])))
    elif command == "fetch":
        print("fetched", fetch(client(), folder, bucket, prefix, os.environ.get("BACKUP_NAME", "")))
    else:
        raise BackupError(f"{command!r} is no command; give store or fetch")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "")
    except BackupError as error:
        sys.exit(f"error: {error}")
