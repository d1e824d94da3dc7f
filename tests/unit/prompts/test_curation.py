import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sidlsg.prompts.plan import Execution
from sidlsg.prompts.rule_files import rules_with
from sidlsg.prompts.rules import BalanceRule, CurationRules, DuplicatesRule, ScoreRule
from sidlsg.prompts.shards import read_prompts
from sidlsg.runtime.errors import InputError
from sidlsg.stages.curate import curate
from sidlsg.storage.records import PromptSet

# These texts are alike.
RULES = CurationRules(duplicates=DuplicatesRule(similarity=0))
TEXTS = [f"a photo of dog number {i}" for i in range(50)]


def test_the_order_is_that_of_the_texts_digests(write_table, tmp_path):
    record = curate(write_table(TEXTS), tmp_path / "out", RULES, [])
    expected = sorted(TEXTS, key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    assert read_prompts(tmp_path / "out") == expected
    assert record.count == 50


def test_the_record_is_saved_and_its_digests_hold(write_table, tmp_path):
    source = write_table(TEXTS)
    record = curate(source, tmp_path / "out", RULES, ["a dog", "a cat"])
    assert PromptSet.load(tmp_path / "out") == record
    record.verify(tmp_path / "out")
    assert record.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert record.held_out_sha256 == hashlib.sha256(b"a dog\na cat\n").hexdigest()
    assert record.rules_sha256 != curate(source, tmp_path / "other", CurationRules(), []).rules_sha256
    assert [shard.path for shard in record.shards] == ["shards/00000.parquet"]


def test_stats_hold_the_funnel_and_the_lengths(write_table, tmp_path):
    curate(write_table(["a red dog", "one blue cat", "two very old cats", "x"]), tmp_path / "out", RULES, ["a red dog"])
    stats = json.loads((tmp_path / "out/stats.json").read_text())
    assert stats["prompts_by_words"] == {"3": 1, "4": 1}
    assert stats["prompts_by_tokens"] == {"3": 1, "4": 1}
    assert {s["name"]: (s["rows_in"], s["rows_out"]) for s in stats["funnel"]} == {
        "read": (4, 4),
        "text": (4, 4),
        "score": (4, 4),
        "unsafe_columns": (4, 4),
        "clean": (4, 4),
        "language": (4, 4),
        "unsafe_words": (4, 4),
        "junk": (4, 4),
        "length": (4, 3),
        "duplicates": (3, 3),
        "tokens": (3, 3),
        "held_out": (3, 2),
        "held_out_near": (2, 2),
    }
    assert stats["dropped"] == {"length": [["x", "1 words"]], "held_out": [["a red dog", ""]]}


def test_the_best_of_equal_rows_stays_with_its_own_text_and_score(write_table, tmp_path):
    source = write_table(["A  Red Dog", "a red dog", "A RED DOG", "a red Dog"], [6.25, 7.0, 8.0, 8.0])
    curate(source, tmp_path / "out", RULES, [])
    assert pq.read_table(tmp_path / "out/shards/00000.parquet").to_pylist() == [
        {"id": 0, "text": "A RED DOG", "tokens": 3, "score": 8.0, "source": "in"}
    ]
    assert pq.read_table(tmp_path / "out/origins/00000.parquet").to_pylist() == [
        {"id": 0, "file": "in.parquet", "row": 2, "copies": 4}
    ]


def test_a_duplicate_below_the_score_cut_does_not_count(write_table, tmp_path):
    curate(write_table(["a red dog", "a red dog"], [1.0, 7.0]), tmp_path / "out", RULES, [])
    (origin,) = pq.read_table(tmp_path / "out/origins/00000.parquet").to_pylist()
    assert (origin["row"], origin["copies"]) == (1, 1)


def test_cuts_are_separate_sets_in_the_same_order(write_table, tmp_path):
    scores = [6.0 + i / 50 for i in range(50)]
    source = write_table(TEXTS, scores)
    whole = curate(source, tmp_path / "out", RULES, [], Execution(rows_per_shard=20))
    score = dict(zip(TEXTS, scores, strict=True))
    for cut, folder in ((6.25, "cuts/6.25"), (6.5, "cuts/6.5")):
        record = PromptSet.load(tmp_path / "out" / folder)
        record.verify(tmp_path / "out" / folder)
        assert record.minimum_score == cut
        assert record.funnel == whole.funnel
        expected = [text for text in read_prompts(tmp_path / "out") if score[text] >= cut]
        assert read_prompts(tmp_path / "out" / folder) == expected
        table = pq.read_table(tmp_path / "out" / folder / "shards")
        assert table["id"].to_pylist() == list(range(len(expected)))


def test_without_scores_there_are_no_cuts(tmp_path):
    (tmp_path / "in.txt").write_text("a red dog\na blue cat\n")
    rules = CurationRules(score=ScoreRule(enabled=False))
    curate(tmp_path / "in.txt", tmp_path / "out", rules, [])
    assert not (tmp_path / "out/cuts").exists()
    assert pq.read_table(tmp_path / "out/shards/00000.parquet")["score"].to_pylist() == [None, None]


def test_lengths_are_balanced_by_the_sets_order(write_table, tmp_path):
    texts = [f"a photo of dog number {i}" for i in range(30)] + [f"one {i} two" for i in range(5)]
    source = write_table(texts)
    no_similar = DuplicatesRule(similarity=0)
    curate(source, tmp_path / "all", CurationRules(duplicates=no_similar), [])
    balanced = CurationRules(duplicates=no_similar, balance=BalanceRule(maximum_per_bin=10, bin_tokens=5))
    record = curate(source, tmp_path / "out", balanced, [])
    assert record.funnel[-1].name == "balance"
    found = read_prompts(tmp_path / "out")
    long = [text for text in read_prompts(tmp_path / "all") if text.startswith("a photo")]
    assert [text for text in found if text.startswith("a photo")] == long[:10]
    assert len(found) == 15


def test_another_seed_gives_another_order_of_the_same_texts(write_table, tmp_path):
    source = write_table(TEXTS)
    curate(source, tmp_path / "one", RULES, [])
    curate(source, tmp_path / "two", rules_with({"duplicates.similarity": 0, "order.seed": 1}), [])
    one, two = read_prompts(tmp_path / "one"), read_prompts(tmp_path / "two")
    assert one != two
    assert sorted(one) == sorted(two)


def test_near_duplicates_leave_the_first_of_their_group(write_table, tmp_path):
    texts = [f"{start} beautiful landscape with mountains and a lake" for start in ("a", "the", "one", "a very")]
    record = curate(write_table([*texts, "something else entirely"]), tmp_path / "out", CurationRules(), [])
    assert (record.funnel[-1].name, record.funnel[-1].rows_in, record.funnel[-1].rows_out) == ("near_duplicates", 5, 2)
    first = min(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
    assert set(read_prompts(tmp_path / "out")) == {first, "something else entirely"}
    stats = json.loads((tmp_path / "out/stats.json").read_text())
    assert stats["largest_groups"] == [[4, first]]
    assert {why for _, why in stats["dropped"]["near_duplicates"]} == {f"like: {first}"}


def test_the_manifest_names_inputs_and_outputs_with_their_digests(write_table, tmp_path):
    source = write_table(TEXTS)
    record = curate(source, tmp_path / "out", RULES, ["a cat"])
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    (entry,) = manifest["inputs"]
    assert (entry["name"], entry["rows"], entry["sha256"]) == ("in.parquet", 50, record.source_sha256)
    for output in manifest["outputs"]:
        data = (tmp_path / "out" / output["path"]).read_bytes()
        assert (output["sha256"], output["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert manifest["bad_files"] == []
    assert rules_with(manifest["rules"]) == RULES


def test_same_input_gives_same_bytes(write_table, tmp_path):
    source = write_table(TEXTS)
    for name in ("one", "two"):
        curate(source, tmp_path / name, RULES, ["a dog"], Execution(rows_per_shard=20))
    files = [
        {p.relative_to(tmp_path / name).as_posix(): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("one", "two")
    ]
    assert files[0] == files[1]
    assert sorted(name for name in files[0] if not name.startswith("cuts/")) == [
        "manifest.json",
        "origins/00000.parquet",
        "origins/00001.parquet",
        "origins/00002.parquet",
        "prompt_set.json",
        "shards/00000.parquet",
        "shards/00001.parquet",
        "shards/00002.parquet",
        "stats.json",
        "summary.html",
        "summary.md",
    ]


def test_shards_split_the_same_order(write_table, tmp_path):
    source = write_table(TEXTS)
    curate(source, tmp_path / "one", RULES, [])
    record = curate(source, tmp_path / "many", RULES, [], Execution(rows_per_shard=7))
    assert len(record.shards) == 8
    assert read_prompts(tmp_path / "many") == read_prompts(tmp_path / "one")


def test_an_earlier_output_is_replaced(write_table, tmp_path):
    curate(write_table(TEXTS), tmp_path / "out", RULES, [], Execution(rows_per_shard=10))
    curate(write_table(TEXTS[:3]), tmp_path / "out", RULES, [])
    assert len(read_prompts(tmp_path / "out")) == 3
    assert [p.name for p in (tmp_path / "out/shards").iterdir()] == ["00000.parquet"]


@pytest.mark.parametrize(
    ("texts", "scores", "message"),
    [
        ([], [], "have no rows"),
        (["a red dog"], [5.0], "rule 'score': none of the 1 .* a score of at least 6;"),
        (["a red dog"], [None], "rule 'score'"),
        (["www.example.invalid", " "], None, "rule 'clean': none of the 2"),
        ([None], None, "rule 'text': none of the 1"),
        (["dog", "red dog"], None, "rule 'length': none of the 2 .* 3 to 60 words"),
        (["A held-out caption!", "a HELD out caption"], None, "rule 'held_out': none of the 2"),
    ],
)
def test_nothing_left_names_the_rule_and_writes_nothing(write_table, tmp_path, texts, scores, message):
    source = write_table(texts, scores)
    with pytest.raises(InputError, match=message) as caught:
        curate(source, tmp_path / "out", RULES, ["a held out caption"])
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [source]


def test_a_bad_source_writes_nothing_and_leaves_an_earlier_output(write_table, tmp_path):
    curate(write_table(TEXTS), tmp_path / "out", RULES, [])
    broken = tmp_path / "broken.parquet"
    broken.write_bytes((tmp_path / "in.parquet").read_bytes()[:-9])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="truncated or damaged"):
        curate(broken, tmp_path / "out", RULES, [])
    assert sorted(tmp_path.rglob("*")) == before
    assert len(read_prompts(tmp_path / "out")) == 50


def test_a_foreign_folder_is_left_alone(write_table, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds something else"):
        curate(write_table(TEXTS), tmp_path / "out", RULES, [])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_the_output_is_checked_before_the_source_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds something else"):
        curate(tmp_path / "none.parquet", tmp_path / "out", RULES, [])


def test_a_source_inside_the_output_is_not_destroyed(write_table, tmp_path):
    curate(write_table(TEXTS), tmp_path / "out", RULES, [])
    shard = tmp_path / "out/shards/00000.parquet"
    with pytest.raises(InputError, match="lies inside the output folder"):
        curate(shard, tmp_path / "out", RULES, [])
    assert shard.is_file()


def test_rows_per_shard_is_checked(write_table, tmp_path):
    with pytest.raises(InputError, match="rows_per_shard is 0"):
        curate(write_table(TEXTS), tmp_path / "out", RULES, [], Execution(rows_per_shard=0))


def test_a_large_table_streams_over_batches(tmp_path):
    path = tmp_path / "in.parquet"
    # More rows than one record batch, every text twice.
    texts = [f"a photo of thing {i % 40000}" for i in range(80000)]
    pq.write_table(pa.table({"TEXT": texts, "AESTHETIC_SCORE": pa.array([6.0] * 80000)}), path)
    record = curate(path, tmp_path / "out", RULES, [])
    assert record.count == 40000
    rows = pq.read_table(tmp_path / "out/origins/00000.parquet").to_pylist()
    found = read_prompts(tmp_path / "out")
    assert all(row["row"] < 40000 and found[row["id"]] == texts[row["row"]] for row in rows)


def test_an_output_inside_a_source_folder_is_refused(write_table, tmp_path):
    (tmp_path / "data").mkdir()
    write_table(TEXTS, name="data/in.parquet")
    with pytest.raises(InputError, match="lies inside the source"):
        curate(["web=" + str(tmp_path / "data")], tmp_path / "data" / "out", RULES, [])
    with pytest.raises(InputError, match="lies inside the source"):
        curate([str(tmp_path / "data")], tmp_path / "data" / "out", RULES, [])


def test_work_inside_a_source_folder_is_refused(write_table, tmp_path):
    (tmp_path / "data").mkdir()
    write_table(TEXTS, name="data/in.parquet")
    with pytest.raises(InputError, match=r"work .* lies inside the source"):
        curate([str(tmp_path / "data")], tmp_path / "out", RULES, [], Execution(work=str(tmp_path / "data" / "work")))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["in.parquet"]


def test_work_cannot_lie_in_a_file(write_table, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a part of that is a file; give a folder"):
        curate(write_table(TEXTS), tmp_path / "out", RULES, [], Execution(work=str(tmp_path / "file")))


@pytest.mark.parametrize("name", ["notes.txt", "shards/extra.txt", "cuts/mine/a.txt", "cuts/6.5/notes.txt"])
def test_other_files_in_an_earlier_set_are_not_deleted(write_table, tmp_path, name):
    source = write_table(TEXTS, [7.0] * len(TEXTS))
    curate(source, tmp_path / "out", RULES, [])
    (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(InputError, match=f"is an earlier set, and {name} is not part of it"):
        curate(source, tmp_path / "out", RULES, [])
    assert (tmp_path / "out" / name).read_text() == "mine"


@pytest.mark.parametrize("there", [True, False])
def test_a_linked_output_is_written_to_the_links_target(write_table, tmp_path, there):
    (tmp_path / "disk").mkdir()
    if there:
        (tmp_path / "disk" / "set").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "set")
    record = curate(write_table(TEXTS), tmp_path / "out", RULES, [])
    assert (tmp_path / "out").is_symlink()
    assert PromptSet.load(tmp_path / "disk" / "set") == record
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "in.parquet", "out"]


def test_a_column_that_is_named_must_be_somewhere(write_table, tmp_path):
    source = write_table(TEXTS)
    with pytest.raises(InputError, match=r"columns\.nsfw names 'NFSW', and no file has such a column"):
        curate(source, tmp_path / "out", rules_with({"columns.nsfw": "NFSW"}), [])
    assert not (tmp_path / "out").exists()
    # One file of several is enough.
    other = tmp_path / "other.parquet"
    columns = {"TEXT": ["a tree on the hill", "a boat on the lake"], "AESTHETIC_SCORE": [7.0, 7.0]}
    pq.write_table(pa.table({**columns, "NFSW": [" nsfw ", None]}), other)
    record = curate([str(source), str(other)], tmp_path / "out", rules_with({"columns.nsfw": "NFSW"}), [])
    (step,) = [step for step in record.funnel if step.name == "unsafe_columns"]
    assert step.rows_in - step.rows_out == 1


def test_a_language_that_is_not_known_is_refused_first(tmp_path):
    with pytest.raises(InputError, match="which the detector does not know"):
        curate(tmp_path / "none.parquet", tmp_path / "out", rules_with({"language.keep": "xx"}), [])
