import re
from pathlib import Path

import pytest

from sidlsg.errors import InputError
from sidlsg.trigger.service.event import Event
from sidlsg.trigger.service.table import read_table

DOC = Path(__file__).parents[4] / "docs/triggers.md"
RULE = '[[on]]\nname = "n"\nevent = "model_version.created"\n'
RUN = '[on.run]\npipeline = "p"\n'
TEACHER = Event(
    kind="model_version.created",
    model="teacher-a",
    version="3",
    tags={"teacher_sha256": "ab", "place": "s3://b/{model}"},
)


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "triggers.toml"
        path.write_text(text)
        return read_table(path)

    return read


@pytest.fixture
def table(read):
    return read(re.search(r"```toml\n(.*?)```", DOC.read_text(), re.DOTALL)[1])


def test_a_new_teacher_is_distilled_and_its_tags_are_no_templates(table):
    (intent,) = table.intents(TEACHER)
    assert intent.pipeline == "distil-and-evaluate"
    assert intent.parameters == {"teacher": "s3://b/{model}@sha256:ab", "seed": 0}


def test_a_candidate_is_evaluated_and_another_alias_is_not(table):
    event = {"kind": "model_version_alias.created", "model": "sidlsg-tiny", "version": "2"}
    (intent,) = table.intents(Event(**event, alias="candidate"))
    assert intent.parameters == {"model": "sidlsg-tiny", "version": "2"}
    assert table.intents(Event(**event, alias="champion")) == []


def test_the_cause_names_the_run(table):
    again = Event(kind=TEACHER.kind, model=TEACHER.model, version="4", tags=TEACHER.tags)
    assert table.intents(TEACHER)[0].name == table.intents(TEACHER)[0].name
    assert table.intents(TEACHER)[0].name != table.intents(again)[0].name


def test_a_version_without_the_tags_is_none_of_the_rules(table):
    assert table.intents(Event(kind=TEACHER.kind, model="teacher-a", version="3", tags={"place": "x"})) == []


def test_a_tag_that_a_parameter_needs_and_the_event_lacks_is_named(read):
    table = read(RULE + RUN + 'parameters = { t = "{tag.place}" }')
    with pytest.raises(InputError, match=r"needs \{tag\.place\}"):
        table.intents(Event(kind=TEACHER.kind, model="m", version="1"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("on = 3 3", "not TOML"),
        ("", "on: Field required"),
        (RULE, "run: Field required"),
        (RULE + "wrong = 1\n" + RUN, "wrong: Extra"),
        (RULE + 'alias = "x"\n' + RUN, "'alias' belongs"),
        (RULE + RUN + 'parameters = { t = "{x.__class__}" }', "allowed are {model}"),
        (2 * (RULE + RUN), "two rules are named 'n'"),
    ],
)
def test_mistakes_are_told(read, text, told):
    with pytest.raises(InputError, match=re.escape(told)):
        read(text)
