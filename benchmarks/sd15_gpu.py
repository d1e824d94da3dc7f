"""Stable Diffusion 1.5's true UNet, random weights, under LSG at κ = 1.5: throughput, MFU and peak memory on a GPU.

    python benchmarks/sd15_gpu.py --output benchmarks/results
    python benchmarks/sd15_gpu.py --small                      # a quarter of the width, anywhere, to see that it runs

One row for each precision, compiled or not, with and without activation checkpointing, and each micro-batch; then the
stand-in for the released code's way. Results are written after every row, so a run that is cut short loses only the
rows that it has not reached.
"""

from __future__ import annotations

import argparse
import copy
import gc
import itertools
import json
import platform
import re
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from released_way import ReleasedWay
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPTextConfig, CLIPTextModel

from sidlsg.distil.guidance import lsg
from sidlsg.distil.losses import Method
from sidlsg.distil.networks import COMPUTE, set_matmul_precision
from sidlsg.distil.recipes import CHOICES, Settings
from sidlsg.distil.sampler import DrawPlan, generate_latents
from sidlsg.distil.state import TrainingState
from sidlsg.distil.step import train_step
from sidlsg.runtime.distributed import World
from sidlsg.runtime.hardware import best_device, device_name, set_threads
from sidlsg.teacher.architectures import ARCHITECTURES, TEXT_LENGTH
from sidlsg.teacher.schedule import NoiseSchedule

KAPPA, LR = 1.5, 1e-6
PROMPTS = 256
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
}
"""The shape of Stable Diffusion 1.5's."""
SMALL_UNET = {
    "block_out_channels": (80, 160, 320, 320),
    "norm_num_groups": 16,
    "sample_size": 8,
    "cross_attention_dim": 64,
}


class Bench:
    """The model, its text encoder and its schedule; all rows share them."""

    def __init__(self, small: bool, device: torch.device) -> None:
        """Args:
        small: a quarter of the width, with small latents and a small text encoder.
        device: where networks run.
        """
        torch.manual_seed(0)
        config = {**ARCHITECTURES["sd15"].config, **(SMALL_UNET if small else {})}
        self.device = device
        with device:  # a CPU takes long to draw so many weights
            unet = UNet2DConditionModel(**config)
        self.unet = unet.requires_grad_(False).eval().to("cpu")
        # The shape of CLIP ViT-L/14's text model, which SD1.5 has.
        width, layers = (64, 2) if small else (768, 12)
        text = CLIPTextConfig(
            hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=width // 64,
            max_position_embeddings=TEXT_LENGTH,
        )  # fmt: skip
        self.text_encoder = CLIPTextModel(text).requires_grad_(False).eval().to(device)
        self.texts = [f"prompt {number}" for number in range(PROMPTS)]
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.schedule = NoiseSchedule(torch.cumprod(1 - betas, 0), "epsilon").to(device)
        # Encoded once, before training, as the `encode` stage does it; in float16 as its shards are.
        self.states = torch.cat([self.encode([text]) for text in self.texts]).half()
        self.uncond = self.encode([""])
        self.text_encoder.to("cpu")
        self.flops = flops_per_image(config)

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """[B, L, D] states; a prompt's tokens are drawn from its text, for no tokenizer comes with random weights."""
        rows = []
        for prompt in prompts:
            generator = torch.Generator().manual_seed(zlib.crc32(prompt.encode()))
            rows.append(torch.randint(0, 49000, (TEXT_LENGTH,), generator=generator))
        states: Tensor = self.text_encoder(torch.stack(rows).to(self.text_encoder.device)).last_hidden_state
        return states

    def encoded(self, indices: Sequence[int], replaced: Sequence[bool]) -> tuple[Tensor, Tensor]:
        """The states that were made before."""
        rows = [self.uncond[0] if empty else self.states[i] for i, empty in zip(indices, replaced, strict=True)]
        return torch.stack([row.float() for row in rows]), self.uncond

    def plan(self, batch: int) -> DrawPlan:
        """Seed 0's draws."""
        size = self.unet.config.sample_size
        return DrawPlan(seed=0, batch=batch, prompt_count=PROMPTS, latent_shape=(4, size, size), prompt_dropout=0.1)

    def ours(self, settings: Settings, batch: int, micro_batch: int) -> tuple[Callable[[], dict[str, Tensor]], bool]:
        """One iteration of this project, and whether its blocks are compiled; no text encoder is on the device."""
        self.text_encoder.to("cpu")
        set_matmul_precision(settings.precision)
        eps = 1e-6 if settings.precision == "fp16" else 1e-8
        state = TrainingState.start(
            self.unet, LR, LR, eps, settings=settings, world=World(device=self.device), report=_say
        )
        frozen = state.frozen(copy.deepcopy(self.unet))
        method = Method(teacher=state.call(frozen), schedule=self.schedule, guidance=lsg(KAPPA))
        plan = self.plan(batch)

        def iterate() -> dict[str, Tensor]:
            return train_step(state, method, plan, self.encoded, micro_batch, 50_000, observe=False).losses

        return iterate, state.compiled

    def standin(self, batch: int, micro_batch: int) -> Callable[[], dict[str, Tensor]]:
        """One iteration of the released code's way."""
        set_matmul_precision("fp32")
        self.text_encoder.to(self.device)
        make = partial(
            ReleasedWay,
            self.unet, self.schedule.alphas_cumprod, self.encode, self.texts,
            kappa=KAPPA, lr=LR, half_life=50_000, device=self.device,
        )  # fmt: skip
        # Instead of warming up, which takes long in this way. What is measured begins anew.
        make().iterate(self.plan(micro_batch), micro_batch)
        way = make()
        plan = self.plan(batch)
        return lambda: way.iterate(plan, micro_batch)


