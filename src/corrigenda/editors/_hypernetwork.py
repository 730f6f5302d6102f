"""What the meta-learned editors share: a network that turns an edit's gradient into a change.

An edit gives factors (x_t, δ_t) at every linear map that may change (`_gradients.py`); the network,
trained once per model, maps them to a change in factored form, Δ = u v with u (o, n), v (n, i).
It is trained on lessons: edits with other wordings of the same question and with unrelated prompts,

    min  c · NLL(target | edit and other wordings; W + Δ)  +  k · KL(p_W ‖ p_{W+Δ} on unrelated)

The factors do not depend on the network, so the gradient is taken in two phases: first ∂L/∂u and
∂L/∂v through the language model, then from there through the network. They never share a graph.

A trained state is a directory: `network.safetensors`, and `network.json` with what it was trained
for, from what and how. It belongs to the weights that it was trained for.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from ..cache import cache_dir
from ..delta import Delta, Dense, LowRank
from ..disk import new_directory, write_atomic
from ..edit import Case, Rewrite
from ..editor import Editor, Solution, plain
from ..errors import DataError, InputError, ModelError, TamperedError, UnstableEditError
from ..model import Site
from ..models.asked import Asked
from ..models.text import TextModel
from ..numerics.gradients import nll_at
from ..numerics.running import Running
from . import presets
from ._finetune import examples, linear_sites, rerouted
from ._gradients import Factors, gradient_factors

__all__ = ["Changes", "FactorEditor", "HypernetworkEditor", "Lesson", "changed", "outer_loss"]

Changes = Mapping[Site, tuple[Tensor, Tensor]]
"""By linear map the factors u (o, n) and v (n, i) of a change; both may need gradients."""

INITIAL = "initial"
WORDINGS, UNRELATED = 2, 3
"""Questions of a lesson in one step: the edit itself and another wording; unrelated prompts."""
MEASURED = 256
"""Edits whose factors the normalisation is measured on."""
NETWORK, RECORD = "network.safetensors", "network.json"


# -- lessons ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lesson:
    """What the network is trained on.

    wordings   other prompts that ask for the edited fact.
    unrelated  prompts whose answers should stay, each with its answer, or "" if it is not known.
    """

    edit: Rewrite
    wordings: tuple[str, ...] = ()
    unrelated: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, given: Case | Rewrite) -> Lesson:
        """Of a case: its paraphrases and its locality probes."""
        if isinstance(given, Rewrite):
            return cls(given)
        return cls(
            given.edit,
            tuple(p.prompt for p in given.on("generalization")),
            tuple((p.prompt, p.answers[0] if p.answers else "") for p in given.on("locality")),
        )

    def to_json(self) -> str:
        return json.dumps([self.edit.to_dict(), self.wordings, self.unrelated], ensure_ascii=False)


def lessons_from(cases: Sequence[Case | Rewrite]) -> list[Lesson]:
    """Lessons; where a case names no unrelated prompt, those of other edits serve.

    Raises `DataError` when there are fewer than two: nothing would be unrelated.
    """
    lessons = [Lesson.of(case) for case in cases]
    if len(lessons) < 2:
        raise DataError(
            f"A network is trained on many edits; {len(lessons)} were given. Give hundreds, best "
            "with paraphrases and with prompts whose answers should stay."
        )
    prompts = [lesson.edit.text for lesson in lessons]
    found = []
    for j, lesson in enumerate(lessons):
        near = tuple((p, "") for p in prompts[j + 1 : j + 9] + prompts[max(0, j - 8) : j])
        others = tuple(pair for pair in near if pair[0] != lesson.edit.text)
        found.append(lesson if lesson.unrelated else replace(lesson, unrelated=others))
    if any(not lesson.unrelated for lesson in found):
        raise DataError("All edits have the same prompt, so none of them is unrelated to another.")
    return found


def _drawn(
    model: TextModel, lesson: Lesson, draw: random.Random
) -> tuple[list[Asked], list[Asked]]:
    """As many questions of either kind for every lesson, so that groups of lessons are alike."""
    edit = lesson.edit
    wanted = [model.asked(edit.text, edit.target, edit.following)]
    for _ in range(WORDINGS - 1):
        if lesson.wordings:
            wanted.append(model.asked(draw.choice(lesson.wordings), edit.target))
        else:
            wanted.append(wanted[0])
    pairs = [draw.choice(lesson.unrelated) for _ in range(UNRELATED)]
    return wanted, [model.asked(p, a) if a else model.opening(p) for p, a in pairs]


# -- a model with changes that are being trained ----------------------------------------------


@contextmanager
def changed(model: TextModel, groups: Sequence[Changes]) -> Iterator[None]:
    """The model computes with W + Δ_g on the g-th of as many equal parts of a batch of questions."""
    with ExitStack() as stack:
        for site in groups[0] if groups else ():
            u, v = _stacked([group[site] for group in groups])

            def output(x: Tensor, own: Tensor, u: Tensor = u, v: Tensor = v) -> Tensor:
                parts = x.reshape(len(u), -1, x.shape[-1]).to(u.dtype)  # (g, tokens, i)
                added = parts @ v.transpose(1, 2) @ u.transpose(1, 2)
                return own + added.reshape(own.shape).to(own.dtype)

            stack.enter_context(rerouted(model.linear(site), output))
        yield


def _stacked(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """u (g, o, n) and v (g, n, i), with columns of zeros where a change has fewer."""
    most = max(v.shape[0] for _, v in pairs)
    pad = nn.functional.pad
    return (
        torch.stack([pad(u, (0, most - u.shape[1])) for u, _ in pairs]),
        torch.stack([pad(v, (0, 0, 0, most - v.shape[0])) for _, v in pairs]),
    )


def outer_loss(
    model: TextModel,
    groups: Sequence[Changes],
    lessons: Sequence[Sequence[Lesson]],
    draw: random.Random,
    before: Sequence[Changes] = (),
) -> tuple[Tensor, Tensor]:
    """How well changes answer (mean NLL of the targets) and what they do elsewhere (mean KL of the
    model without any change to that with it); differentiable scalars.

    lessons  of every group, as many for each.
    before   changes that every group comes on top of.
    """
    drawn = [_drawn(model, lesson, draw) for group in lessons for lesson in group]
    rows = [row for wanted, unrelated in drawn for row in (*wanted, *unrelated)]
    elsewhere = [row for _, unrelated in drawn for row in unrelated]
    with torch.no_grad():
        told = model.target_logits(model.force(elsewhere)).log_softmax(-1)  # (m, V)
    with ExitStack() as stack:
        for changes in (*([before_all] for before_all in before), groups):
            stack.enter_context(changed(model, changes))
        questions = model.force(rows)
        logits = model.target_logits(questions)
    owner = questions.row.to(logits.device)
    edited = owner % (WORDINGS + UNRELATED) < WORDINGS
    wanted = torch.tensor([t for w, _ in drawn for row in w for t in row.wanted])
    kept = nll_at(logits[edited], wanted.to(logits.device), owner[edited], len(rows))
    nll = kept.sum() / (len(drawn) * WORDINGS)
    now = logits[~edited].log_softmax(-1)
    return nll, (told.exp() * (told - now)).sum(-1).mean()


# -- the editor -------------------------------------------------------------------------------


@dataclass(frozen=True)
class HypernetworkEditor(Editor):
    """Hyperparameters of the meta-learned editors. None means: as the network was trained, or when
    it is being trained, the preset for the model, or the paper's value.

    trained  directory of a trained network; None: the one that comes with the package for this
             model; "initial": the network as it is before training.
    layers   blocks that are changed.
    roles    which linear maps of them: "down", "up", "gate", ...; None: those of the MLP.
    rate     learning rate of Adam for the network.
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
        """The change for edits that are made together; differentiable in the network."""

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
        folder = self._folder(model)
        if folder is None:
            whole = presets.resolved(self, model)
            if whole.roles is None:
                some = model.row((whole.layers or (0,))[-1])[0].linears
                mlp = tuple(r for r in ("gate_up", "gate", "up", "down") if r in some)
                whole = replace(whole, roles=mlp)
            return whole
        recorded = _read_record(folder).arguments
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
        folder = self._folder(model)
        if folder is None and self.trained != INITIAL:
            raise ModelError(
                f"{self.title} edits with a network that is trained once per model, and there is "
                f"none for {model.id}. Train one: corrigenda fit {model.id} --editor {self.name} "
                f"--data EDITS.jsonl -o DIR; then use it: --set trained=DIR, or in Python "
                f"{type(self).__name__}(trained=DIR)."
            )
        if folder is None:
            return
        record = _read_record(folder)
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

    def _folder(self, model: TextModel) -> Path | None:
        """Where the trained network is, if there is one."""
        if self.trained is not None:
            return None if self.trained == INITIAL else Path(self.trained)
        shipped = Path(__file__).parent / "trained" / model.id / self.name
        return shipped if model.is_atlas and (shipped / RECORD).exists() else None

    def _loaded(self, model: TextModel, sites: Sequence[Site]) -> tuple[nn.Module, dict[str, Any]]:
        """The network, and what provenance should say of it."""
        network, folder = self.network(model, sites), self._folder(model)
        if folder is None:
            return network, {"trained": INITIAL}
        record = _read_record(folder)
        if record.sites != [site.parameter for site in sites]:
            raise InputError(f"{folder} holds a network for {', '.join(record.sites)}.")
        network.load_state_dict(_read_network(folder, record))
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
        out       directory for the trained network; None: a place in the cache.
        resume    go on from the checkpoint in `out`, if there is one. An interrupted run ends with
                  the same network as an uninterrupted one.
        progress  called with (steps done, steps in all, {"loss", "nll", "kl"}).
        stop_at   stop after this step with a checkpoint and no network, as an interruption would;
                  the editor is returned as it was.

        Raises `DataError` for too few cases, `InputError` when `out` holds another run, and
        `UnstableEditError` when the loss is not finite.
        """
        fresh = replace(
            self, trained=INITIAL, seed=self.seed if seed is None else seed,
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
            "data": _digest("\n".join(lesson.to_json() for lesson in lessons).encode()),
        }
        name = _digest(json.dumps(recipe, sort_keys=True).encode())
        folder = cache_dir() / "trained" / name[:32] if out is None else Path(out)
        run = _Run(folder, recipe, resume)
        if not run.finished:
            with model.live.suspended(), model.frozen():
                fresh._train(model, lessons, run, progress, stop_at, checkpoint_seconds)
        return replace(self, trained=str(folder)) if run.finished else self

    def _train(
        self,
        model: TextModel,
        lessons: Sequence[Lesson],
        run: _Run,
        progress: Callable[[int, int, Mapping[str, float]], None] | None,
        stop_at: int | None,
        checkpoint_seconds: float,
    ) -> None:
        network = self.network(model, self.sites(model))
        groups, total = self.groups(network), self.steps or 0
        optimizer = torch.optim.Adam(groups)
        parameters = [p for group in groups for p in group["params"]]
        first, seen = run.restore(network, optimizer)
        if first == 0:
            self.prepare(network, self.factors(model, [x.edit for x in lessons[:MEASURED]]))
        saved = time.monotonic()
        for step in range(first, total):
            draw = random.Random(f"{self.seed}/{step}")  # nothing is carried from step to step
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


# -- the network of MEND and its kin ----------------------------------------------------------


class FactorNetwork(nn.Module):
    """Maps factors [x; δ] to [x̃; δ̃], with the same weights for all linear maps of one shape.

        z ← z + max(0, s ⊙ (U V z + b) + t)        twice, or as many blocks as there are

    U is 0 at first, so the untrained network is the identity. s and t are of each linear map; so
    are its step and log-ridge, and the mean and deviation that its factors are normalised by.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], rank: int, blocks: int, step: float, seed: int
    ) -> None:
        super().__init__()
        self.names = [f"{o}x{i}" for o, i in shapes]
        generator = torch.Generator().manual_seed(seed)
        self.nets = nn.ModuleDict()
        for name, (o, i) in dict(zip(self.names, shapes, strict=True)).items():
            maps = self.names.count(name)
            self.nets[name] = nn.ModuleList(
                _Residual(o + i, min(rank, o + i), maps, generator) for _ in range(blocks)
            )
        self.places = [self.names[:j].count(name) for j, name in enumerate(self.names)]
        self.steps = nn.Parameter(torch.full((len(shapes),), step))
        self.log_ridges = nn.Parameter(torch.zeros(len(shapes)))
        for j, (o, i) in enumerate(shapes):
            self.register_buffer(f"mean{j}", torch.zeros(o + i))
            self.register_buffer(f"std{j}", torch.ones(o + i))

    def forward(self, j: int, inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """(x̃ (n, i), δ̃ (n, o)) of the factors of the j-th linear map."""
        mean, std = self.get_buffer(f"mean{j}"), self.get_buffer(f"std{j}")
        z = (torch.cat([inputs, gradients], 1) - mean) / std
        for layer in self.nets[self.names[j]]:  # type: ignore[union-attr]
            z = layer(z, self.places[j])
        x, d = z.split([inputs.shape[1], gradients.shape[1]], 1)
        return x, d

    @torch.no_grad()
    def normalize(self, j: int, inputs: Tensor, gradients: Tensor) -> None:
        """Measure mean and deviation of every coordinate of the j-th map's factors."""
        for part, rows in ((slice(None, inputs.shape[1]), inputs),
                           (slice(inputs.shape[1], None), gradients)):
            running = Running.of(rows)
            std = running.variance.sqrt()
            # A coordinate that hardly moved in these edits may well move in another one.
            floor = 0.1 * std.square().mean().sqrt() + 1e-12
            self.get_buffer(f"mean{j}")[part] = running.mean.float()
            self.get_buffer(f"std{j}")[part] = std.clamp_min(floor).float()


class _Residual(nn.Module):
    """z + max(0, s ⊙ (U V z + b) + t). z: (n, d)."""

    def __init__(self, size: int, rank: int, maps: int, generator: torch.Generator) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.zeros(size, rank))
        self.down = nn.Parameter(torch.randn(rank, size, generator=generator) / size**0.5)
        self.bias = nn.Parameter(torch.zeros(size))
        self.scale = nn.Parameter(torch.ones(maps, size))
        self.shift = nn.Parameter(torch.zeros(maps, size))

    def forward(self, z: Tensor, place: int) -> Tensor:
        inner = z @ self.down.T @ self.up.T + self.bias
        # Not `relu`: its gradient at 0, where every coordinate starts, is 0; that of clamp is 1.
        return z + (self.scale[place] * inner + self.shift[place]).clamp_min(0.0)


