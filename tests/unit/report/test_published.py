import pytest

from sidlsg.distil.recipes import Recipe, published_results
from sidlsg.report.contenders import Column, published_contenders
from sidlsg.storage.records import Published
from unit.report.cards import score

FID, CLIP = Column.of(score("fid", 9.0)), Column.of(score("clip", 0.3))
RECIPE = Recipe(
    name="one",
    scales={"kappa": 2},
    iterations=1,
    published=(
        Published(source="a paper", images_seen=4.8e6, fid=9.5, clip=0.31),
        Published(source="a paper", images_seen=9e6, fid=9.0, clip=0.305),
    ),
)


def test_rows_stand_in_the_columns_of_their_protocols():
    rows = published_contenders([FID, CLIP, Column.of(score("recall", 0.5))], {RECIPE.name: RECIPE.published})
    assert [(row.name, row.note, row.kind) for row in rows] == [
        ("one, 4.8 M", "published, 4.8 M images seen", "published"),
        ("one, 9 M", "published, 9 M images seen", "published"),
    ]
    assert [{c: (r.value, r.decimals) for c, r in row.readings.items()} for row in rows] == [
        {FID: (9.5, 2), CLIP: (0.31, 3)},
        {FID: (9.0, 2), CLIP: (0.305, 3)},
    ]


@pytest.mark.parametrize(
    "column",
    [
        Column.of(score("fid", 9.0, protocol="fid/coco2014-30k-sid-train")),
        Column.of(score("fid", 9.0, n=5_000)),
        Column.of(score("fid_judge", 3.0)),
        Column.of(score("clip", 0.3, protocol="clip/vit-b-32")),
    ],
)
def test_no_other_protocol_or_count_has_them(column):
    assert published_contenders([column], published_results()) == []


def test_one_column_alone_is_enough():
    rows = published_contenders([CLIP], {RECIPE.name: RECIPE.published})
    assert [list(row.readings) for row in rows] == [[CLIP], [CLIP]]


def test_of_two_references_none_is_theirs():
    other = Column.of(score("fid", 9.0, reference_digest="e" * 64))
    assert published_contenders([FID, other], {RECIPE.name: RECIPE.published}) == []


def test_every_published_result_of_the_recipes_is_found():
    rows = published_contenders([FID, CLIP], published_results())
    assert len(rows) == 9
    assert {row.name: row.readings[FID].value for row in rows}["sd15, 18.8 M"] == 8.15