def flops_per_image(config: dict[str, Any]) -> float:
    """Floating-point operations of an LSG iteration for one image, counted on the network's shapes alone."""
    size = config["sample_size"]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
        states, t = torch.zeros(1, TEXT_LENGTH, config["cross_attention_dim"]), torch.zeros(1, dtype=torch.long)

        def count(trained: bool, backward: bool) -> float:
            unet.requires_grad_(trained)
            x = torch.zeros(1, 4, size, size, requires_grad=backward and not trained)
            with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
                out: Tensor = unet(x, t, states).sample
                if backward:
                    torch.autograd.backward(out.sum())
            return float(counter.get_total_flops())

        forward, full, inputs = count(False, False), count(True, True), count(False, True)
    # Fake score's update: sample, guided output. Generator's: sample, guided outputs of the teacher and the fake score.
    return forward + 2 * full + full + 2 * inputs + 2 * inputs


def peak_flops(precision: str, device: torch.device) -> float:
    """Floating-point operations a second of a large matrix product in a precision: the ceiling of MFU."""
    set_matmul_precision(precision)
    size = 8192 if device.type == "cuda" else 512
    dtype = COMPUTE[precision] or torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    repeats = 20
    for _ in range(3):
        a @ b
    seconds = _seconds(lambda: [a @ b for _ in range(repeats)], device)
    return 2 * size**3 * repeats / seconds


def measure(
    iterate: Callable[[], dict[str, Tensor]], bench: Bench, batch: int, iterations: int, warm_up: int, peak: float
) -> dict[str, Any]:
    """Throughput, MFU, memory (in GB; none on a CPU) and the first losses of a way."""
    device = bench.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    losses: list[dict[str, Tensor]] = []

    def work() -> None:
        losses.append(iterate())

    warm = sum(_seconds(work, device) for _ in range(warm_up))
    seconds = min(_seconds(work, device) for _ in range(iterations))
    return {
        "images_per_second": float(f"{batch / seconds:.4g}"),
        "mfu": float(f"{batch / seconds * bench.flops / peak:.3g}"),
        **memory(device),
        "warm_up_seconds": round(warm, 1),
        "first_losses": {name: float(f"{float(loss):.6g}") for name, loss in losses[0].items()},
    }


def memory(device: torch.device) -> dict[str, float | None]:
    """In GB: tensors at the peak, what the allocator held at its peak, and that with all else on the device."""
    if device.type != "cuda":
        return {"peak_memory_gb": None}
    free, total = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.max_memory_reserved()
    besides = total - free - torch.cuda.memory_reserved()
    return {
        "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
        "reserved_gb": round(reserved / 1e9, 2),
        "device_gb": round((reserved + besides) / 1e9, 2),
    }


