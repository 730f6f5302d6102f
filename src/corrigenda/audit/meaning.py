"""What a change of weights says: the subject that it answers to, and the object that it puts there.

*Subject.* A change Δ of a linear map acts on a text as far as ‖Δk‖ is large, for the keys k that the
text has there. Candidates are ranked by it, at the last token of their name.

*Object.* Prompts about the likeliest subjects are asked of both models. Many answers may change: a
tower that moves to Rome moves to Italy too, and an edit does damage. The one that the edit was made
for is known by its gradient. The value that an editor writes is where descent on -log p(object |
prompt) led, so with K the keys at all tokens of a prompt, and H = WK what the map makes of them,

    alignment(prompt) = mean over α in {0, ½} of  cos( ΔK,  ∂/∂H log p(new answer | prompt; W + αΔ) )

is largest for the prompt and the object of the edit, and small for what merely follows. Where
several maps changed, it is the mean over them. Prompts are ordered by alignment times ‖Δk‖ of their
subject: a name that shares its last token with the edited one is answered in the same direction, and
less.

*Logit lens.* The tokens that the value would make likely if it went straight to the unembedding. At
early layers it says little: what is written there is read by later layers, not by the unembedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..delta import Delta
from ..metrics.text import answer_of
from ..models.hooks import captured, replaced_output, stopping
from ..models.linear import is_linear
from ..models.moments import samples
from ..models.prefixes import ORDINARY, joined
from ..models.text import TextModel
from ..models.tokens import subject_last
from .candidates import Candidates, continuations, of_atlas
from .changed import Changed, TensorChange

__all__ = ["Meaning", "Reading", "Subject", "meaning"]

PLACES = (0.0, 0.5)  # shares α of the change at which gradients are taken
CONTEXTS = ORDINARY[:2]  # sentences before a candidate's name
LENGTH = 12  # tokens of an answer


@dataclass(frozen=True, slots=True)
class Subject:
    """A candidate, and ‖Δk‖ at its last token relative to the median candidate's."""

    name: str
    activation: float


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt whose answer the change alters.

    alignment   of the change with the gradient towards the new answer, -1 to 1.
    divergence  KL(edited || base) of the next token, in nats.
    """

    subject: str
    prompt: str
    before: str
    after: str
    alignment: float
    divergence: float


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a change seems to say.

    subjects  candidates, the likeliest first; empty where no linear map changed.
    readings  prompts whose answer changes, the likeliest first: by alignment times activation.
    lens      {tensor: tokens that its value direction names through the unembedding}.
    """

    subjects: tuple[Subject, ...]
    readings: tuple[Reading, ...]
    lens: dict[str, tuple[str, ...]]

    @property
    def subject(self) -> str | None:
        """What the edit is about: the likeliest candidate. A reading may be of a name that the edit
        changes as much, by accident."""
        return self.subjects[0].name if self.subjects else None

    @property
    def object(self) -> str | None:
        """What it says of it; None if no answer changes."""
        return self.readings[0].after if self.readings else None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "subject": self.subject, "object": self.object}


def meaning(
    model: TextModel,
    change: Changed,
    candidates: Candidates | None = None,
    *,
    likeliest: int = 8,
    seed: int = 0,
) -> Meaning:
    """Read a change, on the unedited model.

    candidates  names and wordings to try; by default the embedded world for Atlas models, and text
                of the model's own for other causal models.
    likeliest   how many subjects are asked about.
    seed        of text that the model writes.

    A model that is not causal writes no text: without candidates nothing is read of it.
    """
    if candidates is None:
        candidates = of_atlas() if model.is_atlas else Candidates()
    maps = [one for one in change.tensors if _is_map(model, one)]
    if not maps:
        return Meaning((), (), {})
    subjects = _ranked(model, maps, candidates, seed)
    delta = change.delta(model)
    prompts = _prompts(model, delta, [s.name for s in subjects[:likeliest]], candidates, seed)
    readings = _readings(model, delta, maps, prompts, candidates.objects)
    size = {s.name: s.activation for s in subjects}
    readings.sort(key=lambda one: -one.alignment * size[one.subject])
    return Meaning(tuple(subjects[: 4 * likeliest]), tuple(readings), _lens(model, maps))


def _is_map(model: TextModel, one: TensorChange) -> bool:
    path, _, leaf = one.name.rpartition(".")
    return (
        one.spectrum is not None
        and leaf == "weight"
        and is_linear(model.module.get_submodule(path))
    )


def _module(model: TextModel, one: TensorChange) -> Any:
    return model.module.get_submodule(one.name.rpartition(".")[0])


# -- subjects ---------------------------------------------------------------------------------