@dataclass(frozen=True)
class FactorEditor(HypernetworkEditor):
    """Hyperparameters of the editors with a `FactorNetwork`. See `HypernetworkEditor` for others.

    rank       of the network's layers.
    blocks     how many there are.
    normalize  whether factors are normalised coordinate by coordinate.
    step       initial size of every linear map's step; it is learned.
    step_rate  learning rate of the steps.
    """

    rank: int | None = None
    blocks: int | None = None
    normalize: bool | None = None
    step: float | None = None
    step_rate: float | None = None

    def network(self, model: TextModel, sites: Sequence[Site]) -> FactorNetwork:
        shapes = [(w.shape[0], w.shape[1]) for w in map(model.weight, sites)]
        return FactorNetwork(shapes, self.rank or 1, self.blocks or 0, self.step or 0.0, self.seed)

    def prepare(self, network: FactorNetwork, factors: Mapping[Site, Factors]) -> None:
        if self.normalize:
            for j, f in enumerate(factors.values()):
                network.normalize(j, *lively(f))

    def groups(self, network: FactorNetwork) -> list[dict[str, Any]]:
        own = [network.steps, network.log_ridges]
        rest = [p for p in network.parameters() if not any(p is one for one in own)]
        return [{"params": rest, "lr": self.rate}, {"params": own, "lr": self.step_rate}]


