import json

import pytest

from sidlsg.runtime.errors import InputError
from sidlsg.stages.sweep import SETTINGS, parse_setting, parse_settings, plan_changes, setting_of


@pytest.mark.parametrize(
    ("text", "written", "folder", "kappas"),
    [
        ("none", "none", "none", (1, 1, 1, 1)),
        (" lsg   kappa=1.50 ", "lsg kappa=1.5", "lsg-kappa-1.5", (1.5, 1.5, 1.5, 1.5)),
        ("long kappa4=2", "long kappa4=2", "long-kappa4-2", (1, 1, 1, 2)),
        ("short kappa_eval=5e-1", "short kappa_eval=0.5", "short-kappa_eval-0.5", (1, 0.5, 0.5, 1)),
        ("anti_cfg kappa=-1", "anti_cfg kappa=-1", "anti_cfg-kappa--1", (-1, -1, -1, 1)),
    ],
)
def test_a_setting_is_a_strategy_with_its_scales(
    text: str, written: str, folder: str, kappas: tuple[float, ...]
) -> None:
    setting = parse_setting(text)
    assert (setting.text, setting.folder, setting.guidance.scales) == (written, folder, kappas)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a setting is empty; give a strategy and its scales, such as 'lsg kappa=1.5'"),
        ("  ", "a setting is empty"),
        ("lsg 1.5", "setting 'lsg 1.5' has '1.5', which is not NAME=NUMBER"),
        ("lsg kappa=high", "'kappa=high', which is not NAME=NUMBER"),
        ("lsg kappa=1 kappa=2", "gives kappa twice"),
        ("lsgg kappa=1", r"setting 'lsgg kappa=1': guidance strategy 'lsgg' is unknown \(did you mean 'lsg'\?\)"),
        ("lsg", "setting 'lsg': strategy 'lsg' needs kappa"),
        ("none kappa=1", "setting 'none kappa=1': strategy 'none' has no scale 'kappa'"),
        ("lsg kappa=nan", "kappa1 is nan"),
        ("lsg kappa=inf", "kappa1 is inf"),
    ],
)
def test_each_mistake_in_a_setting_is_reported(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_setting(text)


def test_a_setting_is_added_to_the_other_changes() -> None:
    made = plan_changes(["long kappa4=2"], "tiny", '{"iterations": 400}')
    assert made == [{"iterations": 400, "strategy": "long", "scales": {"kappa4": 2.0}}]
    # A cache compares the text.
    same = plan_changes(["long  kappa4=2.0"], "tiny", '{ "iterations":400 }')
    assert json.dumps(same) == json.dumps(made) == json.dumps(made, sort_keys=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ('{"strategy": "none"}', "replace strategy, which a sweep's settings do"),
        ('{"scales": {}, "strategy": "none"}', "replace strategy and scales"),
        ("[]", "not a JSON object"),
    ],
)
def test_changes_that_say_what_settings_say_are_refused(changes: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_changes(["none"], "tiny", changes)


def test_the_default_settings_can_be_planned() -> None:
    assert [each["strategy"] for each in plan_changes(SETTINGS, "tiny", "{}")] == [
        *("none", "long", "short"),
        *["lsg"] * 5,
    ]


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ((), "{}", "without settings"),
        (("none", "lsg kappa=1"), "{}", "'none' and 'lsg kappa=1' mean the same, κ1..κ4 = 1, 1, 1, 1; give one"),
        (("none", "lsg"), "{}", "needs kappa"),
        (("none",), '{"iterations": 0}', "iterations is 0"),
        (("none",), '{"iteration": 1}', "has no value 'iteration'"),
    ],
)
def test_a_plan_is_checked_as_a_whole(settings: tuple[str, ...], changes: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_changes(settings, "tiny", changes)


def test_a_student_s_setting_follows_from_its_kappas() -> None:
    settings = parse_settings(("none", "lsg kappa=1.5"))
    assert setting_of((1.5, 1.5, 1.5, 1.5), settings).text == "lsg kappa=1.5"
    assert setting_of((1.0, 1, 1.0, 1), settings).text == "none"
    with pytest.raises(InputError, match=r"κ1..κ4 = 2, 2, 2, 2 belongs to no setting .* are: 'none', 'lsg kappa=1.5'"):
        setting_of((2, 2, 2, 2), settings)
    with pytest.raises(InputError, match="unknown κ"):
        setting_of(None, settings)
