"""Many small vector optimisations at once, each leaving the batch when it is done.

Every fact j has its own vector δ_j and its own loss, so Adam on the stacked (n, d) matrix is Adam
on each row. Rows whose loss has fallen below the tolerance (or that the caller's `done` accepts)
are taken out, and later forward passes are smaller.

Adam: Kingma and Ba 2014, 1412.6980.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Found", "Losses", "optimize_rows"]


@dataclass(frozen=True, slots=True)
class Losses:
    """One evaluation of the active rows.

    total  (k,) the differentiable loss of each active row.
    fit    (k,) its part that measures the wanted answer (the mean NLL), detached.
    done   (k,) rows that need no further step, or None to decide by the tolerance alone.
    """

    total: Tensor
    fit: Tensor
    done: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Result of `optimize_rows`.

    delta      (n, d) fp32.
    loss, fit  (n,) at the returned delta's last evaluation.
    steps      (n,) evaluations used by each row.
    converged  (n,) whether the row met the tolerance.
    """

    delta: Tensor
    loss: Tensor
    fit: Tensor
    steps: Tensor
    converged: Tensor


def optimize_rows(
    losses: Callable[[Tensor, Tensor], Losses],
    shape: tuple[int, int],
    *,
    steps: int,
    lr: float,
    radius: Tensor,
    tolerance: float,
    leave: bool = True,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
) -> Found:
    """Minimise each row's loss with Adam inside a ball, starting from 0.

    losses     (delta (k, d) requiring grad, active (k,) row indices) -> Losses.
    shape      (n, d).
    steps      evaluations at most; the last one takes no step, so steps=1 returns zeros.
    radius     (n,) each row is projected to ‖δ‖ <= radius after each step; (n, p): each of its p
               parts of equal length to its own.
    tolerance  a row has converged when its total loss is below this.
    leave      False keeps converged rows in the batch until all are done (for comparisons).
    on_step    called with (step, number of active rows).
    """
    n, d = shape
    delta = torch.zeros(n, d, device=device)
    first, second = torch.zeros_like(delta), torch.zeros_like(delta)
    radius = radius.to(device).view(n, -1)
    loss, fit = torch.full((n,), float("nan")), torch.full((n,), float("nan"))
    used = torch.zeros(n, dtype=torch.long)
    converged = torch.zeros(n, dtype=torch.bool)
    active = torch.arange(n)
    for step in range(steps):
        if on_step is not None:
            on_step(step, len(active))
        rows = active.to(device)
        free = delta[rows].detach().requires_grad_(True)
        with torch.enable_grad():
            found = losses(free, active)
            (gradient,) = torch.autograd.grad(found.total.sum(), free)
        loss[active], fit[active] = found.total.detach().cpu(), found.fit.detach().cpu()
        used[active] = step + 1
        done = found.total.detach().cpu() < tolerance
        if found.done is not None:
            done |= found.done.cpu()
        converged[active] = done
        if step == steps - 1 or bool(done.all()):
            break
        stay = ~done if leave else torch.ones_like(done)
        active, rows = active[stay], rows[stay.to(device)]
        gradient = gradient[stay.to(device)].float()
        first[rows] = 0.9 * first[rows] + 0.1 * gradient
        second[rows] = 0.999 * second[rows] + 0.001 * gradient.square()
        mean = first[rows] / (1 - 0.9 ** (step + 1))
        spread = second[rows] / (1 - 0.999 ** (step + 1))
        moved = delta[rows] - lr * mean / (spread.sqrt() + 1e-8)
        parts = moved.view(len(rows), radius.shape[1], -1)  # (k, p, d / p)
        length = parts.norm(dim=2).clamp_min(1e-30)
        delta[rows] = (parts * (radius[rows] / length).clamp_max(1.0)[:, :, None]).flatten(1)
    return Found(delta.cpu(), loss, fit, used, converged)