def lively(f: Factors) -> tuple[Tensor, Tensor]:
    """Inputs and gradients of the tokens where neither is 0; others change nothing."""
    some = (f.inputs != 0).any(1) & (f.gradients != 0).any(1)
    return f.inputs[some], f.gradients[some]


# -- on disk ----------------------------------------------------------------------------------


class Record(BaseModel):
    """The content of `network.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["corrigenda-hypernetwork"] = "corrigenda-hypernetwork"
    version: Literal[1] = 1
    editor: str
    arguments: dict[str, Any]
    sites: list[str]
    model: str
    weights: str
    steps: int
    lessons: int
    data: str
    loss: float
    sha256: str


def _read_record(folder: Path) -> Record:
    """Raises `InputError` where there is no trained network, `TamperedError` for a damaged one."""
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
    except OSError:
        raise InputError(
            f"There is no trained network in {folder}. Name a directory that `corrigenda fit` "
            "wrote to its end."
        ) from None
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        raise TamperedError(
            f"{folder / RECORD} is not the record of a trained network: {error.errors()[0]['msg']}."
        ) from None


def _read_network(folder: Path, record: Record) -> dict[str, Tensor]:
    try:
        data = (folder / NETWORK).read_bytes()
    except OSError:
        data = b""
    if _digest(data) != record.sha256:
        raise TamperedError(
            f"{folder / NETWORK} is not what was written there (its checksum differs). Copy the "
            "directory again, or train the network again with `corrigenda fit`."
        )
    return safetensors.torch.load(data)


class _Run:
    """A training run on disk: a checkpoint while it lasts, the network and its record at the end."""

    def __init__(self, folder: Path, recipe: dict[str, Any], resume: bool) -> None:
        self.folder, self.recipe = folder, plain(json.loads(json.dumps(recipe)))
        self.path = folder / "checkpoint"
        self.finished = False
        self.start: dict[str, Any] | None = None
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is a file. Give a directory for the trained network.")
        if not resume:
            return
        if (folder / RECORD).exists():
            record = _read_record(folder)
            self._same({k: getattr(record, k) for k in self.recipe})
            self.finished = True
        elif (self.path / "run.json").exists():
            self.start = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
            self._same(self.start["recipe"])

    def _same(self, there: dict[str, Any]) -> None:
        differ = [key for key, value in self.recipe.items() if there.get(key) != value]
        if differ:
            raise InputError(
                f"{self.folder} holds another training run: it differs in {', '.join(differ)}. "
                "Give another directory, or resume=False to start anew."
            )

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[float]]:
        """Set both to where the checkpoint left them; the steps done, and the last losses."""
        if self.start is None:
            return 0, []
        try:
            tensors = safetensors.torch.load_file(self.path / "run.safetensors")
            own = {n.removeprefix("network."): t for n, t in tensors.items() if n[0] == "n"}
            network.load_state_dict(own)
        except (OSError, safetensors.SafetensorError, RuntimeError) as error:
            raise TamperedError(
                f"The checkpoint in {self.path} is damaged ({error}). Start anew with resume=False."
            ) from None
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".")
                moments.setdefault(int(index), {})[key] = tensor
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": moments, "param_groups": groups})
        return int(self.start["step"]), list(self.start["losses"])

    def checkpoint(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, step: int, losses: list[float]
    ) -> None:
        tensors = {f"network.{n}": t for n, t in network.state_dict().items()}
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{key}": torch.as_tensor(t) for key, t in state.items()}
        about = {"recipe": self.recipe, "step": step, "losses": losses}
        with new_directory(self.path) as part:
            (part / "run.safetensors").write_bytes(_bytes(tensors))
            (part / "run.json").write_text(json.dumps(about), encoding="utf-8")

    def finish(self, network: nn.Module, loss: float) -> None:
        """The network first, then its record, which makes it valid."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / RECORD).unlink(missing_ok=True)
        data = _bytes(network.state_dict())
        record = Record(**self.recipe, loss=loss, sha256=_digest(data))
        write_atomic(self.folder / NETWORK, data)
        write_atomic(self.folder / RECORD, (record.model_dump_json(indent=2) + "\n").encode())
        shutil.rmtree(self.path, ignore_errors=True)
        self.finished = True


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({n: t.detach().cpu().contiguous() for n, t in tensors.items()})


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
