"""The artifact of an edit: what changes at each site, and where it came from.

A delta is a frozen value. It can be applied and undone, added, scaled, saved, loaded and
exported. There are three groups of change:

    in weights      LowRank(u, v)    W <- W + u v      u: (o, r), v: (r, i)
                    Dense(d)         W <- W + d        d: (o, i), or any shape for biases and norms
    on activations  Affine, Neurons, Memory            at "module@output"; see `acting.py`
    on the prompt   Prefix and others                  under "context"; see `context.py`

Those in weights form a vector space: they add and scale, and merge into a checkpoint. The others
act while the model runs; merging refuses them. Factors are fp32 on the CPU: merging a
small change into bf16 weights loses much of it, so it is rounded once, when it is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from .acting import Affine, Memory, Neurons
from .context import Context, Prefix
from .errors import DeltaError, UnstableEditError
from .experts import laid_out

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Change", "Delta", "Dense", "LowRank", "Outcome", "Prefix", "Provenance"]

CONTEXT = "context"  # the key of changes that act on the prompt and belong to no module


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """`W <- W + u v`, with u: (o, r) and v: (r, i) in fp32."""

    u: Tensor
    v: Tensor

    def __post_init__(self) -> None:
        if self.u.ndim != 2 or self.v.ndim != 2 or self.u.shape[1] != self.v.shape[0]:
            raise DeltaError(
                f"A low-rank change needs u (o, r) and v (r, i); got {tuple(self.u.shape)} "
                f"and {tuple(self.v.shape)}."
            )
        object.__setattr__(self, "u", _frozen(self.u))
        object.__setattr__(self, "v", _frozen(self.v))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.u.shape[0], self.v.shape[1]

    @property
    def rank(self) -> int:
        return self.u.shape[1]

    @property
    def numel(self) -> int:
        return self.u.numel() + self.v.numel()

    def matrix(self) -> Tensor:
        return self.u @ self.v

    def norm(self) -> float:
        """Frobenius norm, from the r x r Gram matrices: ‖uv‖² = tr(uᵀu vvᵀ)."""
        u, v = self.u.double(), self.v.double()
        return float(((u.T @ u) * (v @ v.T)).sum().clamp_min(0).sqrt())

    def scaled(self, by: float) -> LowRank:
        return LowRank(self.u * by, self.v)

    def plus(self, other: LowRank | Dense) -> LowRank | Dense:
        """Factors are stacked while that is smaller than the dense sum."""
        _same_shape(self, other)
        if isinstance(other, Dense):
            return Dense(self.matrix() + other.d)
        o, i = self.shape
        if (self.rank + other.rank) * (o + i) >= o * i:
            return Dense(self.matrix() + other.matrix())
        return LowRank(torch.cat([self.u, other.u], 1), torch.cat([self.v, other.v], 0))

    def tensors(self) -> dict[str, Tensor]:
        return {"u": self.u, "v": self.v}


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """`W <- W + d`. d has the mathematical shape (o, i) of a linear map, or a bias's own shape."""

    d: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "d", _frozen(self.d))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.d.shape)

    @property
    def numel(self) -> int:
        return self.d.numel()

    def matrix(self) -> Tensor:
        return self.d

    def norm(self) -> float:
        return float(self.d.double().norm())

    def scaled(self, by: float) -> Dense:
        return Dense(self.d * by)

    def plus(self, other: LowRank | Dense) -> Dense:
        _same_shape(self, other)
        return Dense(self.d + other.matrix())

    def tensors(self) -> dict[str, Tensor]:
        return {"d": self.d}


Acting = Affine | Neurons | Memory
Change = LowRank | Dense | Acting | Context


class Outcome(BaseModel):
    """What the editor itself saw of one edit, right after solving."""

    model_config = ConfigDict(frozen=True)

    took: bool
    answer: str = Field(description="greedy continuation of the edit prompt under the delta")
    note: str = ""


