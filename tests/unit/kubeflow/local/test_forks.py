"""Jobs in real forks of a real server: output, exit codes, signals, environment, folder."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidlsg.kubeflow.local.forks import ForkServer, Job
from sidlsg.runtime.errors import SidlsgError


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


def job(target: str, *arguments: object, folder: str = "/", imports: tuple[str, ...] = ()) -> Job:
    environment = {"PATH": os.defpath, "GIVEN": "yes"}
    return Job(target=target, arguments=arguments, environment=environment, folder=folder, imports=imports)


def outcome(server: ForkServer, given: Job) -> tuple[int, str]:
    output, written = os.pipe()
    child = server.start(given, written, written)
    os.close(written)
    with os.fdopen(output) as lines:
        printed = lines.read()
    return child.wait(), printed


def test_a_job_runs_in_its_folder_with_its_environment_alone(server: ForkServer, tmp_path: Path) -> None:
    code = "import os; print(sorted(os.environ), os.getcwd())"
    assert outcome(server, job("builtins:exec", code, folder=str(tmp_path))) == (0, f"['GIVEN', 'PATH'] {tmp_path}\n")


@pytest.mark.parametrize(
    ("code", "expected", "printed"),
    [
        ("import sys; sys.exit(75)", 75, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("import os; os._exit(3)", 3, ""),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("import atexit; atexit.register(print, 'late')", 0, "late\n"),
        ("import threading; threading.Timer(0.2, print, ['thread']).start()", 0, "thread\n"),
    ],
)
def test_a_job_ends_like_a_separate_process(server: ForkServer, code: str, expected: int, printed: str) -> None:
    assert outcome(server, job("builtins:exec", code)) == (expected, printed)


def test_an_error_is_printed_with_its_traceback(server: ForkServer) -> None:
    code, printed = outcome(server, job("builtins:exec", "raise ValueError('bad')"))
    assert code == 1
    assert printed.startswith("Traceback")
    assert printed.endswith("ValueError: bad\n")


def test_what_one_job_needs_the_next_has_already(server: ForkServer) -> None:
    code = "import sys; print('wave' in sys.modules)"
    assert outcome(server, job("builtins:exec", code))[1] == "False\n"
    assert outcome(server, job("builtins:exec", code, imports=("wave", "no_such_module")))[1] == "True\n"
    assert outcome(server, job("builtins:exec", code))[1] == "True\n"


def test_jobs_do_not_draw_the_same_numbers(server: ForkServer) -> None:
    code = "import random; print(random.random())"
    assert outcome(server, job("builtins:exec", code)) != outcome(server, job("builtins:exec", code))


def test_a_job_larger_than_a_socket_holds(server: ForkServer) -> None:
    assert outcome(server, job("builtins:exec", f"x = '{'x' * 2_000_000}'; print(len(x))")) == (0, "2000000\n")


def test_a_job_can_be_ended_and_interrupted(server: ForkServer) -> None:
    for sign, code in ((signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 1)):
        output, written = os.pipe()
        code_ = (
            "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler);"
            "print('up', flush=True); time.sleep(60)"
        )
        child = server.start(job("builtins:exec", code_), written, written)
        os.close(written)
        with os.fdopen(output) as lines:
            assert lines.readline() == "up\n"  # in two parts, where output is not buffered
            os.kill(child.pid, sign)
            assert child.wait() == code


def test_a_server_that_has_ended_is_an_error() -> None:
    with ForkServer() as server:
        assert outcome(server, job("builtins:print", "x")) == (0, "x\n")
        os.kill(server._process.pid, signal.SIGKILL)
        server._process.wait()
        with pytest.raises(SidlsgError, match="has ended"):
            outcome(server, job("builtins:print", "x"))
