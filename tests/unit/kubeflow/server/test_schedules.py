"""Files of schedules, and their cron expressions."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidlsg.cli.catalog import get_compiled
from sidlsg.kubeflow.server.schedules import Schedules, check_time_zone, kubeflow_cron, read_schedules
from sidlsg.runtime.errors import InputError


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
    ("cron", "message"),
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
def test_what_cron_cannot_read_is_refused(cron: str, message: str) -> None:
    with pytest.raises(ValueError, match="it has ") as caught:
        kubeflow_cron(cron)
    assert message in str(caught.value)


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


YAML = """
pipelineInfo: {name: tiny}
root: {inputDefinitions: {parameters: {
  seed: {parameterType: NUMBER_INTEGER, defaultValue: 0}, items: {parameterType: LIST, defaultValue: []}}}}
"""
TABLE = """
[[schedule]]
name = "weekly"
pipeline = "tiny.yaml"
cron = "0 3 * * mon"
time_zone = "UTC"
"""
EXPERIMENT = 'experiment = "nights"\n'


def read(folder: Path, text: str) -> Schedules:
    (folder / "tiny.yaml").write_text(YAML)
    (folder / "schedules.toml").write_text(text)
    return read_schedules(folder / "schedules.toml", get_compiled)


def test_a_missing_key_has_a_default(tmp_path: Path) -> None:
    declared = read(tmp_path, EXPERIMENT + TABLE)
    (schedule,) = declared.schedules
    assert (declared.experiment, schedule.name, schedule.compiled.name) == ("nights", "weekly", "tiny")
    assert (schedule.cron, schedule.parameters) == ("0 0 3 * * mon", {})
    assert (schedule.max_concurrency, schedule.catchup, schedule.enabled) == (1, False, True)


def test_every_key_can_be_given(tmp_path: Path) -> None:
    more = "parameters = { seed = 7 }\nmax_concurrency = 10\ncatchup = true\nenabled = false\n"
    (schedule,) = read(tmp_path, EXPERIMENT + TABLE + more).schedules
    assert schedule.parameters == {"seed": 7}
    assert (schedule.max_concurrency, schedule.catchup, schedule.enabled) == (10, True, False)


def test_a_server_may_have_another_time_zone(tmp_path: Path) -> None:
    text = f'{EXPERIMENT}server_time_zone = "Asia/Tokyo"{TABLE.replace("UTC", "Asia/Tokyo")}'
    assert read(tmp_path, text).schedules[0].cron == "0 0 3 * * mon"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("0 3", "0 4", False),
        ('"UTC"', '"UTC"\nparameters = { seed = 1 }', False),
        ('"UTC"', '"UTC"\nmax_concurrency = 2', False),
        ('"UTC"', '"UTC"\ncatchup = true', False),
        ('"UTC"', '"UTC"\nenabled = false', True),
        ("weekly", "other", True),
    ],
)
def test_a_digest_is_of_what_cannot_be_edited(tmp_path: Path, old: str, new: str, same: bool) -> None:
    (before,) = read(tmp_path, EXPERIMENT + TABLE).schedules
    (after,) = read(tmp_path, EXPERIMENT + TABLE.replace(old, new)).schedules
    assert (before.digest == after.digest) is same


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("experiment = ", "schedules.toml is not TOML"),
        (TABLE, "experiment is missing; give it"),
        (f"experiment = 1\n{TABLE}", "experiment is 1; give a text"),
        (f"{EXPERIMENT}[schedule]\n", "schedule is a table; give a list"),
        (f"{EXPERIMENT}[[schedules]]\n", "schedules is unknown (did you mean 'schedule'?)"),
        (f"{EXPERIMENT}{TABLE}{TABLE}", "two schedules are named 'weekly'; give each a name of its own"),
        (f"{EXPERIMENT}[[schedule]]\n", "[[schedule]] number 1: name is missing; give it"),
        (f"{EXPERIMENT}{TABLE}crno = 1", "[[schedule]] 'weekly': crno is unknown (did you mean 'cron'?); allowed"),
        (f"{EXPERIMENT}{TABLE}catchup = 1", "catchup is 1; give true or false"),
        (f"{EXPERIMENT}{TABLE}max_concurrency = true", "max_concurrency is True; give a whole number"),
        (f"{EXPERIMENT}{TABLE}max_concurrency = 11", "max_concurrency is 11; give a number of at most 10"),
        (f"{EXPERIMENT}{TABLE}max_concurrency = 0", "max_concurrency is 0; give a number of at least 1"),
        (f"{EXPERIMENT}{TABLE}parameters = [1]", "parameters is [1]; give a table"),
        (f"{EXPERIMENT}{TABLE}parameters = {{ sed = 1 }}", "'weekly': pipeline tiny has no parameter 'sed'"),
        (f"{EXPERIMENT}{TABLE}parameters = {{ seed = 'x' }}", "parameter seed is 'x'; it must be a whole number"),
        (f"{EXPERIMENT}{TABLE}parameters = {{ items = [2026-01-01] }}", "it must be a JSON list"),
        (
            EXPERIMENT + TABLE.replace("weekly", "Weekly run"),
            "name is 'Weekly run'; give a text that matches ^[a-z0-9]",
        ),
        (EXPERIMENT + TABLE.replace("UTC", "Asia/Tokyo"), "'weekly': time zone Asia/Tokyo is not the server's, UTC"),
        (f'{EXPERIMENT}server_time_zone = "Asia/Tokyo"{TABLE}', "time zone UTC is not the server's, Asia/Tokyo"),
        (f"{EXPERIMENT}server_time_zone = 9{TABLE}", "server_time_zone is 9; give a text"),
        (EXPERIMENT + TABLE.replace("UTC", "Berlin"), "'weekly': time zone 'Berlin' is unknown"),
        (EXPERIMENT + TABLE.replace("0 3", "0"), "'weekly': cron is '0 * * mon'; it has 4 fields"),
        (EXPERIMENT + TABLE.replace("tiny.yaml", "none.yaml"), "none.yaml cannot be read"),
    ],
)
def test_a_wrong_file_is_reported(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none.toml cannot be read: No such file or directory; give a TOML file"):
        read_schedules(tmp_path / "none.toml", get_compiled)
