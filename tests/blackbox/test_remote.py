"""A model behind an address is measured as it would be at hand, without what needs logits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from corrigenda import TextModel
from corrigenda.benchmarks import load_cases
from corrigenda.blackbox.client import Remote
from corrigenda.blackbox.evaluation import evaluate_remote
from corrigenda.editors import make
from corrigenda.errors import EndpointError, InputError, UnknownNameError
from corrigenda.evaluate import evaluate

from ..serving.running import listening
from .upstream import Standin

pytestmark = pytest.mark.slow  # servers and processes of their own


@pytest.fixture(scope="module")
def server(atlas_model: TextModel) -> Iterator[str]:
    with listening(Standin(atlas_model).app()) as url:
        yield f"{url}/v1"


def test_a_remote_says_what_the_model_says(atlas_model: TextModel, server: str) -> None:
    prompts = ["The Eiffel Tower is located in the city of", "Dell makes its money in"]
    remote = Remote(server)
    assert remote.generate(prompts, max_new_tokens=5) == atlas_model.generate(
        prompts, max_new_tokens=5
    )
    assert (remote.model, remote.form) == ("standin", "completions")


def test_remote_and_local_evaluation_agree(atlas_model: TextModel, server: str) -> None:
    """Under an edit, so that before and after differ."""
    cases = load_cases("atlas", limit=1, seed=0)
    local = evaluate(atlas_model, make("ft-m"), cases, max_new_tokens=8)
    before = Remote(server)
    delta = make("ft-m")(atlas_model, [case.edit for case in cases])
    with delta.applied(atlas_model):
        standin = Standin(atlas_model, "edited")
        prompts = [p.prompt for case in cases for p in case.probes]
        standin.says([prompt.rstrip(" ") for prompt in prompts], 8)
    with listening(standin.app()) as url:
        found = evaluate_remote(Remote(f"{url}/v1"), cases, before=before, max_new_tokens=8)
    compared = {name for name in local.scores if name.startswith("gen.")}
    assert compared
    for name in compared:
        assert found.scores[name].value == pytest.approx(local.scores[name].value), name
    assert not [name for name in found.scores if name.startswith("tf.")]


def test_without_an_unedited_state_locality_has_another_name(server: str) -> None:
    cases = load_cases("atlas", limit=1, seed=0)
    found = evaluate_remote(Remote(server), cases, max_new_tokens=8)
    assert "gen.locality.known" in found.scores
    assert "gen.locality" not in found.scores
    with pytest.raises(InputError, match="--remote-before"):
        evaluate_remote(Remote(server), cases, known=True)


def test_an_evaluation_goes_on_where_it_stopped(server: str, tmp_path: Path) -> None:
    cases = load_cases("atlas", limit=1, seed=0)
    kept = tmp_path / "run.jsonl"
    first = evaluate_remote(Remote(server), cases, resume=kept, max_new_tokens=8)

    class Deaf(Remote):
        def generate(self, *_: object, **__: object) -> list[str]:
            raise AssertionError("everything is known already")

    again = evaluate_remote(Deaf(server), cases, resume=kept, max_new_tokens=8)
    assert again.rows == first.rows


def test_what_is_wrong_with_an_endpoint_is_said(server: str) -> None:
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9"):
        Remote("http://127.0.0.1:9/v1", attempts=1).generate(["x"])
    with pytest.raises(UnknownNameError, match="standin"):
        Remote(server, "another").check()
    with pytest.raises(InputError, match="empty"):
        Remote(server).generate([" "])
