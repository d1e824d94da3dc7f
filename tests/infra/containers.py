"""Starts a container's program on this machine, with the command line and the environment that its manifest gives."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from infra.cluster import Object, get, words
from sidlsg.registry.server.process import HOST, LocalServer


def environment(container: Object, objects: list[Object], secrets: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """What Kubernetes would set: values, and those of ConfigMaps and secrets."""

    def values(source: Object) -> Mapping[str, str]:
        if "secretRef" in source:
            return secrets.get(source["secretRef"]["name"], {})
        found: Mapping[str, str] = get(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
        return found

    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= {f"{source.get('prefix', '')}{name}": value for name, value in values(source).items()}
    for variable in container.get("env", []):
        whence = variable.get("valueFrom", {})
        if "secretKeyRef" in whence:
            found[variable["name"]] = secrets[whence["secretKeyRef"]["name"]][whence["secretKeyRef"]["key"]]
        elif "configMapKeyRef" in whence:
            data = get(objects, "ConfigMap", whence["configMapKeyRef"]["name"])["data"]
            found[variable["name"]] = data[whence["configMapKeyRef"]["key"]]
        else:
            found[variable["name"]] = variable["value"]
    return found


def command_line(container: Object, variables: Mapping[str, str], changes: Mapping[str, str]) -> list[str]:
    """The words, variables filled in; then `changes` replaces parts that a test machine cannot have.

    Raises:
        AssertionError: a change changes nothing, so the manifest is not what the test thinks.
    """
    line = [re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], word) for word in words(container)]
    for old, new in changes.items():
        assert any(old in word for word in line), f"{old} is in none of {line}"
        line = [word.replace(old, new) for word in line]
    return [beside(line[0]), *line[1:]]


def beside(program: str) -> str:
    """The program of this environment, as the image has it on its PATH."""
    return str(Path(sys.executable).with_name(program))


class Contained(LocalServer):
    """A container's server, until the test ends."""

    NAME = "the container"
    PATIENCE_S = 240.0

    def __init__(
        self,
        folder: Path,
        container: Object,
        variables: Mapping[str, str],
        changes: Mapping[str, str],
        probe: str = "readinessProbe",
        more: tuple[str, ...] = (),
    ) -> None:
        super().__init__(folder)
        self._container, self._variables, self._changes, self._more = container, dict(variables), changes, more
        self._probe = container[probe]["httpGet"]["path"]

    def command(self) -> list[str]:
        """See `LocalServer`."""
        changes = {old: new.format(port=self.port, folder=self.folder) for old, new in self._changes.items()}
        return [*command_line(self._container, self._variables, changes), *self._more]

    def environment(self) -> dict[str, str]:
        """See `LocalServer`: the manifest's, and where programs are."""
        inherited = super().environment()
        path = f"{Path(sys.executable).parent}:{inherited['PATH']}"
        return self._variables | {"PATH": path, "HOME": str(self.folder), "TMPDIR": str(self.folder)}

    def is_ready(self) -> bool:
        """See `LocalServer`: as the probe asks."""
        return self.answer(self._probe)[0] == 200

    def answer(self, path: str, host: str = "") -> tuple[int, str]:
        """Status and text; 0 where nothing answers."""
        asked = urllib.request.Request(f"http://{HOST}:{self.port}{path}", headers={"Host": host} if host else {})
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""
