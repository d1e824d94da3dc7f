"""A stateful Kubeflow Pipelines API over real HTTP; bodies are checked against the client package's own models."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import Callable
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api

LISTS = {"runs": "run_id", "recurringruns": "recurring_run_id", "pipelines": "pipeline_id",
         "experiments": "experiment_id", "versions": "pipeline_version_id"}  # fmt: skip
MODELS = {"runs": "V2beta1Run", "recurringruns": "V2beta1RecurringRun", "pipelines": "V2beta1Pipeline",
          "experiments": "V2beta1Experiment", "versions": "V2beta1PipelineVersion"}  # fmt: skip
UNIQUE = ("pipelines", "experiments", "versions")
ENTRIES = {"recurringruns": "recurringRuns", "versions": "pipeline_versions"}


class KfpServer:
    """`with KfpServer() as server:` serves on `server.host`.

    `runs`, `recurringruns`, `pipelines`, `experiments` and `versions` are lists of what is there, as JSON objects.
    `faults` holds what happens to the next requests, the first one first: "500", "429", "reset", "truncated", each
    before the request is carried out, or with "-after" behind it, after; "" is no fault. A run that is looked at goes
    on by one state of `states`.
    """

    def __init__(self, token: str = "", page: int = 2) -> None:
        self.token, self.page = token, page
        self.faults: list[str] = []
        self.states = ["PENDING", "RUNNING", "SUCCEEDED"]
        self.wrong: list[str] = []
        self.look: Callable[[], None] = lambda: None
        self.lists: dict[str, list[dict[str, Any]]] = {kind: [] for kind in LISTS}
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None: ...

            def answer(self) -> None:
                outer.handle(self)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"http://127.0.0.1:{self._http.server_port}"

    @property
    def runs(self) -> list[dict[str, Any]]:
        return self.lists["runs"]

    def __enter__(self) -> KfpServer:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def handle(self, http: BaseHTTPRequestHandler) -> None:
        body = http.rfile.read(int(http.headers.get("content-length", 0)))
        with self._lock:
            fault = self.faults.pop(0) if self.faults else ""
            kind, _, after = fault.partition("-")
            code, answer = 200, {}
            if not fault or after:
                if self.token and http.headers.get("authorization") != f"Bearer {self.token}":
                    code, answer = 401, {"message": "unauthenticated"}
                else:
                    code, answer = self.carry_out(http, body)
                    self.look()
        if kind == "reset":
            http.connection.shutdown(socket.SHUT_RDWR)
            http.close_connection = True
            return
        data = json.dumps(answer).encode()
        http.send_response(int(kind) if kind.isdecimal() else code)
        http.send_header("content-type", "application/json")
        http.send_header("content-length", str(len(data) + (9 if kind == "truncated" else 0)))
        http.end_headers()
        http.wfile.write(data)
        http.close_connection = True

    def carry_out(self, http: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, Any]]:
        url = urlsplit(http.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        path = url.path.removeprefix("/apis/v2beta1/").split("/")
        if path == ["healthz"]:
            return 200, {"multi_user": False}
        if path == ["pipelines", "upload_version"]:
            form = message_from_bytes(b"content-type: " + http.headers["content-type"].encode() + b"\n\n" + body)
            assert b"pipelineInfo" in form.as_bytes()
            return self.create("versions", {"pipeline_id": query["pipelineid"], "display_name": query["name"]})
        parent = {"pipeline_id": path[1]} if path[2:] == ["versions"] else {}
        kind = "versions" if parent else path[0]
        identity, _, verb = (path[1] if len(path) > 1 and not parent else "").partition(":")
        if not identity:
            if http.command == "POST":
                return self.create(kind, self.checked(MODELS[kind], json.loads(body)))
            return self.listed(kind, query, parent)
        found = next((each for each in self.lists[kind] if each[LISTS[kind]] == identity), None)
        if found is None:
            return 404, {"message": "not found"}
        if http.command == "DELETE":
            self.lists[kind].remove(found)
            return 200, {}
        if verb in ("enable", "disable"):
            found["status"] = f"{verb.upper()}D"
            return 200, {}
        if kind == "runs":
            at = min(self.states.index(found["state"]) + 1, len(self.states) - 1)
            self.progress(found, self.states[at])
        return 200, found

    def create(self, kind: str, fields: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        same: Callable[[dict[str, Any]], bool] = lambda each: all(  # noqa: E731
            each.get(key) == fields.get(key) for key in ("display_name", "namespace", "pipeline_id") if key in fields
        )
        if kind in UNIQUE and any(same(each) for each in self.lists[kind]):
            return 409, {"message": "already exists"}
        count = len(self.lists[kind])
        made = fields | {LISTS[kind]: str(uuid.uuid4()), "created_at": f"2026-01-01T00:00:{count % 60:02d}Z"}
        if kind == "runs":
            self.progress(made, self.states[0])
        if kind == "recurringruns":
            made["status"] = f"{made['mode']}D"
        self.lists[kind].append(made)
        return 200, made

    def progress(self, run: dict[str, Any], state: str) -> None:
        run["state"] = state
        task = {"task_id": "1", "display_name": "distil", "state": state}
        if state == "FAILED":
            task["error"] = {"code": 2, "message": "out of memory"}  # type: ignore[assignment]
        run["run_details"] = {"task_details": [task]}

    def listed(self, kind: str, query: dict[str, str], parent: dict[str, str]) -> tuple[int, dict[str, Any]]:
        keep = dict(parent)
        for predicate in json.loads(query.get("filter", "{}")).get("predicates", []):
            self.checked("V2beta1Predicate", predicate)
            keep[predicate["key"]] = predicate["string_value"]
        if "experiment_id" in query:
            keep["experiment_id"] = query["experiment_id"]
        found = [each for each in self.lists[kind] if all(each.get(key) == value for key, value in keep.items())]
        if query.get("sort_by", "").endswith("desc"):
            found.reverse()
        start = int(query.get("page_token") or 0)
        end = start + self.page
        token = str(end) if end < len(found) else ""
        return 200, {ENTRIES.get(kind, kind): found[start:end], "next_page_token": token, "total_size": len(found)}

    def checked(self, model: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Refuse fields that the model lacks; what is wrong is kept for the test."""
        unknown = set(fields) - set(getattr(api, model).attribute_map.values())
        if unknown:
            self.wrong.append(f"{model}: {unknown}")
        return fields
