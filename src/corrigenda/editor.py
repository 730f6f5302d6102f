"""The `Editor` base: what every method has in common, written once.

An editor is a frozen dataclass. Its fields are the hyperparameters, with the paper's values as
defaults; calling it is a pure function from a model and edits to a delta. The base class applies
`onto` while solving, refuses changes that would damage the model, checks that every edit took,
fills in the provenance, and leaves the model bit-identical. A subclass writes `solve`.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from .delta import Change, Delta, Outcome, Provenance
from .edit import Concept, Contrast, Rewrite
from .errors import EditError, ModelError, UnstableEditError

if TYPE_CHECKING:
    from .models.text import TextModel

__all__ = ["EditWarning", "Editor", "Solution"]


class EditWarning(UserWarning):
    """An edit did not take, or was solved with weaker means than the method asks for."""


@dataclass(frozen=True, slots=True)
class Solution:
    """What `solve` returns: changes by parameter name, and what is worth knowing about them."""

    changes: Mapping[str, Change]
    transposed: frozenset[str] = frozenset()
    state: Mapping[str, Tensor] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[int, str] = field(default_factory=dict)  # remarks by index of the edit
    warnings: tuple[str, ...] = ()
    precompute_seconds: float = 0.0


@dataclass(frozen=True)
class Editor(ABC):
    """Base of all methods. `editor(model, edits)` returns a `Delta`; the model is untouched."""

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    """Authors, year, arXiv id."""
    family: ClassVar[str]
    """locate-then-edit, fine-tuning, in-context, ..."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Of: subject, statistics, training, corpus, labels."""
    takes: ClassVar[type] = Rewrite
    """The kind of edit."""
    kinds: ClassVar[tuple[str, ...]] = ("causal", "encoder-decoder", "masked")
    """The kinds of model that it supports."""
    change: ClassVar[str] = "LowRank"
    """LowRank, Dense, Affine, Neurons, Memory or Prefix."""
    batches: ClassVar[bool] = True
    streams: ClassVar[bool] = False
    """Whether edits may follow each other in long sequences with `onto`."""
    paper_values: ClassVar[Mapping[str, Any]] = {}
    """The paper's values of hyperparameters whose field defaults to None (preset or paper)."""

    @abstractmethod
    def solve(self, model: TextModel, edits: Sequence[Any], onto: Delta | None) -> Solution:
        """Find the changes for these edits on the model as it is now (`onto` is applied)."""

    def resolved(self, model: TextModel) -> Editor:
        """The editor with every hyperparameter that is None replaced by its value for this model."""
        return self

    def __call__(self, model: TextModel, edits: Sequence[Any], onto: Delta | None = None) -> Delta:
        """Solve the edits and return the delta; the model's weights are the same bits afterwards.

        onto  a delta that these edits come on top of: it is applied while solving, unless it is
              live already, and its state (past keys, statistics) is continued. The result holds
              the new change only; use `onto + result` for both.

        Raises `EditError` for edits of the wrong kind, `ModelError` for a kind of model that the
        method does not support, and `UnstableEditError` when the change is non-finite or abnormally
        large. Edits that did not take are listed in `delta.failed` and
        warned about.
        """
        edits, resolved = list(edits), self.resolved(model)
        self.check(model, edits)
        if not edits:
            return Delta(provenance=Provenance(editor=self.name, arguments=self.arguments()))
        with ExitStack() as stack:
            if onto and not any(delta is onto for delta in model.live.deltas):
                stack.enter_context(onto.applied(model))
            live = tuple(d.id for d in model.live.deltas)
            start = time.perf_counter()
            with model.frozen():
                solution = resolved.solve(model, edits, onto)
            seconds = time.perf_counter() - start - solution.precompute_seconds
            delta = Delta(
                solution.changes,
                solution.transposed,
                {n: model.live.pristine_hash(n) for n in _base(model, solution.changes)},
                solution.state,
            )
            delta.check_finite()
            _check_norms(model, delta, len(edits), self.title, getattr(resolved, "max_norm", None))
            outcomes = self.outcomes(model, delta, edits, solution.notes)
        messages = list(solution.warnings)
        for edit, outcome in zip(edits, outcomes, strict=True):
            if not outcome.took:
                wanted = f", not {edit.target!r}" if edit.target else ""
                messages.append(
                    f"The edit did not take: {edit.question!r} is answered {outcome.answer!r}{wanted}. "
                    f"{outcome.note}".strip()
                )
        for message in messages:
            warnings.warn(message, EditWarning, stacklevel=2)
        provenance = Provenance(
            editor=self.name,
            arguments=resolved.arguments(),
            edits=tuple(e.to_dict() for e in edits),
            outcomes=tuple(outcomes),
            model=model.id,
            kind=model.kind,
            tokenizer=model.tokenizer_hash,
            onto=live,
            statistics=dict(solution.statistics),
            seed=getattr(self, "seed", None),
            seconds=seconds,
            precompute_seconds=solution.precompute_seconds,
            diagnostics=dict(solution.diagnostics),
            warnings=tuple(messages),
            versions=versions(),
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        return Delta(delta.changes, delta.transposed, delta.base, delta.state, provenance)

    def check(self, model: TextModel, edits: Sequence[Any]) -> None:
        """Raises `EditError` and `ModelError` for what this method cannot do, and says what can."""
        for edit in edits:
            if not isinstance(edit, self.takes):
                raise EditError(
                    f"{self.title} takes {self.takes.__name__} edits, not {type(edit).__name__}. "
                    f"Example: {EXAMPLES[self.takes]}"
                )
        if model.kind not in self.kinds:
            raise ModelError(
                f"{self.title} does not support {model.kind} models such as {model.id}; it supports "
                f"{' and '.join(self.kinds)} ones. `corrigenda editors` lists which method supports "
                "which kind; ft-m, lora and mend support all."
            )

    def arguments(self) -> dict[str, Any]:
        """The hyperparameters, ready for JSON."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}

    def outcomes(
        self, model: TextModel, delta: Delta, edits: Sequence[Any], notes: Mapping[int, str]
    ) -> list[Outcome]:
        """What the model says under the delta: of a rewrite, whether its answer begins with the
        target; of a contrast, whether it now leans further to the positive side."""
        with torch.no_grad():
            if self.takes is Rewrite:
                with delta.applied(model):
                    took = model.says(edits)
            else:
                took = self._leans(model, delta, edits)
        return [
            Outcome(took=ok, answer=answer, note=notes.get(j, ""))
            for j, (ok, answer) in enumerate(took)
        ]

    def leaned(self, before: float, after: float) -> bool:
        """Whether the margin of a contrast moved as this method was told to move it."""
        return after > before

    def _leans(
        self, model: TextModel, delta: Delta, edits: Sequence[Contrast]
    ) -> list[tuple[bool, str]]:
        """Whether each margin moved as asked, and in what words."""
        before = margins(model, edits)
        with delta.applied(model):
            after = margins(model, edits)
        text = "log-odds of the positive side per token: {:+.3f} before, {:+.3f} after"
        pairs = zip(before, after, strict=True)
        return [(self.leaned(a, b), text.format(a, b)) for a, b in pairs]


EXAMPLES: Mapping[type, str] = {
    Rewrite: 'Rewrite("{} is in", subject="Eiffel Tower", target="Rome")',
    Contrast: 'Contrast(" Love", " Hate", prompt="I feel")',
    Concept: 'Concept("language", texts=["Guten Tag", "Good day"], labels=["de", "en"])',
}
"""How an edit of each kind is written."""


def plain(value: Any) -> Any:
    """A hyperparameter as JSON: an editor inside another becomes its name and arguments."""
    if isinstance(value, Editor):
        return {"editor": value.name, **value.arguments()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (Rewrite, Contrast, Concept)):
        return value.to_dict()
    return value


def _base(model: TextModel, changes: Mapping[str, Change]) -> list[str]:
    """The parameters that must be as they are for the changes to mean the same: those changed, and
    those of the modules that activations are changed at."""
    names: list[str] = []
    for name in changes:
        path, _, which = name.partition("@")
        if which:
            module = model.module.get_submodule(path)
            names += [f"{path}.{n}".lstrip(".") for n, _ in module.named_parameters()]
        elif name != "context":
            names.append(name)
    return list(dict.fromkeys(names))


def margins(model: TextModel, edits: Sequence[Contrast]) -> list[float]:
    """log p(positive) - log p(negative), per token, of each contrast. Without a prompt a causal
    model is asked what a text begins with."""
    begin = str(model.tokenizer.bos_token or model.tokenizer.eos_token or "\n")
    nothing = begin if model.kind == "causal" else ""
    pairs = [(e.prompt.rstrip() or nothing, t) for e in edits for t in (e.positive, e.negative)]
    scores = [s.mean for s in model.score(pairs)]
    return [a - b for a, b in zip(scores[::2], scores[1::2], strict=True)]


def versions() -> dict[str, str]:
    packages = ("corrigenda", "torch", "transformers", "safetensors")
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _check_norms(model: TextModel, delta: Delta, n: int, title: str, limit: float | None) -> None:
    if limit is None:
        return
    for name, norm in delta.norms().items():
        whole = float(model.live.pristine(name).double().norm())
        # n independent edits add up like orthogonal vectors do.
        if norm > limit * whole * n**0.5:
            raise UnstableEditError(
                f"{title} would change {name} by {norm / whole:.0%} of its norm for {n} edit(s) "
                f"(limit {limit:.0%} for one), which damages other answers. Lower `clamp`, use "
                "real second moments in place of the identity, choose another layer, or raise "
                "`max_norm` if you have measured that it does no harm."
            )
