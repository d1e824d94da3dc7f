"""The step as a process of its own, to be asked to end, or killed: `step.py STUDENT FOLDER`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from sidlsg.kubeflow.nodes.cluster import Cluster
from sidlsg.runtime.errors import SidlsgError
from unit.kubeflow.nodes.asked import QUICK, SHORT, Launch, make_nodes, make_parcel

student, folder = map(Path, sys.argv[1:])
pace, parcel = replace(QUICK, gone=60), make_parcel(student, folder)
launch = Launch(parcel, folder, Cluster(patience=SHORT), make_nodes(folder), pace, loud=True)
try:
    launch.do()
except SidlsgError as error:
    launch.tell(f"error: {error}")
    sys.exit(error.exit_code)
