import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sidlsg.distil.recipes import recipe_with_changes
from sidlsg.runtime.errors import InputError
from sidlsg.stages.sweep import SETTINGS, parse_setting, parse_settings, plan_changes, setting_of
from sidlsg.storage.records import Scorecard, Student

STORED = Path(__file__).parents[1] / "stored" / "at_5dc9d93"


@pytest.mark.parametrize(
    ("text", "written", "folder", "changes"),
    [
        ("none", "none", "none", {"strategy": "none", "scales": {}}),
        (
            " lsg   kappa=1.50 ",
            "lsg kappa=1.5",
            "lsg-kappa-1.5",
            {"strategy": "lsg", "scales": {"kappa": 1.5}},
        ),
        ("long kappa4=2", "long kappa4=2", "long-kappa4-2", {"strategy": "long", "scales": {"kappa4": 2}}),
        (
            "short kappa_train=2 kappa_eval=5e-1",
            "short kappa_eval=0.5 kappa_train=2",
            "short-kappa_eval-0.5-kappa_train-2",
            {"strategy": "short", "scales": {"kappa_eval": 0.5, "kappa_train": 2}},
        ),
        (
            "anti_cfg kappa=-1",
            "anti_cfg kappa=-1",
            "anti_cfg-kappa--1",
            {"strategy": "anti_cfg", "scales": {"kappa": -1}},
        ),
        (
            "lsg steps=4.0 kappa=1.2",
            "lsg kappa=1.2 steps=4",
            "lsg-kappa-1.2-steps-4",
            {"strategy": "lsg", "scales": {"kappa": 1.2}, "steps": 4},
        ),
        (
            'none  step_noise=ddim precision="bf16" lr=2e-4',
            "none lr=0.0002 precision=bf16 step_noise=ddim",
            "none-lr-0.0002-precision-bf16-step_noise-ddim",
            {"strategy": "none", "scales": {}, "lr": 2e-4, "precision": "bf16", "step_noise": "ddim"},
        ),
        (
            'lsg kappa=1.2 adapter={"rank": 8, "alpha": 4}',
            'lsg kappa=1.2 adapter={"alpha":4,"rank":8}',
            "lsg-kappa-1.2-adapter-alpha-4-rank-8",
            {"strategy": "lsg", "scales": {"kappa": 1.2}, "adapter": {"rank": 8, "alpha": 4}},
        ),
    ],
)
def test_a_setting_is_a_strategy_with_its_scales_and_values_of_the_recipe(
    text: str, written: str, folder: str, changes: dict[str, Any]
) -> None:
    setting = parse_setting(text)
    assert (setting.text, setting.folder, setting.changes) == (written, folder, changes)
    assert parse_setting(written) == setting


def test_folders_of_unlike_settings_have_unlike_names_that_any_disk_takes() -> None:
    texts = [
        *('none adapter={"rank":8,"targets":["a-b"]}', 'none adapter={"rank":8,"targets":["a","b"]}'),
        *('none adapter={"rank":8,"targets":["../a"]}', 'none adapter={"rank":8}', "none adapter={}"),
        *(f'none adapter={{"rank":8,"targets":["{"a" * 300}{end}"]}}' for end in "bc"),
        "none " + " ".join(f"{name}=0.12345678901234567" for name in ("alpha", "lr", "fake_score_lr", "lr_floor")),
    ]
    folders = [parse_setting(text).folder for text in texts]
    assert len({folder.casefold() for folder in folders}) == len(texts)
    assert all(len(folder) <= 100 and not set(folder) & set('{}[]"/:, ') for folder in folders)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a setting is empty; give a strategy and its scales, such as 'lsg kappa=1.5 steps=4'"),
        ("  ", "a setting is empty"),
        ("lsg 1.5", "setting 'lsg 1.5': '1.5' is not NAME=VALUE; give a setting such as"),
        ("lsg kappa=high", "'kappa=high' is not NAME=NUMBER; give a scale such as kappa=1.5"),
        ("lsg kappa=1 kappa=2", "kappa is given twice"),
        ("lsg kappa=1 steps=2 steps=2", "steps is given twice"),
        ("lsgg kappa=1", r"setting 'lsgg kappa=1': guidance strategy 'lsgg' is unknown \(did you mean 'lsg'\?\)"),
        ("lsgg steps=1", r"'lsgg' is unknown"),
        ("lsg", "setting 'lsg': strategy 'lsg' needs kappa"),
        ("lsg steps=4", "setting 'lsg steps=4': strategy 'lsg' needs kappa"),
        ("none kappa=1", "'kappa' is neither a scale of strategy 'none' nor a value of the recipe"),
        (
            "lsg kapa=1",
            r"setting 'lsg kapa=1': 'kapa' is neither .*\(did you mean 'kappa'\?\); allowed: kappa, adam_eps",
        ),
        ("lsg kappa=1 setps=4", r"'setps' is neither .*\(did you mean 'steps'\?\)"),
        ("lsg kappa=1 scales={}", "'scales' is neither"),
        ("lsg kappa=1 strategy=none", "'strategy' is neither"),
        ("lsg kappa=1 name=mine", "'name' is neither"),
        ("lsg kappa=1 published=[]", "'published' is neither"),
        (
            "none micro_batch=8",
            "setting 'none micro_batch=8': micro_batch says how the machine is used and gives the same",
        ),
        ("none threads=2", "threads says how the machine is used .* set it for all settings, with --set"),
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


