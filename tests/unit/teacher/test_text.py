"""Text states: those of the stock pipeline, each prompt encoded once, the empty one included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from sidlsg.teacher.load import load_pipeline
from sidlsg.teacher.text import PromptEncoder

RED, BLUE, RING = (
    "a small red circle on a blue background",
    "a large blue square on a white background",
    "a small black ring on a yellow background",
)


@pytest.fixture(scope="module")
def pipeline(assets: Path) -> Any:
    return load_pipeline(assets / "tiny-sd")


class CountingTokenizer:
    """The real tokenizer, which remembers what it was asked."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.model_max_length = tokenizer.model_max_length
        self.asked: list[list[str]] = []

    def __call__(self, prompts: Sequence[str], **options: Any) -> Any:
        self.asked.append(list(prompts))
        return self.tokenizer(prompts, **options)


@pytest.fixture
def tokenizer(pipeline: Any) -> CountingTokenizer:
    return CountingTokenizer(pipeline.tokenizer)


@pytest.fixture
def encode(pipeline: Any, tokenizer: CountingTokenizer) -> PromptEncoder:
    return PromptEncoder(tokenizer, pipeline.text_encoder, cache=2)


def test_states_are_those_of_the_stock_pipeline(encode: PromptEncoder, pipeline: Any) -> None:
    cond, uncond = pipeline.encode_prompt([RED, BLUE], torch.device("cpu"), 1, True)
    assert torch.allclose(encode([RED, BLUE]), cond, atol=1e-6)
    assert torch.allclose(encode.uncond, uncond[:1], atol=1e-6)
    assert encode.uncond.shape == (1, pipeline.tokenizer.model_max_length, pipeline.text_encoder.config.hidden_size)


def test_the_order_is_that_of_the_prompts(encode: PromptEncoder) -> None:
    states = encode([BLUE, RED, "", BLUE])
    assert torch.equal(states[0], states[3])
    assert torch.equal(states[2], encode.uncond[0])
    for state, prompt in zip(states, [BLUE, RED, "", BLUE], strict=True):
        assert torch.allclose(state, encode([prompt])[0], atol=1e-6)
    assert not torch.allclose(states[0], states[1], atol=1e-3)


def test_a_prompt_is_encoded_once_and_comes_back_the_same(encode: PromptEncoder, tokenizer: CountingTokenizer) -> None:
    first = encode([RED, RED, BLUE])
    again = encode([BLUE, RED])
    assert torch.equal(again[0], first[2])
    assert torch.equal(again[1], first[0])
    assert sorted(prompt for prompts in tokenizer.asked for prompt in prompts) == sorted(["", RED, BLUE])


def test_the_empty_prompt_is_encoded_once(encode: PromptEncoder, tokenizer: CountingTokenizer) -> None:
    for _ in range(3):
        encode(["", ""])
    assert tokenizer.asked == [[""]]


def test_the_least_recently_used_prompt_is_forgotten(encode: PromptEncoder, tokenizer: CountingTokenizer) -> None:
    for prompt in (RED, BLUE, RED, RING):  # the third use makes BLUE the oldest when RING needs its place
        encode([prompt])
    tokenizer.asked.clear()
    encode([RED])
    encode([RING])
    assert tokenizer.asked == []
    encode([BLUE])
    assert tokenizer.asked == [[BLUE]]


def test_more_prompts_than_fit_are_encoded_all_the_same(encode: PromptEncoder, tokenizer: CountingTokenizer) -> None:
    states = encode([RED, BLUE, RING, RED])
    assert len(states) == 4
    assert len(encode._states) == 2
    assert torch.equal(states[0], states[3])
    tokenizer.asked.clear()
    again = encode([RED, BLUE, RING])
    assert len(tokenizer.asked) == 1
    assert len(tokenizer.asked[0]) == 1
    assert torch.allclose(again, states[:3], atol=1e-6)


def test_a_remembered_state_keeps_no_others_memory(encode: PromptEncoder) -> None:
    encode([RED, BLUE])
    for state in encode._states.values():
        assert state.untyped_storage().nbytes() == state.numel() * state.element_size()


def test_states_carry_no_gradients(encode: PromptEncoder) -> None:
    assert not encode([RED, ""]).requires_grad


def test_a_text_model_that_wants_a_mask_gets_one(
    pipeline: Any, tokenizer: CountingTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    real = pipeline.text_encoder.forward

    def forward(*arguments: Any, **options: Any) -> Any:
        given.append(options["attention_mask"])
        return real(*arguments, **options)

    monkeypatch.setattr(pipeline.text_encoder, "forward", forward)
    PromptEncoder(tokenizer, pipeline.text_encoder)
    assert given == [None]
    monkeypatch.setattr(pipeline.text_encoder.config, "use_attention_mask", True, raising=False)
    PromptEncoder(tokenizer, pipeline.text_encoder)([RED])
    # Start and end marker; each word between them is one token.
    assert [int(mask.sum()) for mask in given[1:]] == [2, 2 + len(RED.split())]
