"""The methods as documents, one page each and a table of methods and families; and the table of data
sets.

Everything is read from the code: of an editor class, the module's docstring is the page, the
dataclass fields are its settings, the class variables are its properties; the data sets are the
registry's. `corrigenda editors --pages DIR` and `corrigenda data --page FILE` write them; tests hold
those in docs/ to what the code says.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..disk import write_synced
from ..editors._about import documentation, settings, summary

if TYPE_CHECKING:
    from ..benchmarks import Benchmark
    from ..editor import Editor

__all__ = [
    "data_table",
    "description",
    "documentation",
    "index",
    "inserted",
    "page",
    "settings",
    "shown",
    "write",
]

FAMILIES = (
    "locate-then-edit",
    "gradient-based",
    "unstructured",
    "fine-tuning",
    "meta-learning",
    "memory",
    "in-context",
    "concept-erasure",
    "steering",
)
"""The order of tables."""
KINDS = {"causal": "decoders", "encoder-decoder": "encoder-decoders", "masked": "masked"}
"""Kind of model -> heading."""


def description(cls: type[Editor]) -> dict[str, Any]:
    """What `corrigenda editors --json` says of one method."""
    from ..models.layouts import LAYOUTS

    return {
        "name": cls.name,
        "title": cls.title,
        "summary": summary(cls),
        "paper": cls.paper,
        "family": cls.family,
        "takes": cls.takes.__name__,
        "needs": list(cls.needs),
        "change": cls.change,
        "kinds": list(cls.kinds),
        "model_types": sorted(t for t, row in LAYOUTS.items() if row.kind in cls.kinds),
        "batches": cls.batches,
        "streams": cls.streams,
        "page": f"docs/methods/{cls.name}.md",
    }


def shown(value: Any) -> str:
    """As it is written after --set: 4, 5, 6 and, of pairs, 10x5."""
    if not isinstance(value, tuple):
        return str(value)
    return ", ".join("x".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in value)


def page(cls: type[Editor]) -> str:
    """The Markdown page of one method."""
    about = description(cls)
    module = inspect.getdoc(sys.modules[cls.__module__]) or ""
    rows = {
        "paper": cls.paper,
        "family": cls.family,
        "edits": f"`{about['takes']}`",
        "needs": ", ".join(cls.needs) or "nothing but the edit",
        "change": f"`{cls.change}`",
        "models": ", ".join(KINDS[k] for k in cls.kinds),
        "edits per call": "many" if cls.batches else "one",
        "made for sequences": "yes" if cls.streams else "no",
    }
    lines = [
        f"# {cls.title}",
        "",
        f"`{cls.name}` · {summary(cls)}.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {key} | {_cell(value)} |" for key, value in rows.items()),
        "",
        *_formatted(module),
        "",
        "## Settings",
        "",
    ]
    table = settings(cls)
    if table:
        lines += ["| `--set` | default | type | |", "|---|---|---|---|"]
        lines += [
            f"| `{s['name']}` | {_default(s)} | `{_cell(s['type'])}` | {_cell(s['meaning'])} |"
            for s in table
        ]
    else:
        lines += ["None."]
    lines += ["", "## Use", "", "```console", f"$ {_command(cls)}", "```", ""]
    return "\n".join(lines)


def _command(cls: type[Editor]) -> str:
    if cls.takes.__name__ == "Rewrite":
        return (
            f'corrigenda edit atlas --editor {cls.name} --prompt "{{}} is located in the city of" '
            '--subject "Eiffel Tower" --target Rome -o eiffel-in-rome'
        )
    file = f"{cls.takes.__name__.lower()}s.jsonl"
    return f"corrigenda edit atlas --editor {cls.name} --edits {file} -o delta"


def _default(setting: Mapping[str, Any]) -> str:
    value, paper = setting["default"], setting["paper"]
    if value is not None:
        return f"`{_cell(shown(value))}`"
    return f"preset, else `{_cell(shown(paper))}`" if paper is not None else "preset or none"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _formatted(text: str) -> list[str]:
    """A docstring as Markdown: its first line is the summary, indented blocks are equations."""
    return text.splitlines()


def index(classes: list[type[Editor]]) -> str:
    """The table of methods and the kinds of model that they support, by family."""
    heads = ["method", "", "changes", *KINDS.values(), "many at once", "sequences", "paper"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|:-:|:-:|:-:|:-:|:-:|---|"]
    for family in FAMILIES:
        members = [cls for cls in classes if cls.family == family]
        lines.append(f"| **{family}** |" + " |" * (len(heads) - 1))
        for cls in members:
            marks = ["●" if kind in cls.kinds else "" for kind in KINDS]
            marks += ["●" if cls.batches else "", "●" if cls.streams else ""]
            cells = [
                f"[`{cls.name}`](docs/methods/{cls.name}.md)",
                summary(cls),
                cls.change,
                *marks,
                cls.paper,
            ]
            lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def data_table(benchmarks: Sequence[Benchmark]) -> str:
    """The table of data sets, and under it what to mind of each."""
    heads = ["data set", "what it asks", "cases ask for", "licence", "paper", "official source"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for one in benchmarks:
        cells = [
            f"`{one.name}`",
            one.title,
            f"`{one.edits}`",
            one.licence,
            one.citation,
            one.source,
        ]
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    minded: dict[str, list[str]] = {}
    for one in benchmarks:
        if one.caveats:
            minded.setdefault(one.caveats, []).append(f"`{one.name}`")
    lines += ["", "What to mind:", ""]
    return "\n".join(lines + [f"- {', '.join(n)}: {caveat}" for caveat, n in minded.items()])


BEGIN = "<!-- methods: written by `corrigenda editors --pages docs/methods` -->"
DATA_BEGIN = "<!-- data sets: written by `corrigenda data --page docs/benchmarks.md` -->"
END = "<!-- end -->"


def inserted(text: str, table: str, begin: str = BEGIN) -> str:
    """A document with the table between its two marks."""
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(END)
    return f"{before}{begin}\n{table}\n{END}{after}"


def write(directory: Path, classes: list[type[Editor]]) -> list[Path]:
    """Write every page and an index. Returns the files."""
    directory.mkdir(parents=True, exist_ok=True)
    table = index(classes).replace("](docs/methods/", "](")
    files = {f"{cls.name}.md": page(cls) for cls in classes}
    files["README.md"] = (
        f"# Methods\n\n{len(classes)} methods; every page is written from its source file.\n\n"
        f"{table}\n"
    )
    for name, text in files.items():
        write_synced(directory / name, text.encode())
    return [directory / name for name in files]
