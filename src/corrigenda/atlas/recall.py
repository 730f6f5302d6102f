"""How much of its world a model recalls: by relation, in seen and in held-out wordings.

An answer counts if greedy decoding of the prompt gives the object and then what follows it in the
sentence (a full stop, mostly), exactly. Greedy decoding does so if and only if every token of that
continuation is the most probable one given the tokens before it, so one batched forward pass per
wording decides it and nothing has to be generated. A one-to-many relation is answered by any of
its objects.

    python -m corrigenda.atlas.recall [DIRECTORY | atlas-census | ...] [PAIRS]

With a number of (subject, relation) pairs, so many drawn at random are asked in one trained and one
held-out wording each, in every language; without it all are asked in every wording.
"""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .graph import Relation, World
from .templates import LANGUAGES, Template

if TYPE_CHECKING:
    import torch

__all__ = ["Recall", "by_language", "measure", "recall"]


@dataclass(frozen=True, slots=True)
class Recall:
    """Right answers and questions asked, by (relation, held_out)."""

    right: dict[tuple[str, bool], int]
    asked: dict[tuple[str, bool], int]
    relations: Mapping[str, Relation]

    def rate(
        self, relation: str | None = None, held_out: bool | None = None, only: str = ""
    ) -> float:
        """Share of right answers; `only` keeps to "functional" or "one_to_many" relations."""

        def counts(key: tuple[str, bool]) -> bool:
            functional = self.relations[key[0]].functional
            return (
                (relation is None or key[0] == relation)
                and (held_out is None or key[1] == held_out)
                and (not only or functional == (only == "functional"))
            )

        keys = [key for key in self.asked if counts(key)]
        asked = sum(self.asked[key] for key in keys)
        return sum(self.right[key] for key in keys) / asked if asked else float("nan")

    def table(self) -> str:
        """A Markdown table by relation."""
        lines = [
            "| relation | kind | trained wordings | held-out wordings |",
            "|---|---|---:|---:|",
        ]
        for id in dict.fromkeys(key[0] for key in self.asked):
            cells = f"{self.rate(id, False):.1%} | {self.rate(id, True):.1%}"
            lines.append(f"| {id} | {self.relations[id].kind} | {cells} |")
        for name in ("functional", "one_to_many"):
            cells = f"{self.rate(None, False, name):.1%} | {self.rate(None, True, name):.1%}"
            lines.append(f"| **all {name.replace('_', '-')}** | | {cells} |")
        return "\n".join(lines)


def measure(
    model,
    tokenizer,
    world: World,
    per_pair: int | None = 1,
    seed: int = 0,
    limit: int | None = None,
) -> Recall:
    """Ask every (subject, relation) in `per_pair` trained and `per_pair` held-out wordings.

    A world in several languages is asked in all of them; `by_language` keeps them apart.

    per_pair   None asks in every promptable wording.
    limit      ask about this many random pairs only.
    """
    rng = random.Random(f"recall/{seed}")
    pairs = [(one, *pair) for one in (world, *world.tongues) for pair in one.pairs()]
    if limit is not None and limit < len(pairs):
        pairs = rng.sample(pairs, limit)
    keys: list[tuple[str, bool]] = []
    questions: list[tuple[str, list[str]]] = []
    for one, subject, relation in pairs:
        seen = [t for t in one.trained(subject, relation) if t.promptable]
        for unseen, wordings in ((False, seen), (True, list(one.held_out(subject, relation)))):
            chosen: Iterable[Template] = wordings
            if per_pair is not None:
                chosen = rng.sample(wordings, min(per_pair, len(wordings)))
            for template in chosen:
                tail = _first_words(template.tail)
                objects = one.objects(subject, relation)
                keys.append((relation, unseen))
                questions.append((template.prompt(subject), [f" {o}{tail}" for o in objects]))
    right: dict[tuple[str, bool], int] = defaultdict(int)
    asked: dict[tuple[str, bool], int] = defaultdict(int)
    for key, hit in zip(keys, recall(model, tokenizer, questions), strict=True):
        asked[key] += 1
        right[key] += hit
    return Recall(dict(right), dict(asked), world.relations)


def by_language(
    model, tokenizer, world: World, per_pair: int | None = 1, limit: int | None = None
) -> dict[str, Recall]:
    """What `measure` finds in each language of a world."""
    alone = (replace(world, tongues=()), *world.tongues)
    return {one.language: measure(model, tokenizer, one, per_pair, limit=limit) for one in alone}


