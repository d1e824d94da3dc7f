"""A profile's file: read, and given the images of a release."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from sidlsg.cli import app as cli
from sidlsg.kubeflow.profile import IMAGES, seconds
from sidlsg.kubeflow.profile_file import read_images, read_profile, with_images
from sidlsg.runtime.errors import InputError

COMPONENTS = Path(__file__).parents[3] / "components"
DIGEST = "sha256:" + "1" * 64
IMAGE_LINES = "\n".join(f'{name} = "r.example/sidlsg-{name}@{DIGEST}"' for name in ("curate", "train", "evaluate"))


def write(folder: Path, text: str, images: str = IMAGE_LINES) -> Path:
    path = folder / "profile.toml"
    path.write_text(f"[images]\n{images}\n{text}")
    return path


def test_a_stage_has_the_defaults_and_what_its_own_table_says(tmp_path: Path) -> None:
    profile = read_profile(
        write(tmp_path, '[defaults]\ncpu = "2"\nretries = 1\n[stages.distil]\ncpu = "8"\ngpus = 2\n')
    )
    distil, gate = profile.stages["distil"], profile.stages["gate"]
    assert (distil.cpu, distil.gpus, distil.retries) == ("8", 2, 1)
    assert (gate.cpu, gate.gpus, gate.retries) == ("2", 0, 1)
    assert profile.image("encode") == f"r.example/sidlsg-train@{DIGEST}"


def test_every_component_is_a_stage_with_an_image() -> None:
    components = {each.parent.name.replace("_", "-") for each in COMPONENTS.glob("*/component.py")}
    assert components == set(IMAGES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[stages.distill]\ngpus = 1", "stage 'distill' is unknown (did you mean 'distil'?)"),
        ("[default]\ncpu = '1'", "table 'default' is unknown (did you mean 'defaults'?)"),
        ("[stages.distil]\ngpu = 1", "stages.distil.gpu is unknown (did you mean 'gpus'?)"),
        ("[stages.distil]\ngpus = -1", "stages.distil.gpus is -1; give a number of at least 0"),
        ("[stages.distil]\ngpus = '1'", "stages.distil.gpus is '1'; give a whole number"),
        ("[stages.gate]\nmemory = '4 GB'", "stages.gate.memory is '4 GB'; give a size, such as"),
        ("[stages.gate]\ncpu = '0.5m'", "stages.gate.cpu is '0.5m'; give a number of processors"),
        ("[stages.gate]\ntimeout = '90'", "stages.gate.timeout is '90'; give a time above 0 with its unit"),
        ("[defaults]\ntimeout = '0s'", "defaults.timeout is '0s'; give a time above 0 with its unit"),
        ("[run]\nttl = '1w'", "run.ttl is '1w'; give a time above 0"),
        ("[run]\ntll = '1d'", "run.tll is unknown (did you mean 'ttl'?)"),
        ("[stages.gate]\nnodes = 2", "gate has 2 nodes; only distil uses more than one"),
        ("[stages.encode]\nrestarts = 2", "stages.encode has restarts, and only distil is restarted"),
        ("[stages.distil]\nrestart_wait = '5'", "stages.distil.restart_wait is '5'; give a time above 0"),
        ("[stages.evaluate]\ngpus = 2", "evaluate has 2 GPUs; only distil uses more than one"),
        ("[stages.distil]\nnodes = 2", "distil has 2 nodes, and its handover is ''"),
        ("[stages.distil]\nnodes = 2\nhandover = 's3://'", "its handover is 's3://'"),
        ("[stages.distil]\nnodes = 2\nhandover = '/data/x'", "its handover is '/data/x'"),
        (
            "[defaults]\ntimeout = '2d'\n[stages.distil]\nnodes = 2\nhandover = 's3://bucket/h'",
            "distil-nodes, which waits for distil's nodes, has 2d, and they have 2d",
        ),
        ("[defaults]\ntimeout = ''", "defaults.timeout is ''"),
        ("[defaults]\nmemory = ''", "defaults.memory is ''"),
        ("[defaults]\nmemory = '0.3'", "defaults.memory is '0.3'"),
        ("[defaults]\ncpu = ''", "defaults.cpu is ''"),
        ("[defaults]\ncpu = '0'", "defaults.cpu is '0'"),
        ("[defaults]\ncpu = '٣'", "defaults.cpu is '٣'"),
        ("[defaults]\ncpu = '2'\ncpu_limit = '1'", "cpu_limit 1 is below cpu 2"),
        ("[defaults]\nmemory = '1Gi'\nshm = '2Gi'", "shm 2Gi counts as memory"),
        ("[defaults]\nendpoints = 'e'\nendpoint_keys = []", "endpoints needs endpoint_keys"),
        ("[defaults]\ngpu_type = ''", "defaults.gpu_type is ''"),
        ("[defaults]\nlabels = { 'sidlsg.dev/stage' = 'gate' }", "sidlsg.dev/stage is set by the pipeline itself"),
        ("[defaults]\nlabels = { 'a b' = 'c' }", "'a b' = 'c' is not a valid Kubernetes label"),
        ("[defaults]\nenvironment = { SIDLSG_GPUS = '8' }", "SIDLSG_GPUS is set by the pipeline itself"),
        ("[defaults]\nenvironment = { AWS_SECRET_ACCESS_KEY = 'x' }", "looks secret"),
        ("[defaults]\nenvironment = { A = 'x' }\nsecrets.s = { A = 'a' }", "A is given twice"),
        ("[defaults]\nsecrets.s = { A = 'a' }\nsecrets.t = { A = 'b' }", "A is given twice"),
        ("[defaults]\nendpoints = 'e'\nendpoint_keys = ['A']\nenvironment = { A = 'x' }", "A is given twice"),
        ("[defaults]\nendpoints = 'e'\nendpoint_keys = ['A']\nsecrets.s = { A = 'a' }", "A is given twice"),
        ("[defaults]\nnode_selector = { 'a b' = 'c' }", "'a b' = 'c' is not a valid Kubernetes label"),
        ("[defaults]\nsecrets.s = { A = '' }", "give each variable the key"),
        ("[defaults]\nvolumes = [{ claim = 'c', path = '/tmp/' }]", "two volumes at /tmp"),
        ("[defaults]\nvolumes = [{ claim = '', path = '/x' }]", "defaults.volumes.0.claim is ''"),
        ("[defaults]\nqueue = 'A_b'", "defaults.queue is 'A_b'; give a name as Kubernetes has it"),
        ("[defaults]\nvolumes = [{ claim = 'c', path = 'x' }]", "defaults.volumes.0.path is 'x'"),
        ("[defaults]\ntolerations = [{ value = 'x' }]", 'operator "Equal" needs a key'),
        ("[defaults.secrets.s3]\n'A-B' = 'key'", "'A-B' is not a valid name of an environment variable"),
        ("[[stages]]\n", "stages is not a table"),
        ("cpu = 1\n[defaults", "is not TOML"),
    ],
)
def test_a_mistake_is_reported_with_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_profile(write(tmp_path, text))
    assert message in str(caught.value)
    assert "profile.toml" in str(caught.value)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = "[stages.distil]\ngpus = -1\n[stages.gate]\nmemory = 'x'\n[run]\nttl = 'x'"
    with pytest.raises(InputError, match=r"run\.ttl.*; stages\.distil\.gpus.*; stages\.gate\.memory"):
        read_profile(write(tmp_path, text))


@pytest.mark.parametrize("image", ["sidlsg-train", "sidlsg-train:latest", "r.example/sidlsg-train:v1", DIGEST])
def test_an_image_that_is_not_named_by_digest_is_refused_with_the_reason(tmp_path: Path, image: str) -> None:
    with pytest.raises(InputError, match=r"images\.train is .*; a tag can move"):
        read_profile(write(tmp_path, "", IMAGE_LINES.replace(f"r.example/sidlsg-train@{DIGEST}", image)))


def test_an_image_that_is_not_one_of_the_project_s_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images\.trian is unknown \(did you mean 'train'\?\)"):
        read_profile(write(tmp_path, "", IMAGE_LINES.replace("train =", "trian =")))


def test_a_missing_image_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"images\.evaluate is missing; give it"):
        read_profile(write(tmp_path, "", IMAGE_LINES.rsplit("\n", 1)[0]))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.toml cannot be read: No such file"):
        read_profile(tmp_path / "absent.toml")


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("30m", 1800), ("12h", 43200), ("7d", 604800)])
def test_times(text: str, value: int) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "1", "1.5h", "-1s", "100000d", "h"])
def test_other_times(text: str) -> None:
    with pytest.raises(ValueError, match="with its unit"):
        seconds(text)


PROFILES = sorted((Path(__file__).parents[3] / "infra" / "profiles").glob("*.toml"))
NAMES = ("curate", "evaluate", "mlflow", "serve", "train", "trigger")
RELEASE = {name: f"ghcr.io/me/sidlsg-{name}@sha256:{format(number, 'x') * 64}" for number, name in enumerate(NAMES, 10)}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    file = tmp_path / "images.json"
    file.write_text(json.dumps(RELEASE))
    return file


def test_profiles_get_the_images_and_keep_the_rest(
    tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(PROFILES) == 3
    copies = [Path(shutil.copy(each, tmp_path)) for each in PROFILES]
    monkeypatch.setattr(sys, "argv", ["sidlsg", "profile-images", "--images", str(release), *map(str, copies)])
    cli.main()
    assert capsys.readouterr().out == "".join(f"{copy}: changed\n" for copy in copies)
    for original, copy in zip(PROFILES, copies, strict=True):
        profile = read_profile(copy)
        images = (profile.image("curate"), profile.image("distil"), profile.image("gate"))
        assert images == (RELEASE["curate"], RELEASE["train"], RELEASE["evaluate"])
        before, after = original.read_text().splitlines(), copy.read_text().splitlines()
        assert len(before) == len(after)
        different = [old for old, new in zip(before, after, strict=True) if old != new]
        assert [line.split(" = ")[0] for line in different] == ["curate", "train", "evaluate"]
    cli.main()
    assert capsys.readouterr().out == "".join(f"{copy}: unchanged\n" for copy in copies)


def test_a_comment_behind_an_image_and_other_tables_stay(tmp_path: Path, release: Path) -> None:
    old = f'  "r/x@sha256:{"0" * 64}"'
    text = f"# top\n[ images ] # by digest\ntrain ={old}  # CUDA 13\ncurate ={old}\r\nevaluate={old}\n"
    other = '[stages.curate]\ncpu = "2"\n[defaults.environment]\ntrain = "yes"\n'
    (tmp_path / "p.toml").write_bytes(f"{text}{other}".encode())
    changed = with_images(tmp_path / "p.toml", read_images(release))
    assert changed is not None
    assert f'train =  "{RELEASE["train"]}"  # CUDA 13\n' in changed
    assert changed.startswith("# top\n[ images ] # by digest\n")
    assert changed.endswith(other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": None}, "train is missing"),
        ({"trian": RELEASE["train"]}, r"trian is unknown \(did you mean 'train'\?\)"),
        ({"train": "ghcr.io/me/sidlsg-train:v1"}, "train is 'ghcr.io/me/sidlsg-train:v1'; .*give NAME@sha256:"),
        ({"mlflow": 7}, "mlflow is 7"),
    ],
)
def test_images_that_cannot_be_used_are_refused(release: Path, change: dict[str, object], message: str) -> None:
    given = {name: image for name, image in {**RELEASE, **change}.items() if image is not None}
    release.write_text(json.dumps(given))
    with pytest.raises(InputError, match=message):
        read_images(release)


@pytest.mark.parametrize(
    "text",
    [
        'images = { curate = "a", train = "b", evaluate = "c" }\n',
        '[images]\ncurate = "a"\ntrain = "b"\n',
        '[images]\ncurate = "a"\ntrain = "b"\nevaluate = """\nc"""\n',
    ],
)
def test_a_profile_that_is_written_otherwise_is_refused_and_stays(
    tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    good, odd = Path(shutil.copy(PROFILES[0], tmp_path)), tmp_path / "odd.toml"
    odd.write_text(text)
    monkeypatch.setattr(sys, "argv", ["sidlsg", "profile-images", "--images", str(release), str(good), str(odd)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "odd.toml: the images cannot be replaced; give each of curate, train, evaluate" in capsys.readouterr().err
    assert odd.read_text() == text
    assert good.read_text() == PROFILES[0].read_text()
