"""SERAC: a memory of edits, a classifier of what they are about, and a model that answers then.

Mitchell, Lin, Bosselut, Manning, Finn 2022, 2206.06520. The language model is left alone. Edits are
kept as texts; a prompt x is in the scope of the nearest one, k*, if

    s = max_k exp(-‖P (e(x) - e(k))‖²) > 1/2

and is then answered by a counterfactual model that reads "edit + prompt"; otherwise by the language
model, bit for bit as if there were no memory. The decision is taken once per prompt. e is an
embedding of texts (in the paper a fine-tuned encoder), P a learned map. Trained once per model, on
lessons (edits with other wordings of the question, and unrelated prompts):

    min_P  -½ mean_in log s(x, k) - ½ mean_out log(1 - s(x, k))
    min_θ  NLL(target | edit + prompt; θ)     if the counterfactual model is one of its own

Without one, the language model itself reads the edit in front of the prompt.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ..context import Retrieval
from ..delta import Delta
from ..edit import Rewrite
from ..editor import Solution
from ..errors import ModelError
from ..model import Site
from ..models.text import TextModel
from ._gradients import Factors
from ._hypernetwork import Changes, HypernetworkEditor, Lesson
from ._retrieval import RetrievalEditor

__all__ = ["SERAC", "Scope", "scope_loss"]

COSINE = 0.83
"""Where the untrained scope ends: the cosine at which s = 1/2."""


class Scope(nn.Module):
    """The trained part: the map P, and the counterfactual model if it is one of its own."""

    def __init__(self, width: int, rank: int, seed: int, small: nn.Module | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        basis, _ = torch.linalg.qr(torch.randn(width, rank, generator=generator))
        # ‖q - k‖² = 2 - 2 cos for unit vectors, of which a random map keeps rank / width.
        size = torch.log(torch.tensor(2.0)) / (2 - 2 * COSINE) * (width / rank)
        self.metric = nn.Parameter(size.sqrt() * basis.T.contiguous())
        self.small = small


@dataclass(frozen=True)
class SERAC(RetrievalEditor, HypernetworkEditor):
    """Answer prompts in the scope of an edit with the edit at hand. See `HypernetworkEditor` and
    `RetrievalEditor` for the other fields; those about layers and changes are not used.

    least           the switch: smallest s of a prompt in scope.
    rank            rows of P.
    counterfactual  what answers in scope: "base", the language model with the edit in front;
                    "small", a model of its own with as many blocks as `depth`, begun from the
                    language model's lowest.
    depth           see `counterfactual`.
    """

    least: float = 0.5
    rank: int | None = None
    counterfactual: Literal["base", "small"] | None = None
    depth: int | None = None

    name: ClassVar[str] = "serac"
    title: ClassVar[str] = "SERAC"
    paper: ClassVar[str] = "Mitchell et al. 2022, 2206.06520"
    family: ClassVar[str] = "memory"
    change: ClassVar[str] = "Prefix"
    needs: ClassVar[tuple[str, ...]] = ("training",)
    streams: ClassVar[bool] = True
    later: ClassVar[frozenset[str]] = frozenset({"trained", "seed", "least"})
    paper_values: ClassVar[dict[str, Any]] = {
        "layers": (),
        "rate": 1e-3,
        "steps": 600,
        "lessons": 8,
        "clip": 1.0,
        "rank": 64,
        "counterfactual": "base",
        "depth": 2,
    }

    def resolved(self, model: TextModel) -> Self:
        bare: Any = replace(self, layers=(), roles=())
        found: Any = HypernetworkEditor.resolved(bare, model)
        return self.worded(found, model)

    def network(self, model: TextModel, sites: Sequence[Site]) -> Scope:
        width = self.keys(model, [Rewrite("{}", "text", "text")]).shape[1]
        small = _truncated(model, self.depth or 1) if self.counterfactual == "small" else None
        return Scope(width, min(self.rank or width, width), self.seed, small)

    def made(
        self,
        model: TextModel,
        network: Scope,
        edits: Sequence[Rewrite],
        factors: Mapping[Site, Factors],
    ) -> Changes:
        """Nothing: no weight changes."""
        return {}

    def factors(
        self, model: TextModel, edits: Sequence[Rewrite], batch_size: int = 32
    ) -> dict[Site, Factors]:
        """None: the memory holds texts, not gradients."""
        return {}

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        network, record = self._loaded(model, [])
        assert isinstance(network, Scope)
        weights, config = {}, {}
        if network.small is not None:
            weights = network.small.state_dict()
            config = json.loads(network.small.config.to_json_string(use_diff=False))  # type: ignore
        found = Retrieval(
            self.told(edits),
            self.keys(model, edits),
            query=self.query or "{}",
            limit=1,
            least=self.least,
            metric=network.metric,
            encoder=self.encoder,
            weights=weights,
            config=config,
        )
        return Solution({"context": found}, statistics=record)

    def learn(
        self, model: TextModel, network: Scope, lessons: Sequence[Lesson], draw: random.Random
    ) -> dict[str, float]:
        """Add the gradients of both losses on lessons to the network's parameters."""
        edits = [lesson.edit for lesson in lessons]
        wordings = [draw.choice(x.wordings) if x.wordings else x.edit.text for x in lessons]
        away = [draw.choice(x.unrelated)[0] for x in lessons]
        rows = model.embed([*(e.text for e in edits), *wordings, *away], self.encoder)
        keys, inside, outside = rows.split(len(lessons))
        loss = scope = scope_loss(network.metric, keys, inside, outside)
        nll = torch.zeros(())
        if network.small is not None:
            answers = type(model).of(network.small, model.tokenizer)  # type: ignore[arg-type]
            query = self.query or "{}"
            told = zip(self.told(edits), wordings, edits, strict=True)
            asked = [model.asked(f + query.replace("{}", w, 1), e.target) for f, w, e in told]
            nll = answers.nll(asked).mean()
            loss = scope + nll
        loss.backward()
        return {
            "loss": float(loss.detach()),
            "nll": float(nll.detach()),
            "scope": float(scope.detach()),
        }


