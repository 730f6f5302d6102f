"""What the locate-then-edit family shares: keys, wanted values, statistics.

A feed-forward down-projection W is read as a memory: the key k is its input at the subject's last
token, the value v = W k its output (Geva et al. 2021, 2012.14913). An editor of this family picks
a new value for the key of its fact and changes W so that the key maps to it.

The new value is found by gradient descent on a vector δ added at the lookup token (ROME, Meng et
al. 2022, 2202.05262, eq. 4):

    min_δ  mean_j -log p(target | prefix_j + prompt; v + δ)
           + kl_factor · KL( p(· | "{subject} is a"; v + δ) ‖ p(· | "{subject} is a") )
           + weight_decay · ‖δ‖ / ‖v‖²          with  ‖δ‖ <= clamp · ‖v‖

Decay and projection are as in the authors' code (the norm is not squared, its divisor is). Facts
are independent, so many are searched at once, on the suffix tokens and upper layers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..delta import Change, LowRank
from ..edit import Rewrite
from ..editor import Editor
from ..errors import InputError
from ..experts import held, used
from ..model import Site
from ..models.asked import Asked
from ..models.forced import ForcedRun, Looked, looked_up, read, run_of, whole
from ..models.hooks import captured
from ..models.moments import Statistics, second_moments
from ..models.prefixes import pristine_prefixes
from ..models.suffix import Row, SuffixRun
from ..models.text import TextModel
from ..models.tokens import subject_last
from ..numerics.optimize import Losses, optimize_rows
from . import presets
from ._parts import PartsRun

__all__ = [
    "KeyValueEditor",
    "Look",
    "Term",
    "Values",
    "find_values",
    "lookup_rows",
    "mean_keys",
    "search_values",
]

BOTH_KINDS = (0.5, 0.5)
"""MEMIT's key average: the plain prompt has weight 1/2, all prefixed ones together 1/2."""


ROME_VALUES: dict[str, Any] = {
    "steps": 20,
    "lr": 0.5,
    "clamp": 4.0,
    "weight_decay": 0.5,
    "kl_factor": 0.0625,
    "kl_at": "lookup",
    "max_norm": 0.5,
    "prefixes": ((10, 5), (10, 10)),
}
"""Published values of the search at an MLP's output (ROME and EMMET, GPT-2 XL)."""

Stop = Literal["loss", "answer", "divergence"]

EASED, QUIET = 0.1, 0.01
"""PMET's: the weight of the NLL once the target is the answer, and the KL that is small then."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a further term of the search's loss may look at, in one evaluation of k facts.

    delta   (k, d) the vectors searched for.
    fact    (r,) which of the k facts each row (a prompt in a context) belongs to.
    hidden  (upper layers, r, d) output of every block above the edited one at the lookup token.
    """

    delta: Tensor
    fact: Tensor
    hidden: Tensor


Term = Callable[[Look], Tensor]
"""A further term of the loss: differentiable, one value (k,) per fact."""


