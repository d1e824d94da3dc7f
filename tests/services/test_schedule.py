"""Recurring runs become what a file declares, and two of one schedule are never active."""

from __future__ import annotations

import random
from pathlib import Path

from services.kfp_server import KfpServer
from services.test_submit import FAULTS, YAML, kubeflow
from sidlsg.trigger.schedule import difference, synchronise
from sidlsg.trigger.schedule_file import read_schedules

FILE = """
experiment = "exp"
[[schedule]]
name = "nightly"
pipeline = "tiny.yaml"
cron = "0 3 * * mon"
time_zone = "Europe/Berlin"
parameters = { seed = %d }
"""


def test_a_hundred_faults_leave_one_active_recurring_run(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(YAML)
    file, chance = tmp_path / "schedules.toml", random.Random(1)
    with KfpServer() as kfp:
        foreign = {"recurring_run_id": "theirs", "display_name": "nightly", "status": "ENABLED"}
        kfp.lists["recurringruns"].append(foreign)
        for seed in range(6):
            file.write_text(FILE % seed)
            declared, server = read_schedules(file), kubeflow(kfp.host).server
            kfp.faults = [chance.choice(FAULTS[1:]) if chance.random() < 0.6 else "" for _ in range(30)]
            synchronise(server, declared, difference(server, declared), print)
            kfp.faults = []
            assert [change.kind for change in difference(server, declared)] == ["unchanged"]
            ours = [each for each in kfp.lists["recurringruns"] if each is not foreign]
            assert [each["runtime_config"]["parameters"] for each in ours] == [{"seed": seed}]
            assert ours[0]["status"] == "ENABLED"
            assert ours[0]["trigger"]["cron_schedule"]["cron"] == "TZ=Europe/Berlin 0 0 3 * * mon"
        assert foreign in kfp.lists["recurringruns"]
        assert len(kfp.lists["versions"]) == 1
        assert not kfp.wrong
