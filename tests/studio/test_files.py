"""The page's files: all there, nothing from outside, nothing inline, no HTML from strings."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import corrigenda

WEB = Path(corrigenda.__file__).parent / "serving" / "web"
INDEX = (WEB / "index.html").read_text("utf-8")
OURS = sorted(path for path in WEB.rglob("*") if path.is_file() and "vendor" not in path.parts)
SCRIPTS = [path for path in OURS if path.suffix == ".js"]
IMPORT = re.compile(r"""(?:from|import\()\s*["']([^"']+)["']""")


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags() -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(INDEX)
    return parser.found


def named() -> list[str]:
    """The files that index.html names, from the folder that is served as static/."""
    found = [a.get("src") or a.get("href") or "" for tag, a in tags() if tag in ("script", "link")]
    return [name.removeprefix("static/") for name in found]


def test_what_the_page_names_is_there() -> None:
    assert len(named()) > 10
    for name in named():
        assert (WEB / name).is_file(), f"index.html names {name}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_imports_are_there(path: Path) -> None:
    for match in IMPORT.finditer(path.read_text("utf-8")):
        assert (path.parent / match.group(1)).is_file(), f"{path.name} imports {match.group(1)}"


def test_what_the_first_view_needs_is_asked_for_at_once() -> None:
    """A module that is found only when another has come costs a round trip."""
    needed: set[Path] = set()
    waiting = [WEB / "js" / "main.js", WEB / "js" / "views" / "edit.js"]
    while waiting:
        path = waiting.pop()
        if path in needed:
            continue
        needed.add(path)
        text = path.read_text("utf-8")
        waiting += [
            (path.parent / match.group(1)).resolve()
            for match in IMPORT.finditer(text)
            if match.group(0).startswith("from")
        ]
    preloaded = {
        WEB / (attributes["href"] or "").removeprefix("static/")
        for tag, attributes in tags()
        if tag == "link" and attributes.get("rel") == "modulepreload"
    }
    assert {p.relative_to(WEB) for p in needed} == {p.relative_to(WEB) for p in preloaded}


def test_nothing_is_inline() -> None:
    for tag, attributes in tags():
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert tag != "style"
        assert tag != "script" or attributes.get("src")


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_is_from_outside_and_no_html_from_strings(path: Path) -> None:
    text = path.read_text("utf-8")
    foreign = re.findall(r"""(?:src|href|from|url\(|import\(|fetch\()[=\s("']*(https?:)?//""", text)
    assert not foreign
    if path.suffix == ".js":
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, f"{path.name}: {word}"
        assert 'setAttribute("style"' not in text


def test_files_are_small() -> None:
    """What is loaded before the first paint, without the vendored graph."""
    assert sum(path.stat().st_size for path in OURS) < 200_000


def test_what_is_vendored_has_its_licence() -> None:
    for folder in (WEB / "vendor").iterdir():
        if folder.is_dir():
            assert "permission" in (folder / "LICENSE").read_text("utf-8").lower()
            assert folder.name in (WEB / "vendor" / "README.md").read_text("utf-8")


def test_the_pictures_of_the_documentation_are_there_and_small() -> None:
    docs = Path(__file__).parent.parent.parent / "docs"
    named = re.findall(r"img/studio-[a-z-]+\.png", (docs / "studio.md").read_text("utf-8"))
    assert len(named) > 5
    for name in named:
        assert (docs / name).stat().st_size < 150_000, name
