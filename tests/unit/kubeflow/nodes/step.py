"""The step as a separate process, to be sent SIGTERM or killed: `step.py STUDENT FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from sidlsg.kubeflow.nodes.cluster import Cluster
from sidlsg.runtime.errors import SidlsgError
from unit.kubeflow.nodes.launch import QUICK, SHORT, Launch, make_bundle, make_nodes

student, folder = map(Path, sys.argv[1:])
intervals, bundle = replace(QUICK, deletion=60), make_bundle(student, folder)
launch = Launch(bundle, folder, Cluster(timeouts=SHORT), make_nodes(folder), intervals, loud=True)
try:
    launch.do()
except SidlsgError as error:
    launch.report(f"error: {error}")
    sys.exit(error.exit_code)
