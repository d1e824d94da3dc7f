import pytest

from sidlsg.errors import StorageError
from sidlsg.trigger.interface import RunState
from sidlsg.trigger.service.ledger import Intent, Ledger
from sidlsg.trigger.service.starter import start_wanted

INTENTS = [Intent(name=f"cause-{i}", pipeline="p", version="", parameters={"n": i}) for i in range(2)]


class Killed(BaseException):
    """As a signal ends a process: no handler of the program sees it."""


class Runs:
    """A server in this process."""

    def __init__(self):
        self.made, self.asked, self.refused, self.killed = [], [], set(), False

    def find(self, name):
        return next((run for run in self.made if run.name == name), None)

    def start(self, name, pipeline, version, parameters):
        self.asked.append((name, pipeline, version, dict(parameters)))
        if name in self.refused:
            raise StorageError("the server does not answer")
        self.made.append(RunState(run_id=f"run-{len(self.made)}", name=name, state="PENDING"))
        if self.killed:
            raise Killed
        return self.made[-1]

    def ready(self):
        pass


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.db")
    ledger.take("d1", INTENTS, 1.0)
    return ledger


def test_killed_after_the_server_made_the_run_there_is_no_second(ledger):
    runs = Runs()
    runs.killed = True
    with pytest.raises(Killed):
        start_wanted(ledger, runs, print)
    runs.killed = False
    assert start_wanted(ledger, runs, print) == 0
    assert [run.name for run in runs.made] == ["cause-0", "cause-1"]
    assert runs.asked == [("cause-0", "p", "", {"n": 0}), ("cause-1", "p", "", {"n": 1})]


def test_what_the_server_refuses_holds_nothing_else_up_and_is_tried_again(ledger):
    runs = Runs()
    runs.refused = {"cause-0"}
    assert start_wanted(ledger, runs, print) == 1
    runs.refused = set()
    assert start_wanted(ledger, runs, print) == 0
    assert [run.name for run in runs.made] == ["cause-1", "cause-0"]
