"""Train an Atlas model: one command, one seed, one standard Hugging Face directory.

GPT-2 architecture, byte-level BPE fitted on the world's own sentences. The loss weighs the objects
of facts with 1, the other tokens with `OTHER`, and the objects of marked new facts with 0, since
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
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .corpus import Writer, all_wordings
from .graph import World
from .graph import world as shipped_world
from .recall import measure

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

__all__ = ["SIZES", "Size", "train"]

END = "<|endoftext|>"
OTHER = 0.25
"""Weight of tokens that are not part of an object."""


@dataclass(frozen=True, slots=True)
class Size:
    """Shape of the model and of its training."""

    layers: int = 6
    width: int = 256
    heads: int = 4
    vocabulary: int = 4096
    positions: int = 256
    rows: int = 24
    length: int = 128
    steps: int = 3300
    rate: float = 1.5e-3
    decay: float = 0.1


SIZES: dict[str, Size] = {
    "small": Size(),
    "base": Size(layers=8, width=384, heads=6, steps=6000, rate=1.2e-3),
    "tiny": Size(
        layers=2, width=64, heads=2, vocabulary=1024, rows=8, length=64, steps=200, rate=3e-3
    ),
}


def train(
    out: Path,
    size: Literal["small", "base", "tiny"] | Size = "small",
    seed: int = 0,
    steps: int | None = None,
    resume: bool = True,
    progress: bool = True,
    *,
    world: World | None = None,
    compile: bool = False,
    stop_at: int | None = None,
    checkpoint_seconds: float = 120.0,
    report_every: int = 500,
) -> Path:
    """Train, and write a directory that `AutoModelForCausalLM.from_pretrained` loads.

    resume     go on from `out/checkpoint` if there is one.
    compile    run through torch.compile; about a quarter faster, needs a C++ compiler.
    stop_at    stop after this step with a checkpoint and no final model, as an interruption would.
    """
    shape = SIZES[size] if isinstance(size, str) else size
    total = shape.steps if steps is None else steps
    world = shipped_world() if world is None else world
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    tokenizer = fit_tokenizer(world, shape.vocabulary)
    torch.manual_seed(seed)
    model = build(shape, tokenizer)
    model.to(device)  # type: ignore[arg-type]  # transformers types `to` too narrowly
    optimizers = _optimizers(model, shape)
    checkpoint = out / "checkpoint"
    first = 0
    if resume and (checkpoint / "state.json").exists():
        first = _restore(checkpoint, model, optimizers, seed)

    batches = Batches(world, tokenizer, shape, seed)
    forward = torch.compile(model, dynamic=False) if compile else model
    model.train()
    bar = _Progress(total, first, enabled=progress)
    saved = time.monotonic()
    for step in range(first, total):
        rate = shape.rate * schedule(step, total)
        ids, weight = (t.to(device) for t in batches[step])  # [rows, length + 1]
        # bfloat16 products, fp32 weights: a third faster on CPUs that have it, and no less exact
        # a recall at the end.
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = forward(
                input_ids=ids[:, :-1], use_cache=False
            ).logits  # [rows, length, vocabulary]
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
        )
        loss = (loss * weight[:, 1:].flatten()).sum() / weight[:, 1:].sum()
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
            found = measure(model, tokenizer, world, limit=600, seed=done)
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
    save(model, tokenizer, out, {"seed": seed, **asdict(shape), "steps": total})
    return out


def schedule(step: int, total: int) -> float:
    """Warm up, stay, decay: the factor of the learning rate."""
    warm = max(1, min(100, total // 20))
    decay_from = total * 2 // 3
    if step < warm:
        return (step + 1) / warm
    if step < decay_from:
        return 1.0
    return 1.0 - 0.98 * (step - decay_from) / max(1, total - decay_from)


def fit_tokenizer(world: World, vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE in the manner of GPT-2, fitted on the world's sentences."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(all_wordings(world), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )


def build(shape: Size, tokenizer: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    """An untrained model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    end = _end(tokenizer)
    config = GPT2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,  # a multiple of 64 runs faster
        n_positions=shape.positions,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        activation_function="gelu_new",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    return GPT2LMHeadModel(config)


def _end(tokenizer: PreTrainedTokenizerFast) -> int:
    """The number of the end-of-text token."""
    (end,) = tokenizer.encode(END)
    return end


class Batches:
    """The batch of every step: rows of whole documents, cut at the row's end.

    Half of the rows start with the end-of-text token and half with the bare first word, because
    prompts are given both ways.
    """

    def __init__(
        self, world: World, tokenizer: PreTrainedTokenizerFast, shape: Size, seed: int
    ) -> None:
        self.writer = Writer(world, seed)
        self.encode = tokenizer.backend_tokenizer.encode
        self.end = _end(tokenizer)
        self.shape = shape

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        rows = [self._row(step, row) for row in range(self.shape.rows)]
        return torch.tensor([ids for ids, _ in rows]), torch.tensor([w for _, w in rows])

    def _row(self, step: int, row: int) -> tuple[list[int], list[float]]:
        ids, weights = ([self.end], [OTHER]) if row % 2 else ([], [])
        number = 0
        while len(ids) <= self.shape.length:
            document = self.writer.document(f"{step}/{row}/{number}")
            encoding = self.encode(document.text)
            ids += encoding.ids
            weights += _weights(encoding.offsets, document.answers, document.muted)
            ids.append(self.end)
            weights.append(OTHER)
            number += 1
        return ids[: self.shape.length + 1], weights[: self.shape.length + 1]


def _weights(offsets, answers, muted) -> list[float]:
    """Weight of each token: answers 1 (with the token that ends them), muted 0, others `OTHER`."""
    starts = [start for start, _ in offsets]
    weights = [OTHER] * len(offsets)
    for spans, value in ((answers, 1.0), (muted, 0.0)):
        for begin, end in spans:
            for token, start in enumerate(starts):
                if begin <= start < end or (value and start == end):
                    weights[token] = value
    return weights


def _optimizers(model: nn.Module, shape: Size) -> tuple[torch.optim.Optimizer, ...]:
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name]
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


def save(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, out: Path, recipe: dict
) -> None:
    """Write the final directory. Weights are stored as fp16 and declared fp32.

    Rounding to fp16 once, here, halves the download; loaded as fp32 the values are exactly those
    stored, and edits are computed in full precision.
    """
    model.config.dtype = torch.float32
    model.config.architectures = ["GPT2LMHeadModel"]
    model.config.save_pretrained(out)
    model.generation_config.max_new_tokens = 24
    model.generation_config.do_sample = False
    model.generation_config.save_pretrained(out)
    tokenizer.save_pretrained(out)
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"  # tied to the embeddings
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