def generation(bench: Bench, batches: Sequence[int], iterations: int) -> list[dict[str, Any]]:
    """Images a second in one step, in float16: the UNet alone, and with the VAE that makes pictures of its latents."""
    device, config = bench.device, bench.unet.config
    half = torch.float16 if device.type == "cuda" else torch.float32
    # The library's own `to` warns, of nothing.
    unet = nn.Module.to(copy.deepcopy(bench.unet), device, half).to(memory_format=torch.channels_last)
    with device:
        vae = AutoencoderKL(**VAE).eval().requires_grad_(False)
    nn.Module.to(vae, half).to(memory_format=torch.channels_last)

    def called(x: Tensor, t: Tensor, states: Tensor) -> Any:
        return unet(x.to(half), t, states)  # the sampler works in float32

    found = []
    for batch in batches:
        z = torch.randn(batch, config.in_channels, config.sample_size, config.sample_size, device=device)
        cond = bench.encoded(range(batch), [False] * batch)[0].to(half)

        @torch.no_grad()
        def latents(z: Tensor = z, cond: Tensor = cond) -> Tensor:
            return generate_latents(called, bench.schedule, z, cond)

        @torch.no_grad()
        def pictures(z: Tensor = z, cond: Tensor = cond) -> Tensor:
            drawn: Tensor = vae.decode(latents(z, cond).to(half)).sample
            return drawn

        row: dict[str, Any] = {"batch": batch}
        for name, draw in (("unet", latents), ("unet_and_vae", pictures)):
            draw()
            seconds = min(_seconds(draw, device) for _ in range(iterations))
            row[f"{name}_images_per_second"] = float(f"{batch / seconds:.4g}")
        found.append(row)
        _say(f"one step: {row}")
    return found


def rows(bench: Bench, options: argparse.Namespace) -> list[tuple[dict[str, Any], Callable[[], Any]]]:
    """What is measured, and what makes its iteration; nothing is made yet."""
    found: list[tuple[dict[str, Any], Callable[[], Any]]] = []
    switches = {"off": (False,), "on": (True,), "both": (False, True)}
    for precision, compiled, checkpointing, micro_batch in itertools.product(
        options.precision, switches[options.compile], switches[options.checkpointing], options.micro_batch
    ):
        settings = Settings(precision=precision, compile=compiled, activation_checkpointing=checkpointing)
        row = {
            "way": "ours",
            "precision": precision,
            "compile": compiled,
            "checkpointing": checkpointing,
            "micro_batch": micro_batch,
        }
        found.append((row, lambda s=settings, m=micro_batch: bench.ours(s, options.batch, m)))  # type: ignore[misc]
    for micro_batch in options.standin_micro_batch:
        row = {
            "way": "stand-in",
            "precision": "fp32",
            "compile": False,
            "checkpointing": False,
            "micro_batch": micro_batch,
        }
        found.append((row, lambda m=micro_batch: (bench.standin(options.batch, m), False)))  # type: ignore[misc]
    return found


