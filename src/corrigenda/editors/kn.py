"""KN: knowledge neurons. The neurons that express a fact are found by attribution, and rewritten.

Dai, Dong, Hao, Sui, Chang, Wei 2021, 2104.08696. For several prompts of the fact, the neurons w of
all feed-forward layers get attributions Attr(w) (see `locate/attribute.py`), and

    coarse    those with Attr(w) > t · max Attr, prompt by prompt
    refined   those that are coarse in more than a share p of the prompts, and in no more than that
              of the prompts of other facts

Their columns of the down-projection, W_w, are what they write into the residual stream:

    edit      W_w += sign(w̄) (new · e(target) - old · e(answer))     e: rows of the unembedding
    enhance   W_w *= 2
    suppress  W_w  = 0
    erase     W_w  = e(unknown), or 0 where the tokenizer has no unknown token

`unit` says in what e is measured: "embedding" as it is, with new = old = 2 (as in the library that
others compare with), or "column", scaled to the norm of W_w (as in the authors' code). The sign of
the mean activation w̄ is ours: behind ReLU it is 1, but a gated neuron may write with a minus.

One token is rewritten, the first at which target and answer differ. The rest of a longer target has
to follow by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..delta import Change, Delta, LowRank
from ..edit import Rewrite
from ..editor import Editor, Solution
from ..locate.attribute import Attribution, answering_layers, attribute, question
from ..model import Site
from ..models.asked import Asked
from ..models.prefixes import joined, sample_prefixes
from ..models.text import TextModel
from . import presets

__all__ = ["KN"]


@dataclass(frozen=True)
class KN(Editor):
    """Knowledge neurons. None means: the preset for the model, or else the paper's value.

    operation    edit: columns learn the target and unlearn the answer; enhance: the neurons of the
                 target count twice; suppress, erase: those of the answer are silenced. The answer
                 is the edit's target_true, or what the model says.
    layers       where neurons are looked for. None: the preset, or all blocks that answer.
    steps        points of the attribution.
    threshold    t, share of the largest attribution.
    share        p, of the prompts of a fact.
    paraphrases  other prompts of the fact, with `{}` where the subject stands.
    prefixes     pairs (how many, of how many tokens) of sampled contexts in front of the prompt,
                 where no paraphrases are given and the model can sample.
    negatives    prompts of other facts, whose neurons are left alone.
    new, old     how much of the target's and of the answer's embedding is added and taken away.
    unit         of new and old: "embedding", or "column" for the norm of the neuron's own column.
    seed         of the prefixes.
    """

    operation: Literal["edit", "enhance", "suppress", "erase"] = "edit"
    layers: tuple[int, ...] | None = None
    steps: int = 20
    threshold: float | None = None
    share: float | None = None
    paraphrases: tuple[str, ...] = ()
    prefixes: tuple[tuple[int, int], ...] = ((9, 5),)
    negatives: tuple[str, ...] = ()
    new: float | None = None
    old: float | None = None
    unit: Literal["embedding", "column"] | None = None
    seed: int = 0

    name: ClassVar[str] = "kn"
    title: ClassVar[str] = "KN"
    paper: ClassVar[str] = "Dai et al. 2021, 2104.08696"
    family: ClassVar[str] = "locate-then-edit"
    batches: ClassVar[bool] = False
    paper_values: ClassVar[dict[str, Any]] = {
        "threshold": 0.3,
        "share": 0.5,
        "new": 2.0,
        "old": 2.0,
        "unit": "embedding",
    }

    def resolved(self, model: TextModel) -> KN:
        editor = presets.resolved(self, model)
        if self.layers is not None:
            return editor
        inside = answering_layers(model)  # an encoder's neurons do not predict
        return replace(editor, layers=tuple(j for j in editor.layers or () if j in inside))

    def solve(self, model: TextModel, edits: Sequence[Rewrite], onto: Delta | None) -> Solution:
        layers = tuple(self.layers or ())
        sites = {layer: model.site("down", layer) for layer in layers}
        others = self._of_negatives(model)
        columns: dict[tuple[int, int], Tensor] = {}  # (layer, neuron) -> change of its column (o,)
        counts, notes = [], {}
        for j, edit in enumerate(edits):
            facts = [_parting(model, text, edit) for text in self.prompts(model, edit)]
            asked = [f.of_target if self.operation == "enhance" else f.of_answer for f in facts]
            found = attribute(model, asked, layers, steps=self.steps)
            chosen = (self.common(found) & ~others).nonzero().tolist()
            signs = found.neurons.mean(0).sign()  # (L, i)
            counts.append(len(chosen))
            if not chosen:
                notes[j] = (
                    "No neuron is common to its prompts alone; lower the threshold or the share."
                )
            for at, neuron in chosen:
                key = layers[at], neuron
                column = model.weight(sites[layers[at]])[:, neuron].double().cpu()  # (o,)
                change = self._change(model, facts[0], column, float(signs[at, neuron]))
                # What facts write into a neuron that they share adds up; it is silenced once.
                before = columns.get(key) if self.operation == "edit" else None
                columns[key] = change if before is None else before + change
        return Solution(
            {s.parameter: c for s in sites.values() if (c := _joined(model, s, columns))},
            frozenset(s.parameter for s in sites.values() if s.transposed),
            diagnostics={"neurons": counts, "layers": sorted({layer for layer, _ in columns})},
            notes=notes,
        )

    def prompts(self, model: TextModel, edit: Rewrite) -> list[str]:
        """Prompts of the fact, its own one first."""
        if self.paraphrases:
            return [edit.text, *(p.replace("{}", edit.subject, 1) for p in self.paraphrases)]
        if model.kind != "causal":
            return [edit.text]  # nothing can be sampled from models that do not go on writing
        with model.live.suspended():
            sampled = sample_prefixes(model, self.prefixes, seed=self.seed)
        return [joined(prefix, edit.text) for prefix in ("", *sampled)]

    def common(self, found: Attribution) -> Tensor:
        """(L, i) bool: the neurons that are coarse in more than a share p of the questions."""
        largest = found.scores.flatten(1).amax(1)[:, None, None]  # (n, 1, 1)
        coarse = found.scores > (self.threshold or 0.0) * largest.clamp_min(0)
        return coarse.double().mean(0) > (self.share or 0.0)

    def _of_negatives(self, model: TextModel) -> Tensor:
        """() or (L, i) bool: neurons of other facts."""
        if not self.negatives:
            return torch.tensor(False)
        asked = [question(model, text) for text in self.negatives]
        return self.common(attribute(model, asked, self.layers, steps=self.steps))

    def _change(self, model: TextModel, fact: _Parting, column: Tensor, sign: float) -> Tensor:
        """(o,) what is added to a neuron's column."""
        if self.operation == "enhance":
            return column
        if self.operation == "suppress":
            return -column
        if self.operation == "erase":
            unknown: Any = model.tokenizer.unk_token_id
            return -column if unknown is None else _embedding(model, unknown) - column
        tokens = fact.of_target.wanted[0], fact.of_answer.wanted[0]
        target, answer = (_embedding(model, token) for token in tokens)
        if self.unit == "column":
            target, answer = (e * (column.norm() / e.norm()) for e in (target, answer))
        return sign * ((self.new or 0.0) * target - (self.old or 0.0) * answer)


