"""Causal tracing: which hidden states carry the answer to a prompt.

Meng, Bau, Andonian, Belinkov 2022, 2202.05262, §2. Three kinds of run of one prompt:

    clean      p(o), the probability of the model's answer o
    corrupted  p*(o), with noise ε ~ N(0, (3σ)²) on the embeddings of the subject's tokens
    restored   p*(o; h_t^l), the corrupted run with one state put back to its clean value

    indirect effect of a state    IE(t, l) = p*(o; h_t^l) - p*(o)

averaged over draws of ε, the same draws for every state. σ is the standard deviation of subject
embeddings. A state is a block's output, or what the MLPs or attentions of a window of layers write.

A restored run differs from the corrupted one only from its window upwards, so it starts there from
the corrupted run's hidden states, for many tokens at once.

A trace explains; it does not say where to edit. The layer with the largest effect is not the one
where edits do best (Hase et al. 2023, 2301.04213): `choose` finds that by editing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..edit import Rewrite
from ..errors import EditError, InputError, ModelError
from ..models.asked import Asked
from ..models.hooks import (
    captured,
    replaced_forward,
    replaced_input,
    replaced_output,
    stopping,
    with_first,
)
from ..models.text import TextModel
from ..models.tokens import subject_last
from .attribute import question

__all__ = ["KINDS", "ROLES", "Average", "Kind", "Trace", "average", "noise_level", "trace"]

Kind = Literal["block", "mlp", "attention"]
KINDS: tuple[Kind, ...] = ("block", "mlp", "attention")

ROLES = ("subject, first", "subject, middle", "subject, last", "further", "last")
"""What a token is to its prompt. "further" stands between the subject and the last token."""

WINDOW_SHARE = 10 / 48
"""Ten layers of GPT-2 XL's 48: one MLP's or attention's output alone hardly matters."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """The effects of all states of one prompt.

    answer     the token that the model answers with, as text.
    tokens     (T) the prompt's tokens as text.
    subject    (first, last) indices of the subject's tokens, both included.
    reads      index of the token where the answer is read: the last, or a masked model's mask.
    layers     (L) indices.
    window     layers restored together, centred at each layer and cut at both ends.
    clean      p(o).
    corrupted  p*(o), mean over draws.
    effect     (T, L) fp32 IE(t, l), mean over draws.
    level      standard deviation of the noise.
    """

    model: str
    prompt: str
    answer: str
    tokens: tuple[str, ...]
    subject: tuple[int, int]
    reads: int
    layers: tuple[int, ...]
    kind: Kind
    window: int
    clean: float
    corrupted: float
    effect: Tensor
    level: float
    samples: int
    seed: int

    @property
    def peak(self) -> tuple[int, int]:
        """(token, layer) of the largest effect."""
        t, j = divmod(int(self.effect.argmax()), len(self.layers))
        return t, self.layers[j]

    def role(self, token: int) -> str | None:
        """One of `ROLES`; None in front of the subject, where nothing is corrupted."""
        first, last = self.subject
        if token < first:
            return None
        if token <= last:
            return ROLES[2] if token == last else ROLES[0] if token == first else ROLES[1]
        return ROLES[4] if token == self.reads else ROLES[3]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return _plain(self)


@dataclass(frozen=True, slots=True, eq=False)
class Average:
    """Effects over several facts, by the role of the token.

    roles   those of `ROLES` that occur.
    effect  (R, L) mean over the facts that have such a token; within a fact, over its tokens.
    counts  (R) how many facts have one.
    """

    roles: tuple[str, ...]
    layers: tuple[int, ...]
    kind: Kind
    window: int
    clean: float
    corrupted: float
    effect: Tensor
    counts: tuple[int, ...]
    facts: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return _plain(self)


def trace(
    model: TextModel,
    prompt: str,
    subject: str,
    answer: str | None = None,
    *,
    kind: Kind = "block",
    window: int | None = None,
    samples: int = 10,
    noise: float = 3.0,
    level: float | None = None,
    seed: int = 0,
    batch_size: int = 320,
    progress: Callable[[int, int], None] | None = None,
) -> Trace:
    """Restore every state of a corrupted prompt in turn, and see what it does to the answer.

    prompt      holds `{}` where the subject stands, or spells the subject out.
    answer      what the model must answer; its first token is traced. None: whatever it answers.
    kind        what is restored: a block's output, an MLP's or an attention's.
    window      layers restored together. None: 1 for blocks, about a fifth of the depth otherwise.
    samples     draws of the noise.
    noise       its standard deviation in units of σ.
    level       its standard deviation itself, such as `noise * noise_level(model, subjects)` over
                many facts; None takes σ from this subject's tokens.
    batch_size  rows per forward pass; a state takes `samples` of them.
    progress    called with (states done, all states).

    Raises `EditError` when the subject is not in the prompt or the model answers something else,
    `InputError` for an unknown kind or a window, number of samples or noise that is not positive,
    and `ModelError` for an encoder-decoder.
    """
    if model.kind == "encoder-decoder":
        raise ModelError(
            f"A trace follows an answer through the layers that read its prompt, and {model.id} "
            "answers in others, which see no subject. `lens` and `attribute` read encoder-decoders."
        )
    if kind not in KINDS:
        raise InputError(f"A trace restores {', '.join(KINDS)}, not {kind!r}.")
    if window is None:
        window = 1 if kind == "block" else max(1, round(WINDOW_SHARE * model.n_layers))
    if window < 1 or samples < 1 or not (noise if level is None else level) > 0:
        raise InputError(
            f"A trace needs a window and samples of at least 1 and noise above 0; got window "
            f"{window}, samples {samples}, noise {noise if level is None else level}."
        )
    text, asked, placed = _placed(model, prompt, subject, answer)
    run = _Run(model, asked, placed, kind)
    *tokens, said, greedy = model.tokenizer.batch_decode(
        [[token] for token in (*asked.ids, asked.wanted[0], run.greedy)]
    )
    if run.greedy != asked.wanted[0]:
        raise EditError(
            f"{model.id} goes on after {text!r} with {greedy!r}, not {answer!r}, so there is no "
            "such answer to trace. Leave the answer out to trace what the model says, or take a "
            "fact that it knows."
        )
    level = noise * run.sigma if level is None else level
    run.corrupt(level, samples, seed)
    n_layers, n_tokens = model.n_layers, len(run.ids)
    effect = torch.zeros(n_tokens, n_layers)
    at_once = max(1, batch_size // samples)
    for layer in range(n_layers):
        low = max(0, layer - window // 2)
        restored = range(low, min(n_layers, layer - window // 2 + window))
        for start in range(0, n_tokens, at_once):
            places = torch.arange(start, min(start + at_once, n_tokens))
            effect[places, layer] = run.restored(restored, places) - run.corrupted
            if progress is not None:
                progress(layer * n_tokens + int(places[-1]) + 1, n_layers * n_tokens)
    return Trace(
        model=model.id,
        prompt=text,
        answer=said.strip(),
        tokens=tuple(tokens),
        subject=placed,
        reads=asked.reads[0],
        layers=tuple(range(n_layers)),
        kind=kind,
        window=window,
        clean=run.clean,
        corrupted=run.corrupted,
        effect=effect,
        level=level,
        samples=samples,
        seed=seed,
    )


def average(traces: Sequence[Trace]) -> Average:
    """The mean effect of each role at each layer, over several facts.

    Raises `InputError` for no traces, or traces of different models, kinds or windows.
    """
    kinds = {(t.model, t.layers, t.kind, t.window) for t in traces}
    if len(kinds) != 1:
        found = f"{len(kinds)} kinds" if kinds else "none"
        raise InputError(
            f"An average is over traces of one model, kind and window; these are {found}."
        )
    rows: dict[str, list[Tensor]] = {role: [] for role in ROLES}
    for one in traces:
        for role, mine in rows.items():
            places = [t for t in range(len(one.tokens)) if one.role(t) == role]
            if places:
                mine.append(one.effect[places].mean(0))
    present = {role: torch.stack(mine) for role, mine in rows.items() if mine}
    return Average(
        roles=tuple(present),
        layers=traces[0].layers,
        kind=traces[0].kind,
        window=traces[0].window,
        clean=sum(t.clean for t in traces) / len(traces),
        corrupted=sum(t.corrupted for t in traces) / len(traces),
        effect=torch.stack([mine.mean(0) for mine in present.values()]),
        counts=tuple(len(mine) for mine in present.values()),
        facts=len(traces),
    )


@torch.no_grad()
def noise_level(model: TextModel, subjects: Sequence[str]) -> float:
    """σ: the standard deviation over all entries of the embeddings of many subjects' tokens."""
    if not subjects:
        raise InputError("There is no subject to take the spread of embeddings from.")
    rows = [model.ids(subject) for subject in subjects]
    return float(torch.cat([_embedded(model, row) for row in rows]).float().std())


