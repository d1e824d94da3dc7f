import re
from pathlib import Path

import pytest

from sidlsg.evaluate.published import PROTOCOLS
from sidlsg.evaluate.weights import parse_weights
from sidlsg.registry.gate_rule_file import parse_gate_rules
from sidlsg.runtime.errors import InputError
from sidlsg.webhooks.ledger import ALIAS, CREATED, TAG, Event
from sidlsg.webhooks.rules import read_table

DOCS = Path(__file__).parents[3] / "docs"
RULE = '[[on]]\nname = "n"\nevent = "model_version.created"\n'
RUN = '[on.run]\npipeline = "p"\n'
TEACHER = Event(kind=CREATED, model="sd15-teacher", version="3")
TAGS = {"teacher_sha256": "ab", "place": "s3://b/{model}"}


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "triggers.toml"
        path.write_text(text)
        return read_table(path)

    return read


@pytest.fixture
def table(read):
    return read(re.search(r"```toml\n(.*?)```", (DOCS / "triggers.md").read_text(), re.DOTALL)[1])


def test_a_new_teacher_is_distilled_and_its_tags_are_no_templates(table):
    (cause,) = table.causes(TEACHER, TAGS, "run 1")
    assert cause.action["run"]["pipeline"] == "distil-and-evaluate"
    assert cause.action["run"]["parameters"]["teacher"] == "s3://b/{model}"


def test_a_new_teacher_is_judged_by_what_its_files_can_score(table):
    (cause,) = table.causes(TEACHER, TAGS, "run 1")
    given = cause.action["run"]["parameters"]
    protocols = [PROTOCOLS[name] for name in given["protocols"].split(",")]
    assert {name for protocol in protocols for name in protocol.files} == set(parse_weights(given["weights"]))
    (floor,) = parse_gate_rules(given["gate_rules"]).floors
    assert floor.score in {score for protocol in protocols for score in protocol.scores}


def test_a_champion_is_rolled_out(read):
    table = read(re.search(r"```toml\n(.*?)```", (DOCS / "rollouts.md").read_text(), re.DOTALL)[1])
    champion = Event(kind=ALIAS, model="sd15", version="2", alias="champion")
    (cause,) = table.causes(champion, {}, "run 1 change 4")
    wanted = {"model": "sd15", "version": "2", "alias": "champion", "to": "s3://serving/students"}
    wanted |= {"service": "champion", "namespace": "sidlsg-serving", "canary_percent": 10, "ready_minutes": 60.0}
    assert cause.action == {"serve": wanted}
    assert table.on[0].action == "serves the model on champion, from s3://serving/students"


