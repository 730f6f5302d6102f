"""Skill neurons: the neurons that tell the classes of a task are found, and silenced or enhanced.

Wang, Wen, Zhang, Hou, Liu, Li 2022, 2211.07349.

    a(x, p)    activation of a neuron at token p of the prompt, for text x
    t(p)       its mean over the training texts
    Acc(p)     share of the other texts with [a(x, p) > t(p)] = y(x)
    Pred       = max over p of max(Acc, 1 - Acc), mean over several trained prompts
    W_w ← s W_w                         for the neurons with the highest Pred

A neuron w is an input of the down-projection W, and its column W_w what it writes. With more than
two classes neurons are found for every pair of them, the same number for each. The prompt is text
that follows every text (" It was"), to be answered with its label; trained, it is a soft prompt: a
vector is added to what enters the first block at each of its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..delta import Change, Delta, LowRank, Outcome
from ..edit import Concept
from ..editor import Editor, Solution
from ..errors import EditError
from ..models.asked import Asked
from ..models.text import TextModel
from ._concept import classes_of, split
from ._states import opened, states

__all__ = ["SkillNeurons", "predictivity"]


@dataclass(frozen=True)
class SkillNeurons(Editor):
    """Scale the neurons that are most predictive of a concept's classes.

    scale     s: 0 silences them, 2 enhances them, 1 changes nothing.
    share     of the neurons of all layers that are scaled; with several classes, for each pair.
    chosen    "random" neurons instead, as many: what the effect is compared with.
    layers    where neurons are looked for; None: all blocks that read the prompt.
    prompt    text after each text, at whose tokens activations are read; empty: at its last token.
    runs      how many soft prompts are trained.
    steps     of training each; 0: the prompt as it stands, which is one run.
    lr        learning rate of Adam.
    held_out  share of the texts that accuracies are taken of.
    seed      of the soft prompts and of random neurons.

    An edit took if log p(own label) - log p(best other label) moved as it was to: on the texts held
    out, mean per token of a label, asked after the prompt.
    """

    scale: float = 0.0
    share: float = 0.02
    chosen: Literal["top", "random"] = "top"
    layers: tuple[int, ...] | None = None
    prompt: str = ""
    runs: int = 5
    steps: int = 0
    lr: float = 1e-2
    held_out: float = 0.5
    seed: int = 0

    name: ClassVar[str] = "skill-neurons"
    title: ClassVar[str] = "Skill neurons"
    paper: ClassVar[str] = "Wang et al. 2022, 2211.07349"
    family: ClassVar[str] = "locate-then-edit"
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    takes: ClassVar[type] = Concept

    def resolved(self, model: TextModel) -> SkillNeurons:
        return replace(self, layers=self.layers or tuple(model.prompt_layers))

    def solve(self, model: TextModel, edits: Sequence[Concept], onto: Delta | None) -> Solution:
        sites = [model.site("down", layer) for layer in self.layers or ()]
        sizes = [model.weight(site).shape[1] for site in sites]
        marked = torch.zeros(sum(sizes), dtype=torch.bool)
        best = []
        for edit in edits:
            scores = self.predictivity(model, edit)  # (pairs, N)
            best.append(round(float(scores.max()), 4))
            for score in scores if self.chosen == "top" else _shuffled(scores, self.seed):
                marked[score.topk(max(1, round(self.share * len(score)))).indices] = True
        changes: dict[str, Change] = {}
        for site, mine in zip(sites, marked.split(sizes), strict=True):
            neurons = mine.nonzero()[:, 0]
            if len(neurons):
                columns = model.weight(site).float().cpu()[:, neurons]  # (o, r)
                v = one_hot(neurons, len(mine)).float()
                changes[site.parameter] = LowRank((self.scale - 1) * columns, v)
        return Solution(
            changes,
            frozenset(s.parameter for s in sites if s.transposed),
            diagnostics={"neurons": int(marked.sum()), "highest predictivity": best},
        )

    def predictivity(self, model: TextModel, edit: Concept) -> Tensor:
        """(pairs of classes, N) Pred of the neurons of all layers in turn."""
        fit, held = split(edit, self.held_out)
        classes = classes_of(edit)
        if set(classes[fit].tolist()) != set(classes[held].tolist()):
            raise EditError(
                f"The concept {edit.name!r} has labels with a single text. Give at least two texts "
                "of each, so that some can be held out."
            )
        pairs = list(combinations(range(int(classes.max()) + 1), 2))
        runs = range(self.runs if self.steps else 1)
        total = torch.zeros(())
        for run in runs:
            a = self._activations(model, edit, self._soft(model, edit, run))  # (n, p, N)
            found = []
            for pair in pairs:
                train, dev = ([j for j in part if int(classes[j]) in pair] for part in (fit, held))
                found.append(predictivity(a[train], a[dev], classes[dev] == pair[1]))
            total = total + torch.stack(found)
        return total / len(runs)

    def _activations(self, model: TextModel, edit: Concept, soft: Tensor) -> Tensor:
        """(n, p, N) activations of all neurons at the prompt's tokens."""
        rows = opened(model, [text + self.prompt for text in edit.texts])
        count = len(soft)

        def tokens(row: Asked, writes: bool) -> Sequence[int]:
            return _places(model, row, count)

        def during(chunk: Sequence[Asked]) -> AbstractContextManager[None]:
            return _prompted(model, [_places(model, row, count) for row in chunk], soft)

        paths = [model.site("down", layer).module for layer in self.layers or ()]
        found = states(model, rows, paths, tokens, "input", during)
        return torch.cat([found[p].x.view(len(rows), count, -1) for p in paths], 2)

    def _soft(self, model: TextModel, edit: Concept, run: int) -> Tensor:
        """(p, d) what a trained prompt adds at each of its tokens; zeros where none is trained."""
        count = max(1, len(model.tokenizer(self.prompt, add_special_tokens=False)["input_ids"]))
        if not self.steps:
            return torch.zeros(count, model.width)
        generator = torch.Generator().manual_seed(self.seed + run)
        soft = (0.01 * torch.randn(count, model.width, generator=generator)).requires_grad_()
        adam = torch.optim.Adam([soft], self.lr)
        fit, _ = split(edit, self.held_out)
        for _ in range(self.steps):
            some = [fit[j] for j in torch.randperm(len(fit), generator=generator)[:32]]
            rows = [model.asked(edit.texts[j] + self.prompt, edit.labels[j]) for j in some]
            with model.frozen(), torch.enable_grad():
                with _prompted(model, [_places(model, r, count) for r in rows], soft):
                    loss = model.nll(rows).mean()
                adam.zero_grad()
                loss.backward()
            adam.step()
        return soft.detach()

    def outcomes(
        self, model: TextModel, delta: Delta, edits: Sequence[Any], notes: Mapping[int, str]
    ) -> list[Outcome]:
        found = []
        for edit in edits:
            before = self.margin(model, edit)
            with delta.applied(model):
                after = self.margin(model, edit)
            answer = f"log-odds of the own label: {before[0]:+.3f} before, {after[0]:+.3f} after"
            note = f"{before[1]:.0%} of labels right before, {after[1]:.0%} after"
            took = (after[0] - before[0]) * (self.scale - 1) > 0
            found.append(Outcome(took=took, answer=answer, note=note))
        return found

    def margin(self, model: TextModel, edit: Concept) -> tuple[float, float]:
        """Mean over the texts held out of log p(own label) - log p(best other), and the share of
        them whose own label is the most likely."""
        _, held = split(edit, self.held_out)
        kinds, classes = sorted(set(edit.labels)), classes_of(edit)[held]
        asked = [(edit.texts[j] + self.prompt, kind) for j in held for kind in kinds]
        scores = torch.tensor([s.mean for s in model.score(asked)]).view(len(held), -1)
        own = one_hot(classes, len(kinds)).bool()
        margins = scores[own] - scores.masked_fill(own, float("-inf")).amax(1)
        return float(margins.mean()), float((margins > 0).float().mean())