@dataclass(frozen=True)
class KeyValueEditor(Editor):
    """Hyperparameters of key-value editors. None means: the preset for the model, or else the
    paper's value.

    layers        blocks whose down-projection is changed; the value is set at the last of them.
    steps, lr     evaluations and learning rate of the value search (Adam).
    clamp         largest ‖δ‖ as a multiple of the norm of the value it is added to.
    weight_decay  weight of ‖δ‖/‖v‖².
    kl_factor     weight of the KL term.
    kl_at         where the KL on "{subject} is a" is read: "lookup", at the subject's last token
                  as in the authors' code; "end", after the whole text as in the paper's equation.
    tolerance     a fact leaves the search when its loss is below this.
    stop          "loss": only then; "answer": also once every target token is the most probable
                  one in every context, `patience` times in a row (as ENCORE does, 2502.01636):
                  faster, and the smaller change disturbs less; "divergence": once that holds, the
                  NLL counts a tenth, and the search ends when the KL is small too (as PMET does,
                  2308.08742).
    patience      see `stop`; 2 unless the method says otherwise.
    max_norm      largest ‖Δ‖_F / ‖W‖_F per edit and layer; a larger change is refused.
    prefixes      pairs (how many, of how many tokens) of sampled contexts.
    statistics    text for second moments: auto, atlas, samples, identity, or a file.
    tokens        tokens to average second moments over.
    seed          of prefixes and sampled text.
    batch_size    facts searched at once.
    """

    layers: tuple[int, ...] | None = None
    steps: int | None = None
    lr: float | None = None
    clamp: float | None = None
    weight_decay: float | None = None
    kl_factor: float | None = None
    kl_at: Literal["lookup", "end"] | None = None
    max_norm: float | None = None
    tolerance: float = 0.05
    stop: Stop | None = None
    patience: int | None = None
    prefixes: tuple[tuple[int, int], ...] | None = None
    statistics: str = "auto"
    tokens: int = 100_000
    seed: int = 0
    batch_size: int = 32

    needs: ClassVar[tuple[str, ...]] = ("subject", "statistics")
    family: ClassVar[str] = "locate-then-edit"
    openings: ClassVar[tuple[str, ...]] = ()
    """Words that sampled prefixes begin with."""

    def resolved(self, model: TextModel) -> KeyValueEditor:
        return presets.resolved(self, model)

    def transposed(self, model: TextModel) -> frozenset[str]:
        return frozenset(s.parameter for s in self.sites(model) if s.transposed)

    def sites(self, model: TextModel) -> list[Site]:
        assert self.layers is not None
        return [model.site("down", layer) for layer in self.layers]

    def contexts(self, model: TextModel) -> tuple[str, ...]:
        """The empty prefix, then the sampled ones. Sampled on the pristine model, so that a
        sequence of edits shares them."""
        sampled = pristine_prefixes(
            model,
            self.prefixes or (),
            openings=self.openings,
            seed=self.seed,
            corpus=self.statistics,
        )
        return ("", *sampled)

    def moments(self, model: TextModel) -> Statistics:
        return second_moments(
            model, self.sites(model), source=self.statistics, tokens=self.tokens, seed=self.seed
        )

    def values(
        self, model: TextModel, edits: Sequence[Rewrite], contexts: Sequence[str], site: str
    ) -> Values:
        """Search for the wanted value of every edit at the last layer, on the live weights."""
        assert self.layers is not None
        return search_values(
            model,
            edits,
            contexts,
            batch_size=self.batch_size,
            layer=self.layers[-1],
            site=site,
            steps=self.steps or 1,
            lr=self.lr or 0.0,
            clamp=self.clamp or 0.0,
            weight_decay=self.weight_decay or 0.0,
            kl_factor=self.kl_factor or 0.0,
            kl_at=self.kl_at or "lookup",
            tolerance=self.tolerance,
            stop=self.stop or "loss",
            patience=self.patience or 2,
            terms=self.terms(),
        )

    def routed(
        self, model: TextModel, edits: Sequence[Rewrite], changes: Mapping[str, Change]
    ) -> dict[str, Any]:
        """For mixtures of experts: the experts of each layer that were changed, and those that an
        edit's prompt is sent to and that were not."""
        found: dict[str, Any] = {}
        for site in self.sites(model):
            experts, change = held(model.linear(site)), changes.get(site.parameter)
            if experts and isinstance(change, LowRank):
                asked = used(mean_keys(model, edits, ("",), site, equal=True).T, experts)
                edited = used(change.v, experts)
                missed = sorted(set(asked) - set(edited))
                found[str(site.layer)] = {"edited": edited, "missed": missed}
        return {"experts": found} if found else {}

    def terms(self) -> tuple[Term, ...]:
        """Further terms of the search's loss."""
        return ()


@dataclass(frozen=True, slots=True)
class Values:
    """Wanted values of n facts.

    initial    (n, d) value at the site and lookup token of the plain prompt; for site "parts"
               (n, 2d), the attention's and then the MLP's.
    delta      (n, d) what to add to it.
    nll        (n,) mean NLL of the target at the last evaluation.
    steps      (n,) evaluations used.
    converged  (n,) whether the loss fell below the tolerance.
    """

    initial: Tensor
    delta: Tensor
    nll: Tensor
    steps: Tensor
    converged: Tensor

    @property
    def target(self) -> Tensor:
        """(n, d) initial + δ."""
        return self.initial + self.delta

    @classmethod
    def joined(cls, parts: Sequence[Values]) -> Values:
        return cls(*(torch.cat([getattr(p, f) for p in parts]) for f in cls.__dataclass_fields__))

    def __getitem__(self, rows: Tensor) -> Values:
        return Values(*(getattr(self, f)[rows] for f in self.__dataclass_fields__))

    def diagnostics(self) -> dict[str, Any]:
        return {
            "target_nll": [round(float(x), 4) for x in self.nll],
            "search_steps": self.steps.tolist(),
            "converged": self.converged.tolist(),
            "delta_norm_share": [
                round(float(s), 3) for s in self.delta.norm(dim=1) / self.initial.norm(dim=1)
            ],
        }

    def notes(self) -> dict[int, str]:
        """Remarks about facts whose search ended before the tolerance."""
        return {
            j: f"The search ended at target NLL {float(self.nll[j]):.2f} after "
            f"{int(self.steps[j])} steps; try more steps, a larger clamp, or another layer."
            for j in range(len(self.steps))
            if not self.converged[j]
        }


