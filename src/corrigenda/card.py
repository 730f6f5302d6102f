"""The model card (README.md) of a saved delta: what the edit says and how to use it."""

from __future__ import annotations

import json
from collections.abc import Iterable

from .delta import Delta, LowRank
from .edit import edit_from
from .errors import EditError

__all__ = ["card", "summary"]

SHOWN = 100  # edits listed in full


def card(delta: Delta, identity: str, name: str, rank: int | None, reason: str) -> str:
    """Markdown with the front matter that model hubs read.

    name    of the directory that the card is written into.
    rank    of the PEFT adapter beside the card; None if there is none, for the given `reason`.
    """
    about = delta.provenance
    head = {"base_model": about.model or None, "library_name": "peft" if rank else "corrigenda"}
    lines = ["---"]
    lines += [f"{key}: {json.dumps(value)}" for key, value in head.items() if value]
    lines += ["tags:", "- model-editing", "- corrigenda", "---", ""]
    lines += [f"# {_line(summary(delta))}", ""]
    lines += [
        f"An edit of {_code(about.model or 'a model')} made with "
        f"{_code(about.editor or 'an unnamed editor')}, as a change that can be applied and taken "
        "back. The base model's weights are not in this directory.",
        "",
    ]
    lines += ["## What it says", "", *_edits(delta)]
    lines += ["", "## What did not take", "", *_failures(delta)]
    lines += ["", "## What it changes", "", *_changes(delta)]
    if about.warnings:
        lines += ["", "## Warnings when it was made", ""]
        lines += [f"- {_line(w)}" for w in about.warnings[:SHOWN]]
    lines += ["", "## How to load it", "", *_usage(about.model, name, rank, reason)]
    lines += ["", "## Where it comes from", ""]
    lines += _table(
        ("", ""),
        [
            ("id", _code(identity)),
            ("base model", _code(about.model or "not recorded")),
            ("editor", _code(about.editor or "not recorded")),
            ("arguments", _code(json.dumps(about.arguments, ensure_ascii=False, default=str))),
            ("seed", _code(str(about.seed))),
            ("seconds", f"{about.seconds:.3g} (precomputing: {about.precompute_seconds:.3g})"),
            ("versions", _line(", ".join(f"{k} {v}" for k, v in about.versions.items()))),
            ("created", about.created or "not recorded"),
        ],
    )
    lines += [
        "",
        "`delta.json` holds the rest (hashes of the tensors that the edit was made for, scores) "
        "and the checksum of every file here, this one included: change nothing by hand.",
        "",
    ]
    return "\n".join(lines)


def summary(delta: Delta) -> str:
    """What the edits say, in one line: "The Eiffel Tower is located in → Rome"."""
    edits = delta.provenance.edits
    if not edits:
        return "a change that records no edits"
    first = " ".join(" → ".join(filter(None, _said(edits[0]))).split())
    return first if len(edits) == 1 else f"{first} (and {len(edits) - 1} more)"


def _said(edit: dict) -> tuple[str, str]:
    try:
        one = edit_from(edit)
    except EditError:  # an edit of another kind: show it as it is
        return json.dumps(edit, ensure_ascii=False, default=str), ""
    return one.question, one.target


def _edits(delta: Delta) -> list[str]:
    edits = delta.provenance.edits
    if not edits:
        return ["No edits are recorded."]
    rows = [tuple(map(_code, _said(e))) for e in edits[:SHOWN]]
    more = len(edits) - SHOWN
    return _table(("prompt", "answer"), rows) + (["", f"and {more} more."] if more > 0 else [])


def _failures(delta: Delta) -> list[str]:
    if not delta.provenance.outcomes:
        return ["Not recorded."]
    if not delta.failed:
        return ["Nothing: right after solving, every edit was answered with its target."]
    rows = []
    for edit, outcome in delta.failed[:SHOWN]:
        prompt, target = _said(edit)
        rows.append((_code(prompt), _code(target), _code(outcome.answer), _line(outcome.note)))
    more = len(delta.failed) - SHOWN
    return _table(("prompt", "wanted", "answered", "note"), rows) + (
        ["", f"and {more} more."] if more > 0 else []
    )


def _changes(delta: Delta) -> list[str]:
    rows = []
    for name, change in delta.weights.items():
        kind = f"rank {change.rank}" if isinstance(change, LowRank) else "dense"
        rows.append((_code(name), kind, " x ".join(map(str, change.shape)), f"{change.norm():.4g}"))
    lines = _table(("parameter", "change", "shape", "Frobenius norm"), rows) if rows else []
    acting = [(_code(name), type(c).__name__, str(c.numel)) for name, c in delta.acting.items()]
    if acting:
        lines += (
            ["", *_table(("acts at", "change", "numbers"), acting)]
            if lines
            else _table(("acts at", "change", "numbers"), acting)
        )
    if delta.context is not None:
        lines += [""] if lines else []
        lines += [
            f"It changes the prompt: {type(delta.context).__name__}, with "
            f"{len(delta.context.passages)} passage(s) of text."
        ]
    return lines or ["Nothing."]


def _usage(model: str, name: str, rank: int | None, reason: str) -> list[str]:
    base = json.dumps(model or "BASE MODEL", ensure_ascii=False)
    path = json.dumps(name, ensure_ascii=False)
    lines = [
        "With corrigenda, which checks that the base model is the right one:",
        "",
        "```python",
        "import corrigenda as cg",
        "",
        f"model = cg.load({base})",
        f"delta = cg.Delta.load({path})",
        "with delta.applied(model):",
        '    print(model.generate(["..."]))',
        "```",
        "",
    ]
    if not rank:
        return [*lines, f"There is no PEFT adapter. {_line(reason)}"]
    return [
        *lines,
        f"With PEFT (a LoRA adapter of rank {rank}, fp32):",
        "",
        "```python",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "",
        f"base = AutoModelForCausalLM.from_pretrained({base})",
        f"model = PeftModel.from_pretrained(base, {path})",
        "```",
    ]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _line(text: str) -> str:
    """One line of Markdown that cannot break out of a table or start a tag."""
    text = " ".join(text.split())
    for mark in "\\`*_[]<>|#":
        text = text.replace(mark, "\\" + mark)
    return text


def _code(text: str) -> str:
    """A code span that holds any text, backticks and bars included."""
    text = " ".join(text.split()).replace("|", "\\|")
    fence = "`"
    while fence in text:
        fence += "`"
    pad = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{fence}{pad}{text}{pad}{fence}"