def predictivity(train: Tensor, dev: Tensor, positive: Tensor) -> Tensor:
    """(N,) Pred of neurons from activations train (n, p, N) and dev (m, p, N), whose classes are
    positive (m,) bool."""
    told = dev > train.mean(0)  # (m, p, N)
    accuracy = (told == positive[:, None, None]).float().mean(0)
    return torch.maximum(accuracy, 1 - accuracy).amax(0)


def _shuffled(scores: Tensor, seed: int) -> Tensor:
    """Random scores of the same shape."""
    return torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed))


def _places(model: TextModel, row: Asked, count: int) -> list[int]:
    """The last tokens of a prompt: before the gap of a masked model, before the end mark of an
    encoder, else up to where the answer begins."""
    end = len(row.ids) - 1 if row.end is None else row.end
    special = model.kind == "masked" or row.ids[end] == model.tokenizer.eos_token_id
    return list(range(end - special - count + 1, end - special + 1))


@contextmanager
def _prompted(model: TextModel, places: Sequence[Sequence[int]], soft: Tensor) -> Iterator[None]:
    """With soft (p, d) added to what enters the first block, at these places of each row."""

    def hook(_module: Any, args: Any, kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]  # (b, t, d)
        more = torch.zeros_like(hidden, dtype=torch.float32)
        rows = torch.arange(len(places))[:, None]
        more = more.index_put((rows, torch.tensor(places)), soft.to(hidden.device))
        hidden = (hidden.float() + more).to(hidden.dtype)
        return (
            ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})
        )

    if not bool(soft.any()):
        yield
        return
    handle = model.block(0).register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