def run(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all rows, writing after each; a row that does not fit in memory says so and the others go on."""
    result = {
        "benchmark": "sd15_gpu",
        "device": device_name(bench.device),
        "small": options.small,
        "kappa": KAPPA,
        "batch": options.batch,
        "tflop_per_image": round(bench.flops / 1e12, 3),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "diffusers": diffusers.__version__,
        },
        "peak_tflops": {},
        "rows": [],
    }
    for row, make in rows(bench, options):
        if row["micro_batch"] > options.batch:
            continue
        precision = row["precision"]
        if precision not in result["peak_tflops"]:
            result["peak_tflops"][precision] = float(f"{peak_flops(precision, bench.device) / 1e12:.4g}")
        iterate = None
        try:
            iterate, row["compile"] = make()
            iterations, warm_up = options.iterations, options.warm_up
            if row["way"] != "ours":
                iterations, warm_up = options.standin_iterations, 0
            peak = result["peak_tflops"][precision] * 1e12
            row |= measure(iterate, bench, options.batch, iterations, warm_up, peak)
        except torch.OutOfMemoryError:
            row["failed"] = "out of memory"
        del iterate
        _clear(bench.device)
        result["rows"].append(row)
        _say(line(row))
        if options.output:
            write(result, options.output, options.name)
    if options.generate:
        result["generation"] = generation(bench, options.generate, options.iterations)
        if options.output:
            write(result, options.output, options.name)
    return result


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    names = [row["way"], row["precision"], *("yes" if row[n] else "no" for n in ("compile", "checkpointing"))]
    if "failed" in row:
        values = [row["failed"], "", ""]
    else:
        memory = row["peak_memory_gb"]
        values = [f"{row['images_per_second']:.3g}", f"{row['mfu']:.1%}", "" if memory is None else f"{memory:.1f}"]
    return f"| {' | '.join([*names, str(row['micro_batch']), *values])} |"


def table(result: dict[str, Any]) -> str:
    """All of it as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    peaks = ", ".join(f"{name} {peak} TFLOP/s" for name, peak in result["peak_tflops"].items())
    what = "a quarter of SD1.5's width" if result["small"] else "SD1.5's UNet"
    return "\n".join(
        [
            f"{result['device']}; {versions}.",
            f"{what}, LSG κ = {result['kappa']}, batch {result['batch']}, {result['tflop_per_image']} TFLOP an image.",
            f"MFU is the share of what a large matrix product reaches on this device: {peaks}.",
            "",
            "| way | precision | compiled | checkpointing | micro-batch | images/s | MFU | peak memory, GB |",
            "|---|---|---|---|---:|---:|---:|---:|",
            *(line(row) for row in result["rows"]),
            *(
                f"\nOne step, batch {row['batch']}: {row['unet_images_per_second']} images/s, with the VAE "
                f"{row['unet_and_vae_images_per_second']}."
                for row in result.get("generation", [])
            ),
        ]
    )


def write(result: dict[str, Any], folder: Path, more: str = "") -> None:
    """The result as JSON and as Markdown, named by the device."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "_", f"sd15{' small' if result['small'] else ''} {result['device']} {more}".lower())
    (folder / f"{name.strip('_')}.json").write_text(json.dumps(result, indent=2) + "\n")
    (folder / f"{name.strip('_')}.md").write_text(table(result) + "\n")


def _seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds until the device has done the work."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _clear(device: torch.device) -> None:
    gc.collect()
    torch.compiler.reset()  # type: ignore[no-untyped-call]
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write where it was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a quarter of the width, 8×8 latents; for any machine")
    parser.add_argument("--batch", type=int, help="images an iteration; default 64, small 2")
    parser.add_argument(
        "--precision", action="append", choices=CHOICES["precision"], help="default: all; small fp32, bf16"
    )
    parser.add_argument("--compile", choices=("off", "on", "both"), help="default both; small off")
    parser.add_argument("--checkpointing", choices=("off", "on", "both"), default="both")
    parser.add_argument("--micro-batch", type=int, action="append", help="default 1, 4, 16, 32; small 2; 0 for none")
    parser.add_argument(
        "--standin-micro-batch", type=int, action="append", help="default 1, as released, and 4; 0 for none"
    )
    parser.add_argument("--standin-iterations", type=int, default=1, help="timed, of the stand-in; default 1")
    parser.add_argument(
        "--generate", type=int, action="append", help="a batch to draw in one step; default 1, 16; 0 for none"
    )
    parser.add_argument("--name", default="", help="added to the files' name")
    parser.add_argument("--iterations", type=int, help="timed; the fastest counts; default 3, small 1")
    parser.add_argument("--warm-up", type=int, help="before; default 2, small 1")
    parser.add_argument("--output", type=Path, help="a folder for the JSON and the Markdown")
    options = parser.parse_args(arguments)
    small = options.small
    device = best_device()
    if device.type != "cuda" and not small:
        parser.error("no GPU is here; --small runs a small model on any machine")
    options.batch = options.batch or (2 if small else 64)
    options.precision = options.precision or (["fp32", "bf16"] if small else list(CHOICES["precision"]))
    options.compile = options.compile or ("off" if small else "both")
    options.micro_batch = [m for m in options.micro_batch or ([2] if small else [1, 4, 16, 32]) if m]
    options.standin_micro_batch = [m for m in options.standin_micro_batch or ([2] if small else [1, 4]) if m]
    options.generate = [n for n in options.generate or ([2] if small else [1, 16]) if n]
    options.iterations = options.iterations or (1 if small else 3)
    options.warm_up = options.warm_up or (1 if small else 2)
    set_threads()
    result = run(Bench(small, device), options)
    _say("\n" + table(result))


if __name__ == "__main__":
    main()
