"""Does with a TrainJob what Kubeflow Trainer and JobSet do, here: a process for each node, exit codes, restarts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from services.kubernetes_api import Api
from sidlsg.registry.server.process import free_port

RUNTIME = Path(__file__).parents[2] / "infra" / "components" / "trainer" / "runtime.yaml"


class FailurePolicy:
    """What the project's own runtime says of nodes that fail."""

    def __init__(self) -> None:
        spec = yaml.safe_load(RUNTIME.read_text())["spec"]["template"]["spec"]
        (rule,) = spec["failurePolicy"]["rules"]
        assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
        self.most: int = spec["failurePolicy"]["maxRestarts"]
        (rule,) = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
        assert rule["action"] == "FailJob" and rule["onExitCodes"]["operator"] == "In"
        self.final: list[int] = rule["onExitCodes"]["values"]

    def ends(self, codes: list[int], restarts: int) -> str:
        """Why the job fails now; empty where its nodes start again."""
        if any(code in self.final for code in codes):
            return "PodFailurePolicy"
        return "ReachedMaxRestarts" if restarts >= self.most else ""


class LocalTrainer:
    """Starts the nodes of the only job, each with a cache of its own, as if on a machine of its own."""

    def __init__(self, folder: Path, secrets: dict[str, str]) -> None:
        self.folder, self.secrets = folder, secrets
        self.processes: list[subprocess.Popen[bytes]] = []
        self.told: list[int] = []
        self.policy = FailurePolicy()

    def __call__(self, api: Api) -> None:
        """What the controller does when it looks."""
        if not self.processes:
            self._start(api.job())
            api.set_condition("Suspended", False, "Resumed")
        codes = [process.poll() for process in self.processes]
        for node, code in enumerate(codes):
            self._pass_on(api, node)
            phase = "Running" if code is None else "Failed" if code else "Succeeded"
            states = [] if code is None else [{"name": "node", "state": {"terminated": {"exitCode": code}}}]
            api.set_pod(node, phase, containerStatuses=states)
        if any(codes):
            self.end(signal.SIGKILL)
            reason = self.policy.ends([code for code in codes if code], api.restarts)
            if reason:
                api.set_condition("Failed", True, reason, "a node failed")
            else:
                self.processes, self.told = [], []
                api.restart()
        elif codes == [0] * len(codes):
            api.set_condition("Complete", True)

    def deleting(self, api: Api) -> bool:
        """Whether all pods of a deleted job are gone; first they are asked to end."""
        for process in self.processes:
            if process.poll() is None and not getattr(process, "asked", False):
                process.asked = True  # type: ignore[attr-defined]
                process.terminate()
        gone = all(process.poll() is not None for process in self.processes)
        if gone:
            for node in range(len(self.processes)):
                self._pass_on(api, node)
            self.processes, self.told = [], []
        return gone

    def end(self, number: int) -> None:
        """End what runs."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, number)
            process.wait(30)

    def logs(self) -> str:
        """All that all nodes ever said."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("node-*/log")))

    def _start(self, job: dict[str, Any]) -> None:
        trainer, port = job["spec"]["trainer"], free_port()
        (program,) = trainer["command"]
        assert program == "sidlsg"
        for node in range(trainer["numNodes"]):
            machine = self.folder / f"node-{node}"
            shutil.rmtree(machine / "cache", ignore_errors=True)
            machine.mkdir(parents=True, exist_ok=True)
            environment = {
                name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SIDLSG_"))
            }
            environment |= self._environment(trainer["env"])
            environment |= {
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
                "PET_NODE_RANK": str(node),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
                "PYTHONUNBUFFERED": "1",
                "SIDLSG_CACHE": str(machine / "cache"),
            }
            with (machine / "log").open("ab") as log:
                self.told.append(log.tell())
                command = [sys.executable, "-m", "sidlsg", *trainer["args"]]
                self.processes.append(
                    subprocess.Popen(
                        command,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=environment,
                        cwd=machine,
                        stdin=subprocess.DEVNULL,
                        start_new_session=True,
                    )
                )

    def _environment(self, entries: list[dict[str, Any]]) -> dict[str, str]:
        """Each variable's value, where it has one or a Secret does."""
        found = {entry["name"]: entry["value"] for entry in entries if "value" in entry}
        keys = [(e["name"], r) for e in entries for r in e.get("valueFrom", {}).values()]
        missing = [name for name, ref in keys if name not in self.secrets and not ref.get("optional")]
        assert not missing
        return found | {name: self.secrets[name] for name, _ in keys if name in self.secrets}

    def _pass_on(self, api: Api, node: int) -> None:
        with (self.folder / f"node-{node}" / "log").open("rb") as log:
            log.seek(self.told[node])
            data = log.read()
        whole, newline, _ = data.rpartition(b"\n")
        if newline:
            self.told[node] += len(whole) + 1
            api.say(node, *whole.decode(errors="replace").splitlines())
