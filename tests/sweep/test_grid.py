"""The file of a sweep: what it stands for, and what is said of a wrong one."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corrigenda.errors import DataError, InputError, UnknownNameError
from corrigenda.sweep.grid import Grid
from corrigenda.sweep.jobs import Job

SMALL = 'editors = ["ft-m"]\nmodels = ["atlas"]\ndata = ["atlas"]\nsizes = [2]\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a data set, which is quicker to hash than edits of the world are made."""
    found = tmp_path_factory.mktemp("grid")
    edit = {"prompt": "{} is in", "subject": "Oslo", "target": "Rome"}
    (found / "edits.jsonl").write_text(json.dumps(edit) + "\n", encoding="utf-8")
    (found / "more.jsonl").write_text(json.dumps(edit | {"target": "Lima"}) + "\n", "utf-8")
    return found


def test_a_grid_is_every_combination_once(folder: Path) -> None:
    grid = Grid.parse(
        'editors = ["none", { name = "ft-m", set = { layers = [1] }, vary = { steps = [5, 10] } }]\n'
        'models = ["atlas", "atlas-llama"]\ndata = ["edits.jsonl", "more.jsonl"]\nseeds = [0, 1]\n'
        'sizes = [2, 4]\nmodes = ["single", "sequential"]\n',
        folder,
    )
    jobs = grid.jobs()
    assert len(jobs) == 3 * 2 * 2 * 2 * 2 * 2
    assert len({job.key for job in jobs}) == len(jobs)
    assert {job.label for job in jobs} == {
        "none", "ft-m layers=1 steps=5", "ft-m layers=1 steps=10",
    }  # fmt: skip
    assert [job.model for job in jobs] == ["atlas"] * 48 + ["atlas-llama"] * 48  # loaded once each
    assert all(Job.from_dict(job.to_dict()) == job for job in jobs)


def test_the_documented_grid_is_one() -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "sweeps.md"
    text = page.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    grid = Grid.parse(text)
    assert [one.label for one in grid.editors] == [
        "rome", "ft-m layers=1", "memit clamp=2", "memit clamp=4",
    ]  # fmt: skip
    assert grid.models[1].revision and grid.known_only and len(grid.skip) == 1


def test_combinations_are_skipped() -> None:
    rules = (
        'skip = [{ editor = "rome", model = "atlas-t5" }, { mode = "batch", editor = "ft-m" }]\n'
    )
    grid = Grid.parse(
        'editors = ["rome", "ft-m"]\nmodels = ["atlas", "atlas-t5"]\ndata = ["atlas"]\n'
        'sizes = [2]\nmodes = ["single", "batch"]\n' + rules
    )
    left = [(job.editor, job.model, job.mode) for job in grid.jobs()]
    assert len(left) == 8 - 2 - 2
    assert ("rome", "atlas-t5", "single") not in left
    assert ("ft-m", "atlas", "batch") not in left


@given(
    editors=st.sets(st.sampled_from(["rome", "memit", "ft-m", "ike"]), min_size=1),
    seeds=st.sets(st.integers(0, 9), min_size=1, max_size=3),
    modes=st.sets(st.sampled_from(["single", "batch", "sequential"]), min_size=1),
)
def test_as_many_jobs_as_combinations(folder: Path, editors, seeds, modes) -> None:
    lists = {"editors": sorted(editors), "seeds": sorted(seeds), "modes": sorted(modes)}
    text = "".join(f"{name} = {json.dumps(values)}\n" for name, values in lists.items())
    jobs = Grid.parse(f'{text}models = ["atlas"]\ndata = ["edits.jsonl"]\n', folder).jobs()
    assert len({job.key for job in jobs}) == len(jobs) == math.prod(map(len, lists.values()))
    assert {(job.editor, job.seed, job.mode) for job in jobs} == set(
        itertools.product(*lists.values())
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('editors = ["roem"]\nmodels = ["atlas"]\ndata = ["atlas"]', "Did you mean rome"),
        (SMALL + 'editers = ["rome"]', "Did you mean editors"),
        (SMALL + 'modes = ["sequentail"]', "Did you mean sequential"),
        (SMALL.replace('data = ["atlas"]', 'data = ["counterfacts"]'), "Did you mean counterfact"),
        (SMALL.replace('["ft-m"]', '[{ name = "ft-m", sett = {} }]'), "Did you mean set"),
        (SMALL.replace('["ft-m"]', '"ft-m"'), r"editors is a list"),
        (SMALL.replace('["ft-m"]', "[]"), "editors is empty"),
        (SMALL.replace('["ft-m"]', "[3]"), "texts or tables"),
        (SMALL.replace('["ft-m"]', '["ft-m", "ft-m"]'), "twice"),
        (SMALL.replace("[2]", "[0]"), "whole numbers from 1"),
        (SMALL.replace("[2]", "[true]"), "whole numbers from 1"),
        (SMALL + "seeds = [-1]", "whole numbers from 0"),
        (SMALL + "known_only = 1", "true or false"),
        (SMALL + "step = 0", "whole number from 1"),
        (SMALL + 'skip = [{ editr = "rome" }]', "Did you mean editor"),
        (SMALL + "skip = [{}]", "leave out everything"),
        (SMALL.replace('["ft-m"]', '[{ name = "ft-m", vary = { lr = 1 } }]'), "lists of values"),
        ('models = ["atlas"]\ndata = ["atlas"]', "A grid needs editors"),
    ],
)
def test_a_wrong_grid_is_told_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Grid.parse(text)


@pytest.mark.parametrize(
    ("settings", "said"), [("lrr = 1", "Did you mean lr"), ('steps = "many"', "whole number")]
)
def test_hyperparameters_are_checked_before_anything_runs(settings: str, said: str) -> None:
    text = SMALL.replace('["ft-m"]', f'[{{ name = "ft-m", set = {{ {settings} }} }}]')
    with pytest.raises(InputError, match=said):
        Grid.parse(text).jobs()


def test_a_file_that_is_none_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        Grid.read(tmp_path / "grid.toml")
    (tmp_path / "grid.toml").write_text("editors = [", encoding="utf-8")
    with pytest.raises(DataError, match="not TOML"):
        Grid.read(tmp_path / "grid.toml")
    (tmp_path / "grid.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        Grid.read(tmp_path / "grid.toml")


def test_a_model_that_is_misspelt_is_told() -> None:
    with pytest.raises(UnknownNameError, match="atlas"):
        Grid.parse(SMALL.replace('models = ["atlas"]', 'models = ["atlsa"]')).jobs()


def test_a_grid_that_skips_everything_is_told() -> None:
    with pytest.raises(InputError, match="no job"):
        Grid.parse(SMALL + 'skip = [{ model = "atlas" }]').jobs()
