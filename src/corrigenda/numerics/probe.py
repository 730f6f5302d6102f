"""Linear probes: can a property be read off vectors?

Ridge regression of the one-hot classes on the centred rows, in its dual form, so that it costs the
cube of the number of rows whatever their dimension; a row belongs to the class with the largest
value. On rows without linear information it predicts the most frequent class.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["majority", "probe_accuracy"]


def probe_accuracy(x: Tensor, classes: Tensor, *, folds: int = 5, ridge: float = 1e-2) -> float:
    """Share of rows x (n, d) whose class (n,) a linear probe tells, cross-validated.

    folds  every class is spread over this many parts, of which each is predicted from the others;
           1: from the rows themselves.
    ridge  as a share of the mean squared length of the rows.
    """
    x, y = x.double(), torch.nn.functional.one_hot(classes).double()  # (n, d), (n, k)
    part = torch.empty_like(classes)
    for one in classes.unique():
        mine = (classes == one).nonzero()[:, 0]
        part[mine] = torch.arange(len(mine)) % folds
    right = 0
    for fold in range(folds):
        test = part == fold
        train = ~test if folds > 1 else test
        middle, base = x[train].mean(0), y[train].mean(0)
        a, b = x[train] - middle, x[test] - middle
        gram = a @ a.T
        gram.diagonal().add_(ridge * gram.diagonal().mean() + 1e-300)
        values = base + b @ a.T @ torch.linalg.solve(gram, y[train] - base)  # (m, k)
        right += int((values.argmax(1) == classes[test]).sum())
    return right / len(x)


def majority(classes: Tensor) -> float:
    """Share of the most frequent class among classes (n,): what a constant answer gets."""
    return float(classes.bincount().max()) / len(classes)
