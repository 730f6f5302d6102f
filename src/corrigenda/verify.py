"""Which recorded edits a checkpoint contains, and whether anything else in it changed.

Every tensor is compared with the base. What differs is explained in one of two ways.

By hash: the ledger notes, with each entry, the hash of every tensor that it touches, once it has
taken effect. So the present state and each earlier one are recognised exactly, without the
base weights.

By fit, where the base weights W0 are at hand: with D = W - W0 and the recorded changes Δ_j,
the coefficients c minimising ‖D - Σ c_j Δ_j‖_F are near 1 for edits that are there and near 0
for edits that are not. What then remains, beyond the rounding of W, no recorded edit explains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .card import summary
from .compare import change_inner
from .delta import Delta
from .errors import WrongBaseError
from .live import tensor_hash

if TYPE_CHECKING:
    from .ledger import Ledger
    from .model import Model

__all__ = ["Finding", "Verification", "named_tensors", "verify"]

EXHAUSTIVE = 10  # up to so many edits, every combination is tried
NEAR = 0.25  # a coefficient so near to 1 or 0 counts as there or not there


@dataclass(frozen=True, slots=True)
class Finding:
    """A tensor that no combination of recorded edits explains.

    norm      Frobenius norm of what is unexplained; None where the base weights are not at hand.
    relative  the same as a share of the norm of the base tensor.
    """

    tensor: str
    reason: str
    norm: float | None = None
    relative: float | None = None


@dataclass(frozen=True)
class Verification:
    """What was found. Edits are named by delta id, in the order in which they were recorded.

    contained    their change is in the weights.
    missing      it is not.
    partly       {id: coefficient}: something between, such as half of it or some of its tensors
                 (coefficient None where it could not be measured).
    undecided    their tensors changed otherwise too, and the base weights are not at hand.
    contextual   they act on the prompt and leave no trace in weights.
    unexplained  tensors that differ by something that is not recorded.
    unchecked    tensors of which no base is known, so nothing can be said.
    stale        undone according to the ledger, and yet contained.
    absent       active according to the ledger, and yet not contained.
    exact        every tensor has exactly the expected bits; False if some differ by rounding.
    """

    contained: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    partly: Mapping[str, float | None] = field(default_factory=dict)
    undecided: tuple[str, ...] = ()
    contextual: tuple[str, ...] = ()
    unexplained: tuple[Finding, ...] = ()
    unchecked: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    exact: bool = True
    checked: int = 0
    summaries: Mapping[str, str] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether the weights are the base plus whole recorded edits and nothing else, as far
        as could be checked (see `unchecked`)."""
        return not (self.unexplained or self.partly or self.undecided)

    @property
    def current(self) -> bool:
        """Whether they are, moreover, exactly the edits that are active."""
        return self.clean and not (self.stale or self.absent)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "clean": self.clean, "current": self.current}

    def __str__(self) -> str:
        lines = []
        for word, ids in (
            ("contained", self.contained),
            ("missing", self.missing),
            ("undecided", self.undecided),
            ("in the prompt", self.contextual),
        ):
            lines += [f"{word}: {self._named(i)}" for i in ids]
        for i, share in self.partly.items():
            much = "in part" if share is None else f"by {share:.2f}"
            lines.append(f"contained {much}: {self._named(i)}")
        lines += [f"undone, yet contained: {self._named(i)}" for i in self.stale]
        lines += [f"active, yet not contained: {self._named(i)}" for i in self.absent]
        for found in self.unexplained:
            size = "" if found.relative is None else f" ({found.relative:.2%} of its norm)"
            lines.append(f"unexplained: {found.tensor}{size}: {found.reason}")
        if len(self.unexplained) == self.checked > 1:
            lines.append(
                "every tensor differs: it is another model, or loaded in another dtype than the "
                "base; load it in the dtype of the base, or pass the base model to compare with"
            )
        if self.unchecked:
            lines.append(
                f"not checked: {len(self.unchecked)} tensors whose base is not recorded; bind the "
                "ledger to the base model, or pass it as base"
            )
        how = "bit for bit" if self.exact else "up to rounding"
        lines.append(
            f"{self.checked} tensors checked: nothing else changed, {how}"
            if self.clean
            else f"{self.checked} tensors checked: something else changed"
        )
        return "\n".join(lines)

    def _named(self, identity: str) -> str:
        return f"{identity[:12]} {self.summaries.get(identity, '')}".rstrip()


