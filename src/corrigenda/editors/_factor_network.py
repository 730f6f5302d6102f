"""The network of MEND and its kin: gradient factors in, gradient factors out.

Mitchell et al. 2021, 2110.11309; MALMEN and RLEdit use it in their own ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..model import Site
from ..models.text import TextModel
from ..numerics.running import Running
from ._gradients import Factors
from ._hypernetwork import HypernetworkEditor

__all__ = ["FactorEditor", "FactorNetwork", "lively"]


class FactorNetwork(nn.Module):
    """Maps factors [x; δ] to [x̃; δ̃], with the same weights for all linear maps of one shape.

        z ← z + max(0, s ⊙ (U V z + b) + t)        twice, or as many blocks as there are

    U is 0 at first, so the untrained network is the identity. s and t are of each linear map; so
    are its step and log-ridge, and the mean and deviation that its factors are normalised by.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, int]], rank: int, blocks: int, step: float, seed: int
    ) -> None:
        super().__init__()
        self.names = [f"{o}x{i}" for o, i in shapes]
        generator = torch.Generator().manual_seed(seed)
        self.nets = nn.ModuleDict()
        for name, (o, i) in dict(zip(self.names, shapes, strict=True)).items():
            maps = self.names.count(name)
            self.nets[name] = nn.ModuleList(
                _Residual(o + i, min(rank, o + i), maps, generator) for _ in range(blocks)
            )
        self.places = [self.names[:j].count(name) for j, name in enumerate(self.names)]
        self.steps = nn.Parameter(torch.full((len(shapes),), step))
        self.log_ridges = nn.Parameter(torch.zeros(len(shapes)))
        for j, (o, i) in enumerate(shapes):
            self.register_buffer(f"mean{j}", torch.zeros(o + i))
            self.register_buffer(f"std{j}", torch.ones(o + i))

    def forward(self, j: int, inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """(x̃ (n, i), δ̃ (n, o)) of the factors of the j-th linear map."""
        mean, std = self.get_buffer(f"mean{j}"), self.get_buffer(f"std{j}")
        z = (torch.cat([inputs, gradients], 1) - mean) / std
        for layer in self.nets[self.names[j]]:  # type: ignore[union-attr]
            z = layer(z, self.places[j])
        x, d = z.split([inputs.shape[1], gradients.shape[1]], 1)
        return x, d

    @torch.no_grad()
    def normalize(self, j: int, inputs: Tensor, gradients: Tensor) -> None:
        """Measure mean and deviation of every coordinate of the j-th map's factors."""
        for part, rows in (
            (slice(None, inputs.shape[1]), inputs),
            (slice(inputs.shape[1], None), gradients),
        ):
            running = Running.of(rows)
            std = running.variance.sqrt()
            # A coordinate that hardly moved in these edits may well move in another one.
            floor = 0.1 * std.square().mean().sqrt() + 1e-12
            self.get_buffer(f"mean{j}")[part] = running.mean.float()
            self.get_buffer(f"std{j}")[part] = std.clamp_min(floor).float()


class _Residual(nn.Module):
    """z + max(0, s ⊙ (U V z + b) + t). z: (n, d)."""

    def __init__(self, size: int, rank: int, maps: int, generator: torch.Generator) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.zeros(size, rank))
        self.down = nn.Parameter(torch.randn(rank, size, generator=generator) / size**0.5)
        self.bias = nn.Parameter(torch.zeros(size))
        self.scale = nn.Parameter(torch.ones(maps, size))
        self.shift = nn.Parameter(torch.zeros(maps, size))

    def forward(self, z: Tensor, place: int) -> Tensor:
        inner = z @ self.down.T @ self.up.T + self.bias
        # Not `relu`: its gradient at 0, where every coordinate starts, is 0; that of clamp is 1.
        return z + (self.scale[place] * inner + self.shift[place]).clamp_min(0.0)


@dataclass(frozen=True)
class FactorEditor(HypernetworkEditor):
    """Hyperparameters of the editors with a `FactorNetwork`. See `HypernetworkEditor` for others.

    rank       of the network's layers.
    blocks     how many there are.
    normalize  whether factors are normalised coordinate by coordinate.
    step       initial size of every linear map's step; it is learned.
    step_rate  learning rate of the steps.
    """

    rank: int | None = None
    blocks: int | None = None
    normalize: bool | None = None
    step: float | None = None
    step_rate: float | None = None

    def network(self, model: TextModel, sites: Sequence[Site]) -> FactorNetwork:
        shapes = [(w.shape[0], w.shape[1]) for w in map(model.weight, sites)]
        return FactorNetwork(shapes, self.rank or 1, self.blocks or 0, self.step or 0.0, self.seed)

    def prepare(self, network: FactorNetwork, factors: Mapping[Site, Factors]) -> None:
        if self.normalize:
            for j, f in enumerate(factors.values()):
                network.normalize(j, *lively(f))

    def groups(self, network: FactorNetwork) -> list[dict[str, Any]]:
        own = [network.steps, network.log_ridges]
        rest = [p for p in network.parameters() if not any(p is one for one in own)]
        return [{"params": rest, "lr": self.rate}, {"params": own, "lr": self.step_rate}]


def lively(f: Factors) -> tuple[Tensor, Tensor]:
    """Inputs and gradients of the tokens where neither is 0; others change nothing."""
    some = (f.inputs != 0).any(1) & (f.gradients != 0).any(1)
    return f.inputs[some], f.gradients[some]
