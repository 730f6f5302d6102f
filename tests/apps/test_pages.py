"""The documents of the methods say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from corrigenda.apps import pages
from corrigenda.benchmarks import BENCHMARKS
from corrigenda.editors import TABLE, _about, editor_class

ROOT = Path(__file__).parent.parent.parent
CLASSES = [editor_class(name) for name in TABLE]
AGAIN = "Run: corrigenda editors --pages docs/methods"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_every_method_has_its_page(cls) -> None:
    path = ROOT / "docs/methods" / f"{cls.name}.md"
    assert path.exists(), AGAIN
    assert path.read_text(encoding="utf-8") == pages.page(cls), AGAIN


def test_no_page_is_left_over() -> None:
    found = {path.stem for path in (ROOT / "docs/methods").glob("*.md")} - {"README"}
    assert found == set(TABLE)


def test_the_readme_has_the_table_of_methods_and_families() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert pages.BEGIN in text and pages.END in text
    assert pages.inserted(text, pages.index(CLASSES)) == text, AGAIN


def test_the_page_of_data_sets_says_what_the_registry_says() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    table = pages.data_table(list(BENCHMARKS.values()))
    again = "Run: corrigenda data --page docs/benchmarks.md"
    assert pages.inserted(text, table, pages.DATA_BEGIN) == text, again
    for name, one in BENCHMARKS.items():
        assert f"| `{name}` |" in table and one.licence in table and one.source in table


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_every_setting_is_explained(cls) -> None:
    unexplained = [s["name"] for s in pages.settings(cls) if not s["meaning"]]
    assert not unexplained, f"say in the docstring of {cls.__name__} what {unexplained} mean"


def test_meanings_are_read_from_docstrings() -> None:
    found = _about._meanings(
        "Title.\n\nlr, steps  rate and\n           number.\nbox        half-width; 0: none.\n\nMore."
    )
    assert found == {"lr": "rate and number.", "steps": "rate and number.",
                     "box": "half-width; 0: none."}  # fmt: skip


def test_the_list_tells_what_users_choose_by() -> None:
    rows = [pages.description(cls) for cls in CLASSES]
    assert all(row["paper"] and row["summary"] and row["family"] for row in rows)
    assert {row["family"] for row in rows} == set(pages.FAMILIES)
    for row in rows:
        assert set(row["kinds"]) <= set(pages.KINDS) and row["model_types"]
        assert set(row["needs"]) <= {"subject", "statistics", "training", "corpus", "labels"}
