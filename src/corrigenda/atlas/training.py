"""Train an Atlas model: one command, one seed, one standard Hugging Face directory.

The architectures are in `architectures.py`; everything here is common to them. The loss weighs the
objects of facts with 1, the other tokens less, and the objects of marked new facts with 0, since
nobody can predict those. Hidden matrices are trained with Muon (Jordan et al. 2024; scaled to the
update size of AdamW as in Liu et al. 2025, arXiv:2502.16982), everything else with AdamW
(Loshchilov and Hutter 2019, arXiv:1711.05101). The learning rate warms up, stays, and decays
linearly over the last third, so a run can be ended sooner by resuming it with fewer steps.

A checkpoint holds weights, optimizer moments and the step, in safetensors and JSON; it is written
aside and renamed. The batch of a step depends on (world, seed, step) only, so an interrupted run
goes on to the same weights as an uninterrupted one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .architectures import ARCHITECTURES, Architecture, Batch
from .graph import World
from .graph import world as shipped_world
from .recall import measure

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["SIZES", "Size", "train"]


@dataclass(frozen=True, slots=True)
class Size:
    """Shape of the model and of its training.

    layers      blocks; T5 has half as many again in its decoder.
    inner       width of the MLPs; 0 means four times `width`.
    rows        documents (BERT), packed rows (decoders) or prompts (T5) of a step, of at most
                `length` tokens.
    rate        learning rate after `warm` steps. Where a norm follows the MLP (BERT), a rate that
                the others bear from step 100 on lets the loss rise; half of it, reached over four
                times as many steps, does not.
    """

    architecture: str = "gpt2"
    layers: int = 6
    width: int = 256
    heads: int = 4
    inner: int = 0
    vocabulary: int = 4096
    positions: int = 256
    rows: int = 24
    length: int = 128
    steps: int = 3300
    rate: float = 1.5e-3
    warm: int = 100
    decay: float = 0.1


SIZES: dict[str, dict[str, Size]] = {
    "gpt2": {
        "small": Size(),
        "base": Size(layers=8, width=384, heads=6, steps=6000, rate=1.2e-3),
        "tiny": Size(
            layers=2, width=64, heads=2, vocabulary=1024, rows=8, length=64, steps=200, rate=3e-3
        ),
    },
    "llama": {
        "small": Size("llama", layers=5, inner=704, steps=2800),
        "tiny": Size(
            "llama",
            layers=2,
            width=64,
            heads=2,
            vocabulary=1024,
            rows=8,
            length=64,
            steps=200,
            rate=3e-3,
        ),
    },
    "t5": {
        "small": Size("t5", layers=4, rows=128, length=24, steps=2600),
        "tiny": Size(
            "t5",
            layers=2,
            width=64,
            heads=2,
            vocabulary=1024,
            rows=32,
            length=24,
            steps=200,
            rate=3e-3,
        ),
    },
    "bert": {
        "small": Size(
            "bert", layers=5, rows=64, length=72, steps=8000, rate=7e-4, warm=400
        ),
        "tiny": Size(
            "bert",
            layers=2,
            width=64,
            heads=2,
            vocabulary=1024,
            rows=16,
            length=64,
            steps=200,
            rate=3e-3,
        ),
    },
}
"""By architecture, the recommended shapes."""


def train(
    out: Path,
    size: Literal["small", "base", "tiny"] | Size = "small",
    seed: int = 0,
    steps: int | None = None,
    resume: bool = True,
    progress: bool = True,
    *,
    architecture: str = "gpt2",
    world: World | None = None,
    compile: bool = False,
    stop_at: int | None = None,
    checkpoint_seconds: float = 120.0,
    report_every: int = 500,
) -> Path:
    """Train, and write a directory that transformers' Auto classes load.

    size           one of `SIZES[architecture]`, or a shape of one's own.
    architecture   gpt2, llama, t5 or bert; a shape brings its own.
    resume     go on from `out/checkpoint` if there is one.
    compile    run through torch.compile; about a quarter faster, needs a C++ compiler.
    stop_at    stop after this step with a checkpoint and no final model, as an interruption would.
    """
    shape = SIZES[architecture][size] if isinstance(size, str) else size
    total = shape.steps if steps is None else steps
    world = shipped_world() if world is None else world
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    kind = ARCHITECTURES[shape.architecture](world, shape, seed)
    torch.manual_seed(seed)
    model = kind.build()
    model.to(device)  # type: ignore[arg-type]  # transformers types `to` too narrowly
    caching, model.config.use_cache = getattr(model.config, "use_cache", True), False
    optimizers = _optimizers(model, shape)
    checkpoint = out / "checkpoint"
    first = 0
    if resume and (checkpoint / "state.json").exists():
        first = _restore(checkpoint, model, optimizers, seed)

    forward = torch.compile(model, dynamic=False) if compile else model
    model.train()
    bar = _Progress(total, first, enabled=progress)
    saved = time.monotonic()
    for step in range(first, total):
        rate = shape.rate * schedule(step, total, shape.warm)
        loss = _loss(forward, kind.batch(step).to(device))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        done = step + 1
        bar.advance(done, loss)
        if report_every and done % report_every == 0 and done < total:
            found = measure(model, kind.tokenizer, world, limit=600, seed=done)
            bar.say(
                f"step {done}  loss {loss.item():.3f}  recall: trained "
                f"{found.rate(held_out=False, only='functional'):.1%}  held out "
                f"{found.rate(held_out=True, only='functional'):.1%}  one-to-many "
                f"{found.rate(held_out=False, only='one_to_many'):.1%}"
            )
        stopping = stop_at is not None and done >= stop_at
        if stopping or time.monotonic() - saved > checkpoint_seconds:
            _checkpoint(checkpoint, model, optimizers, seed, done)
            saved = time.monotonic()
        if stopping:
            bar.close()
            return out
    _checkpoint(checkpoint, model, optimizers, seed, total)
    bar.close()
    model.config.use_cache = caching
    save(model, kind, out, {"seed": seed, **asdict(shape), "steps": total})
    return out


def schedule(step: int, total: int, warm: int = 100) -> float:
    """Warm up, stay, decay: the factor of the learning rate. A short run warms up for a 20th of it."""
    warm = max(1, min(warm, total // 20))
    decay_from = total * 2 // 3
    if step < warm:
        return (step + 1) / warm
    if step < decay_from:
        return 1.0
    return 1.0 - 0.98 * (step - decay_from) / max(1, total - decay_from)


def _loss(forward: Callable[..., Any], batch: Batch) -> Tensor:
    """Weighted mean NLL of the wanted tokens.

    bfloat16 products, fp32 weights: a third faster on CPUs that have it, and no less exact a recall
    at the end. Where few of the tokens count (objects under masks), the vocabulary is still
    predicted for all: shapes stay the same, which compiled code wants.
    """
    with torch.autocast(batch.wanted.device.type, dtype=torch.bfloat16):
        logits = forward(**batch.inputs).logits  # [rows, length, vocabulary]
    loss = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), batch.wanted.flatten(), reduction="none"
    )
    weight = batch.weight.flatten()
    return (loss * weight).sum() / weight.sum()


_IN_BLOCK = re.compile(r"\.(h|layers?|block)\.\d+\.")


def _optimizers(model: nn.Module, shape: Size) -> tuple[torch.optim.Optimizer, ...]:
    hidden = [
        p
        for name, p in model.named_parameters()
        if p.ndim == 2 and _IN_BLOCK.search(name) and "relative" not in name
    ]
    hidden_ids = {id(p) for p in hidden}
    others = [p for p in model.parameters() if id(p) not in hidden_ids]
    tables = [p for p in others if p.ndim == 2]
    vectors = [p for p in others if p.ndim != 2]
    return (
        torch.optim.Muon(
            hidden, lr=shape.rate, weight_decay=shape.decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            [
                {"params": tables, "weight_decay": shape.decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=shape.rate,
            betas=(0.9, 0.98),
        ),
    )


def _checkpoint(folder: Path, model: nn.Module, optimizers, seed: int, step: int) -> None:
    """Write a checkpoint aside, then rename it over the old one."""
    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    tensors = {
        f"model.{name}": p.detach().cpu().contiguous() for name, p in model.named_parameters()
    }
    for number, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer.{number}.{index}.{key}"] = torch.as_tensor(value).cpu().clone()
    save_file(tensors, fresh / "state.safetensors")
    (fresh / "state.json").write_text(json.dumps({"step": step, "seed": seed}) + "\n")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def _restore(folder: Path, model: nn.Module, optimizers, seed: int) -> int:
    """Load a checkpoint; return the step to go on with."""
    state = json.loads((folder / "state.json").read_text())
    if state["seed"] != seed:
        raise ValueError(
            f"{folder} was trained with seed {state['seed']}, not {seed}. "
            "Give that seed, another directory, or resume=False."
        )
    tensors = load_file(folder / "state.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    for number, optimizer in enumerate(optimizers):
        saved = optimizer.state_dict()
        prefix = f"optimizer.{number}."
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith(prefix):
                index, _, key = name[len(prefix) :].partition(".")
                moments.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": moments, "param_groups": saved["param_groups"]})
    return int(state["step"])


def save(model: PreTrainedModel, kind: Architecture, out: Path, recipe: dict) -> None:
    """Write the final directory. Weights are stored as fp16 and declared fp32.

    Rounding to fp16 once, here, halves the download; loaded as fp32 the values are exactly those
    stored, and edits are computed in full precision.
    """
    model.config.dtype = torch.float32
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(out)
    if model.can_generate():
        generation: Any = model.generation_config
        generation.max_new_tokens = 24
        generation.do_sample = False
        generation.save_pretrained(out)
    kind.tokenizer.save_pretrained(out)
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if name not in kind.tied  # they share the embeddings' tensor
    }
    save_file(tensors, out / "model.safetensors.new", metadata={"format": "pt"})
    os.chmod(out / "model.safetensors.new", 0o644)  # safetensors writes for the owner only
    os.replace(out / "model.safetensors.new", out / "model.safetensors")
    (out / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")


class _Progress:
    """A bar on a terminal, plain lines elsewhere; always on stderr."""

    def __init__(self, total: int, first: int, enabled: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.enabled = enabled
        console = Console(file=sys.stderr)
        self.live = enabled and console.is_terminal
        self.bar = Progress(
            TextColumn("training Atlas"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self.started, self.first = time.monotonic(), first
        if self.live:
            self.task = self.bar.add_task("", total=total, completed=first, loss="")
            self.bar.start()

    def advance(self, done: int, loss: Tensor) -> None:
        if self.live and done % 10 == 0:
            self.bar.update(self.task, completed=done, loss=f"{loss.item():.3f}")
        elif self.enabled and not self.live and done % 100 == 0:
            pace = (time.monotonic() - self.started) / (done - self.first)
            self.say(f"step {done}  loss {loss.item():.3f}  {pace:.2f} s/step")

    def say(self, text: str) -> None:
        if self.enabled:
            self.bar.console.print(text, highlight=False)

    def close(self) -> None:
        if self.live:
            self.bar.stop()
