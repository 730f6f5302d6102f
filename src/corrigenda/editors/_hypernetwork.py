"""What the meta-learned editors share: a network that turns an edit's gradient into a change.

An edit gives factors (x_t, δ_t) at every linear map that may change (`_gradients.py`); the network,
trained once per model, maps them to a change in factored form. It is trained on lessons by

    min  c · NLL(target | edit and other wordings; W + Δ)  +  k · KL(p_W ‖ p_{W+Δ} on unrelated)

The factors do not depend on the network, so the gradient is taken in two phases: first ∂L/∂u and
∂L/∂v through the language model, then from there through the network. They never share a graph.
"""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ..cache import cache_dir
from ..delta import Delta, Dense, LowRank
from ..edit import Case, Rewrite
from ..editor import Editor, Solution
from ..errors import InputError, ModelError, UnstableEditError
from ..model import Site
from ..models.text import TextModel
from . import presets
from ._finetune import examples, linear_sites
from ._fitting import RECORD, Run, digest, read_network, read_record
from ._gradients import Factors, gradient_factors
from ._lessons import Changes, Lesson, lessons_from, outer_loss

__all__ = ["Changes", "HypernetworkEditor", "Lesson"]

INITIAL, TRAINED = "initial", "trained"
MEASURED = 256
"""Edits whose factors the normalisation is measured on."""