class Provenance(BaseModel):
    """Where a delta came from. Written into delta.json; unknown fields are refused on reading."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    editor: str = ""
    arguments: dict[str, Any] = {}
    edits: tuple[dict[str, Any], ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    model: str = Field(default="", description="id of the base model")
    kind: str = Field(default="", description="causal, encoder-decoder or masked")
    tokenizer: str = Field(
        default="", description="sha256 of the tokenizer's vocabulary and merges"
    )
    onto: tuple[str, ...] = Field(
        default=(), description="ids of the deltas that were live when solving"
    )
    statistics: dict[str, Any] = Field(
        default={}, description="second moments used: source, tokens, or 'identity'"
    )
    seed: int | None = None
    seconds: float = 0.0
    precompute_seconds: float = 0.0
    diagnostics: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    scores: dict[str, Any] = {}
    versions: dict[str, str] = {}
    created: str = ""


@dataclass(frozen=True, eq=False)
class Delta:
    """Changes by parameter name, "module@output" or "context", with provenance.

    changes     {"transformer.h.3.mlp.c_proj.weight": LowRank(...), "transformer.h.5@output":
                Affine(...), "context": Prefix(...), ...}
    transposed  names of parameters that store (i, o); their changes are (o, i) all the same.
    base        {parameter: sha256 of the pristine tensor the delta was made for}.
    state       tensors that the same editor needs to go on from here (past keys, statistics).
    """

    changes: Mapping[str, Change] = field(default_factory=dict)
    transposed: frozenset[str] = frozenset()
    base: Mapping[str, str] = field(default_factory=dict)
    state: Mapping[str, Tensor] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        object.__setattr__(self, "changes", dict(self.changes))
        object.__setattr__(self, "base", dict(self.base))
        object.__setattr__(self, "state", {k: _frozen(v) for k, v in self.state.items()})
        object.__setattr__(self, "transposed", frozenset(self.transposed))
        for name, change in self.changes.items():
            where = "context" if name == CONTEXT else "module" if "@" in name else "parameter"
            wanted = (
                "parameter"
                if isinstance(change, LowRank | Dense)
                else "module"
                if isinstance(change, Affine | Neurons | Memory)
                else "context"
            )
            if where != wanted:
                raise DeltaError(
                    f"A {type(change).__name__} cannot be the change of {name!r}: changes of the "
                    f"prompt go under {CONTEXT!r}, those of activations under 'module@output', and "
                    "those of weights under the name of their parameter."
                )

    # -- reading ------------------------------------------------------------------------------

    @property
    def weights(self) -> dict[str, LowRank | Dense]:
        """The changes that live in parameters."""
        return {k: c for k, c in self.changes.items() if isinstance(c, LowRank | Dense)}

    @property
    def acting(self) -> dict[str, Acting]:
        """The changes that act on activations, by "module@output"."""
        return {k: c for k, c in self.changes.items() if isinstance(c, Affine | Neurons | Memory)}

    @property
    def context(self) -> Context | None:
        """The change of the prompt, if there is one."""
        return self.changes.get(CONTEXT)  # type: ignore[return-value]

    @property
    def prefix(self) -> Prefix | None:
        """The change of the prompt, if it is a plain prefix."""
        return self.context if isinstance(self.context, Prefix) else None

    @property
    def numel(self) -> int:
        """Numbers that the delta holds, without its state."""
        return sum(change.numel for change in self.changes.values())

    @property
    def failed(self) -> list[tuple[dict[str, Any], Outcome]]:
        """The edits that did not take, with what the model answered instead."""
        pairs = zip(self.provenance.edits, self.provenance.outcomes, strict=False)
        return [(e, o) for e, o in pairs if not o.took]

    @cached_property
    def id(self) -> str:
        """Content address: sha256 over changes and base, 64 hexadecimal digits."""
        from .store import delta_id

        return delta_id(self)

    def norms(self) -> dict[str, float]:
        """Frobenius norm of each weight change."""
        return {name: change.norm() for name, change in self.weights.items()}

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __repr__(self) -> str:
        kinds = ", ".join(f"{type(c).__name__} at {n}" for n, c in self.changes.items())
        return f"Delta({self.provenance.editor or 'sum'}: {kinds or 'nothing'})"

    def stored(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """The change of one parameter in its storage orientation, fp32. shape: of the parameter,
        which may be a stack of experts' maps."""
        matrix = self.weights[name].matrix()
        return laid_out(matrix.T if name in self.transposed else matrix, shape)

    # -- algebra ------------------------------------------------------------------------------

    def __add__(self, other: Delta) -> Delta:
        """Both changes at once. Raises `DeltaError` if they were made for different tensors."""
        if not isinstance(other, Delta):
            return NotImplemented
        for name in self.base.keys() & other.base.keys():
            if self.base[name] != other.base[name]:
                raise DeltaError(
                    f"These deltas were made for different weights of {name} and cannot be added. "
                    "Solve the second one on the same base model."
                )
        for name in self.weights.keys() & other.weights.keys():
            if (name in self.transposed) != (name in other.transposed):
                raise DeltaError(
                    f"These deltas disagree on how {name} is stored (one says transposed) and "
                    "cannot be added. They were made for different architectures."
                )
        changes: dict[str, Change] = dict(self.changes)
        for name, change in other.changes.items():
            mine = changes.get(name)
            changes[name] = change if mine is None else mine.plus(change)  # type: ignore[arg-type]
        a, b = self.provenance, other.provenance
        # Both were validated when they were made. To do so again would take longer with every edit.
        together = Provenance.model_construct(
            editor="+".join(dict.fromkeys(f"{a.editor}+{b.editor}".strip("+").split("+"))),
            arguments=a.arguments if a.arguments == b.arguments else {},
            edits=a.edits + b.edits,
            # Outcomes go with edits by position: none at all where some are unknown.
            outcomes=a.outcomes + b.outcomes if len(a.outcomes) == len(a.edits) else (),
            model=a.model or b.model,
            kind=a.kind or b.kind,
            tokenizer=a.tokenizer or b.tokenizer,
            statistics=a.statistics or b.statistics,
            seed=a.seed,
            seconds=a.seconds + b.seconds,
            precompute_seconds=a.precompute_seconds + b.precompute_seconds,
            warnings=a.warnings + b.warnings,
            versions=a.versions or b.versions,
            created=max(a.created, b.created),
        )
        return Delta(
            changes,
            self.transposed | other.transposed,
            {**self.base, **other.base},
            _joined_state(self.state, other.state),
            together,
        )

    def __mul__(self, by: float) -> Delta:
        """Scale every weight change. Raises `DeltaError` for changes that have no scale."""
        changes = {}
        for name, change in self.changes.items():
            if not isinstance(change, LowRank | Dense | Affine | Neurons):
                raise DeltaError(
                    f"A {type(change).__name__} cannot be scaled; remove it or leave it."
                )
            changes[name] = change.scaled(float(by))
        return replace(self, changes=changes)

    __rmul__ = __mul__

    def __neg__(self) -> Delta:
        return self * -1.0

    def __sub__(self, other: Delta) -> Delta:
        return self + -other

    # -- acting -------------------------------------------------------------------------------

    def applied(self, model: Model) -> AbstractContextManager[Model]:
        """`with delta.applied(model): ...` The model is restored bit for bit afterwards,
        also after an exception. Raises `WrongBaseError` if the weights are not its base."""
        return model.live.pushed(self)

    def check_finite(self) -> None:
        """Raises `UnstableEditError` if any change holds a NaN or an infinity."""
        for name, change in self.changes.items():
            if not all(bool(torch.isfinite(t).all()) for t in _judged(change)):
                raise UnstableEditError(
                    f"The change of {name} is not finite, so it is refused. Lower the learning "
                    "rate or the clamp, choose another layer, or use more text for the statistics."
                )

    def save(self, directory: str | Path, **options: Any) -> Path:
        """Write a directory that `Delta.load` and PEFT read; see `store.save`."""
        from .store import save

        return save(self, Path(directory), **options)

    @staticmethod
    def load(directory: str | Path) -> Delta:
        """Read what `save` wrote. Raises `TamperedError` for damage; nothing is unpickled."""
        from .store import load

        return load(Path(directory))


