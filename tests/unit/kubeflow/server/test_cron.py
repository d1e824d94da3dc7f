from __future__ import annotations

import pytest

from sidlsg.kubeflow.server.schedules import check_time_zone, kubeflow_cron


@pytest.mark.parametrize(
    ("cron", "written"),
    [
        ("0 3 * * mon", "0 0 3 * * mon"),
        ("30 0 3 * * 1-5", "30 0 3 * * 1-5"),
        ("*/15  8-18/2 1,15 jan-MAR ?", "0 */15 8-18/2 1,15 jan-MAR ?"),
    ],
)
def test_an_expression_is_written_with_six_fields(cron: str, written: str) -> None:
    assert kubeflow_cron(cron) == written


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("", "it has 0 fields; give five or six"),
        ("0 3 * *", "has 4 fields"),
        ("@daily", "has 1 fields"),
        ("TZ=UTC 0 0 3 * * *", "has 7 fields"),
        ("60 3 * * *", "'60' for the minute; allowed: 0 to 59"),
        ("0 24 * * *", "'24' for the hour"),
        ("0 3 0 * *", "'0' for the day of the month; allowed: 1 to 31"),
        ("0 3 * 13 *", "'13' for the month; allowed: 1 to 12 or jan to dec"),
        ("0 3 * * 7", "'7' for the day of the week; allowed: 0 to 6 or sun to sat"),
        ("0 3 * * monday", "'monday' for the day of the week"),
        ("0 5-3 * * *", "'5-3' for the hour"),
        ("*/0 3 * * *", "'*/0' for the minute"),
        ("*/x 3 * * *", "'*/x' for the minute"),
        ("0, 3 * * *", "'' for the minute"),
        ("-1 3 * * *", "'-1' for the minute"),
        ("٣ 3 * * *", "'٣' for the minute"),
    ],
)
def test_what_cron_cannot_read_is_refused(cron: str, said: str) -> None:
    with pytest.raises(ValueError, match="it has ") as caught:
        kubeflow_cron(cron)
    assert said in str(caught.value)


@pytest.mark.parametrize("zone", ["", "Europe/Berlni", "+02:00", "../UTC"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    for zones in ((zone, "UTC"), ("UTC", zone)):
        with pytest.raises(ValueError, match=r"is unknown.*give one such as Europe/Berlin or UTC"):
            check_time_zone(*zones)


def test_a_zone_that_is_nearly_right_is_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'Europe/Berlin'"):
        check_time_zone("Europe/Berlni", "UTC")


def test_a_zone_is_the_servers() -> None:
    check_time_zone("Europe/Berlin", "Europe/Berlin")
    with pytest.raises(ValueError, match=r"time zone Europe/Berlin is not the server's, UTC.*write this one in UTC"):
        check_time_zone("Europe/Berlin", "UTC")