def _ranked(
    model: TextModel, maps: Sequence[TensorChange], candidates: Candidates, seed: int
) -> list[Subject]:
    """Candidates by ‖Δk‖, the mean over contexts, those of several maps added in the square."""
    if candidates.subjects:
        names = candidates.subjects
        size = torch.zeros(len(names), dtype=torch.float64)
        for context in CONTEXTS:
            keys = _keys(model, maps, names, context)
            size += sum((_answer(one, keys[one.name]) for one in maps), 0.0).sqrt()  # type: ignore
        size /= len(CONTEXTS)
    else:
        names, size = _own_text(model, maps, seed)
    if not len(names):
        return []
    middle = float(size.median()) or 1.0
    order = size.argsort(descending=True).tolist()
    return [Subject(names[j], float(size[j]) / middle) for j in order]


def _answer(one: TensorChange, keys: Tensor) -> Tensor:
    """‖Δk‖² for keys (..., i); with Δ = U Σ Vᵀ it is ‖Σ Vᵀ k‖²."""
    assert one.spectrum is not None
    rank = max(one.rank or 0, 1)
    reader = one.spectrum.values[:rank, None] * one.spectrum.right[:rank]  # (r, i)
    return (keys.double().cpu() @ reader.T).square().sum(-1)


def _keys(
    model: TextModel, maps: Sequence[TensorChange], names: Sequence[str], context: str
) -> dict[str, Tensor]:
    """{tensor: (n, i) keys at the last token of each name after a sentence}; kept with the model."""
    texts = [joined(context, name) for name in names]
    places = [
        subject_last(model.tokenizer, text, (len(text) - len(name), len(text)))
        for text, name in zip(texts, names, strict=True)
    ]
    live = "+".join(delta.id for delta in model.live.deltas)
    found: dict[str, Tensor] = {}
    for one in maps:
        key = f"audit/keys/{one.name}/{live}/{hash(tuple(texts))}"
        found[one.name] = model.remembered(key, partial(_keys_of, model, one, texts, places))
    return found


@torch.no_grad()
def _keys_of(
    model: TextModel,
    one: TensorChange,
    texts: Sequence[str],
    places: Sequence[int],
    size: int = 128,
) -> Tensor:
    module, found = _module(model, one), []
    for at in range(0, len(texts), size):
        questions = model.force([model.opening(text) for text in texts[at : at + size]])
        with captured({"key": (module, "input")}) as seen, stopping(module):
            model.target_logits(questions)
        keys = seen["key"]
        columns = questions.rows.offset.to(keys.device) + torch.tensor(places[at : at + size]).to(
            keys.device
        )
        found.append(keys[torch.arange(len(keys)), columns.clamp_max(keys.shape[1] - 1)].cpu())
    return torch.cat(found)


@torch.no_grad()
def _own_text(
    model: TextModel, maps: Sequence[TensorChange], seed: int, batches: int = 8
) -> tuple[tuple[str, ...], Tensor]:
    """The places in text that the model writes itself where ‖Δk‖ is largest: the text up to there."""
    if model.kind != "causal" or model.start_id is None:
        return (), torch.empty(0)
    writing = samples(model, seed=seed)
    found: dict[str, float] = {}
    for _ in range(batches):
        rows = [model.ids(next(writing)) for _ in range(32)]
        padded = model.batch(rows, "right")
        modules = {one.name: (_module(model, one), "input") for one in maps}
        with captured(modules) as seen:
            model.forward(padded)
        size = sum(_answer(one, seen[one.name]) for one in maps)
        peak = (size * padded.mask.cpu()).max(1)  # type: ignore[union-attr]
        for row, value, at in zip(rows, peak.values.tolist(), peak.indices.tolist(), strict=True):
            found[_text(model, row[: at + 1])] = value**0.5
    return tuple(found), torch.tensor(list(found.values()))


# -- prompts ----------------------------------------------------------------------------------


def _prompts(
    model: TextModel, delta: Delta, subjects: Sequence[str], candidates: Candidates, seed: int
) -> list[tuple[str, str]]:
    """(subject, prompt) pairs."""
    if candidates.prompts is not None:
        return [(s, prompt) for s in subjects for prompt in candidates.prompts(s)]
    if model.kind != "causal":
        return []
    return [pair for s in subjects for pair in _divergent(model, delta, s, seed)]


@torch.no_grad()
def _divergent(
    model: TextModel, delta: Delta, subject: str, seed: int, each: int = 32, tokens: int = 14
) -> list[tuple[str, str]]:
    """What the model writes about a subject, each text up to where the edited model parts most."""
    start = model.ids(subject)
    rows = continuations(model, [subject], each=each, tokens=tokens, seed=seed)
    padded = model.batch(rows, "right")
    before = model.forward(padded).logits.float().log_softmax(-1)
    with delta.applied(model):
        after = model.forward(padded).logits.float().log_softmax(-1)
    parted = (after.exp() * (after - before)).sum(-1)  # (b, t)
    parted[:, : len(start) - 1] = 0.0
    cuts = parted.argmax(1).tolist()
    texts = [_text(model, row[: cut + 1]) for row, cut in zip(rows, cuts, strict=True)]
    return [(subject, text) for text in dict.fromkeys(texts) if text.strip()]


