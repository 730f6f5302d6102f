"""The curves of lifelong runs as pictures: a line per editor, and its range over the orders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .summary import Summary

__all__ = ["PICTURES", "draw"]

# File, curve, name of the value, title, whether the value is a share.
PICTURES: tuple[tuple[str, str, str, str, bool], ...] = (
    ("retained.png", "retention", "retained", "edits still answered, %", True),
    ("paraphrase.png", "retention", "paraphrase", "other wordings still answered, %", True),
    ("locality.png", "retention", "locality", "untouched facts answered as before, %", True),
    ("health.png", "health", "perplexity", "perplexity, multiple of the unedited model's", False),
    ("time.png", "time", "seconds", "seconds per edit", False),
)


def draw(summary: Summary, directory: Path) -> list[Path]:
    """Write the pictures for which there is anything to show.

    Raises `ImportError` where matplotlib is missing.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    written = []
    for file, curve, name, title, share in PICTURES:
        lines = {
            editor: [p for p in one["curves"][curve] if name in p["mean"]]
            for editor, one in summary.editors.items()
        }
        lines = {editor: points for editor, points in lines.items() if points}
        if not lines:
            continue
        figure, ax = plt.subplots(figsize=(7, 4.5))
        for editor, points in lines.items():
            _line(ax, editor, points, name, 100.0 if share else 1.0)
        ax.set_xlabel("edits so far")
        ax.set_ylabel(title)
        if share:
            ax.set_xscale("log")
            ax.set_ylim(0, 103)
        elif name == "perplexity":
            ax.axhline(1.0, color="grey", linewidth=0.8)
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(directory / file, dpi=150)
        plt.close(figure)
        written.append(directory / file)
    return written


def _line(ax: Any, editor: str, points: list[Mapping[str, Any]], name: str, by: float) -> None:
    """The mean, and the range where there are several orders."""
    x = [p["edits"] for p in points]
    mean, low, high = ([by * p[end][name] for p in points] for end in ("mean", "low", "high"))
    (drawn,) = ax.plot(x, mean, marker=".", label=editor)
    if any(p["runs"] > 1 for p in points):
        ax.fill_between(x, low, high, alpha=0.2, color=drawn.get_color())
