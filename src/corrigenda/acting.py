"""Changes that act on activations: `Affine`, `Neurons`, `Memory`.

Weights cannot express them, so they act through hooks that `live.py` places: a change under the key
"path@output" sees the input x (b, t, i) and the output y (b, t, o) of the module at that path and
returns the output to be used. Nothing of the base model is touched, and a row that no memory
recognises gets back the very tensor it would have had.

A `Memory` is a scope and what to do inside it. The scope decides once per row, at the last token of
the prompt, which of its entries applies, if any; the decision is kept while the answer is
generated. `Pass` holds what is known about the forward pass under way: where each prompt ends,
which tokens are padding, and the decisions.

    change                     y becomes
    Affine(u, v, b)            y + u v y + b                                   LEACE, steering
    Neurons(k, bias, v)        y + v act(k x + bias)                           T-Patcher, CaliNET
    Memory(Balls, Values)      the stored value, if x is within a stored ball  GRACE
    Memory(Balls, Blocks)      y + u_j v_j x                                   MELO
    Memory(Margins, Sides)     y + D_j x, if the side matrix is active enough  WISE
    Memory(Overlaps, Columns)  y + D (x * m_j)                                 MEMOIR
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn import functional

from .errors import DeltaError
from .numerics.codebook import Codebook, fold_rows

__all__ = [
    "ACTING",
    "ACTIVATIONS",
    "Affine",
    "Balls",
    "Blocks",
    "Columns",
    "Margins",
    "Memory",
    "Neurons",
    "Overlaps",
    "Pass",
    "Sides",
    "Values",
    "fired",
    "first",
    "place",
    "with_first",
]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
}


def first(output: Any) -> Tensor:
    """The hidden states in a module's output, be it a tensor or a tuple."""
    return output if isinstance(output, Tensor) else output[0]


def with_first(output: Any, hidden: Tensor) -> Any:
    """The same kind of output with other hidden states."""
    return hidden if isinstance(output, Tensor) else (hidden, *output[1:])


def place(module: str, which: Literal["input", "output"] = "output") -> str:
    """The key of a change that acts at a module: "transformer.h.3@output"."""
    return f"{module}@{which}"


@dataclass
class Pass:
    """What is known about the forward pass that is running.

    mask      (b, t) 1 for tokens and 0 for padding; None: no padding.
    ends      (b,) column of each prompt's last token; None: the last token of the row.
    decoding  the prompt has been read already: columns are generated tokens.
    routes    decisions of the memories, by their identity.
    known     the last query of each scope that was asked, and what it chose.
    """

    mask: Tensor | None = None
    ends: Tensor | None = None
    decoding: bool = False
    routes: dict[int, Tensor] = field(default_factory=dict)
    known: dict[int, tuple[object, Tensor, Tensor]] = field(default_factory=dict)

    def begin(self, mask: Tensor | None, ends: Tensor | None) -> None:
        """A new set of prompts is being read."""
        self.mask, self.ends, self.decoding = mask, ends, False
        self.routes.clear()

    def chosen(self, scope: object, query: Tensor, choose: Callable[[], Tensor]) -> Tensor:
        """What `choose` finds for a query (b, d). Not looked for again while the query is the same,
        bit for bit: a search puts the same prompts to the model at every step."""
        kept = self.known.get(id(scope))
        if kept is None or kept[0] is not scope or not torch.equal(kept[1], query):
            kept = self.known[id(scope)] = scope, query.detach(), choose()
        return kept[2]

    def last(self, x: Tensor) -> Tensor:
        """(b,) columns of the prompts' last tokens in x (b, t, ...)."""
        if self.ends is not None:
            return self.ends.to(x.device)
        if self.mask is None:
            return torch.full((x.shape[0],), x.shape[1] - 1, device=x.device)
        columns = torch.arange(x.shape[1], device=x.device)
        return (columns * self.mask.to(x.device)).argmax(1)

    def within(self, x: Tensor) -> Tensor:
        """(b, t) whether each column is a token of the prompt."""
        columns = torch.arange(x.shape[1], device=x.device)
        inside = columns <= self.last(x)[:, None]
        return inside if self.mask is None else inside & self.mask.to(x.device).bool()

    def rows(self, x: Tensor) -> Tensor:
        """x as (b, t, d), also where an architecture flattens it to (b·t, d)."""
        if x.dim() == 3:
            return x
        size = len(self.mask) if self.mask is not None else 1
        return x.view(size, -1, x.shape[-1])


