"""Makes the buckets that are named and not there yet, on the S3 server of the AWS variables."""

import sys

import boto3
from botocore.config import Config


def make_buckets(s3, names: list[str]) -> list[str]:
    """Make those that are missing; which."""
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    missing = [name for name in names if name not in there]
    for name in missing:
        s3.create_bucket(Bucket=name)
    return missing


if __name__ == "__main__":
    client = boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))
    print("made", ", ".join(make_buckets(client, sys.argv[1:])) or "none")