def search_values(
    model: TextModel,
    edits: Sequence[Rewrite],
    contexts: Sequence[str],
    *,
    batch_size: int,
    **search: Any,
) -> Values:
    """`find_values` in batches of facts with like suffix lengths, so that little of a forward pass
    is padding. The result is in the order of the edits."""
    rows = [looked_up(model, edit) for edit in edits]
    lengths = [len(row.asked.ids) - (0 if whole(model) else row.at) for row in rows]
    order = sorted(range(len(edits)), key=lengths.__getitem__)
    parts = [
        find_values(model, [edits[j] for j in order[at : at + batch_size]], contexts, **search)
        for at in range(0, len(edits), batch_size)
    ]
    return Values.joined(parts)[torch.tensor(order).argsort()]


def find_values(
    model: TextModel,
    edits: Sequence[Rewrite],
    contexts: Sequence[str],
    *,
    layer: int,
    site: str,
    steps: int,
    lr: float,
    clamp: float,
    weight_decay: float,
    kl_factor: float,
    tolerance: float,
    kl_at: Literal["lookup", "end"] = "lookup",
    stop: Stop = "loss",
    patience: int = 2,
    terms: Sequence[Term] = (),
    leave: bool = True,
) -> Values:
    """Search δ for all edits at once. See the module's equation.

    site   "mlp": δ is added to the MLP's output (ROME); "block": to the block's (MEMIT);
           "parts": δ = [δ_attention, δ_mlp], each clamped and decayed by itself (PMET).
    terms  added to the loss.
    leave  False keeps facts that are done in the batch, which only wastes time.
    """
    rows = lookup_rows(model, edits, contexts, layer)
    run = _run(model, layer, rows, site)
    kl = _run(model, layer, [_kl_row(model, e, kl_at, layer) for e in edits], site)
    owner_of = torch.arange(len(edits)).repeat_interleave(len(contexts))
    plain = torch.arange(len(edits)) * len(contexts)
    initial = run.initial[plain].cpu()
    scale = _part_norms(initial, site)
    device = model.device
    sizes = torch.tensor([len(row.asked.wanted) for row in rows])
    ends = sizes.cumsum(0)
    flat = torch.tensor([t for row in rows for t in row.asked.wanted])
    streak = torch.zeros(len(edits), dtype=torch.long)

    def losses(delta: Tensor, active: Tensor) -> Losses:
        """delta (k, d) of the active facts -> their losses (k,)."""
        place = torch.full((len(edits),), -1)
        place[active] = torch.arange(len(active))
        keep = (place[owner_of] >= 0).nonzero()[:, 0]
        fact = place[owner_of[keep]].to(device)
        wanted = torch.cat([flat[ends[j] - sizes[j] : ends[j]] for j in keep.tolist()]).to(device)
        at = run.lookups(keep) if isinstance(run, ForcedRun) else torch.zeros_like(keep)
        with _upper_outputs(model, layer, at, bool(terms)) as upper:
            logits = run.logits(delta[fact], keep)
        logprobs = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
        read_row = run.reads(keep).to(device)
        per_row = torch.zeros(len(keep), device=device).index_add(0, read_row, -logprobs)
        per_row = per_row / sizes[keep].to(device)
        nll = torch.zeros(len(active), device=device).index_add(0, fact, per_row)
        nll = nll / torch.zeros(len(active), device=device).index_add(
            0, fact, torch.ones(len(keep), device=device)
        )
        edited = kl.logits(delta, active).log_softmax(-1)
        divergence = (edited.exp() * (edited - kl.base_at(active))).sum(-1)
        decay = (_part_norms(delta, site) / scale[active].to(device).square()).sum(1)
        rest = kl_factor * divergence + weight_decay * decay
        if terms:
            look = Look(delta, fact, torch.stack(upper))
            rest = rest + torch.stack([term(look) for term in terms]).sum(0)
        if stop == "loss":
            return Losses(nll + rest, nll.detach())
        wrong = torch.zeros(len(active), device=device).index_add(
            0, fact[read_row], (logits.argmax(-1) != wanted).float()
        )
        right = wrong == 0
        if stop == "divergence":
            eased = torch.where(right, EASED, 1.0) * nll
            return Losses(eased + rest, nll.detach(), right & (divergence.detach() <= QUIET))
        streak[active] = torch.where(right.cpu(), streak[active] + 1, 0)
        return Losses(nll + rest, nll.detach(), streak[active] >= patience)

    found = optimize_rows(
        losses,
        (len(edits), initial.shape[1]),
        steps=steps,
        lr=lr,
        radius=clamp * scale,
        tolerance=tolerance,
        leave=leave,
        device=device,
    )
    return Values(initial, found.delta, found.fit, found.steps, found.converged)