# -- storing what is common -------------------------------------------------------------------


class _Stored:
    """A frozen dataclass of tensors and plain settings that can be saved and compared."""

    def __post_init__(self) -> None:
        for spec in fields(self):  # type: ignore[arg-type]
            value = getattr(self, spec.name)
            if isinstance(value, Tensor):
                object.__setattr__(self, spec.name, _frozen(value))
            elif isinstance(value, list):
                object.__setattr__(self, spec.name, tuple(value))

    def tensors(self) -> dict[str, Tensor]:
        return {
            s.name: value
            for s in fields(self)  # type: ignore[arg-type]
            if isinstance(value := getattr(self, s.name), Tensor)
        }

    def settings(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {
            s.name: list(value) if isinstance(value, tuple) else value
            for s in fields(self)  # type: ignore[arg-type]
            if not isinstance(value := getattr(self, s.name), Tensor)
        }

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Self:
        """What `tensors` and `settings` were taken from."""
        return cls(**tensors, **settings)

    @property
    def numel(self) -> int:
        return sum(t.numel() for t in self.tensors().values())


def _frozen(tensor: Tensor) -> Tensor:
    """On the CPU, contiguous, detached; fp32 if it is of floating point."""
    tensor = tensor.detach().to("cpu").contiguous()
    return tensor.float() if tensor.is_floating_point() else tensor


def _as(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.to(like.device)


# -- affine maps ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Affine(_Stored):
    """`y <- y + u v y + b`, with u: (d, r), v: (r, d), b: (d,), or (t, d) for `where="start"`.

    where  "all": at every token. "answer": from the prompt's last token on, which is where the
           answer is decided. "start": row j of b is added at the j-th token of the text.
    """

    u: Tensor
    v: Tensor
    b: Tensor
    where: Literal["all", "answer", "start"] = "all"

    merges: ClassVar[bool] = False
    """Whether those of several deltas at one place act as their sum; else one after the other."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.u.shape[0], self.v.shape[1])

    def act(self, x: Tensor, y: Tensor, now: Pass) -> Tensor:
        u, v, b = (_as(t, y) for t in (self.u, self.v, self.b))
        exact = y.float()
        if self.where == "start":
            return y if now.decoding else self._start(y, b, now)
        change = (exact @ v.T) @ u.T + b
        if self.where == "answer" and not now.decoding:
            columns = torch.arange(y.shape[1], device=y.device)
            after = columns >= now.last(y)[:, None]  # (b, t)
            return torch.where(after[..., None], (exact + change).to(y.dtype), y)
        return (exact + change).to(y.dtype)

    def _start(self, y: Tensor, b: Tensor, now: Pass) -> Tensor:
        """b (n, d) added at the first n tokens of every row."""
        n = min(len(b), y.shape[1])
        mask = now.mask
        begin = (
            torch.zeros(y.shape[0], dtype=torch.long, device=y.device)
            if mask is None
            else mask.to(y.device).argmax(1)
        )
        columns = begin[:, None] + torch.arange(n, device=y.device)  # (b, n)
        inside = columns < y.shape[1]
        rows = torch.arange(y.shape[0], device=y.device)[:, None].expand_as(columns)
        new = y.clone()
        which = torch.arange(n, device=y.device).expand_as(columns)[inside]
        at = (rows[inside], columns[inside])
        new[at] = (y[at].float() + b[which]).to(y.dtype)
        return new

    def scaled(self, by: float) -> Affine:
        return replace(self, u=self.u * by, b=self.b * by)

    def like(self, other: object) -> bool:
        return isinstance(other, Affine) and self.where == other.where != "start"

    def plus(self, other: Affine) -> Affine:
        """This map, then the other."""
        if not self.like(other):
            raise DeltaError("Affine changes that act at different tokens cannot be added.")
        u, v = torch.cat([self.u, other.u], 1), torch.cat([self.v, other.v])
        # y + u₂v₂y of y = x + u₁v₁x + b₁
        cross = other.u @ (other.v @ self.u)  # (d, r₁)
        u = torch.cat([self.u + cross, other.u], 1)
        b = self.b + other.b + other.u @ (other.v @ self.b)
        return Affine(u, v, b, self.where)


# -- extra neurons ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Neurons(_Stored):
    """`y <- y + v act(k x + bias)`: n key-value units beside an MLP. k: (n, i), bias: (n,),
    v: (o, n). A gated unit multiplies by `gate x`, gate: (n, i); an empty gate means none."""

    k: Tensor
    bias: Tensor
    v: Tensor
    gate: Tensor = field(default_factory=lambda: torch.empty(0, 0))
    activation: str = "relu"

    merges: ClassVar[bool] = True

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.v.shape[0], self.k.shape[1])

    def act(self, x: Tensor, y: Tensor, now: Pass) -> Tensor:
        k, bias, v, gate = (_as(t, y) for t in (self.k, self.bias, self.v, self.gate))
        active = fired(x, k, bias, gate, self.activation)
        return (y.float() + active @ v.T).to(y.dtype) if bool(active.any()) else y

    def scaled(self, by: float) -> Neurons:
        return replace(self, v=self.v * by)

    def like(self, other: object) -> bool:
        return (
            isinstance(other, Neurons)
            and self.activation == other.activation
            and bool(self.gate.numel()) == bool(other.gate.numel())
        )

    def plus(self, other: Neurons) -> Neurons:
        if not self.like(other):
            raise DeltaError("Extra neurons with different activations cannot be added.")
        gate = torch.cat([self.gate, other.gate]) if self.gate.numel() else self.gate
        return Neurons(
            torch.cat([self.k, other.k]),
            torch.cat([self.bias, other.bias]),
            torch.cat([self.v, other.v], 1),
            gate,
            self.activation,
        )


def fired(x: Tensor, k: Tensor, bias: Tensor, gate: Tensor, activation: str) -> Tensor:
    """How strongly each of n units is active for x (..., i): (..., n) fp32. See `Neurons`."""
    active = ACTIVATIONS[activation](x.float() @ k.T + bias)
    return active * (x.float() @ gate.T) if gate.numel() else active


# -- scopes -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Balls(_Stored):
    """Entries around stored keys: the ball with the nearest centre that holds the query decides.

    at      where the query is read: "path@input" or "path@output", at the prompt's last token.
    keys    (n, d), radius (n,) with which each was added, labels (n,) what each answers, choice
            (n,) the entry of the payload. The balls in use are folded from these in order, see
            `numerics.codebook`.
    centre  where a ball of several keys stands: at the first (GRACE), or at their mean (MELO).
    """

    at: str
    keys: Tensor
    radius: Tensor
    labels: tuple[str, ...]
    choice: tuple[int, ...]
    centre: Literal["first", "mean"] = "first"

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = {len(self.keys), len(self.radius), len(self.labels), len(self.choice)}
        if len(sizes) > 1:
            raise DeltaError(
                f"Every entry has a key, a radius, a label and a choice; got {len(self.keys)}, "
                f"{len(self.radius)}, {len(self.labels)} and {len(self.choice)} of them."
            )

    @cached_property
    def book(self) -> Codebook:
        """The balls in use."""
        return self._folded(None)

    def _folded(self, begun: Codebook | None) -> Codebook:
        radii = self.radius.tolist()
        return fold_rows(self.keys, self.labels, radii, centre=self.centre, begun=begun)

    def route(self, x: Tensor, now: Pass, payload: Any) -> Tensor:
        query = x[torch.arange(x.shape[0], device=x.device), now.last(x)].float()  # (b, d)
        return now.chosen(self, query, lambda: self._chosen(query))

    def _chosen(self, query: Tensor) -> Tensor:
        entry, _ = self.book.lookup(query.cpu())  # (b,) entry, or -1 outside of all balls
        return torch.tensor([self.choice[j] if j >= 0 else -1 for j in entry.tolist()])

    def plus(self, other: Balls, shift: int) -> Balls:
        both = replace(
            self,
            keys=torch.cat([self.keys, other.keys]),
            radius=torch.cat([self.radius, other.radius]),
            labels=self.labels + other.labels,
            choice=self.choice + tuple(c + shift for c in other.choice),
        )
        if "book" in self.__dict__:  # a long list of balls is folded on, not anew
            both.__dict__["book"] = both._folded(self.book)
        return both


@dataclass(frozen=True, eq=False)
class Margins(_Stored):
    """A side matrix applies where it changes the output much: mean over the prompt of ‖D_j x‖ is at
    least `ratio` times the smallest that its own edits had. The most active one wins.

    at     the module whose side matrices these are: "path@input".
    least  (m,) the smallest activation among the edits of each side matrix.
    """

    at: str
    least: Tensor
    ratio: float = 1.0

    def route(self, x: Tensor, now: Pass, payload: Sides) -> Tensor:
        inside = now.within(x).float()  # (b, t)
        d = _as(payload.used, x)  # (m, o, i)
        moved = torch.einsum("moi,bti->mbto", d, x.float()).norm(dim=-1)  # (m, b, t)
        mean = (moved * inside).sum(-1) / inside.sum(-1).clamp_min(1)  # (m, b)
        least = torch.stack([self.least[group].min() for group in payload.groups])
        ready = mean >= self.ratio * _as(least, x)[:, None]
        best = torch.where(ready, mean, -1.0).max(0)
        return torch.where(best.values > 0, best.indices, -1).cpu()

    def plus(self, other: Margins, shift: int) -> Margins:
        """Shard by shard: both hold a number for every shard that they know (infinity for none)."""
        n = max(len(self.least), len(other.least))
        ours, theirs = (
            functional.pad(m.least, (0, n - len(m.least)), value=float("inf"))
            for m in (self, other)
        )
        return replace(self, least=torch.minimum(ours, theirs))


@dataclass(frozen=True, eq=False)
class Overlaps(_Stored):
    """The stored mask that shares most features with the prompt, if it shares enough.

    at          "path@input". The query is the mean of x over the prompt, minus `background` (i,);
                its k largest entries in size, mapped through `order` (i,), are its features.
    masks       (n, i) uint8, each with k ones.
    least       smallest share of common features.
    """

    at: str
    masks: Tensor
    background: Tensor
    order: Tensor
    k: int
    least: float = 0.4

    def features(self, mean: Tensor) -> Tensor:
        """(b, i) fp32 masks of prompts whose mean input is `mean` (b, i)."""
        centred = mean.float().cpu() - self.background
        top = centred.abs().topk(self.k, dim=1).indices
        return torch.zeros_like(centred).scatter_(1, self.order[top], 1.0)

    @cached_property
    def _columns(self) -> Tensor:
        """(i, n) the masks as fp32, one per column."""
        return self.masks.float().T

    def route(self, x: Tensor, now: Pass, payload: Any) -> Tensor:
        inside = now.within(x).float()[..., None]
        mean = (x.float() * inside).sum(1) / inside.sum(1).clamp_min(1)  # (b, i)
        return now.chosen(self, mean, lambda: self._chosen(mean))

    def _chosen(self, mean: Tensor) -> Tensor:
        shared = self.features(mean) @ self._columns / self.k  # (b, n)
        best = shared.max(1)
        return torch.where(best.values >= self.least, best.indices, -1)

    def like(self, other: object) -> bool:
        """Whether the masks of both are made in one way."""
        return (
            isinstance(other, Overlaps)
            and (self.k, self.least) == (other.k, other.least)
            and torch.equal(self.order, other.order)
            and torch.equal(self.background, other.background)
        )

    def plus(self, other: Overlaps, shift: int) -> Overlaps:
        return replace(self, masks=torch.cat([self.masks, other.masks]))


Scope = Balls | Margins | Overlaps


# -- what to do inside a scope ----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Values(_Stored):
    """The output is replaced by value j (n, o): at the prompt's last token ("last") or at every
    token of the prompt ("prompt")."""

    values: Tensor
    mode: Literal["last", "prompt"] = "last"

    @property
    def entries(self) -> int:
        return len(self.values)

    def act(self, x: Tensor, y: Tensor, route: Tensor, now: Pass) -> Tensor:
        if now.decoding:
            return y  # what was replaced is in the past that the answer attends to
        rows = (route >= 0).nonzero()[:, 0].to(y.device)
        values = _as(self.values, y)[route[route >= 0].to(y.device)].to(y.dtype)  # (k, o)
        new = y.clone()
        if self.mode == "last":
            new[rows, now.last(y)[rows]] = values
        else:
            inside = now.within(y)[rows]  # (k, t)
            new[rows] = torch.where(inside[..., None], values[:, None], y[rows])
        return new

    def plus(self, other: Values) -> Values:
        return replace(self, values=torch.cat([self.values, other.values]))


@dataclass(frozen=True, eq=False)
class Blocks(_Stored):
    """`y + u_j v_j x`: block j of a low-rank change. u: (n, o, r), v: (n, r, i)."""

    u: Tensor
    v: Tensor

    @property
    def entries(self) -> int:
        return len(self.u)

    def act(self, x: Tensor, y: Tensor, route: Tensor, now: Pass) -> Tensor:
        rows = (route >= 0).nonzero()[:, 0].to(y.device)
        which = route[route >= 0].to(y.device)
        u, v = _as(self.u, y)[which], _as(self.v, y)[which]
        change = torch.einsum("bor,bri,bti->bto", u, v, x[rows].float())
        new = y.clone()
        new[rows] = (y[rows].float() + change).to(y.dtype)
        return new

    def plus(self, other: Blocks) -> Blocks:
        return Blocks(torch.cat([self.u, other.u]), torch.cat([self.v, other.v]))


@dataclass(frozen=True, eq=False)
class Sides(_Stored):
    """`y + D_j x`: one side matrix per shard, d (m, o, i).

    every    this many shards, once a further one has begun, act as one, merged by TIES; 0: never.
    density  share of entries that each keeps in the merge.

    The shards themselves are kept, so a removed delta leaves the merge as if it had never been.
    """

    d: Tensor
    every: int = 0
    density: float = 1.0

    @property
    def entries(self) -> int:
        return len(self.d)

    @property
    def groups(self) -> list[slice]:
        """Which shards each of the matrices in use is made of."""
        m = len(self.d)
        merged = (m - 1) // self.every if self.every > 1 else 0
        whole = [slice(g * self.every, (g + 1) * self.every) for g in range(merged)]
        return whole + [slice(j, j + 1) for j in range(merged * self.every, m)]

    @cached_property
    def used(self) -> Tensor:
        """(k, o, i) the matrices in use, one per group."""
        if len(self.groups) == len(self.d):
            return self.d
        from .numerics.combine import ties

        def one(group: slice) -> Tensor:
            shards = self.d[group]
            if len(shards) == 1:
                return shards[0]
            if group.start not in self._merged:
                merged = ties([{"d": shard} for shard in shards], self.density)["d"]
                self._merged[group.start] = merged
            return self._merged[group.start]

        return torch.stack([one(group) for group in self.groups])

    @cached_property
    def _merged(self) -> dict[int, Tensor]:
        """Groups that were merged already, by their first shard."""
        return {}

    def act(self, x: Tensor, y: Tensor, route: Tensor, now: Pass) -> Tensor:
        new = y.clone()
        for j in sorted({int(r) for r in route if r >= 0}):
            rows = (route == j).nonzero()[:, 0].to(y.device)
            change = x[rows].float() @ _as(self.used[j], y).T
            new[rows] = (y[rows].float() + change).to(y.dtype)
        return new

    def plus(self, other: Sides) -> Sides:
        """Shard by shard."""
        n = max(len(self.d), len(other.d))
        ours, theirs = (
            torch.cat([s.d, s.d.new_zeros(n - len(s.d), *s.d.shape[1:])]) for s in (self, other)
        )
        both = replace(self, d=ours + theirs)
        # What does not change is not merged again for each edit of a long sequence.
        both._merged.update(
            (j, done) for j, done in self._merged.items() if not theirs[j : j + self.every].any()
        )
        return both


@dataclass(frozen=True, eq=False)
class Columns(_Stored):
    """`y + D (x * m_j)`, with D (o, i) and the scope's own mask m_j (i,)."""

    d: Tensor

    @property
    def entries(self) -> int:
        return 0

    def act(self, x: Tensor, y: Tensor, masks: Tensor, now: Pass) -> Tensor:
        """masks (b, i), all zero for a row outside the scope."""
        rows = masks.any(1).nonzero()[:, 0].to(y.device)
        kept = x[rows].float() * masks.to(y.device)[rows, None]
        new = y.clone()
        new[rows] = (y[rows].float() + kept @ _as(self.d, y).T).to(y.dtype)
        return new

    def plus(self, other: Columns) -> Columns:
        return Columns(self.d + other.d)


Payload = Values | Blocks | Sides | Columns


@dataclass(frozen=True, eq=False)
class Memory:
    """Inside the scope, do what the payload says; outside, nothing, bit for bit."""

    scope: Scope
    then: Payload

    merges: ClassVar[bool] = True

    def act(self, x: Tensor, y: Tensor, now: Pass) -> Tensor:
        route = now.routes.get(id(self))
        if route is None or len(route) != len(y) or not bool((route >= 0).any()):
            return y
        if isinstance(self.then, Columns):
            assert isinstance(self.scope, Overlaps)
            masks = self.scope.masks[route.clamp_min(0)].float() * (route >= 0)[:, None]
            return self.then.act(x, y, masks, now)
        return self.then.act(x, y, route, now)

    def decide(self, x: Tensor, now: Pass) -> None:
        """Keep the decision for this pass. x (b, t, d) is what stands at `scope.at`."""
        if not now.decoding:
            now.routes[id(self)] = self.scope.route(x, now, self.then)  # type: ignore[arg-type]

    def like(self, other: object) -> bool:
        return (
            isinstance(other, Memory)
            and type(self.scope) is type(other.scope)
            and type(self.then) is type(other.then)
            and self.scope.at == other.scope.at
            and (not isinstance(self.scope, Overlaps) or self.scope.like(other.scope))
        )

    def plus(self, other: Memory) -> Memory:
        """The entries of both, in order, as if they had been added one after the other."""
        if not self.like(other):
            raise DeltaError(
                "Memories of different kinds, or with keys read at different places, "
                "cannot be added."
            )
        scope: Any = self.scope.plus(other.scope, self.then.entries)  # type: ignore[arg-type]
        return Memory(scope, self.then.plus(other.then))  # type: ignore[arg-type]

    @property
    def numel(self) -> int:
        return self.scope.numel + self.then.numel

    def tensors(self) -> dict[str, Tensor]:
        parts = {"scope": self.scope, "then": self.then}
        return {f"{p}.{k}": t for p, part in parts.items() for k, t in part.tensors().items()}

    def settings(self) -> dict[str, Any]:
        parts = {"scope": self.scope, "then": self.then}
        return {p: {"kind": type(part).__name__, **part.settings()} for p, part in parts.items()}

    @classmethod
    def restored(cls, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Memory:
        parts: dict[str, Any] = {}
        for name in ("scope", "then"):
            own = dict(settings[name])
            kind = _PARTS[own.pop("kind")]
            cut = len(name) + 1
            mine = {k[cut:]: t for k, t in tensors.items() if k.startswith(f"{name}.")}
            parts[name] = kind.restored(mine, own)
        return cls(**parts)


_PARTS: dict[str, Any] = {
    kind.__name__: kind for kind in (Balls, Margins, Overlaps, Values, Blocks, Sides, Columns)
}
ACTING: dict[str, Any] = {kind.__name__: kind for kind in (Affine, Neurons, Memory)}
"""The kinds of change that act through hooks, by name."""