# -- one prompt -------------------------------------------------------------------------------


class _Run:
    """The clean and the corrupted run of one prompt, and restored runs of it."""

    def __init__(
        self, model: TextModel, asked: Asked, subject: tuple[int, int], kind: Kind
    ) -> None:
        self.model, self.ids, self.asked, self.subject = model, asked.ids, asked, subject
        self.form: Any = None  # what a block returns, tensor or tuple
        self.states = {str(j): _state(model, j, kind) for j in range(model.n_layers)}
        outputs = {name: (module, "output") for name, module in self.states.items()}
        embedding = (_embedding(model), "output")
        with torch.no_grad(), captured({**outputs, "embedding": embedding}) as seen:
            logits = self.read(1)[0]
        self.greedy = int(logits.argmax())
        self.clean = float(logits.softmax(-1)[asked.wanted[0]])
        self.known = {n: seen[n].reshape(len(self.ids), -1) for n in self.states}  # (t, size)
        own = seen["embedding"].reshape(len(self.ids), -1)[subject[0] : subject[1] + 1]
        self.sigma = float(own.float().std())

    @torch.no_grad()
    def corrupt(self, level: float, samples: int, seed: int) -> None:
        """The corrupted run: p*(o), and the hidden states with which each block is entered."""
        model, (first, last) = self.model, self.subject
        shape = samples, last - first + 1, model.width
        drawn = level * torch.randn(shape, generator=torch.Generator().manual_seed(seed))

        def disturbed(embedded: Tensor) -> Tensor:
            padding = (0, 0, first, len(self.ids) - last - 1)
            return embedded + nn.functional.pad(drawn, padding).to(embedded)

        def keep_form(_m: nn.Module, _args: Any, output: Any) -> None:
            self.form = output

        entries = {str(j): (block, "input") for j, block in enumerate(model.blocks)}
        with (
            replaced_output(_embedding(model), disturbed),
            captured(entries) as self.entered,
            model.blocks[0].register_forward_hook(keep_form),
        ):
            self.corrupted = float(self.probability(samples).mean())
        self.samples = samples

    @torch.no_grad()
    def restored(self, layers: range, tokens: Tensor) -> Tensor:
        """(k,) p*(o; states of these layers at one of the tokens), mean over draws."""
        model, k = self.model, len(tokens)
        hidden = self.entered[str(layers[0])].repeat(k, 1, 1)  # (k·samples, t, d)
        place = tokens.repeat_interleave(self.samples).to(hidden.device)
        row = torch.arange(len(place), device=hidden.device)

        def put_back(name: str) -> Callable[[Tensor], Tensor]:
            def change(output: Tensor) -> Tensor:
                whole = output.reshape(len(place), len(self.ids), -1).clone()
                whole[row, place] = self.known[name][place]
                return whole.reshape(output.shape)

            return change

        with ExitStack() as stack:
            for block in model.blocks[: layers[0]]:
                stack.enter_context(replaced_forward(block, self.skipped))
            stack.enter_context(replaced_input(model.blocks[layers[0]], lambda: hidden))
            for name in map(str, layers):
                stack.enter_context(replaced_output(self.states[name], put_back(name)))
            return self.probability(len(place)).view(k, self.samples).mean(1)

    def probability(self, rows: int) -> Tensor:
        """(rows,) p(o) of so many copies of the prompt, on the CPU."""
        return self.read(rows).softmax(-1)[:, self.asked.wanted[0]].cpu()

    def read(self, rows: int) -> Tensor:
        """(rows, V) fp32 logits where the answer is predicted, of so many copies of the prompt."""
        copies, every = self.model.batch([self.ids] * rows), torch.arange(rows)
        return self.model.logits_at(copies, every, torch.full_like(every, self.asked.reads[0]))

    def skipped(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        """Stands in for a lower block: hands hidden states on in this architecture's form."""
        return with_first(self.form, hidden_states)


def _placed(
    model: TextModel, prompt: str, subject: str, answer: str | None
) -> tuple[str, Asked, tuple[int, int]]:
    """The prompt as text and in tokens, and the first and last token of its subject."""
    fact = Rewrite(prompt, subject, subject if answer is None else answer)
    start, end = fact.subject_span
    first, last = (
        subject_last(model.tokenizer, fact.text, (start, stop)) for stop in (start + 1, end)
    )
    return fact.text, question(model, fact.text, answer), (first, last)


def _state(model: TextModel, layer: int, kind: Kind) -> nn.Module:
    """The module whose output is restored."""
    return {"block": model.block, "mlp": model.mlp, "attention": model.attention}[kind](layer)


def _embedding(model: TextModel) -> nn.Module:
    """The token embedding of the stack that reads the prompt."""
    return model.module.get_submodule(model.row(0)[0].embedding)


def _embedded(model: TextModel, ids: Sequence[int]) -> Tensor:
    """(t, d) what the first block is given for these tokens, before positions are added."""
    embedding = _embedding(model)
    with captured({"embedding": (embedding, "output")}) as seen, stopping(embedding):
        model.forward(model.batch([ids]))
    return seen["embedding"][0]


def _plain(value: Any) -> dict[str, Any]:
    """The fields of a trace, with tensors as lists."""
    found = {name: getattr(value, name) for name in value.__dataclass_fields__}
    return {
        name: part.tolist()
        if isinstance(part, Tensor)
        else list(part)
        if isinstance(part, tuple)
        else part
        for name, part in found.items()
    }
