"""SeaweedFS' parts listen on ports of the machine too: what others of the machine get there."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest

from services.seaweedfs import SeaweedFS
from sidlsg.registry.server.process import HOST
from sidlsg.registry.server.seaweedfs import _weed
from sidlsg.storage.uri import open_store, split_s3_uri

SECRET = b"a prompt that nobody else may read" * 1000


def answer(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    """What somebody without keys gets."""
    asked = urllib.request.Request(f"http://{HOST}:{port}{path}", method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=30) as found:
            return found.status, found.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def bucket_with_secret(place: str) -> str:
    open_store(place).write("secret/prompt.txt", SECRET)
    return split_s3_uri(place)[0]


def test_objects_are_read_through_s3_with_a_key_only(s3_server: SeaweedFS, s3_place: str) -> None:
    bucket, ports = bucket_with_secret(s3_place), s3_server.state["ports"]
    path = f"/buckets/{bucket}/secret/prompt.txt"
    for part in ("filer.port", "master.port", "admin.port"):
        for method in ("GET", "PUT", "DELETE"):
            assert answer(ports[part], path, method)[0] == 404
    assert answer(ports["s3.port"], f"/{bucket}/secret/prompt.txt")[0] == 403
    for asked in ("/dir/assign", "/dir/lookup?volumeId=1&fileId=1,01637037d6", "/vol/status"):
        assert answer(ports["master.port"], asked)[0] == 404
    for volume in range(1, 10):
        for method in ("GET", "DELETE"):
            assert answer(ports["volume.port"], f"/{volume},01637037d6", method)[0] == 401
    assert open_store(s3_place).read("secret/prompt.txt") == SECRET


def test_the_parts_calls_need_their_certificate(s3_server: SeaweedFS) -> None:
    stranger = ssl.create_default_context()
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    stranger.set_alpn_protocols(["h2"])
    calls = {part: port for part, port in s3_server.state["ports"].items() if part.endswith(".grpc")}
    for part, port in calls.items():
        with socket.create_connection((HOST, port), timeout=30) as connection:
            # In the clear, nothing answers.
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(64)[3:4] != b"\4", f"{part} speaks without a certificate"
        with (
            pytest.raises(ssl.SSLError),
            socket.create_connection((HOST, port), timeout=30) as connection,
            stranger.wrap_socket(connection) as closed,
        ):
            closed.recv(64)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to become somebody else")
def test_another_user_of_the_machine_reads_neither_keys_nor_objects(s3_server: SeaweedFS, s3_place: str) -> None:
    bucket = bucket_with_secret(s3_place)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    files = [path for path in s3_server.folder.iterdir() if path.is_file()]
    assert {"state.json", "s3.json", "security.toml", "parts.key"} <= {file.name for file in files}
    for file in (*files, s3_server.folder / "data"):
        assert subprocess.run([*as_nobody, "test", "-r", str(file)]).returncode == 1
    ports = s3_server.state["ports"]
    # The program itself, which would print the keys.
    tried = subprocess.run(
        [*as_nobody, "timeout", "5", _weed(), "shell"]
        # An address with the port of its calls.
        + [f"-{part}={HOST}:{ports[f'{part}.port']}.{ports[f'{part}.port.grpc']}" for part in ("master", "filer")],
        input=f"s3.configure\nfs.cat /buckets/{bucket}/secret/prompt.txt\n".encode(),
        capture_output=True,
        cwd="/",
        env={"HOME": "/nonexistent", "PATH": os.environ["PATH"]},
    )
    assert tried.returncode != 0
    assert b"accessKey" not in tried.stdout
    assert SECRET[:20] not in tried.stdout
