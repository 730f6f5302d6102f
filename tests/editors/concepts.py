"""Concepts for the tests of erasure, steering and skill neurons on tiny models."""

from __future__ import annotations

import torch

from corrigenda.edit import Concept

SUBJECTS = ("The tower", "Windows", "The iPhone", "Marie Curie", "The Louvre", "The city", "It")
PLACES = ("located in", "made by", "the capital of")


def concept(name: str = "number", kinds: int = 2) -> Concept:
    """Texts whose class is the verb that they have: more than a tiny model's width of them."""
    verbs = ("is", "was", "worked as")[:kinds]
    rows = [(f"{s} {v} {p}", v) for s in SUBJECTS for p in PLACES for v in verbs]
    return Concept(name, tuple(t for t, _ in rows), tuple(v for _, v in rows))


def other() -> Concept:
    """Another property of the same texts: which subject they are about."""
    texts = concept().texts
    return Concept("subject", texts, tuple("T" if t.startswith("The") else "O" for t in texts))


def covariance(x: torch.Tensor, classes: torch.Tensor) -> float:
    """Largest covariance of states x (n, d) with the classes (n,), relative to their deviation."""
    z = torch.nn.functional.one_hot(classes).double()
    x = x.double()
    cross = (x - x.mean(0)).T @ (z - z.mean(0)) / len(x)
    return float(cross.abs().max() / x.std(0).max().clamp_min(1e-12))