def _judged(change: Change) -> list[Tensor]:
    """The tensors that must be finite: all but a memory's thresholds, where infinity means never."""
    return [t for n, t in change.tensors().items() if t.is_floating_point() and n != "scope.least"]


def _same_shape(a: LowRank | Dense, b: LowRank | Dense) -> None:
    if a.shape != b.shape:
        raise DeltaError(
            f"Changes of shape {a.shape} and {b.shape} cannot be added: "
            "the deltas were made for different models."
        )


def _frozen(tensor: Tensor) -> Tensor:
    """fp32, contiguous, on the CPU, detached: the form in which changes are kept."""
    return tensor.detach().to("cpu", torch.float32).contiguous()


def _joined_state(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join running state. Keys end in the rule: ".../keys" are columns (i, n) of past keys, whose
    only use is K Kᵀ, so they are stacked and never kept much wider than i; ".../running" are
    counts, means and squares, which merge; others take the newer."""
    from .numerics.lowrank import stack_gram
    from .numerics.running import Running

    joined = {**a, **b}
    for name in a.keys() & b.keys():
        if name.endswith("/keys"):
            joined[name] = stack_gram(a[name], b[name])
        elif name.endswith("/running"):
            both = Running.of_tensor(a[name]).merged(Running.of_tensor(b[name]))
            joined[name] = both.tensor().float()
    return joined