@dataclass(frozen=True, slots=True)
class _State:
    """What the ledger knows of the weights after one of its entries."""

    active: tuple[str, ...]
    tensors: dict[str, str]  # hashes of all that was ever touched; absent where unknown


def named_tensors(module: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a checkpoint, each once under its first name, and {any name: first name}."""
    first: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            names[name] = first.setdefault(id(tensor), name)
            if names[name] == name:
                tensors[name] = tensor.detach()
    return tensors, names


def verify(
    model: Model, records: Ledger | Iterable[Delta], *, base: Model | nn.Module | None = None
) -> Verification:
    """Say which recorded edits the weights of `model` contain, and what else changed in them.

    records  a ledger, or deltas in the order in which they were applied.
    base     the unedited model, if at hand: lets changes that match no recorded state be measured.

    Raises `WrongBaseError` if the model lacks tensors that the edits change, or if `base` is not
    the base that they were made for.
    """
    now, names = named_tensors(model.module)
    edits, active, known, states, whole = _read(records, names)
    origin = _origin(model, base, known)
    for identity, delta in edits.items():
        for name, change in delta.weights.items():
            shape = tuple(now[names[name]].shape) if name in names else None
            if shape is not None and len(shape) == 3 and len(change.shape) == 2:
                shape = (shape[1], shape[0] * shape[2])  # a stack of experts, as one map
            if shape != (change.shape[::-1] if name in delta.transposed else change.shape):
                raise WrongBaseError(
                    f"The checkpoint has {name} of shape {shape}, which the edit {identity[:12]} "
                    "does not fit. It is another architecture; give a checkpoint of "
                    f"{delta.provenance.model or 'the base model'}."
                )
    judge = _Judge(edits, active, now, names, known, origin, states)
    return judge.verdict(whole or base is not None)


def _read(
    records: Ledger | Iterable[Delta], names: Mapping[str, str]
) -> tuple[dict[str, Delta], tuple[str, ...], dict[str, str], list[_State], bool]:
    """Edits by id, ids that are active, known base hashes by first name, recorded states, and
    whether the hashes cover the whole model."""
    if isinstance(records, Iterable):
        edits = {d.id: d for d in records}
        known = {names.get(n, n): h for d in edits.values() for n, h in d.base.items()}
        return edits, tuple(edits), known, [], False
    ledger = records
    edits: dict[str, Delta] = {}
    states: list[_State] = []
    known: dict[str, str] = {}
    whole = False
    live: dict[int, str] = {}
    hashes: dict[str, str] = {}
    for entry in ledger.entries():
        if entry.kind == "base":
            known, whole = {names.get(n, n): h for n, h in entry.tensors.items()}, True
        elif entry.kind == "apply":
            edits.pop(entry.delta, None)  # the latest application gives the order
            edits[entry.delta] = ledger.delta(entry)
            live[entry.seq] = entry.delta
        elif entry.kind == "order":
            live = {seq: live[seq] for seq in entry.order}
            edits |= {identity: edits.pop(identity) for identity in live.values()}
        else:
            live.pop(entry.target, None)
        concerned = live.values() if entry.kind == "order" else filter(None, [entry.delta])
        for identity in concerned:
            # What this entry touches is known afterwards only if it says so.
            unsure = {names.get(name, name) for name in edits[identity].weights}
            hashes = {n: h for n, h in hashes.items() if n not in unsure}
        hashes = {**hashes, **entry.after}
        states.append(_State(tuple(live.values()), hashes))
    for delta in edits.values():
        known = {**{names.get(n, n): h for n, h in delta.base.items()}, **known}
    return edits, tuple(live.values()), known, states, whole


def _origin(
    model: Model,
    base: Model | nn.Module | None,
    known: Mapping[str, str],
) -> Callable[[str], Tensor | None]:
    """How to get a base tensor by name, where that is possible."""
    if base is None:
        # A live model keeps the originals of what it touches; they serve if they are the base.
        live = getattr(model, "live", None)
        kept = {n: live.pristine(n) for n in live.touched} if live is not None else {}
        kept = {n: t for n, t in kept.items() if known.get(n) == tensor_hash(t)}
        return kept.get
    module = base if isinstance(base, nn.Module) else base.module
    live = None if isinstance(base, nn.Module) else base.live
    tensors, names = named_tensors(module)
    if live is not None:
        tensors.update({n: live.pristine(n) for n in live.touched})
    for name in tensors.keys() & known.keys():
        if tensor_hash(tensors[name]) != known[name]:
            raise WrongBaseError(
                f"The model given as base is not the one that the edits were made for: {name} "
                "differs. Load the base model in the dtype in which the edits were recorded."
            )
    return lambda n: tensors.get(names.get(n, n))


class _Judge:
    """The comparison of one checkpoint with what is recorded."""

    def __init__(
        self,
        edits: dict[str, Delta],
        active: tuple[str, ...],
        now: dict[str, Tensor],
        names: dict[str, str],
        known: dict[str, str],
        origin: Callable[[str], Tensor | None],
        states: Sequence[_State],
    ) -> None:
        self.edits = {i: d for i, d in edits.items() if d.weights}
        self.contextual = tuple(i for i, d in edits.items() if not d.weights)
        self.active = active
        self.now, self.names, self.known, self.origin = now, names, known, origin
        self.hashes = {name: tensor_hash(tensor) for name, tensor in now.items()}
        self.touched: dict[str, list[str]] = {}  # tensor -> edits that touch it
        for identity, delta in self.edits.items():
            for name in dict.fromkeys(names[n] for n in delta.weights):
                self.touched.setdefault(name, []).append(identity)
        self.states = states
        self.exact = True
        self.findings: list[Finding] = []
        self.summaries = {i: summary(d) for i, d in edits.items()}

    def verdict(self, whole: bool) -> Verification:
        unchecked = self._compare(whole)
        contained: set[str] = set()
        partly: dict[str, float | None] = {}
        undecided: list[str] = []
        state = self._recognised()
        if state is not None:
            contained = set(state.active)
        elif all(self._unchanged(n) or self.origin(n) is not None for n in self.touched):
            contained, partly = self._fitted()
        else:
            contained, partly, undecided = self._matched()
        sure = [i for i in self.edits if i not in partly and i not in undecided]
        ours = set(self.active)
        return Verification(
            contained=tuple(i for i in sure if i in contained),
            missing=tuple(i for i in sure if i not in contained),
            partly=partly,
            undecided=tuple(undecided),
            contextual=self.contextual,
            unexplained=tuple(self.findings),
            unchecked=unchecked,
            stale=tuple(i for i in sure if i in contained and i not in ours),
            absent=tuple(i for i in sure if i not in contained and i in ours),
            exact=self.exact and not self.findings,
            checked=len(self.now) - len(unchecked),
            summaries=self.summaries,
        )

    def _compare(self, whole: bool) -> tuple[str, ...]:
        """Find tensors that no edit touches and that differ all the same."""
        unchecked = []
        for name in self.now:
            if name in self.touched or self._unchanged(name):
                continue
            if name not in self.known and self.origin(name) is None:
                if whole:
                    self.findings.append(Finding(name, "the base has no such tensor"))
                else:
                    unchecked.append(name)
                continue
            self._unexplained(name, "no recorded edit touches it", ())
        for name in self.known:
            if name not in self.names:
                self.findings.append(Finding(name, "the base has it, and the checkpoint does not"))
        return tuple(unchecked)

    def _unchanged(self, name: str) -> bool:
        if self.known.get(name) == self.hashes[name]:
            return True
        original, now = self.origin(name), self.now[name]
        if original is None or original.shape != now.shape:
            return False
        return torch.equal(original.to(now.device, now.dtype), now)

    def _recognised(self) -> _State | None:
        """The latest recorded state that all touched tensors are in."""
        for state in reversed(self.states):
            if all(
                self.hashes[n] == state.tensors[n]
                if n in state.tensors
                else not any(i in state.active for i in ids) and self._unchanged(n)
                for n, ids in self.touched.items()
            ):
                return state
        return None

    def _matched(self) -> tuple[set[str], dict[str, float | None], list[str]]:
        """Tensor by tensor, without base weights: which recorded state it is in, if any."""
        found: dict[str, frozenset[str] | None] = {}
        for name in self.touched:
            found[name] = frozenset() if self._unchanged(name) else None
            for state in reversed(self.states):
                if state.tensors.get(name) == self.hashes[name]:
                    found[name] = frozenset(state.active) & frozenset(self.touched[name])
                    break
            if found[name] is None:
                reason = "it differs from the base and is in no recorded state"
                self._unexplained(name, reason, ())
        contained: set[str] = set()
        partly: dict[str, float | None] = {}
        undecided: list[str] = []
        for identity in self.edits:
            sets = [found[n] for n, ids in self.touched.items() if identity in ids]
            inside = [identity in s for s in sets if s is not None]
            if any(inside) and not all(inside):
                partly[identity] = None
            elif len(inside) < len(sets):
                undecided.append(identity)
            elif all(inside):
                contained.add(identity)
        return contained, partly, undecided

    def _fitted(self) -> tuple[set[str], dict[str, float | None]]:
        """With base weights: the combination of edits that explains the difference best."""
        ids = list(self.edits)
        parts = {name: self._normal_equations(name, ids) for name in self.touched}
        gram = sum((g for g, _ in parts.values()), torch.zeros(len(ids), len(ids)).double())
        moments = sum((b for _, b in parts.values()), torch.zeros(len(ids)).double())
        shares = dict(zip(ids, _solved(gram, moments).tolist(), strict=True))
        best = {i for i, on in zip(ids, _best(gram, moments), strict=True) if on}
        # The recorded state wins where it explains all that can be seen: an edit too small to
        # outlast rounding cannot be told from one that is not there.
        expected = {i for i in ids if i in self.active}
        inside: dict[str, set[str]] = {}  # tensor -> the edits that explain it
        for name, touching in self.touched.items():
            at = [ids.index(i) for i in touching]
            g, b = parts[name][0][at][:, at], parts[name][1][at]
            alone = {i for i, on in zip(touching, _best(g, b), strict=True) if on}
            for candidate in (expected, best, alone):
                if self._explained(name, candidate):
                    inside[name] = candidate & set(touching)
                    break
        for whole in (expected, best):  # one combination for all tensors, where there is one
            if all(self._explained(n, whole) for n in self.touched):
                inside = {n: whole & set(ids) for n, ids in self.touched.items()}
                break
        self.exact = all(self._explained(n, s, exactly=True) for n, s in inside.items())
        for name in self.touched.keys() - inside.keys():
            self._unexplained(name, "its difference from the base is not a recorded edit", best)
        contained: set[str] = set()
        partly: dict[str, float | None] = {}
        for identity in ids:
            places = [n for n, touching in self.touched.items() if identity in touching]
            found = {identity in inside[n] for n in places if n in inside}
            if any(n not in inside for n in places):
                # Something else is in these tensors too: near 1 or 0 counts as there or not.
                there = identity in best
                found |= {there, there == (abs(shares[identity] - there) <= NEAR)}
            if len(found) > 1:
                partly[identity] = round(shares[identity], 4)
            elif found == {True}:
                contained.add(identity)
        return contained, partly

    def _normal_equations(self, name: str, ids: list[str]) -> tuple[Tensor, Tensor]:
        """G_jk = <Δ_j, Δ_k> and b_j = <Δ_j, D> at one tensor; float64."""
        gram = torch.zeros(len(ids), len(ids), dtype=torch.float64)
        moments = torch.zeros(len(ids), dtype=torch.float64)
        gap = self._gap(name)
        here = [
            (ids.index(i), change, key in self.edits[i].transposed)
            for i in self.touched[name]
            for key, change in self.edits[i].weights.items()
            if self.names[key] == name
        ]
        for j, change, flipped in here:
            if gap is not None:
                moments[j] += change_inner(change, gap.T if flipped else gap)
            for k, other, _ in here:
                gram[j, k] += change_inner(change, other)
        return gram, moments

    def _gap(self, name: str) -> Tensor | None:
        """D = W - W0 in float64 and storage orientation; None where it is zero."""
        original = self.origin(name)
        if original is None or self._unchanged(name):
            return None
        return self.now[name].double().cpu() - original.double().cpu()

    def _sum(self, name: str, inside: Iterable[str]) -> Tensor | None:
        total: Tensor | None = None
        for identity in inside:
            delta = self.edits[identity]
            for key in (k for k in delta.weights if self.names[k] == name):
                change = delta.stored(key, self.now[name].shape)
                total = change if total is None else total + change
        return total

    def _explained(self, name: str, inside: Iterable[str], exactly: bool = False) -> bool:
        """Whether a tensor is its base plus these edits, bit for bit or up to rounding."""
        now, original = self.now[name].cpu(), self.origin(name)
        total = self._sum(name, inside)
        if total is None:
            return self._unchanged(name)
        if original is None:
            # Only an unchanged tensor comes without its original: then the sum must vanish in it.
            original = now
        work = torch.promote_types(original.dtype, torch.float32)
        ideal = original.cpu().to(work) + total
        if torch.equal(ideal.to(now.dtype), now):
            return True
        if exactly:
            return False
        # Half a unit in the last place of W, and some of float32 for another order of summing.
        slack = 16 * torch.finfo(torch.float32).eps * (original.cpu().abs() + total.abs()).double()
        kind = torch.finfo(now.dtype)
        unit = 0.5 * kind.eps * now.abs().double().clamp_min(kind.tiny)
        return bool(((now.double() - ideal.double()).abs() <= unit + slack).all())

    def _unexplained(self, name: str, reason: str, inside: Iterable[str]) -> None:
        now, original, total = self.now[name], self.origin(name), self._sum(name, inside)
        if original is None or original.shape != now.shape:
            self.findings.append(Finding(name, reason))
            return
        gap = now.double().cpu() - original.double().cpu()
        left = float((gap if total is None else gap - total.double()).norm())
        whole = float(original.double().norm())
        self.findings.append(Finding(name, reason, left, left / whole if whole else None))


def _solved(gram: Tensor, moments: Tensor) -> Tensor:
    """The real coefficients c that minimise ‖D - Σ c_j Δ_j‖."""
    return torch.linalg.pinv(gram, rtol=1e-10, hermitian=True) @ moments


def _best(gram: Tensor, moments: Tensor) -> list[bool]:
    """The 0/1 vector s that minimises ‖D - Σ s_j Δ_j‖² = sᵀGs - 2bᵀs + const."""
    n = len(moments)

    def cost(s: Tensor) -> float:
        return float(s @ gram @ s - 2 * (moments @ s))

    if n <= EXHAUSTIVE:
        rows = [torch.tensor(row, dtype=torch.float64) for row in product((0.0, 1.0), repeat=n)]
        return min(rows, key=cost).bool().tolist()
    best = (_solved(gram, moments) > 0.5).double()
    improved = True
    while improved:  # flip single edits while that helps
        improved = False
        for j in range(n):
            flipped = best.clone()
            flipped[j] = 1 - flipped[j]
            if cost(flipped) < cost(best):
                best, improved = flipped, True
    return best.bool().tolist()
