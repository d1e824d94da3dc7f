"""Text states: those of the stock pipeline, each prompt encoded once, the empty one included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sidlsg.teacher.families.family import Configs
from sidlsg.teacher.families.sd import SD
from sidlsg.teacher.pipeline import load_pipeline
from sidlsg.teacher.text_encoder import ROWS, PromptEncoder

RED, BLUE, RING = (
    "a small red circle on a blue background",
    "a large blue square on a white background",
    "a small black ring on a yellow background",
)


@pytest.fixture(scope="module")
def pipeline(assets: Path) -> Any:
    return load_pipeline(assets / "tiny-sd")


class Counting:
    """The family's encoding, which remembers what it was asked, without the padding."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, pipeline: Any, prompts: Sequence[str], device: torch.device, configs: Configs) -> Any:
        self.asked.append(list(dict.fromkeys(prompts)))
        return SD.encode(pipeline, prompts, device, configs)


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def encode(pipeline: Any, counting: Counting) -> PromptEncoder:
    """Keeps the states of two prompts."""
    size = 4 * pipeline.tokenizer.model_max_length * pipeline.text_encoder.config.hidden_size
    return PromptEncoder(replace(SD, encode=counting), pipeline, {}, cache_bytes=3 * size - 1)


def test_embeddings_are_those_of_the_stock_pipeline(encode: PromptEncoder, pipeline: Any) -> None:
    cond, uncond = pipeline.encode_prompt([RED, BLUE], torch.device("cpu"), 1, True)
    assert torch.allclose(encode([RED, BLUE]), cond, atol=1e-6)
    assert torch.allclose(encode.uncond, uncond[:1], atol=1e-6)
    assert encode.uncond.shape == (1, pipeline.tokenizer.model_max_length, pipeline.text_encoder.config.hidden_size)


def test_an_embedding_does_not_depend_on_the_other_prompts_of_its_batch(encode: PromptEncoder) -> None:
    many = [f"a small {word} circle" for word in ("red", "blue", "black", "white", "green", "grey", "large")] * 3
    together = encode.encode(many)
    for place in (0, 15, 16, 20):
        assert torch.equal(encode.encode(many[place : place + 1])[0], together[place])
        assert torch.equal(encode.encode([RING, many[place]])[1], together[place])


def test_the_text_encoder_always_sees_as_many_prompts(
    encode: PromptEncoder, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = pipeline.text_encoder.forward

    def forward(ids: torch.Tensor, **options: Any) -> Any:
        seen.append(len(ids))
        return real(ids, **options)

    monkeypatch.setattr(pipeline.text_encoder, "forward", forward)
    assert len(encode.encode([RED])) == 1
    assert len(encode.encode([RED] * (2 * ROWS))) == 2 * ROWS
    assert len(encode.encode([RED] * (ROWS + 1))) == ROWS + 1
    assert seen == [ROWS] * 5


def test_embeddings_are_exact_inside_autocast(encode: PromptEncoder) -> None:
    exact = encode.encode([RED])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encode.encode([RED]), exact)


def test_embeddings_are_on_the_given_device_wherever_the_encoder_is(pipeline: Any) -> None:
    # The only other device that every machine has.
    encode = PromptEncoder(SD, pipeline, {}, device="meta")
    encode.offload()
    assert encode.text_encoders[0].device.type == "cpu"
    assert encode([RED, ""]).device.type == encode.uncond.device.type == "meta"


def test_the_order_is_that_of_the_prompts(encode: PromptEncoder) -> None:
    states = encode([BLUE, RED, "", BLUE])
    assert torch.equal(states[0], states[3])
    assert torch.equal(states[2], encode.uncond[0])
    for state, prompt in zip(states, [BLUE, RED, "", BLUE], strict=True):
        assert torch.allclose(state, encode([prompt])[0], atol=1e-6)
    assert not torch.allclose(states[0], states[1], atol=1e-3)


def test_a_prompt_is_encoded_once_and_the_cache_returns_the_same(encode: PromptEncoder, counting: Counting) -> None:
    first = encode([RED, RED, BLUE])
    again = encode([BLUE, RED])
    assert torch.equal(again[0], first[2])
    assert torch.equal(again[1], first[0])
    assert sorted(prompt for prompts in counting.asked for prompt in prompts) == sorted(["", RED, BLUE])


def test_the_empty_prompt_is_encoded_once(encode: PromptEncoder, counting: Counting) -> None:
    for _ in range(3):
        encode(["", ""])
    assert counting.asked == [[""]]


def test_the_least_recently_used_prompt_is_forgotten(encode: PromptEncoder, counting: Counting) -> None:
    for prompt in (RED, BLUE, RED, RING):  # the third use makes BLUE the oldest when RING needs its place
        encode([prompt])
    counting.asked.clear()
    encode([RED])
    encode([RING])
    assert counting.asked == []
    encode([BLUE])
    assert counting.asked == [[BLUE]]


def test_more_prompts_than_fit_are_encoded_all_the_same(encode: PromptEncoder, counting: Counting) -> None:
    states = encode([RED, BLUE, RING, RED])
    assert len(states) == 4
    assert len(encode._cached) == 2
    assert torch.equal(states[0], states[3])
    counting.asked.clear()
    again = encode([RED, BLUE, RING])
    assert len(counting.asked) == 1
    assert len(counting.asked[0]) == 1
    assert torch.equal(again, states[:3])


def test_a_cached_embedding_does_not_keep_its_batch_in_memory(encode: PromptEncoder) -> None:
    encode([RED, BLUE])
    for state in encode._cached.values():
        assert state.untyped_storage().nbytes() == state.numel() * state.element_size()


def test_embeddings_carry_no_gradients(encode: PromptEncoder) -> None:
    assert not encode([RED, ""]).requires_grad


def test_a_text_model_that_wants_a_mask_gets_one(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    real = pipeline.text_encoder.forward

    def forward(*arguments: Any, **options: Any) -> Any:
        given.append(options["attention_mask"])
        return real(*arguments, **options)

    monkeypatch.setattr(pipeline.text_encoder, "forward", forward)
    PromptEncoder(SD, pipeline, {})
    assert given == [None]
    monkeypatch.setattr(pipeline.text_encoder.config, "use_attention_mask", True, raising=False)
    PromptEncoder(SD, pipeline, {})([RED])
    # Start and end marker; each word between them is one token.
    assert [mask.sum(1).tolist() for mask in given[1:]] == [[2] * ROWS, [2 + len(RED.split())] * ROWS]
