"""The bundled domains: their captions, names and sizes are unlike, and a teacher's is found by its captions."""

from __future__ import annotations

import numpy as np
import pytest

from sidlsg.bundled.domain import Domain
from sidlsg.bundled.domains import DOMAINS, SCENES, SHAPES, domain_named, domain_of, domain_of_size
from sidlsg.bundled.training import RECIPES
from sidlsg.runtime.errors import InputError

each = pytest.mark.parametrize("domain", DOMAINS.values(), ids=list(DOMAINS))


@each
def test_training_and_evaluation_share_no_caption(domain: Domain) -> None:
    every, training, held_out = domain.all_captions(), domain.training_captions(), domain.held_out_captions()
    assert not set(training) & set(held_out)
    assert set(training) | set(held_out) <= set(every)
    assert all(domain.has(caption.text) for caption in held_out)


@each
def test_choices_make_captions_and_are_read_from_them(domain: Domain) -> None:
    for caption in domain.held_out_captions()[:20]:
        values = domain.values(f" {caption.text.upper()}")
        assert len(values) == len(domain.choices)
        assert domain.form.format(*values) == caption.text
        assert domain.objection(caption.text) == ""
    excluded = domain.form.format(*(values[0] for values in domain.choices.values()))
    assert domain.values(excluded)
    assert "must differ" in domain.objection(excluded)
    assert domain.values("a photograph") == ()
    assert domain.objection("a photograph") == ""
    assert domain.has(domain.example.text)


@each
def test_a_domain_is_found_by_its_images_size(domain: Domain) -> None:
    assert domain_of_size(domain.image_size) is domain
    assert domain_of_size(512) is None


@each
def test_labels_are_one_value_of_each_attribute(domain: Domain) -> None:
    for caption in domain.held_out_captions():
        assert len(caption.labels) == len(domain.attributes)
        assert all(0 <= i < len(v) for i, v in zip(caption.labels, domain.attributes.values(), strict=True))


@each
def test_batches_are_functions_of_seed_stream_and_iteration(domain: Domain) -> None:
    captions = domain.held_out_captions()
    chosen, pixels = domain.batch(captions, 0, "test", 3, 4)
    assert pixels.shape == (4, 3, domain.image_size, domain.image_size)
    assert -1 <= pixels.min() < pixels.max() <= 1
    again, same = domain.batch(captions, 0, "test", 3, 4)
    assert again == chosen
    assert np.array_equal(same, pixels)
    for other in ((1, "test", 3), (0, "tests", 3), (0, "test", 4)):
        assert not np.array_equal(domain.batch(captions, *other, 4)[1], pixels)


def test_a_domain_is_found_by_its_captions_and_its_size() -> None:
    for domain in DOMAINS.values():
        texts = [caption.text for caption in domain.held_out_captions()[:3]]
        assert domain_of(texts, domain.image_size) is domain
        assert domain_of([*texts, "a horse"], domain.image_size) is None
        assert domain_of(texts, 512) is None
    assert domain_of([SHAPES.held_out_captions()[0].text], SCENES.image_size) is None


def test_each_has_a_recipe_and_a_name() -> None:
    assert RECIPES.keys() == DOMAINS.keys()
    assert domain_named("scenes") is SCENES
    with pytest.raises(InputError, match=r"domain 'scene' is unknown.*scenes.*allowed: shapes, scenes"):
        domain_named("scene")
