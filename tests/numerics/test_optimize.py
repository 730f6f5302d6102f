"""Row-wise Adam in a ball: every row is optimised as if it were alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from corrigenda.numerics.optimize import Found, Losses, optimize_rows

GOALS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.3, 0.3, 0.3]])


def towards(goals: Tensor):
    def losses(delta: Tensor, active: Tensor) -> Losses:
        total = (delta - goals[active]).square().sum(1)
        return Losses(total, total.detach())

    return losses


def run(goals: Tensor, **more: object) -> Found:
    options = {"steps": 60, "lr": 0.1, "radius": torch.full((len(goals),), 10.0), "tolerance": 1e-3}
    return optimize_rows(towards(goals), tuple(goals.shape), **{**options, **more})  # type: ignore


def test_it_is_torchs_adam_on_each_row() -> None:
    found = run(GOALS, tolerance=-1.0, steps=9)
    for row, goal in zip(found.delta, GOALS, strict=True):
        x = torch.zeros(3, requires_grad=True)
        adam = torch.optim.Adam([x], lr=0.1)
        for _ in range(8):  # the last evaluation takes no step
            adam.zero_grad()
            (x - goal).square().sum().backward()
            adam.step()
        torch.testing.assert_close(row, x.detach(), atol=1e-6, rtol=1e-5)


def test_rows_leave_when_they_are_done_and_do_not_move_after() -> None:
    sizes: list[int] = []
    found = run(GOALS, on_step=lambda _, k: sizes.append(k))
    assert bool(found.converged.all())
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 3 > sizes[-1]
    for j in range(len(GOALS)):
        alone = run(GOALS[j : j + 1])
        torch.testing.assert_close(found.delta[j], alone.delta[0])
        assert int(found.steps[j]) == int(alone.steps[0])


def test_staying_in_the_ball() -> None:
    found = run(GOALS, radius=torch.tensor([0.5, 0.5, 0.5]))
    assert float(found.delta.norm(dim=1).max()) <= 0.5 + 1e-6
    assert not found.converged[1]


def test_one_step_takes_none() -> None:
    assert not run(GOALS, steps=1).delta.any()


def test_parts_of_a_row_stay_in_balls_of_their_own() -> None:
    goals = torch.tensor([[3.0, 4.0, 0.1, 0.0]])
    found = run(goals, radius=torch.tensor([[1.0, 2.0]]), steps=200)
    assert float(found.delta[0, :2].norm()) == pytest.approx(1.0), "its goal is outside"
    torch.testing.assert_close(found.delta[0, 2:], goals[0, 2:], atol=2e-2, rtol=0)