SERVE = '[[on]]\nname = "n"\nevent = "model_version_alias.created"\nalias = "champion"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SERVE + 'serve = { to = "s3://b", service = "s" }\n', "of one model; give its name"),
        (SERVE + 'model = "m-*"\nserve = { to = "s3://b", service = "s" }\n', "of one model; give its name"),
        (RULE + 'model = "m"\nserve = { to = "s3://b", service = "s" }\n', "'serve' belongs to the event"),
        (SERVE + 'model = "m"\nserve = { to = "/srv", service = "s" }\n', "give s3://BUCKET/PREFIX"),
        (SERVE + 'model = "m"\nserve = { to = "s3://b", service = "s", canary_percent = 100 }\n', "canary_percent"),
        (
            SERVE + 'model = "m"\nserve = { to = "s3://b", service = "s", canary = 5 }\n',
            "did you mean 'canary_percent'",
        ),
        (SERVE + 'model = "m"\nserve = { to = "s3://b" }\n', "service is missing"),
        (
            SERVE + 'model = "m"\ncopy = { to = "s3://b" }\nserve = { to = "s3://b", service = "s" }\n',
            "one of 'run', 'copy' and 'serve'",
        ),
    ],
)
def test_a_rollout_that_cannot_be_is_named(read, text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read(text)


def test_a_candidate_is_evaluated_and_a_champion_copied(table):
    candidate = Event(kind=ALIAS, model="sidlsg-tiny", version="3", alias="candidate")
    (cause,) = table.causes(candidate, {}, "run 1")
    given = {"model_name": "sidlsg-tiny", "version": "3"}
    assert cause.action["run"]["parameters"] == given
    event = {"kind": ALIAS, "model": "sd15", "version": "2"}
    (copy,) = table.causes(Event(**event, alias="champion"), {}, "run 1 change 4")
    assert copy.action == {
        "copy": {"model": "sd15", "version": "2", "alias": "champion", "to": "s3://serving/students"}
    }
    assert table.causes(Event(**event, alias="other"), {}, "run 1") == []


def test_a_new_prompt_set_is_a_cause(table):
    (watch,) = table.watch
    assert watch.cause("d1").action["run"]["parameters"]["prompts"] == f"{watch.place}/shards"
    assert watch.cause("d1").name == watch.cause("d1").name != watch.cause("d2").name


def test_the_name_is_of_the_cause_alone(table):
    def name(version="3", tags=TAGS, mark="run 1"):
        return table.causes(Event(kind=CREATED, model="sd15-teacher", version=version), tags, mark)[0].name

    assert name() == name(tags={**TAGS, "place": "elsewhere"})
    assert len({name(), name(version="4"), name(mark="run 2")}) == 3


def test_a_tag_that_was_set_counts_with_its_value(read):
    table = read(f'[[on]]\nname = "n"\nevent = "{TAG}"\ntag = "ready"\n{RUN}')
    event = Event(kind=TAG, model="m", version="1", tag="ready")
    assert table.causes(event, {"ready": "1"}, "")[0].name != table.causes(event, {"ready": "2"}, "")[0].name
    assert table.causes(Event(kind=TAG, model="m", version="1", tag="other"), {"other": "1"}, "") == []


def test_a_version_without_the_tags_is_none_of_the_rules(table):
    assert table.causes(TEACHER, {"teacher_sha256": "ab"}, "") == []


def test_what_a_version_may_have_had(table):
    assert table.possible("sd15-teacher", "3", TAGS, []) == [TEACHER]
    (found,) = table.possible("sd15", "2", {}, ["champion", "other"])
    assert found == Event(kind=ALIAS, model="sd15", version="2", alias="champion")


def test_a_tag_that_is_gone_since_it_was_set_is_no_cause(read):
    table = read(f'[[on]]\nname = "n"\nevent = "{TAG}"\ntag = "ready"\n{RUN}parameters = {{ r = "{{tag.ready}}" }}')
    event = Event(kind=TAG, model="m", version="1", tag="ready")
    assert table.causes(event, {"ready": "1"}, "")[0].action["run"]["parameters"] == {"r": "1"}
    assert table.causes(event, {}, "") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("on = 3 3", "not TOML"),
        ("", "there is no rule"),
        (RULE, "one of 'run', 'copy' and 'serve'"),
        (RULE + RUN + '[on.copy]\nto = "x"\n', "one of 'run', 'copy' and 'serve'"),
        (RULE + '[on.copy]\nto = "ftp://x"\n', "'to' is 'ftp://x'"),
        (RULE + "alais = 1\n" + RUN, "[[on]] 'n': alais is unknown (did you mean 'alias'?); allowed: name, event,"),
        (RULE + RUN + "x = 1", "[[on]] 'n': run.x is unknown; allowed: pipeline, version, parameters"),
        ("[[of]]\n", "of is unknown"),
        ("[[on]]\n" + RUN, "[[on]] number 1: name is missing; give it"),
        (RULE + 'alias = "x"\n' + RUN, "'alias' belongs"),
        (RULE + 'tag = "x"\n' + RUN, "'tag' belongs"),
        (RULE + RUN + 'parameters = { t = "{x.__class__}" }', "here are {model}, {version}"),
        (RULE + RUN + 'parameters = { t = "{alias}" }', "{alias} in 't'; here are {model}, {version}"),
        (RULE + RUN + 'parameters = { t = "{tag.x}" }', "put that tag into the rule's 'tags'"),
        (2 * (RULE + RUN), "two rules are named 'n'"),
        ('[[watch]]\nname = "w"\nplace = "p"\n[watch.run]\npipeline = "p"\nparameters = { t = "{model}" }', "{digest}"),
    ],
)
def test_mistakes_are_reported(read, text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read(text)
