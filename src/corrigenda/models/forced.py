"""Logits as a function of a vector added at one token, on any kind of model.

`SuffixRun` does this for causal models on the suffix of a row alone. An encoder attends in both
directions, so there is no suffix to cut off; and a live change of activations may look at the whole
prompt. `ForcedRun` runs the whole model instead, with the same interface. `run_of` picks.

The token is the subject's last one, wherever the subject stands; in a decoder that reads an
encoder, which never sees the subject, it is the token where the answer starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from ..edit import Rewrite
from .asked import Asked
from .hooks import captured, replaced_output, stopping
from .prefixes import joined
from .suffix import Row, SuffixRun
from .text import TextModel
from .tokens import subject_last

__all__ = ["ForcedRun", "Looked", "looked_up", "read", "run_of"]


@dataclass(frozen=True, slots=True)
class Looked:
    """A question and its lookup token: position `at` of `asked.ids`, or of `asked.decoder` where a
    layer of a decoder is looked at."""

    asked: Asked
    at: int


def looked_up(model: TextModel, edit: Rewrite, context: str = "", layer: int = 0) -> Looked:
    """The question of an edit after a context, with its lookup token in a layer.

    Raises `EditError` where a causal model would have to look up a subject that comes after the
    object.
    """
    following = edit.following.strip()
    text = joined(context, edit.text).rstrip(" ")
    asked = model.asked(text, edit.target, following)
    if layer not in model.prompt_layers:
        return Looked(asked, 0)
    if "{}" in edit.prompt or model.kind == "causal":
        start, end = edit.subject_span
        shift = len(joined(context, edit.text)) - len(edit.text)
        return Looked(asked, subject_last(model.tokenizer, text, (start + shift, end + shift)))
    sentence = model.sentence(text, edit.target, following)
    start = len(sentence) - len(following) + edit.after.strip().index("{}")
    span = (start, start + len(edit.subject))
    return Looked(asked, subject_last(model.tokenizer, sentence, span))


def run_of(
    model: TextModel, layer: int, rows: Sequence[Looked], site: str = "mlp"
) -> SuffixRun | ForcedRun:
    """The cheapest run that is right for the model as it is now. site: "mlp" or "block"."""
    if whole(model):
        return ForcedRun(model, layer, rows, site=site)
    plain = [Row(row.asked.ids, row.at, row.asked.reads) for row in rows]
    return SuffixRun(model, layer, plain, site=site)


def whole(model: TextModel) -> bool:
    """Whether what happens at a token depends on tokens to its right."""
    return model.kind != "causal" or model.live.acts


class ForcedRun:
    """As `SuffixRun`, on whole forward passes.

    site  "mlp", "block", or "parts": δ = [δ_attention, δ_mlp] of width 2d.

    initial  (rows, d or 2d) fp32 value at the site and lookup token before δ.
    base     (reads, V) fp32 log-probabilities at all reads with δ = 0.
    """

    def __init__(
        self,
        model: TextModel,
        layer: int,
        rows: Sequence[Looked],
        *,
        site: str = "mlp",
        batch_size: int = 64,
    ) -> None:
        self.model, self.layer, self.rows = model, layer, tuple(rows)
        mlp, block = model.mlp(layer), model.block(layer)
        parts = {"mlp": (mlp,), "block": (block,), "parts": (model.attention(layer), mlp)}
        self._modules = parts[site]
        initial, base = [], []
        with torch.no_grad():
            for keep in torch.arange(len(self.rows)).split(batch_size):
                places = {str(j): (m, "output") for j, m in enumerate(self._modules)}
                with captured(places) as seen:
                    logits = self._run(keep)
                base.append(logits.log_softmax(-1))
                lookups = self.lookups(keep)
                values = [_at(seen[str(j)], lookups) for j in range(len(self._modules))]
                initial.append(torch.cat(values, 1).float())
        self.initial, self.base = torch.cat(initial), torch.cat(base)

    def _run(self, keep: Tensor) -> Tensor:
        return self.model.target_logits(
            self.model.force([self.rows[j].asked for j in keep.tolist()])
        )

    def lookups(self, keep: Tensor) -> Tensor:
        """(k,) columns of the lookup tokens in a pass over the kept rows, padded on the right."""
        return torch.tensor([self.rows[j].at for j in keep.tolist()], device=self.model.device)

    def reads(self, keep: Tensor) -> Tensor:
        """(n,) for each logit row of `logits(..., keep)`: which entry of `keep` it belongs to."""
        sizes = torch.tensor([len(self.rows[j].asked.reads) for j in keep.tolist()])
        return torch.repeat_interleave(torch.arange(len(keep)), sizes)

    def logits(self, delta: Tensor, keep: Tensor) -> Tensor:
        """(n, V) fp32 logits at the reads of the kept rows, in order.

        delta  (len(keep), d or 2d) added at the lookup token of each kept row; differentiable.
        """
        lookups = self.lookups(keep)
        with ExitStack() as stack:
            parts = delta.chunk(len(self._modules), dim=1)
            for module, part in zip(self._modules, parts, strict=True):

                def add(out: Tensor, part: Tensor = part) -> Tensor:
                    rows = out.reshape(len(part), -1, part.shape[1])
                    columns = torch.arange(rows.shape[1], device=out.device)
                    here = (columns == lookups[:, None].to(out.device))[..., None]  # (k, t, 1)
                    new = rows + here * part[:, None].to(out.device, out.dtype)
                    return new.reshape(out.shape)

                stack.enter_context(replaced_output(module, add))
            return self._run(keep)

    def base_at(self, keep: Tensor) -> Tensor:
        """(n, V) the rows of `base` that `logits(..., keep)` corresponds to."""
        ends = torch.tensor([0, *(len(r.asked.reads) for r in self.rows)]).cumsum(0)
        spans = [torch.arange(int(ends[j]), int(ends[j + 1])) for j in keep.tolist()]
        return self.base[torch.cat(spans).to(self.base.device)]


@torch.no_grad()
def read(
    model: TextModel, rows: Sequence[Looked], module: torch.nn.Module, which: str, *,
    batch_size: int = 256,
) -> Tensor:  # fmt: skip
    """(n, size) fp32 "input" or "output" of a module at the lookup token of each row, on the CPU.
    The forward pass stops there."""
    found = []
    for at in range(0, len(rows), batch_size):
        chunk = rows[at : at + batch_size]
        ends, more = None, {}
        if whole(model):
            questions = model.force([row.asked for row in chunk])
            padded, ends = questions.rows, questions.ends
            columns = torch.tensor([row.at for row in chunk])
            if questions.decoder is not None:
                more["decoder"] = questions.decoder
        else:  # nothing to the right of the lookup token matters
            padded = model.batch([row.asked.ids[: row.at + 1] for row in chunk])
            columns = torch.full((len(chunk),), padded.ids.shape[1] - 1)
        with (
            captured({"x": (module, which)}) as seen,
            model.live.asking(ends),
            stopping(module, before=which == "input"),
        ):
            model.forward(padded, **more)
        found.append(_at(seen["x"], columns).float().cpu())
    return torch.cat(found)


def _at(hidden: Tensor, columns: Tensor) -> Tensor:
    """(b, d) rows of hidden states (b, t, d), or (b·t, d), at one column each."""
    rows = hidden.reshape(len(columns), -1, hidden.shape[-1])
    return rows[torch.arange(len(rows), device=rows.device), columns.to(rows.device)]