def scope_loss(metric: Tensor, keys: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """Class-balanced binary cross-entropy of s, a scalar.

    metric (r, d); keys (n, d) of edits; inside (n, d) a prompt in the scope of each; outside
    (n, d) one out of it. Prompts of other edits are out of scope as well, in so far as they are
    not prompts of the same one.
    """
    keys, inside, outside = (rows @ metric.T for rows in (keys, inside, outside))
    near = (inside - keys).square().sum(1)  # (n,) -log s
    crossed = torch.cdist(torch.cat([inside, outside]), keys).square()  # (2n, n)
    same = torch.cat([torch.eye(len(keys)), torch.zeros(len(outside), len(keys))]).bool()
    same |= torch.cdist(keys, keys).repeat(2, 1) < 1e-4
    apart = crossed.masked_fill(same, float("inf")).clamp_min(1e-6)
    missed = -torch.log(-torch.expm1(-apart))  # -log(1 - s); 0 where infinitely far
    # A prompt is out of scope when it is out of that of the nearest edit.
    return (near.mean() + missed.max(1).values.mean()) / 2


def _truncated(model: TextModel, depth: int) -> nn.Module:
    """A model of the same kind with the lowest `depth` blocks, their weights to begin with.

    Raises `ModelError` where that is no language model.
    """
    if model.kind != "causal":
        raise ModelError(
            f"A counterfactual model is cut from a causal model, and {model.id} is of the kind "
            f"{model.kind}. Use counterfactual='base'."
        )
    config = copy.deepcopy(model.module.config)
    config.num_hidden_layers = min(depth, model.n_layers)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    # Tensors under two names cannot be stored apart.
    config.tie_word_embeddings = False
    with torch.random.fork_rng(devices=[]):
        small = type(model.module)(config)
    mine = small.state_dict()
    small.load_state_dict(
        {n: t.detach().clone() for n, t in model.module.state_dict().items() if n in mine}
    )
    return small.eval()