@dataclass(frozen=True, slots=True)
class _Parting:
    """A prompt up to the first token at which target and answer differ, asked for either."""

    of_target: Asked
    of_answer: Asked


@torch.no_grad()
def _parting(model: TextModel, prompt: str, edit: Rewrite) -> _Parting:
    asked = model.asked(prompt, edit.target, edit.following)
    if edit.target_true is not None:
        said = model.asked(prompt, edit.target_true, edit.following).wanted
    else:
        said = model.target_logits(model.force([asked])).argmax(-1).tolist()
    pairs = zip(asked.wanted, said, strict=False)
    at = next((j for j, (new, old) in enumerate(pairs) if new != old), 0)
    target = question(model, prompt, edit.target, edit.following, at)
    return _Parting(target, replace(target, wanted=(said[at],)))


def _embedding(model: TextModel, token: int) -> Tensor:
    """(d,) float64 row of the unembedding, which is the word embedding where the two are tied."""
    unembedding: Any = model.module.get_output_embeddings()
    return unembedding.weight[token].detach().double().cpu()


def _joined(model: TextModel, site: Site, columns: dict[tuple[int, int], Tensor]) -> Change | None:
    """The changes of one layer's columns: u (o, r) holds them, v (r, i) says which they are."""
    mine = {neuron: change for (layer, neuron), change in columns.items() if layer == site.layer}
    if not mine:
        return None
    v = torch.zeros(len(mine), model.weight(site).shape[1])
    v[range(len(mine)), list(mine)] = 1.0
    return LowRank(torch.stack(list(mine.values()), 1).float(), v)
