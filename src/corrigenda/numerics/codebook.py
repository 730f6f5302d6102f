"""Balls in key space: which remembered edit, if any, answers a query.

A codebook is folded from entries (key, label, first radius) in their order, and nothing else: it is
a pure function of the list, so to undo an entry is to fold the list without it.

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
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Codebook", "Entry", "fold"]

APART = 1e-6  # share of a radius that is left open between two balls that were split
REACH = 1e-9  # share by which a ball reaches beyond its farthest key, for rounding


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One remembered edit. key: (d,). label: what it answers, the whole token sequence of a
    target, say. radius: how far from the key it holds while nothing else is near."""

    key: Tensor
    label: Hashable
    radius: float


@dataclass(frozen=True, slots=True, eq=False)
class Codebook:
    """centres: (m, d) float64. radii: (m,) float64. members: of each ball, the entries whose keys
    it holds, by their index in the list; the first of them owns the ball and answers for it."""

    centres: Tensor
    radii: Tensor
    members: tuple[tuple[int, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.radii)

    @property
    def owners(self) -> Tensor:
        """(m,) the entry that answers for each ball."""
        return torch.tensor([m[0] for m in self.members], dtype=torch.long)

    def to(self, device: torch.device | str) -> Codebook:
        return Codebook(self.centres.to(device), self.radii.to(device), self.members)

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
        squares = here.centres.square().sum(1)  # (m,)
        for at in range(0, len(queries) if len(self) else 0, block):
            rows = queries[at : at + block].double()
            # Matrix products find the few pairs that may be inside, fast for many entries. They
            # round by a share of the norms, which is more than a small ball's size: so they get a
            # margin, and the distances of those pairs are then taken for themselves.
            norms = rows.square().sum(1)[:, None] + squares  # (b, m)
            rough = norms - 2 * rows @ here.centres.T
            row, near = (rough <= here.radii.square() + 1e-12 * norms).nonzero(as_tuple=True)
            gap = (rows[row] - here.centres[near]).norm(dim=1)
            inside = gap <= here.radii[near]
            row, near, gap = at + row[inside], near[inside], gap[inside]
            distance.scatter_reduce_(0, row, gap, "amin")
            first = gap == distance[row]
            ball.scatter_reduce_(0, row[first], near[first], "amax")
        owners = torch.cat([self.owners, torch.tensor([-1])]).to(queries.device)
        return owners[ball], distance  # ball -1 is the last


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
    if not entries:
        return Codebook(torch.zeros(0, 0, dtype=torch.float64), torch.zeros(0).double())
    widths = {tuple(e.key.shape) for e in entries}
    if len(widths) > 1 or any(len(w) != 1 for w in widths):
        raise ValueError(f"Keys are vectors of one width; got the shapes {sorted(widths)}.")
    if not all(0 < e.radius < float("inf") for e in entries):
        raise ValueError("The first radius of an entry must be positive and finite.")
    keys = torch.stack([e.key.detach().cpu().double() for e in entries])  # (n, d)
    if not bool(torch.isfinite(keys).all()):
        raise ValueError("A key is not finite.")
    balls = _Balls(keys, [e.label for e in entries], [e.radius for e in entries], centre == "mean")
    for i in range(len(entries)):
        if not balls.replaced(i, same):
            balls.add(i)
    return balls.codebook()


@dataclass(slots=True)
class _Ball:
    centre: Tensor  # (d,)
    radius: float
    members: list[int]


@dataclass(slots=True)
class _Balls:
    """The balls while they are folded."""

    keys: Tensor
    labels: list[Hashable]
    radii: list[float]
    moving: bool
    balls: list[_Ball] = field(default_factory=list)

    def replaced(self, i: int, same: float) -> bool:
        """Whether a later entry gives the same key another label."""
        gaps = _distances(self.keys[i + 1 :], self.keys[i])
        near = (gaps <= same * self.keys[i].norm()).nonzero()[:, 0].tolist()
        return any(self.labels[i + 1 + j] != self.labels[i] for j in near)

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
        gaps = self._gaps(self.keys[i])
        ball = self.balls[int(gaps.argmin())]
        if not self._alike(ball, i) or float(gaps.min()) > ball.radius + self.radii[i]:
            return False
        members = [*ball.members, i]
        centre = self.keys[members].mean(0) if self.moving else ball.centre
        farthest = float(_distances(self.keys[members], centre).max())
        radius = max(ball.radius, farthest * (1 + REACH))
        between = self._gaps(centre).tolist()
        if any(
            gap <= radius + other.radius
            for gap, other in zip(between, self.balls, strict=True)
            if not self._alike(other, i)
        ):
            return False
        ball.centre, ball.radius, ball.members = centre, radius, members
        return True

    def _split(self, i: int) -> list[int]:
        """Give an entry its own ball. Returns the entries that fall out of others by that."""
        gaps, radius = self._gaps(self.keys[i]).tolist(), self.radii[i]
        fallen: list[int] = []
        for j in sorted(range(len(gaps)), key=gaps.__getitem__):
            ball, half = self.balls[j], gaps[j] / 2
            if self._alike(ball, i) or gaps[j] > radius + ball.radius:
                continue
            reach = min(ball.radius, half * (1 - APART))
            held = (_distances(self.keys[ball.members], ball.centre) <= reach).tolist()
            fallen += [m for m, ok in zip(ball.members, held, strict=True) if not ok]
            ball.radius, ball.members = reach, [m for m in ball.members if m not in fallen]
            if ball.members:  # a mean far from all of its keys may be left with none, and goes
                radius = min(radius, half)
        self.balls = [b for b in self.balls if b.members]
        self.balls.append(_Ball(self.keys[i], radius, [i]))
        return fallen

    def _gaps(self, point: Tensor) -> Tensor:
        """(m,) distances from the centres to a point (d,)."""
        centres = [ball.centre for ball in self.balls]
        return _distances(torch.stack(centres) if centres else self.keys[:0], point)

    def _alike(self, ball: _Ball, i: int) -> bool:
        return self.labels[ball.members[0]] == self.labels[i]

    def codebook(self) -> Codebook:
        return Codebook(
            torch.stack([b.centre for b in self.balls]),
            torch.tensor([b.radius for b in self.balls], dtype=torch.float64),
            tuple(tuple(b.members) for b in self.balls),
        )


def _distances(rows: Tensor, point: Tensor) -> Tensor:
    """(n,) distances of rows (n, d) from a point (d,), from the differences: 0 between equals."""
    return torch.cdist(rows, point[None], compute_mode="donot_use_mm_for_euclid_dist")[:, 0]
