"""A tiny SANA without training; its VAE is of another class than the bundled one's."""

from __future__ import annotations

import inspect
import json

from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaPipeline, SanaTransformer2DModel
from tokenizers import Tokenizer, models, normalizers, trainers
from transformers import Gemma2Config, Gemma2Model, GemmaTokenizer

from sidlsg.bundled.shapes.captions import all_captions
from sidlsg.bundled.tiny_sd import LATENT_SIZE


def new_tokenizer() -> GemmaTokenizer:
    """Reads pieces of captions, and long ones of the stock pipeline's instruction, so that it has few tokens."""
    instruction = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Replace(" ", "▁")
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"], show_progress=False
    )
    bpe.train_from_iterator([*("\n".join(instruction) for _ in range(9)), *(c.text for c in all_captions())], trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return GemmaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=12)


def new_autoencoder() -> AutoencoderDC:
    channels = (8, 8, 8)
    return AutoencoderDC(
        latent_channels=4,
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), ()),
        decoder_qkv_multiscales=((), (), ()),
    )


def new_sana() -> SanaPipeline:
    tokenizer = new_tokenizer()
    return SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=16,
                max_position_embeddings=2048,
                pad_token_id=0,
                bos_token_id=2,
                eos_token_id=1,
            )
        ),
        vae=new_autoencoder(),
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=4,
            attention_head_dim=16,
            num_layers=2,
            num_cross_attention_heads=4,
            cross_attention_head_dim=16,
            cross_attention_dim=64,
            caption_channels=32,
            sample_size=LATENT_SIZE,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
