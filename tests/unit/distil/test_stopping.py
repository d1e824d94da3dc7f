"""SIGTERM as a request, and only while somebody listens."""

from __future__ import annotations

import os
import signal
import threading

from sidlsg.distil.loop import StopRequest


def test_a_signal_is_a_request_while_listening() -> None:
    before = signal.getsignal(signal.SIGTERM)
    stop = StopRequest()
    with stop.listening():
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
    assert signal.getsignal(signal.SIGTERM) == before
    stop.slowed = False  # nothing takes a signal back
    assert stop()


def test_another_thread_cannot_listen_and_does_not_try() -> None:
    seen: list[bool] = []

    def work() -> None:
        stop = StopRequest()
        with stop.listening():
            seen.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
