"""A stateful Kubeflow Pipelines API over real HTTP, which holds both sides to the client package's own models."""

from __future__ import annotations

import json
import re
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from services.kfp_models import wrong_answer, wrong_request

KINDS = {
    "runs": ("V2beta1Run", "run_id", "V2beta1ListRunsResponse", "runs"),
    "recurringruns": (
        "V2beta1RecurringRun",
        "recurring_run_id",
        "V2beta1ListRecurringRunsResponse",
        "recurringRuns",
    ),
    "pipelines": ("V2beta1Pipeline", "pipeline_id", "V2beta1ListPipelinesResponse", "pipelines"),
    "experiments": ("V2beta1Experiment", "experiment_id", "V2beta1ListExperimentsResponse", "experiments"),
    "versions": (
        "V2beta1PipelineVersion",
        "pipeline_version_id",
        "V2beta1ListPipelineVersionsResponse",
        "pipeline_versions",
    ),
}
"""Each kind's model, the name of its id, the model of a list, and what the list calls its entries."""
UNIQUE = ("pipelines", "experiments", "versions")
IN_NAMESPACES = ("pipelines", "experiments")
STALL = 5.0
"""Seconds of silence at most; callers that give up end it earlier."""

Answer = tuple[int, dict[str, Any]]


class KfpServer:
    """`with KfpServer() as server:` serves on `server.host`.

    `lists` holds what is there, as JSON objects by kind. `faults` holds what happens to the next requests, the first
    one first: an HTTP code, "reset", "truncated" or "stall", each before the request is carried out, or with "-after"
    behind it, after; "" is no fault. `happened` counts them. A run that is looked at goes on by one of `states`.
    """

    def __init__(self, token: str = "", page: int = 2, *, namespaces: bool = False) -> None:
        self.token, self.page, self.namespaces = token, page, namespaces
        self.faults: list[str] = []
        self.happened: Counter[str] = Counter()
        self.states = ["PENDING", "RUNNING", "SUCCEEDED"]
        self.wrong: list[str] = []
        """What broke the API's rules, in requests or answers."""
        self.requests: list[str] = []
        """Method and path of each request, in order."""
        self.look: Callable[[], None] = lambda: None
        """Called after each request is carried out, while nothing else is."""
        self.lists: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
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
            self.requests.append(f"{http.command} {urlsplit(http.path).path}")
            fault = self.faults.pop(0) if self.faults else ""
            kind, _, after = fault.partition("-")
            code, answer = 200, {}
            if fault:
                self.happened[fault] += 1
            if not fault or after:
                code, answer = self.let_in(http, body)
                self.look()
        http.close_connection = True
        if kind == "stall":
            http.connection.settimeout(STALL)
            http.connection.recv(1)  # nothing comes before the caller hangs up
            return
        if kind == "reset":
            http.connection.shutdown(socket.SHUT_RDWR)
            return
        data = json.dumps(answer).encode()
        http.send_response(int(kind) if kind.isdecimal() else code)
        http.send_header("content-type", "application/json")
        http.send_header("content-length", str(len(data)))
        http.end_headers()
        http.wfile.write(data[:-1] if kind == "truncated" else data)

    def let_in(self, http: BaseHTTPRequestHandler, body: bytes) -> Answer:
        if self.token and http.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"message": "unauthenticated"}
        try:
            return self.carry_out(http, body)
        except Exception as error:  # what this server did not expect is a wrong request
            self.wrong.append(f"{http.command} {http.path}: {error!r}")
            return 400, {"message": str(error)}

    def carry_out(self, http: BaseHTTPRequestHandler, body: bytes) -> Answer:
        url = urlsplit(http.path)
        query = {key: values[0] for key, values in parse_qs(url.query, strict_parsing=bool(url.query)).items()}
        path = url.path.removeprefix("/apis/v2beta1/").split("/")
        if path == ["healthz"]:
            return self.right("V2beta1GetHealthzResponse", {"multi_user": self.namespaces})
        if path == ["pipelines", "upload_version"]:
            return self.upload(http, body, query)
        parent = {"pipeline_id": path[1]} if path[2:] == ["versions"] else {}
        kind = "versions" if parent else path[0]
        identity, _, verb = (path[1] if len(path) > 1 and not parent else "").partition(":")
        if not identity:
            return self.create(kind, json.loads(body)) if http.command == "POST" else self.listed(kind, query, parent)
        model, key, *_ = KINDS[kind]
        found = next((each for each in self.lists[kind] if each[key] == identity), None)
        if found is None:
            return 404, {"message": "not found"}
        if http.command == "DELETE":
            self.lists[kind].remove(found)
            return 200, {}
        if kind == "recurringruns" and verb in ("enable", "disable"):
            found["status"] = f"{verb.upper()}D"
            return 200, {}
        if kind == "runs" and verb == "terminate":
            self.progress(found, "CANCELED")
            return 200, {}
        assert not verb, f"unknown verb {verb}"
        if kind == "runs":
            at = min(self.states.index(found["state"]) + 1, len(self.states) - 1)
            self.progress(found, self.states[at])
        return self.right(model, found)

    def upload(self, http: BaseHTTPRequestHandler, body: bytes, query: dict[str, str]) -> Answer:
        form = message_from_bytes(b"content-type: " + http.headers["content-type"].encode() + b"\n\n" + body)
        (part,) = form.get_payload()
        assert part.get_param("name", header="content-disposition") == "uploadfile"
        assert part.get_filename().endswith(".yaml")
        spec, *platform = yaml.safe_load_all(part.get_payload(decode=True))
        assert spec["pipelineInfo"]["name"] and spec["root"]
        self.known("pipelines", query["pipelineid"])
        stored = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        fields = {"pipeline_id": query["pipelineid"], "display_name": query["display_name"], "name": query["name"]}
        return self.add("versions", fields | {"pipeline_spec": stored})

    def create(self, kind: str, fields: dict[str, Any]) -> Answer:
        if wrong := wrong_request(KINDS[kind][0], fields):
            raise ValueError("; ".join(wrong))
        if kind in IN_NAMESPACES:
            assert bool(fields.get("namespace")) == self.namespaces, f"namespace {fields.get('namespace')!r}"
        if kind in ("runs", "recurringruns"):
            self.known("experiments", fields["experiment_id"])
            reference = fields["pipeline_version_reference"]
            spec = self.known("versions", reference["pipeline_version_id"])["pipeline_spec"]
            spec = spec.get("pipeline_spec", spec)
            allowed = spec["root"].get("inputDefinitions", {}).get("parameters", {})
            for name in fields["runtime_config"]["parameters"]:
                assert name in allowed, f"unknown parameter {name}"
        if kind == "recurringruns":
            assert 1 <= int(fields["max_concurrency"]) <= 10
            cron = fields["trigger"]["cron_schedule"]["cron"]
            assert re.fullmatch(r"[^ =]+( [^ =]+){5}", cron), f"cron {cron!r}"  # its reader takes no TZ= in front
            fields["status"] = f"{fields['mode']}D"
        return self.add(kind, fields)

    def add(self, kind: str, fields: dict[str, Any]) -> Answer:
        mine = [
            each
            for each in self.lists[kind]
            if all(each.get(key) == fields.get(key) for key in ("display_name", "namespace", "pipeline_id"))
        ]
        if kind in UNIQUE and mine:
            return 409, {"message": "already exists"}
        model, key, *_ = KINDS[kind]
        count = len(self.lists[kind])
        fields |= {key: str(uuid.uuid4()), "created_at": f"2026-01-01T{count // 60:02d}:{count % 60:02d}:00Z"}
        if kind == "runs":
            self.progress(fields, self.states[0])
        self.lists[kind].append(fields)
        return self.right(model, fields)

    def progress(self, run: dict[str, Any], state: str) -> None:
        run["state"] = state
        task: dict[str, Any] = {"run_id": run["run_id"], "task_id": "1", "display_name": "distil", "state": state}
        if state == "FAILED":
            task["error"] = {"code": 2, "message": "out of memory"}
        run["run_details"] = {"task_details": [task]}

    def listed(self, kind: str, query: dict[str, str], parent: dict[str, str]) -> Answer:
        _, _, model, entries = KINDS[kind]
        keep = dict(parent)
        for predicate in json.loads(query.get("filter", "{}")).get("predicates", []):
            if wrong := wrong_request("V2beta1Predicate", predicate):
                raise ValueError("; ".join(wrong))
            assert predicate["operation"] == "EQUALS", "this server knows no other"
            keep[predicate["key"]] = predicate["string_value"]
        if "experiment_id" in query:
            keep["experiment_id"] = query["experiment_id"]
        if kind in IN_NAMESPACES:
            assert ("namespace" in query) == self.namespaces, f"namespace {query.get('namespace')!r}"
            keep |= {"namespace": query["namespace"]} if self.namespaces else {}
        found = [each for each in self.lists[kind] if all(each.get(key) == value for key, value in keep.items())]
        if query.get("sort_by", "").endswith("desc"):
            found.reverse()
        start = int(query.get("page_token") or 0)
        end = start + min(self.page, int(query["page_size"]))
        token = str(end) if end < len(found) else ""
        return self.right(model, {entries: found[start:end], "next_page_token": token, "total_size": len(found)})

    def known(self, kind: str, identity: str) -> dict[str, Any]:
        """Something by its id, or a refusal."""
        found = [each for each in self.lists[kind] if each[KINDS[kind][1]] == identity]
        assert found, f"there is no {identity} among the {kind}"
        return found[0]

    def right(self, model: str, answer: dict[str, Any]) -> Answer:
        """An answer, held to its model."""
        self.wrong += wrong_answer(model, answer)
        return 200, answer