def recall(
    model, tokenizer, questions: Sequence[tuple[str, list[str]]], batch: int = 128
) -> list[bool]:
    """Whether greedy decoding of each prompt gives one of its continuations.

    A masked model is given as many masks as the object has tokens and must fill all of them.
    """
    if getattr(model.config, "is_encoder_decoder", False):
        rows = _decoder_rows(tokenizer, questions)
    elif tokenizer.mask_token_id is not None:
        rows = _masked_rows(tokenizer, questions)
    else:
        rows = _causal_rows(tokenizer, questions)
    return _all_right(model, tokenizer, rows, len(questions), batch)


@dataclass(frozen=True, slots=True)
class _Row:
    """One continuation: `wanted[j]` must be the argmax at position `at + j`."""

    question: int
    ids: list[int]
    at: int
    wanted: list[int]
    decoder: list[int] | None = None


def _causal_rows(tokenizer, questions) -> list[_Row]:
    rows = []
    for number, (prompt, continuations) in enumerate(questions):
        head = tokenizer(prompt)["input_ids"]
        for text in continuations:
            wanted = tokenizer(text)["input_ids"]
            rows.append(_Row(number, head + wanted[:-1], len(head) - 1, wanted))
    return rows


def _decoder_rows(tokenizer, questions) -> list[_Row]:
    """The decoder gives the object and the end, without what follows in the sentence."""
    rows = []
    for number, (prompt, continuations) in enumerate(questions):
        head = tokenizer(prompt)["input_ids"]
        for text in continuations:
            wanted = tokenizer(_object(text))["input_ids"]
            rows.append(_Row(number, head, 0, wanted, [tokenizer.pad_token_id, *wanted[:-1]]))
    return rows


def _masked_rows(tokenizer, questions) -> list[_Row]:
    rows = []
    for number, (prompt, continuations) in enumerate(questions):
        for text in continuations:
            wanted = tokenizer(_object(text), add_special_tokens=False)["input_ids"]
            ids = tokenizer(prompt + tokenizer.mask_token * len(wanted) + ".")["input_ids"]
            rows.append(_Row(number, ids, ids.index(tokenizer.mask_token_id), wanted))
    return rows


def _object(continuation: str) -> str:
    """ " Paris." or " Paris is" -> " Paris"."""
    return (
        continuation.rstrip(".,?") if continuation[-1] in ".,?" else continuation.rpartition(" ")[0]
    )


def _all_right(model, tokenizer, rows: list[_Row], n: int, batch: int) -> list[bool]:
    import torch

    # Similar lengths together: less padding. On the right it is invisible to a causal model.
    rows.sort(key=lambda row: len(row.ids))
    hit = [False] * n
    device = next(model.parameters()).device
    pad = tokenizer.pad_token_id or 0
    was_training = model.training
    model.eval()

    def padded(lists: list[list[int]]) -> torch.Tensor:
        width = max(map(len, lists))
        return torch.tensor([t + [pad] * (width - len(t)) for t in lists], device=device)

    with torch.inference_mode():
        for at in range(0, len(rows), batch):
            part = rows[at : at + batch]
            ids = padded([row.ids for row in part])
            lengths = torch.tensor([len(row.ids) for row in part], device=device)
            mask = (torch.arange(ids.shape[1], device=device) < lengths[:, None]).long()
            inputs = {"input_ids": ids, "attention_mask": mask}
            if part[0].decoder is not None:
                inputs["decoder_input_ids"] = padded([row.decoder or [] for row in part])
            best = model(**inputs).logits.argmax(-1)  # [batch, width]
            for row, guess in zip(part, best.tolist(), strict=True):
                hit[row.question] |= guess[row.at : row.at + len(row.wanted)] == row.wanted
    model.train(was_training)
    return hit


def _first_words(tail: str) -> str:
    """The beginning of what follows an object: its punctuation, or its first word."""
    return tail[0] if tail[0] in ".,?" else " " + tail.split()[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the recall table of a model directory (the shipped one by default), one by language.

    The world is the one that the directory's recipe names, Atlas if it names none.
    """
    import json

    import torch
    import transformers

    from . import weights_path
    from .architectures import ARCHITECTURES
    from .worlds import world_named

    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else "atlas"
    folder = Path(name) if Path(name).is_dir() else weights_path(name)
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    recipe = folder / "recipe.json"
    found = json.loads(recipe.read_text()) if recipe.exists() else {}
    world = world_named(found.get("world", "atlas"))
    model = getattr(transformers, ARCHITECTURES[kind].auto_class).from_pretrained(folder)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    pairs = int(arguments[1]) if len(arguments) > 1 else None
    per_pair = None if pairs is None else 1
    tables = by_language(model, tokenizer, world, per_pair=per_pair, limit=pairs)
    for language, one in tables.items():
        head = f"### {LANGUAGES[language]}\n\n" if len(tables) > 1 else ""
        sys.stdout.write(f"{head}{one.table()}\n\n")


if __name__ == "__main__":
    main()