def _text(model: TextModel, ids: Sequence[int]) -> str:
    return str(model.tokenizer.decode(list(ids), skip_special_tokens=True))


# -- objects ----------------------------------------------------------------------------------


def _readings(
    model: TextModel,
    delta: Delta,
    maps: Sequence[TensorChange],
    pairs: Sequence[tuple[str, str]],
    objects: frozenset[str],
) -> list[Reading]:
    """The prompts whose next token the change alters."""
    pairs = list(dict.fromkeys(pairs))
    if not pairs:
        return []
    asked = [prompt for _, prompt in pairs]
    before = model.next_logprobs(asked)
    with delta.applied(model):
        after = model.next_logprobs(asked)
    new = after.argmax(-1)
    altered = (new != before.argmax(-1)).nonzero()[:, 0].tolist()
    if not altered:
        return []
    parted = (after.exp() * (after - before)).sum(-1)
    prompts, tokens = [asked[j] for j in altered], new[altered]
    aligned = _alignment(model, delta, maps, prompts, tokens)
    was = model.generate(prompts, max_new_tokens=LENGTH)
    with delta.applied(model):
        now = model.generate(prompts, max_new_tokens=LENGTH)
    return [
        Reading(
            pairs[j][0],
            prompt,
            _named(old, objects),
            _named(answer, objects),
            float(score),
            float(parted[j]),
        )
        for j, prompt, old, answer, score in zip(altered, prompts, was, now, aligned, strict=True)
    ]


def _named(continuation: str, objects: frozenset[str]) -> str:
    """The answer, cut to the longest known name that it begins with."""
    answer = answer_of(continuation)
    words = answer.split()
    for end in range(len(words), 0, -1):
        name = " ".join(words[:end]).rstrip(",;:")
        if name in objects:
            return name
    return answer


def _alignment(
    model: TextModel,
    delta: Delta,
    maps: Sequence[TensorChange],
    prompts: Sequence[str],
    tokens: Tensor,
    size: int = 64,
) -> Tensor:
    """(n,) the alignment of each prompt's new token with the change."""
    total = torch.zeros(len(prompts), dtype=torch.float64)
    for share in PLACES:
        with (delta * share).applied(model), model.frozen():
            for at in range(0, len(prompts), size):
                part = slice(at, at + size)
                total[part] += _aligned_at(model, maps, prompts[part], tokens[part])
    return total / len(PLACES)


def _aligned_at(
    model: TextModel, maps: Sequence[TensorChange], prompts: Sequence[str], tokens: Tensor
) -> Tensor:
    """cos(Δk, ∂ log p / ∂h) for the model as it is now, the mean over changed maps."""
    questions = model.force([model.opening(prompt) for prompt in prompts])
    kept: dict[str, tuple[Tensor, Tensor]] = {}  # tensor -> what is added to its output, its keys
    with ExitStack() as stack:
        modules = {one.name: (_module(model, one), "input") for one in maps}
        seen = stack.enter_context(captured(modules))
        for one in maps:

            def shifted(output: Tensor, name: str = one.name) -> Tensor:
                shift = torch.zeros_like(output, requires_grad=True)
                kept[name] = shift, seen[name].detach()
                return output + shift

            stack.enter_context(replaced_output(modules[one.name][0], shifted))
        with torch.enable_grad():
            logprobs = model.target_logits(questions).log_softmax(-1)
            gain = logprobs[torch.arange(len(prompts)), tokens.to(logprobs.device)].sum()
            shifts = [shift for shift, _ in kept.values()]
            slopes = dict(zip(kept, torch.autograd.grad(gain, shifts), strict=True))
    found = torch.zeros(len(prompts), dtype=torch.float64)
    for one in maps:
        added = kept[one.name][1].double().cpu() @ one.difference.T  # (b, t, o)
        if questions.rows.mask.shape == added.shape[:2]:
            added = added * questions.rows.mask.cpu()[..., None]
        slope = slopes[one.name].double().cpu()
        found += torch.cosine_similarity(added.flatten(1), slope.flatten(1), dim=1) / len(maps)
    return found


@torch.no_grad()
def _lens(
    model: TextModel, maps: Sequence[TensorChange], top: int = 5
) -> dict[str, tuple[str, ...]]:
    """Tokens that each value direction names, in both senses, since its sign is arbitrary."""
    found: dict[str, tuple[str, ...]] = {}
    head: Any = model.head
    norm: Any = model.final_norm
    for one in maps:
        if one.value is None or one.value.shape[0] != model.width:
            continue
        value = one.value.to(model.device, model.dtype)
        states = torch.stack([value, -value])[:, None]  # (2, 1, d)
        logits = head(states if norm is None else norm(states))[:, 0].float()
        best = logits.topk(top, dim=1).indices.flatten().tolist()
        found[one.name] = tuple(str(model.tokenizer.decode([token])) for token in best)
    return found