def test_a_setting_with_other_values_has_its_text_among_the_changes() -> None:
    (made,) = plan_changes(['none steps=2 adapter={"rank": 8}'], "tiny", '{"iterations": 400}')
    assert made == {
        "iterations": 400,
        "strategy": "none",
        "scales": {},
        "steps": 2,
        "adapter": {"rank": 8},
        "setting": 'none adapter={"rank":8} steps=2',
    }
    (same,) = plan_changes(['none  adapter={"rank":8.0}  steps=2.0'], "tiny", '{"iterations": 400}')
    assert json.dumps(same) == json.dumps(made)


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        (("none",), '{"strategy": "none"}', "replace strategy, which a sweep's settings do"),
        (("none",), '{"scales": {}, "strategy": "none"}', "replace strategy and scales"),
        (("none", "none steps=2"), '{"steps": 4}', "replace steps, which a sweep's settings do; leave them out"),
        (("none",), "[]", "not a JSON object"),
    ],
)
def test_changes_that_say_what_settings_say_are_refused(settings: tuple[str, ...], changes: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_changes(settings, "tiny", changes)


def test_the_default_settings_can_be_planned() -> None:
    assert [each["strategy"] for each in plan_changes(SETTINGS, "tiny", "{}")] == [
        *("none", "long", "short"),
        *["lsg"] * 5,
    ]


TERM = 'adversarial={"lambda_d":1,"lambda_g":0.1}'
SAME = "mean the same, κ1..κ4 = 1, 1, 1, 1 and equal other values; give one"


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ((), "{}", "without settings"),
        (("none", "lsg kappa=1"), "{}", f"'none' and 'lsg kappa=1' {SAME}"),
        (("none steps=4", "none", "lsg kappa=1 steps=4"), "{}", f"'none steps=4' and 'lsg kappa=1 steps=4' {SAME}"),
        # As the recipe has it, or the default of an adapter.
        (("none", "none steps=1"), "{}", f"'none' and 'none steps=1' {SAME}"),
        (("none lr=0.0005", "none"), "{}", SAME),
        (('none adapter={"rank":8}', 'none adapter={"rank":8,"alpha":8}'), "{}", SAME),
        (("none", "lsg"), "{}", "needs kappa"),
        (("none",), '{"iterations": 0}', "^iterations is 0"),
        (("none",), '{"iteration": 1}', "^Recipe has no value 'iteration'"),
        (("none", "none steps=9"), "{}", "setting 'none steps=9': steps is 9; allowed: 1 to 8"),
        (("none steps=many",), "{}", "setting 'none steps=many': steps is 'many'; it must be of kind int"),
        (('none adapter={"rnk":8}',), "{}", r"adapter has no value 'rnk' \(did you mean 'rank'\?\)"),
        (
            ("none batch=2",),
            '{"micro_batch": 4}',
            "setting 'none batch=2': micro_batch is 4; it is a part of the batch",
        ),
        ((f"none {TERM}",), "{}", "setting 'none adversarial=.*: all settings share the real images"),
        (("none adversarial={}",), '{"real_images": {"source": "a"}}', "each needs an adversarial term"),
    ],
)
def test_a_plan_is_checked_as_a_whole(settings: tuple[str, ...], changes: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan_changes(settings, "tiny", changes)


def test_settings_may_weigh_real_images_differently() -> None:
    texts = (f"none {TERM}", 'none adversarial={"lambda_d":2,"lambda_g":0.1}')
    assert len(plan_changes(texts, "tiny", '{"real_images": {"source": "a"}}')) == 2


def scored(values: Mapping[str, Any], *kappas: float) -> Scorecard:
    card = Scorecard.load(STORED / "scorecard")
    # As a record comes back from JSON.
    return replace(card, kappas=kappas or None, recipe_values=json.loads(json.dumps(values)))


def made(changes: str, recipe: str = "tiny") -> dict[str, Any]:
    return recipe_with_changes(recipe, changes).values()


def test_a_student_s_setting_follows_from_its_kappas_and_its_recipe() -> None:
    texts = ("none", "lsg kappa=1.5", "lsg kappa=1.5 steps=4", 'lsg kappa=1.5 adapter={"rank":4}')
    settings = parse_settings(texts, "tiny", '{"iterations": 2}')
    for text, changes in zip(texts, plan_changes(texts, "tiny", '{"iterations": 2}'), strict=True):
        changes.pop("setting", None)
        recipe = recipe_with_changes("tiny", json.dumps(changes))
        assert setting_of(scored(recipe.values(), *recipe.guidance.scales), settings).text == text
    # However its guidance was written, and whatever the machine.
    as_lsg = made('{"iterations": 2, "scales": {"kappa": 1}, "threads": 3}')
    assert setting_of(scored(as_lsg, 1, 1, 1, 1), settings).text == "none"
    for values, kappas, message in (
        (
            made('{"iterations": 2}'),
            (2, 2, 2, 2),
            "κ1..κ4 = 2, 2, 2, 2 belongs to no setting .* are: 'none', 'lsg kappa",
        ),
        (made('{"iterations": 2, "steps": 2}'), (1.5,) * 4, "1.5 with another steps belongs"),
        (made('{"iterations": 3}'), (1.5,) * 4, "1.5 with another iterations belongs"),
        (made('{"iterations": 2, "steps": 4}'), (1,) * 4, "1 with another steps belongs"),
        ({"source": "released"}, (1.5,) * 4, "1.5 with another recipe belongs"),
        ({}, (), "unknown κ belongs"),
    ):
        with pytest.raises(InputError, match=message):
            setting_of(scored(values, *kappas), settings)


def test_a_value_that_a_record_lacks_is_the_default_and_not_the_recipe_s() -> None:
    settings = parse_settings(("none", "none steps=1"), "tiny_4step", "{}")
    for text, changes in (("none", "{}"), ("none steps=1", '{"steps": 1}')):
        values = made(changes, "tiny_4step")
        assert ("steps" in values) is (text == "none")
        assert setting_of(scored(values, 1, 1, 1, 1), settings).text == text


def test_an_old_student_s_setting_is_found() -> None:
    student = Student.load(STORED / "student")
    assert not {"steps", "adapter", "checkpoint_minutes"} & student.recipe_values.keys()
    shared = json.dumps({"iterations": 4, "batch": 4, "threads": 2})
    settings = parse_settings(("lsg kappa=1.2 steps=2", "lsg kappa=1.2", "none"), "tiny", shared)
    assert setting_of(student, settings).text == "lsg kappa=1.2"


def test_a_scorecard_without_values_is_of_the_setting_of_guidance_alone() -> None:
    settings = parse_settings(("lsg kappa=1.2 steps=2", "lsg kappa=1.2", "none steps=2"), "tiny", "{}")
    assert setting_of(scored({}, 1.2, 1.2, 1.2, 1.2), settings).text == "lsg kappa=1.2"
    with pytest.raises(InputError, match="1 with another recipe belongs to no setting"):
        setting_of(scored({}, 1, 1, 1, 1), settings)
