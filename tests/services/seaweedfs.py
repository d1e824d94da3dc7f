"""The package's SeaweedFS as tests want it: one that is noticed at once when it is dead, with new buckets."""

from __future__ import annotations

import secrets

from sidlsg.registry.server.seaweedfs import SeaweedFS as Server


class SeaweedFS(Server):
    """One server with its own credentials, ports and data, in a folder that belongs to it."""

    def client_environment(self) -> dict[str, str]:
        return {**super().client_environment(), "AWS_MAX_ATTEMPTS": "2"}

    def make_bucket(self) -> str:
        """A new, empty bucket's name."""
        name = f"test-{secrets.token_hex(6)}"
        self.require_bucket(name)
        return name

    def drop_bucket(self, name: str) -> None:
        """Remove a bucket with all that is in it; its volumes are free again."""
        client = self.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=name):
            for found in page.get("Contents", []):
                client.delete_object(Bucket=name, Key=found["Key"])
        client.delete_bucket(Bucket=name)