def _run(
    model: TextModel, layer: int, rows: Sequence[Looked], site: str
) -> SuffixRun | ForcedRun | PartsRun:
    """The constant part of the rows, computed once."""
    if site != "parts":
        return run_of(model, layer, rows, site)
    if whole(model):
        return ForcedRun(model, layer, rows, site=site)
    return PartsRun(model, layer, [Row(r.asked.ids, r.at, r.asked.reads) for r in rows])


def _part_norms(vectors: Tensor, site: str) -> Tensor:
    """(n, parts) norms of the parts of each row that are clamped by themselves."""
    parts = 2 if site == "parts" else 1
    return vectors.view(len(vectors), parts, -1).norm(dim=2)


@contextmanager
def _upper_outputs(
    model: TextModel, layer: int, columns: Tensor, wanted: bool
) -> Iterator[list[Tensor]]:
    """Collects the outputs (r, d) of the blocks above `layer` in its stack at the lookup tokens,
    which are in these columns (r,), in order."""
    found: list[Tensor] = []
    stack = model.row(layer)[0]
    above = [j for j in range(layer + 1, model.n_layers) if model.row(j)[0] is stack]
    above = above if wanted else []
    if wanted and not above:
        raise InputError(
            f"Layer {layer} is the last one of {model.id}, so there is no hidden state above it "
            "to look at. Edit a lower layer."
        )
    modules = {str(number): (model.block(number), "output") for number in above}
    every = torch.arange(len(columns))
    with captured(modules, lambda _, hidden: found.append(hidden[every, columns].float())):
        yield found


def _kl_row(model: TextModel, edit: Rewrite, at: Literal["lookup", "end"], layer: int) -> Looked:
    """ "{subject} is a". A causal model is read at the subject's last token, where nothing after it
    can matter, or at the end; the others where their answer begins."""
    text = f"{edit.subject} is a"
    lookup = subject_last(model.tokenizer, text, (0, len(edit.subject)))
    if model.kind != "causal":
        return Looked(model.opening(text), lookup if layer in model.prompt_layers else 0)
    ids = model.ids(text)
    last = lookup if at == "lookup" else len(ids) - 1
    return Looked(Asked(tuple(ids[: last + 1]), (last,), (), last), lookup)


def lookup_rows(
    model: TextModel, edits: Sequence[Rewrite], contexts: Sequence[str], layer: int
) -> list[Looked]:
    """Questions with their lookup tokens in a layer, edit by edit, context by context within."""
    return [looked_up(model, edit, context, layer) for edit in edits for context in contexts]


def mean_keys(
    model: TextModel, edits: Sequence[Rewrite], contexts: Sequence[str], site: Site, *, equal: bool
) -> Tensor:
    """(i, n) keys of the edits, averaged over contexts.

    equal  all contexts alike (ROME); otherwise the plain prompt counts one half (MEMIT).
    """
    rows = lookup_rows(model, edits, contexts, site.layer)
    keys = read(model, rows, model.linear(site), "input").double()
    keys = keys.view(len(edits), len(contexts), -1)
    if equal or len(contexts) == 1:
        return keys.mean(1).T
    plain, rest = BOTH_KINDS
    return (plain * keys[:, 0] + rest * keys[:, 1:].mean(1)).T
