"""Is the old object still inside, though the answer is new?

    lens   the logit lens (see `locate/lens.py`): the old object's first token is the most probable one
           at some layer before the last
    probe  a linear probe per layer, trained on the unedited model to tell objects apart by the state
           where the answer begins, on facts about *other* subjects that have these objects (on the
           subjects' own it would learn their names); how often it still reads the old object from
           the edited model, at the layer where it does so most, which makes it an upper bound

Both are reported beside the same number of the unedited model, and the probe beside its majority rate:
a trace is what stands out of that, not the bare number.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..delta import Delta
from ..edit import Rewrite
from ..locate.attribute import answering_layers
from ..locate.lens import lens
from ..models.hooks import captured
from ..models.text import TextModel
from ..numerics.probe import majority, probe_read
from .check import Check, share

__all__ = ["probed", "seen_through"]


def seen_through(model: TextModel, delta: Delta, edits: Sequence[Rewrite]) -> Check:
    """On the unedited model: edits whose old object leads at a layer before the last, edited."""
    known = [edit for edit in edits if edit.target_true]
    before = [_leads(model, edit) for edit in known]
    with delta.applied(model):
        after = [_leads(model, edit) for edit in known]
    layers = len(after[0]) if after else 0
    by_layer = [sum(row[j] for row in after) / len(after) for j in range(layers)]
    outcomes = [any(row[:-1]) for row in after]
    return share(
        "lens.old",
        "old object leads at an inner layer (logit lens)",
        outcomes,
        good="low",
        edits=known,
        unedited=sum(any(row[:-1]) for row in before),
        by_layer=by_layer,
    )


def _leads(model: TextModel, edit: Rewrite) -> list[bool]:
    """By layer: whether the old object's first token is the most probable one."""
    wanted = model.asked(edit.text, edit.target_true or "", edit.following).wanted[0]
    return [rank == 0 for rank in lens(model, edit.text).rank(wanted)]


def probed(
    model: TextModel, delta: Delta, edits: Sequence[Rewrite], lessons: Sequence[Rewrite]
) -> Check:
    """On the unedited model: the probe, as described above.

    lessons  facts as they are, their `target` the true object. Those about an edited subject are left
             out; so are edits whose old object none of the others has.
    """
    about = "old object read by a linear probe, at its best layer"
    edited = {edit.subject for edit in edits}
    taught = [fact for fact in lessons if fact.subject not in edited]
    names = sorted({fact.target for fact in taught})
    known = [edit for edit in edits if edit.target_true in names]
    if len(names) < 2 or not known:
        return share("probe.old", about, [], good="low")
    classes = torch.tensor([names.index(fact.target) for fact in taught])
    truth = torch.tensor([names.index(edit.target_true or "") for edit in known])
    own = [edit.text for edit in known]
    states, before = _states(model, [fact.text for fact in taught]), _states(model, own)
    with delta.applied(model):
        after = _states(model, own)
    read = [probe_read(a, classes, b) == truth for a, b in zip(states, after, strict=True)]
    clean = [probe_read(a, classes, b) == truth for a, b in zip(states, before, strict=True)]
    best = max(range(len(read)), key=lambda j: int(read[j].sum()))
    return share(
        "probe.old",
        about,
        read[best].tolist(),
        good="low",
        edits=known,
        layer=best,
        unedited=float(clean[best].double().mean()),
        chance=majority(classes),
        by_layer=[float(one.double().mean()) for one in read],
        unedited_by_layer=[float(one.double().mean()) for one in clean],
    )


@torch.no_grad()
def _states(model: TextModel, texts: Sequence[str], size: int = 64) -> Tensor:
    """(L, n, d) the outputs of the answering blocks where the answer begins."""
    layers = answering_layers(model)
    found = []
    for at in range(0, len(texts), size):
        questions = model.force([model.opening(text) for text in texts[at : at + size]])
        with captured({str(j): (model.block(j), "output") for j in layers}) as seen:
            model.target_logits(questions)
        row, column = questions.row.cpu(), questions.column.cpu()
        found.append(torch.stack([seen[str(j)].float().cpu()[row, column] for j in layers]))
    return torch.cat(found, 1)
