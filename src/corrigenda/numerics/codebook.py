"""Balls in key space: which remembered edit, if any, answers a query.

A codebook is folded from entries (key, label, first radius) in their order, and nothing else: it is
a pure function of the list, so to undo an entry is to fold the list without it. To add one is to go
on from the codebook of the others.

GRACE (Hartvigsen, Sankaranarayanan, Palangi, Kim, Ghassemi 2022, 2211.11031), `centre="first"`. A
new key q with radius ε meets the nearest ball (c, ρ) at distance d = ‖q - c‖:

    d > ρ + ε            a ball of its own
    same label           that ball takes it in:  ρ <- max(ρ, d)
    another label        a ball of its own; both end half way:  ρ <- d/2,  ε <- d/2

MELO (Yu, Chen, Zhou, He 2023, 2312.11795), `centre="mean"`: a ball that takes a key in moves its
centre to the mean of its keys, and ρ reaches the farthest of them.

The papers look at the nearest ball only. Here no two balls of different labels ever meet, third
ones included: a new ball is split against every ball that it meets, and a ball that cannot take a
key in without meeting another label leaves it to a ball of its own. A key that falls out of a ball
which was split gets its own. So each entry is answered with its label, unless a later one has
given the same key another label: that one replaces it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Codebook", "Entry", "fold", "fold_rows"]

APART = 1e-6  # share of a radius that is left open between two balls that were split
REACH = 1e-9  # share by which a ball reaches beyond its farthest key, for rounding


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One remembered edit. key: (d,). label: what it answers, the whole token sequence of a
    target, say. radius: how far from the key it holds while nothing else is near."""

    key: Tensor
    label: Hashable
    radius: float