@dataclass(frozen=True)
class HypernetworkEditor(Editor):
    """Hyperparameters of the meta-learned editors. None means: as the network was trained, or when
    it is being trained, the preset for the model, or the paper's value.

    trained  directory of a trained network; None: the one that comes with the package for this
             model, or that `fit` left in the cache for its weights; "initial": the network as it is
             before training.
    layers   blocks that are changed.
    roles    which linear maps of them: "down", "up", "gate", ...; None: those of the MLP.
    rate     learning rate of Adam for the network; it falls linearly in the second half.
    steps    training steps.
    lessons  edits of one training step.
    emphasis, locality  weights c of the NLL and k of the KL in training.
    clip     largest norm of a training gradient.
    seed     of the network's initial values and the order of lessons.
    """

    trained: str | None = None
    layers: tuple[int, ...] | None = None
    roles: tuple[str, ...] | None = None
    rate: float | None = None
    steps: int | None = None
    lessons: int | None = None
    emphasis: float | None = None
    locality: float | None = None
    clip: float | None = None
    seed: int = 0

    family: ClassVar[str] = "meta-learning"
    needs: ClassVar[tuple[str, ...]] = ("training",)
    tokens: ClassVar[Literal["reads", "all"]] = "all"
    """Whose factors the network sees."""
    together: ClassVar[int | None] = 1
    """Edits that share a change in training; None: all of a step."""
    later: ClassVar[frozenset[str]] = frozenset({"trained", "seed"})
    """Fields that may differ from those that the network was trained with."""

    # A subclass writes these two.

    @abstractmethod
    def network(self, model: TextModel, sites: Sequence[Site]) -> nn.Module:
        """The untrained network; the same bits for the same seed."""

    @abstractmethod
    def made(
        self,
        model: TextModel,
        network: Any,
        edits: Sequence[Rewrite],
        factors: Mapping[Site, Factors],
    ) -> Changes:
        """The change for edits that are made together; differentiable in the network, unless
        `learn` is the subclass's own."""

    def prepare(self, network: Any, factors: Mapping[Site, Factors]) -> None:
        """Set what the network measures before it is trained."""

    def weighted(self, network: Any, nll: Tensor, kl: Tensor) -> Tensor:
        """The training loss."""
        return (self.emphasis or 0.0) * nll + (self.locality or 0.0) * kl

    def groups(self, network: Any) -> list[dict[str, Any]]:
        """The network's parameters with their learning rates, as optimizers take them."""
        return [{"params": list(network.parameters()), "lr": self.rate}]

    # Using it.

    def resolved(self, model: TextModel) -> Self:
        folder = self.folder(model)
        if folder is None:
            whole = presets.resolved(self, model)
            if whole.roles is None:
                some = model.row((whole.layers or (0,))[-1])[0].linears
                mlp = tuple(r for r in ("gate_up", "gate", "up", "down") if r in some)
                whole = replace(whole, roles=mlp)
            return whole
        recorded = read_record(folder).arguments
        values: dict[str, Any] = {}
        for one in fields(self):
            if one.name in self.later:
                continue
            given, known = getattr(self, one.name), _tupled(recorded.get(one.name))
            if given is not None and given != known:
                raise InputError(
                    f"The network in {folder} was trained with {one.name}={known}, not {given}. "
                    f"Leave {one.name} out, or train another: corrigenda fit {model.id} "
                    f"--editor {self.name} --set {one.name}={given} -o DIR"
                )
            values[one.name] = known
        return replace(self, **values)

    def check(self, model: TextModel, edits: Sequence[Any]) -> None:
        super().check(model, edits)
        folder = self.folder(model)
        if folder is None and self.trained != INITIAL:
            data = "" if model.is_atlas else " --data EDITS.jsonl"
            raise ModelError(
                f"{self.title} edits with a network that is trained once per model, and there is "
                f"none for {model.id}. Train one: corrigenda fit {model.id} --editor {self.name}"
                f"{data}. It is found from then on; one in another directory is named by --set "
                f"trained=DIR, or in Python {type(self).__name__}(trained=DIR)."
            )
        if folder is None:
            return
        record = read_record(folder)
        if record.editor != self.name:
            raise InputError(
                f"{folder} holds a network of {record.editor}, not of {self.name}. "
                f"Use the editor {record.editor}, or another directory."
            )
        if record.weights != (found := model.weights_hash()):
            raise ModelError(
                f"The network in {folder} was trained for other weights ({record.model}, sha256 "
                f"{record.weights[:12]}…) than {model.id} has (sha256 {found[:12]}…). Load that "
                f"model, or train one for this: corrigenda fit {model.id} --editor {self.name} "
                "-o DIR"
            )

    def sites(self, model: TextModel) -> list[Site]:
        """The linear maps that change."""
        return linear_sites(model, self.layers or (), self.roles)

    def factors(
        self, model: TextModel, edits: Sequence[Rewrite], batch_size: int = 32
    ) -> dict[Site, Factors]:
        """Of -log p(target | prompt), of every edit, at every site."""
        rows, sites = examples(model, edits), self.sites(model)
        parts = [
            gradient_factors(model, sites, rows[at : at + batch_size], tokens=self.tokens)
            for at in range(0, len(rows), batch_size)
        ]
        return {site: Factors.joined([part[site] for part in parts]) for site in sites}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        sites = self.sites(model)
        network, record = self._loaded(model, sites)
        with torch.no_grad():
            made = self.made(model, network, edits, self.factors(model, edits))
        return Solution(
            {site.parameter: _smaller(u, v) for site, (u, v) in made.items()},
            frozenset(s.parameter for s in sites if s.transposed),
            statistics=record,
            diagnostics={"tokens": len(next(iter(made.values()))[1]) if made else 0},
        )

    def folder(self, model: TextModel) -> Path | None:
        """Where the trained network is, if there is one."""
        if self.trained is not None:
            return None if self.trained == INITIAL else Path(self.trained)
        shipped = Path(__file__).parent / "trained" / model.id / self.name
        if model.is_atlas and (shipped / RECORD).exists():
            return shipped
        # Hashing the weights of a large model takes a while: not where nothing was ever trained.
        if not (cache_dir() / TRAINED).is_dir():
            return None
        kept = self._place(model)
        return kept if (kept / RECORD).exists() else None

    def _place(self, model: TextModel) -> Path:
        """Where a network for these weights is kept unless a directory is given."""
        return cache_dir() / TRAINED / model.weights_hash()[:16] / self.name

    def _loaded(self, model: TextModel, sites: Sequence[Site]) -> tuple[nn.Module, dict[str, Any]]:
        """The network, and what provenance should say of it."""
        network, folder = self.network(model, sites), self.folder(model)
        if folder is None:
            return network, {"trained": INITIAL}
        record = read_record(folder)
        if record.sites != [site.parameter for site in sites]:
            raise InputError(f"{folder} holds a network for {', '.join(record.sites)}.")
        network.load_state_dict(read_network(folder, record))
        return network, {"trained": record.sha256, "steps": record.steps, "lessons": record.lessons}

    # Training it.

    def fit(
        self,
        model: TextModel,
        cases: Sequence[Case | Rewrite],
        *,
        out: str | Path | None = None,
        steps: int | None = None,
        resume: bool = True,
        progress: Callable[[int, int, Mapping[str, float]], None] | None = None,
        seed: int | None = None,
        stop_at: int | None = None,
        checkpoint_seconds: float = 60.0,
    ) -> Self:
        """Train the network, and return the editor that uses it.

        cases     edits to train on, best with paraphrases and locality probes; none of those that
                  the editor is to be judged by.
        out       directory for the trained network; None: a place in the cache, where the editor
                  finds it by the weights of the model.
        resume    go on from the checkpoint in `out`, if there is one. An interrupted run ends with
                  the same network as an uninterrupted one.
        progress  called with (steps done, steps in all, {"loss", "nll", "kl"}).
        stop_at   stop after this step with a checkpoint and no network, as an interruption would;
                  the editor is returned as it was.

        Raises `DataError` for too few cases, `InputError` when `out` holds another run, and
        `UnstableEditError` when the loss is not finite.
        """
        fresh = replace(
            self,
            trained=INITIAL,
            seed=self.seed if seed is None else seed,
            steps=self.steps if steps is None else steps,
        ).resolved(model)
        lessons = lessons_from(cases)
        super(HypernetworkEditor, fresh).check(model, [lesson.edit for lesson in lessons])
        recipe = {
            "editor": fresh.name,
            "arguments": {k: v for k, v in fresh.arguments().items() if k != "trained"},
            "sites": [site.parameter for site in fresh.sites(model)],
            "model": model.id,
            "weights": model.weights_hash(),
            "steps": fresh.steps or 0,
            "lessons": len(lessons),
            "data": digest("\n".join(lesson.to_json() for lesson in lessons).encode()),
        }
        folder = self._place(model) if out is None else Path(out)
        run = Run(folder, recipe, resume)
        if not run.finished:
            with model.live.suspended(), model.frozen():
                fresh._train(model, lessons, run, progress, stop_at, checkpoint_seconds)
        return replace(self, trained=str(folder), steps=None) if run.finished else self

    def _train(
        self,
        model: TextModel,
        lessons: Sequence[Lesson],
        run: Run,
        progress: Callable[[int, int, Mapping[str, float]], None] | None,
        stop_at: int | None,
        checkpoint_seconds: float,
    ) -> None:
        network = self.network(model, self.sites(model))
        groups, total = self.groups(network), self.steps or 0
        rates = [group["lr"] for group in groups]
        optimizer = torch.optim.Adam(groups)
        parameters = [p for group in groups for p in group["params"]]
        first, seen = run.restore(network, optimizer)
        if first == 0:
            self.prepare(network, self.factors(model, [x.edit for x in lessons[:MEASURED]]))
        saved = time.monotonic()
        for step in range(first, total):
            draw = random.Random(f"{self.seed}/{step}")  # nothing is carried from step to step
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, 2 * (1 - step / total))
            chosen = draw.sample(lessons, min(self.lessons or 1, len(lessons)))
            optimizer.zero_grad()
            with torch.enable_grad():
                found = self.learn(model, network, chosen, draw)
            if not found["loss"] < float("inf"):
                raise UnstableEditError(
                    f"The training loss became {found['loss']} in step {step + 1}. Lower `rate` "
                    f"({self.rate}) or `step`, or load the model in float32."
                )
            nn.utils.clip_grad_norm_(parameters, self.clip or float("inf"))
            optimizer.step()
            seen = [*seen[-99:], found["loss"]]
            done = step + 1
            if progress is not None:
                progress(done, total, found)
            if done == stop_at or time.monotonic() - saved > checkpoint_seconds:
                run.checkpoint(network, optimizer, done, seen)
                saved = time.monotonic()
            if done == stop_at and done < total:
                return
        run.finish(network, sum(seen) / max(1, len(seen)))

    def learn(
        self, model: TextModel, network: Any, lessons: Sequence[Lesson], draw: random.Random
    ) -> dict[str, float]:
        """Add the gradient of the training loss on lessons to the network's parameters."""
        size = self.together or len(lessons)
        lessons = lessons[: len(lessons) // size * size]
        parts = [lessons[at : at + size] for at in range(0, len(lessons), size)]
        edits = [[lesson.edit for lesson in part] for part in parts]
        factors = self.factors(model, [e for part in edits for e in part])
        made = [
            self.made(model, network, part, _of_rows(factors, j * size, (j + 1) * size))
            for j, part in enumerate(edits)
        ]
        leaves = [_leaves(changes) for changes in made]
        nll, kl = outer_loss(model, leaves, parts, draw)
        loss = self.weighted(network, nll, kl)
        loss.backward()
        ends, gradients = [], []
        for changes, leaf in zip(made, leaves, strict=True):
            for site, pair in changes.items():
                for tensor, copy in zip(pair, leaf[site], strict=True):
                    if tensor.requires_grad:
                        ends.append(tensor)
                        gradients.append(copy.grad)
        torch.autograd.backward(ends, gradients)
        return {"loss": float(loss.detach()), "nll": float(nll.detach()), "kl": float(kl.detach())}


def _leaves(changes: Changes) -> dict[Site, tuple[Tensor, Tensor]]:
    """The same values, where gradients stop."""
    return {
        site: (u.detach().clone().requires_grad_(), v.detach().clone().requires_grad_())
        for site, (u, v) in changes.items()
    }


def _of_rows(factors: Mapping[Site, Factors], first: int, end: int) -> dict[Site, Factors]:
    """The factors of some questions, numbered anew."""
    found = {}
    for site, f in factors.items():
        mine = (f.rows >= first) & (f.rows < end)
        found[site] = Factors(f.inputs[mine], f.gradients[mine], f.rows[mine] - first)
    return found


def _smaller(u: Tensor, v: Tensor) -> LowRank | Dense:
    """The change u v in its smaller form."""
    (o, n), i = u.shape, v.shape[1]
    return LowRank(u, v) if n * (o + i) < o * i else Dense(u.double() @ v.double())


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
