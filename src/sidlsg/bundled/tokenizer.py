"""Makes the teacher's CLIP tokenizer: byte-level BPE, trained on the domain's captions until each word is one token."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from sidlsg.bundled.captions import all_captions
from sidlsg.bundled.tiny_sd import TEXT_LENGTH

END_OF_WORD = "</w>"


def new_tokenizer() -> CLIPTokenizer:
    """A tokenizer that reads any text, and each word of the domain as one token.

    The vocabulary is CLIP's scheme: every byte, every byte at a word's end, then one entry a merge, then the
    start and end markers.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, min_frequency=1, end_of_word_suffix=END_OF_WORD, show_progress=False
    )
    bpe.train_from_iterator([caption.text for caption in all_captions()], trainer)
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]

    tokens = dict.fromkeys(alphabet + [byte + END_OF_WORD for byte in alphabet])
    tokens |= dict.fromkeys(left + right for left, right in merges)
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    tokenizer: CLIPTokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TEXT_LENGTH)
    unsplit = [c.text for c in all_captions() if len(tokenizer(c.text).input_ids) != len(c.text.split()) + 2]
    if unsplit:
        raise RuntimeError(f"the trained merges split words of {unsplit[0]!r}")
    return tokenizer