@dataclass(frozen=True, eq=False)
class Codebook:
    """centres: (m, d) float64. radii: (m,) float64. members: of each ball, the entries whose keys
    it holds, by their index in the list; the first of them owns the ball and answers for it.
    folded: how many entries it was folded from."""

    centres: Tensor
    radii: Tensor
    members: tuple[tuple[int, ...], ...] = ()
    folded: int = 0

    def __len__(self) -> int:
        return len(self.radii)

    @cached_property
    def owners(self) -> Tensor:
        """(m,) the entry that answers for each ball."""
        return torch.tensor([m[0] for m in self.members], dtype=torch.long)

    @cached_property
    def _rough(self) -> tuple[Tensor, Tensor]:
        """Centres (m, d) and their squared norms (m,) in float32."""
        centres = self.centres.float()
        return centres, centres.square().sum(1)

    def to(self, device: torch.device | str) -> Codebook:
        if self.centres.device == torch.device(device):
            return self
        moved = self.centres.to(device), self.radii.to(device)
        return Codebook(*moved, self.members, self.folded)

    def lookup(self, queries: Tensor, *, block: int = 1024) -> tuple[Tensor, Tensor]:
        """For each query (n, d): the entry that answers it, or -1 outside of all balls, and the
        distance to the centre of its ball (inf outside). Both (n,), on the device of the queries.

        Of several balls of one label the one with the nearest centre answers. A row's result does
        not depend on the other rows. Raises `ValueError` for keys of another width.
        """
        if queries.ndim != 2 or (len(self) and queries.shape[1] != self.centres.shape[1]):
            raise ValueError(
                f"Queries are rows of width {self.centres.shape[1]}; got {tuple(queries.shape)}."
            )
        ball = torch.full((len(queries),), -1, device=queries.device)
        distance = torch.full(ball.shape, torch.inf, dtype=torch.float64, device=ball.device)
        here = self.to(queries.device)
        for at in range(0, len(queries) if len(self) else 0, block):
            rows = queries[at : at + block].double()
            row, near = here._near(rows)
            gap = (rows[row] - here.centres[near]).norm(dim=1)
            inside = gap <= here.radii[near]
            row, near, gap = at + row[inside], near[inside], gap[inside]
            distance.scatter_reduce_(0, row, gap, "amin")
            first = gap == distance[row]
            ball.scatter_reduce_(0, row[first], near[first], "amax")
        owners = torch.cat([self.owners, torch.tensor([-1])]).to(queries.device)
        return owners[ball], distance  # ball -1 is the last

    def _near(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The few pairs of a query (b, d) and a ball that may be inside of one another.

        Matrix products find them, fast for many entries. They round by a share of the norms, which
        is more than a small ball's size: so they get a margin, first in float32, then in float64;
        the distances of those pairs are then to be taken for themselves.
        """
        centres, squares = self._rough
        some = rows.float()
        norms = some.square().sum(1)[:, None] + squares  # (b, m)
        rough = norms - 2 * some @ centres.T
        maybe = rough <= self.radii.float().square() + 1e-5 * norms
        maybe |= ~torch.isfinite(rough)  # beyond what float32 holds
        return maybe.nonzero(as_tuple=True)  # type: ignore[return-value]


def fold(
    entries: Sequence[Entry], *, centre: Literal["first", "mean"] = "first", same: float = 1e-6
) -> Codebook:
    """The codebook of these entries, added in order. An empty list gives an empty codebook.

    centre  where a ball stands that holds several keys: at the first of them (GRACE), or at their
            mean (MELO).
    same    keys are one key if their distance is at most this share of their norm: the same prompt
            gives slightly different keys in different batches.

    Raises `ValueError` for keys of different widths and for radii that are not positive.
    """
    widths = {tuple(e.key.shape) for e in entries}
    if len(widths) > 1 or any(len(w) != 1 for w in widths):
        raise ValueError(f"Keys are vectors of one width; got the shapes {sorted(widths)}.")
    keys = torch.stack([e.key.detach().cpu() for e in entries]) if entries else torch.zeros(0, 0)
    labels, radii = [e.label for e in entries], [e.radius for e in entries]
    return fold_rows(keys, labels, radii, centre=centre, same=same)


def fold_rows(
    keys: Tensor,
    labels: Sequence[Hashable],
    radii: Sequence[float],
    *,
    centre: Literal["first", "mean"] = "first",
    same: float = 1e-6,
    begun: Codebook | None = None,
) -> Codebook:
    """The same, of entries as rows: keys (n, d), labels and first radii.

    begun  the codebook of the first `begun.folded` of them, folded in the same way: the result is
           the same, and a long list is not gone through again for each new entry.
    """
    if not labels:
        return Codebook(torch.zeros(0, 0, dtype=torch.float64), torch.zeros(0).double())
    start = begun.folded if begun is not None and len(begun) else 0
    if not all(0 < radius < float("inf") for radius in radii[start:]):
        raise ValueError("The first radius of an entry must be positive and finite.")
    if not bool(torch.isfinite(keys[start:]).all()):
        raise ValueError("A key is not finite.")
    balls = _Balls(keys, labels, radii, centre == "mean", same, keys[:0].double())
    if begun is not None and start and not balls.replaces(start):
        balls.resume(begun)
    else:
        start = 0
    for i in range(start, len(labels)):
        if not balls.replaced(i):
            balls.add(i)
    return balls.codebook()


@dataclass(slots=True)
class _Ball:
    radius: float
    members: tuple[int, ...]


@dataclass(slots=True)
class _Balls:
    """The balls while they are folded. centres: (m, d) float64, one row per ball."""

    keys: Tensor
    labels: Sequence[Hashable]
    radii: Sequence[float]
    moving: bool
    same: float
    centres: Tensor
    balls: list[_Ball] = field(default_factory=list)

    def resume(self, begun: Codebook) -> None:
        """Go on from the codebook of the first entries."""
        pairs = zip(begun.radii.tolist(), begun.members, strict=True)
        self.balls = [_Ball(*pair) for pair in pairs]
        self.centres = begun.centres.clone()

    def key(self, i: int | Sequence[int]) -> Tensor:
        """One key (d,), or several (k, d), in float64."""
        return self.keys[i if isinstance(i, int) else list(i)].double()

    def replaced(self, i: int) -> bool:
        """Whether a later entry gives the same key another label."""
        gaps = _distances(self.keys[i + 1 :].double(), self.key(i))
        near = (gaps <= self.same * self.key(i).norm()).nonzero()[:, 0].tolist()
        return any(self.labels[i + 1 + j] != self.labels[i] for j in near)

    def replaces(self, start: int) -> bool:
        """Whether an entry from `start` on gives the same key as one before it another label."""
        old = self.keys[:start]
        for i in range(start, len(self.labels)):
            # Close vectors have an exact difference, so float32 misses none of them.
            gaps = (old - self.keys[i]).norm(dim=1)
            near = (gaps <= 2 * self.same * old.norm(dim=1)).nonzero()[:, 0].tolist()
            if any(self.labels[j] != self.labels[i] for j in near):
                return True
        return False

    def add(self, i: int) -> None:
        """Take an entry in, with all that follows from it."""
        if not self._joined(i):
            waiting = [i]
            while waiting:  # each that waits gets a ball of its own and never waits again
                waiting += self._split(waiting.pop(0))

    def _joined(self, i: int) -> bool:
        """Whether the nearest ball has taken the key in."""
        if not self.balls:
            return False
        gaps = _distances(self.centres, self.key(i))
        nearest = int(gaps.argmin())
        ball = self.balls[nearest]
        if not self._alike(ball, i) or float(gaps.min()) > ball.radius + self.radii[i]:
            return False
        members = (*ball.members, i)
        centre = self.key(members).mean(0) if self.moving else self.centres[nearest]
        farthest = float(_distances(self.key(members), centre).max())
        radius = max(ball.radius, farthest * (1 + REACH))
        between = _distances(self.centres, centre).tolist()
        if any(
            gap <= radius + other.radius
            for gap, other in zip(between, self.balls, strict=True)
            if not self._alike(other, i)
        ):
            return False
        self.centres[nearest] = centre
        ball.radius, ball.members = radius, members
        return True

    def _split(self, i: int) -> list[int]:
        """Give an entry its own ball. Returns the entries that fall out of others by that."""
        key, radius = self.key(i), self.radii[i]
        gaps = _distances(self.centres, key).tolist() if self.balls else []
        fallen: list[int] = []
        for j in sorted(range(len(gaps)), key=gaps.__getitem__):
            ball, half = self.balls[j], gaps[j] / 2
            if self._alike(ball, i) or gaps[j] > radius + ball.radius:
                continue
            reach = min(ball.radius, half * (1 - APART))
            held = (_distances(self.key(ball.members), self.centres[j]) <= reach).tolist()
            fallen += [m for m, ok in zip(ball.members, held, strict=True) if not ok]
            ball.radius = reach
            ball.members = tuple(m for m in ball.members if m not in fallen)
            if ball.members:  # a mean far from all of its keys may be left with none, and goes
                radius = min(radius, half)
        kept = [j for j, ball in enumerate(self.balls) if ball.members]
        if len(kept) < len(self.balls):
            self.balls, self.centres = [self.balls[j] for j in kept], self.centres[kept]
        self.centres = torch.cat([self.centres, key[None]])
        self.balls.append(_Ball(radius, (i,)))
        return fallen

    def _alike(self, ball: _Ball, i: int) -> bool:
        return self.labels[ball.members[0]] == self.labels[i]

    def codebook(self) -> Codebook:
        radii = torch.tensor([b.radius for b in self.balls], dtype=torch.float64)
        members = tuple(b.members for b in self.balls)
        return Codebook(self.centres, radii, members, len(self.labels))


def _distances(rows: Tensor, point: Tensor) -> Tensor:
    """(n,) distances of rows (n, d) from a point (d,), from the differences: 0 between equals."""
    return torch.cdist(rows, point[None], compute_mode="donot_use_mm_for_euclid_dist")[:, 0]
