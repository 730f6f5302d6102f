"""T-Patcher: one extra neuron in the last MLP for every token that is to be put right.

Huang, Shen, Zhang, Zhou, Rong, Xiong 2023, 2301.09785. With q the input of the last MLP:

    MLP(q) + Σ_p v_p relu(a_p(q))       a_p(q) = k_p q + b_p        v_p = 10 u_p

    k_p = q_p / ‖q_p‖², b_p = 0 at first, so a_p(q_p) = 1      q_p  where token p is predicted wrong

    min  Σ over edits of  NLL(target) + mean over its patches of  l_a + 5 l_m
    l_a = exp(-a_p(q_p))
    l_m = mean of the 1000 largest exp(a_p(m) - a_p(q_p) + 3) + likewise of exp(a_p(m) + 3)

over memory queries m from text that mentions no subject of the edits: there a neuron shall stay
silent, at most -3 and at least 3 below its own query. An MLP with a gate gets the same neurons,
without one. Training ends early when every target is likely and all l_m are small.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ..acting import Neurons, Pass, place
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Editor, Solution
from ..errors import InputError, UnstableEditError
from ..models.asked import Asked
from ..models.hooks import captured
from ..models.moments import corpus_for
from ..models.text import TextModel
from ..numerics.gradients import nll_at
from . import presets
from ._finetune import examples
from ._neurons import with_units

__all__ = ["TPatcher"]

AMPLIFY = 10.0
"""v = 10 u: the same step moves the output more."""

WINDOW = 48
"""Text is read in windows of so many tokens, the second half of each predicted."""

BATCH = 16
"""Windows at a time."""


@dataclass(frozen=True)
class TPatcher(Editor):
    """Patch the last MLP. None means: the preset for the model, or else the paper's value.

    layers      the one block that is patched; None: the last.
    steps, lr   of Adam.
    activation  of the neurons: relu, gelu.
    active      weight of l_a.
    silent      weight of l_m.
    margin      how far below -margin, and below its own query, a neuron is to be elsewhere.
    hardest     so many memory queries count, those at which a neuron is most active.
    memory      how many memory queries are kept; 0: none.
    statistics  the text they come from: auto, atlas, samples, or a text file.
    sure        a token gets a patch if it is wrong, or right with a probability below this.
    tolerance   a target is likely enough when its mean NLL is below this.
    seed        of sampled text.
    """

    layers: tuple[int, ...] | None = None
    steps: int | None = None
    lr: float | None = None
    activation: Literal["relu", "gelu"] = "relu"
    active: float = 1.0
    silent: float = 5.0
    margin: float = 3.0
    hardest: int = 1000
    memory: int | None = None
    statistics: str = "auto"
    sure: float = 0.0
    tolerance: float = 0.01
    seed: int = 0

    name: ClassVar[str] = "t-patcher"
    title: ClassVar[str] = "T-Patcher"
    paper: ClassVar[str] = "Huang et al. 2023, 2301.09785"
    family: ClassVar[str] = "memory"
    needs: ClassVar[tuple[str, ...]] = ("corpus",)
    change: ClassVar[str] = "Neurons"
    streams: ClassVar[bool] = True
    paper_values: ClassVar[dict[str, Any]] = {"steps": 2000, "lr": 1e-2, "memory": 40_000}

    def resolved(self, model: TextModel) -> TPatcher:
        return presets.resolved(self, model)

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        layers = self.layers or ()
        if len(layers) != 1:
            raise InputError(f"T-Patcher patches one block, not {layers}. Give one layer.")
        layer = layers[0]
        if model.kind == "encoder-decoder" and layer in model.prompt_layers:
            raise InputError(
                f"T-Patcher patches where answers are predicted: a layer of the decoder of "
                f"{model.id}, {model.prompt_layers[-1] + 1} or later, not {layer}."
            )
        mlp = model.mlp(layer)
        started = time.perf_counter()
        memory = self.queries(model, mlp, edits)  # (m, i)
        seconds = time.perf_counter() - started
        rows = examples(model, edits)
        q, owner = self.wrong(model, mlp, rows)
        neurons, seen = self.patches(model, mlp, rows, q, owner, memory)
        return Solution(
            {place(model.path_of(mlp)): neurons} if len(q) else {},
            statistics={"source": self.statistics, "queries": len(memory)},
            diagnostics={"patches": len(q), **seen},
            notes={
                j: f"The training of its patches ended at target NLL {x:.2f}; try more steps, a "
                "larger lr, or a lower weight `silent`."
                for j, x in enumerate(seen["target_nll"])
                if not x < self.tolerance
            },
            precompute_seconds=seconds,
        )

    def patches(
        self, model: TextModel, mlp: nn.Module, rows: Sequence[Asked], q: Tensor, owner: Tensor,
        memory: Tensor,
    ) -> tuple[Neurons, dict[str, Any]]:  # fmt: skip
        """Train a neuron for each query q (n, i), of the edit owner (n,), and say how it went."""
        device, questions = model.device, model.force(rows)
        o = model.width
        k = (q / q.square().sum(1, keepdim=True)).requires_grad_(True)  # (n, i)
        bias = torch.zeros(len(q), device=device, requires_grad=True)
        u = torch.zeros(o, len(q), device=device, requires_grad=True)
        gate, free = torch.empty(0, 0, device=device), [k, bias, u]
        optimizer = torch.optim.Adam(free, lr=self.lr or 0.0)
        share = 1 / owner.bincount(minlength=len(rows)).clamp_min(1)[owner]  # (n,) of its edit's
        nll, steps = torch.full((len(rows),), torch.nan), 0
        for steps in range(1, (self.steps or 0) + 1 if len(q) else 1):
            with torch.enable_grad():
                with with_units(mlp, k, bias, AMPLIFY * u, gate, self.activation):
                    logits = model.target_logits(questions)
                nll = nll_at(logits, questions.wanted, questions.row, len(rows))
                own = (q * k).sum(1) + bias  # (n,) a_p(q_p)
                there = memory @ k.T + bias if len(memory) else memory.new_zeros(0, len(q))
                loud = self._loud(there, own)  # (2, n)
                costs = self.active * (-own).exp() + self.silent * loud.sum(0)
                total = nll.sum() + (share * costs).sum()
            if not float(total.detach()) < float("inf"):
                raise UnstableEditError(
                    f"The loss became {float(total.detach())} in step {steps}. Lower the learning "
                    f"rate ({self.lr})."
                )
            if bool((nll < self.tolerance).all()) and bool((loud <= 1).all()):
                break
            for parameter, gradient in zip(free, torch.autograd.grad(total, free), strict=True):
                parameter.grad = gradient
            optimizer.step()
        seen = {"steps": steps, "target_nll": [round(float(x), 4) for x in nll.detach()]}
        return Neurons(k, bias, AMPLIFY * u, activation=self.activation), seen

    def wrong(
        self, model: TextModel, mlp: nn.Module, rows: Sequence[Asked]
    ) -> tuple[Tensor, Tensor]:
        """(n, i) queries of the tokens that need a patch, and (n,) the row of each."""
        x, logits = _reads(model, mlp, rows)
        questions = model.force(rows)
        wanted = questions.wanted.to(logits.device)
        p = logits.softmax(1).gather(1, wanted[:, None])[:, 0]
        wrong = (logits.argmax(1) != wanted) | (p < self.sure)
        return x[wrong], questions.row.to(x.device)[wrong]

    def _loud(self, there: Tensor, own: Tensor) -> Tensor:
        """(2, n) the two parts of l_m. there (m, n): pre-activations at memory queries."""
        if not len(there):
            return torch.zeros(2, len(own), device=own.device)
        most = there.topk(min(self.hardest, len(there)), dim=0).values  # (h, n)
        parts = ((most - own + self.margin).exp(), (most + self.margin).exp())
        return torch.stack([part.mean(0) for part in parts])

    def queries(self, model: TextModel, mlp: nn.Module, edits: Sequence[Rewrite]) -> Tensor:
        """(m, i) fp32 inputs of the MLP where text is predicted that mentions no subject."""
        count = self.memory or 0
        if not count:
            return torch.empty(0, 0)
        where = f"{model.weights_hash()}:{model.path_of(mlp)}"
        key = f"queries:{where}:{self.statistics}:{self.seed}:{count}"

        def collect() -> list[tuple[str, Tensor]]:
            found: list[tuple[str, Tensor]] = []
            windows = _windows(model, corpus_for(model, self.statistics, seed=self.seed).texts())
            with model.live.suspended():
                while sum(len(x) for _, x in found) < count:
                    if not (texts := list(islice(windows, BATCH))):
                        break
                    rows = [_asked(model, text) for text in texts]
                    parts = _reads(model, mlp, rows)[0].split([len(r.reads) for r in rows])
                    found += zip(texts, parts, strict=True)
            return found

        found = model.remembered(key, collect)
        kept = [x for text, x in found if not any(e.subject in text for e in edits)]
        if not kept:
            raise InputError(
                f"The corpus {self.statistics!r} has no text without the subjects of the edits. Give "
                "another text file as `statistics`, or memory=0."
            )
        return torch.cat(kept)[:count]


def _windows(model: TextModel, texts: Iterable[str]) -> Iterator[str]:
    """Pieces of up to `WINDOW` tokens that have at least 4 words."""
    tokenizer = model.tokenizer
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(ids), WINDOW):
            piece = str(tokenizer.decode(ids[at : at + WINDOW]))
            if len(piece.split()) >= 4:
                yield piece


def _asked(model: TextModel, text: str) -> Asked:
    """A text of which the second half is predicted; of a masked model, one word in the middle."""
    words = text.split()
    half = len(words) // 2
    end = half + 1 if model.kind == "masked" else len(words)
    head, tail, rest = (" ".join(w) for w in (words[:half], words[half:end], words[end:]))
    return model.asked(head, tail, rest)


@torch.no_grad()
def _reads(model: TextModel, mlp: nn.Module, rows: Sequence[Asked]) -> tuple[Tensor, Tensor]:
    """(n, i) fp32 inputs of the MLP at all positions that are read, and (n, V) logits there."""
    questions = model.force(rows)
    with captured({"x": (mlp, "input")}) as found:
        logits = model.target_logits(questions)
    stack = questions.rows if questions.decoder is None else questions.decoder
    x = Pass(stack.mask).rows(found["x"])  # (b, t, i)
    return x[questions.row, questions.column].float(), logits
