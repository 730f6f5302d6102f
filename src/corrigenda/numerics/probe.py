"""Linear probes: can a property be read off vectors?

Ridge regression of the one-hot classes on the centred rows; a row belongs to the class with the
largest value, of equally large ones to the first. On rows without linear information it predicts
the most frequent class.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["majority", "probe_accuracy", "probe_read"]


def probe_accuracy(
    x: Tensor,
    classes: Tensor,
    *,
    groups: Tensor | None = None,
    folds: int = 5,
    ridge: float = 1e-2,
) -> float:
    """Share of rows x (n, d) whose class (n,) a linear probe tells, cross-validated.

    groups  (n,) rows that belong together, such as the tokens of a text, and are of one class.
    folds   the groups of every class are spread over this many parts, of which each is predicted
            from the others; 1: from the rows themselves.
    ridge   as a share of the mean squared length of the rows.
    """
    x, y = x.double(), torch.nn.functional.one_hot(classes).double()  # (n, d), (n, k)
    part = _parts(classes, torch.arange(len(x)) if groups is None else groups, folds)
    right = 0
    for fold in range(folds):
        test = part == fold
        train = ~test if folds > 1 else test
        middle, base = x[train].mean(0), y[train].mean(0)
        values = base + (x[test] - middle) @ _ridge(x[train] - middle, y[train] - base, ridge)
        # To three digits, so that rounding decides nothing where the rows tell nothing.
        right += int((values.mul(1e3).round().argmax(1) == classes[test]).sum())
    return right / len(x)


def probe_read(x: Tensor, classes: Tensor, others: Tensor, *, ridge: float = 1e-2) -> Tensor:
    """(m,) the class that a probe trained on rows x (n, d) of classes (n,) reads from others (m, d)."""
    x, y = x.double(), torch.nn.functional.one_hot(classes).double()
    middle, base = x.mean(0), y.mean(0)
    values = base + (others.double() - middle) @ _ridge(x - middle, y - base, ridge)
    return values.mul(1e3).round().argmax(1)


def _parts(classes: Tensor, groups: Tensor, folds: int) -> Tensor:
    """(n,) the part that each row is in."""
    part = torch.empty_like(classes)
    for one in classes.unique():
        mine = (classes == one).nonzero()[:, 0]
        part[mine] = groups[mine].unique(return_inverse=True)[1] % folds
    return part


def _ridge(a: Tensor, y: Tensor, ridge: float) -> Tensor:
    """(d, k) weights for rows a (n, d) and values y (n, k), solved on the smaller side."""
    wide = len(a) < a.shape[1]
    gram = a @ a.T if wide else a.T @ a
    gram.diagonal().add_(ridge * a.square().sum(1).mean() + 1e-300)
    return a.T @ torch.linalg.solve(gram, y) if wide else torch.linalg.solve(gram, a.T @ y)


def majority(classes: Tensor) -> float:
    """Share of the most frequent class among classes (n,): what a constant answer gets."""
    return float(classes.bincount().max()) / len(classes)
