"""T-Patcher: neurons that answer their own query and stay silent elsewhere."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from corrigenda.acting import Neurons, Pass
from corrigenda.delta import Delta
from corrigenda.edit import Rewrite
from corrigenda.editor import EditWarning
from corrigenda.editors.t_patcher import TPatcher
from corrigenda.errors import InputError
from corrigenda.models.text import TextModel

from ..models.tiny import model_of, some_text

EDITS = (
    Rewrite("{} is located in", "The Eiffel Tower", "Rome"),
    Rewrite("Question: Who makes {}? Answer:", "the iPhone", "Microsoft of Madrid"),
)
every_kind = pytest.mark.parametrize("family", ["gpt2", "opt", "llama", "t5", "bart", "bert"])


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    path.write_text(some_text(300), encoding="utf-8")
    return str(path)


def solve(model: TextModel, *edits: Rewrite, onto: Delta | None = None, **more) -> Delta:
    more = {"steps": 40, "memory": 60, "statistics": "auto", "lr": 3e-2, "hardest": 20, **more}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EditWarning)
        return TPatcher(**more)(model, list(edits), onto)


def neurons(delta: Delta) -> Neurons:
    (change,) = delta.acting.values()
    assert isinstance(change, Neurons)
    return change


def nll(model: TextModel, edits=EDITS) -> torch.Tensor:
    with torch.no_grad():
        return model.nll([model.asked(e.text, e.target, e.following) for e in edits])


def wrong(model: TextModel, edits=EDITS) -> int:
    questions = model.force([model.asked(e.text, e.target, e.following) for e in edits])
    with torch.no_grad():
        return int((model.target_logits(questions).argmax(1) != questions.wanted).sum())


@every_kind
def test_a_neuron_for_every_wrong_token(family: str, text: str) -> None:
    model = model_of(family)
    before, count = nll(model), wrong(model)
    # In so few dimensions memory queries are hard to tell from the edits': they weigh little.
    delta = solve(model, *EDITS, statistics=text, silent=0.02)
    assert count >= 3 and len(neurons(delta).bias) == count
    with delta.applied(model):
        after = nll(model)
    told = torch.tensor(delta.provenance.diagnostics["target_nll"])
    assert bool((after < before - 0.2).all())
    torch.testing.assert_close(after, told, atol=0.15, rtol=0.1)  # told before the last step


@every_kind
def test_neurons_start_awake_at_their_own_query(family: str) -> None:
    model = model_of(family)
    plain = model.next_logprobs([e.text for e in EDITS])
    delta = solve(model, *EDITS, steps=0, memory=0)
    units = neurons(delta)
    assert not units.v.any() and not units.bias.any()
    q = units.k / units.k.square().sum(1, keepdim=True)  # k = q / |q|², and back
    torch.testing.assert_close((q * units.k).sum(1), torch.ones(len(q)))
    with delta.applied(model):
        assert torch.equal(model.next_logprobs([e.text for e in EDITS]), plain)


def test_silent_neurons_change_nothing(text: str) -> None:
    """Where every activation is at most 0, relu recovers the unpatched output bit for bit."""
    model = model_of("gpt2")
    delta = solve(model, EDITS[0], statistics=text, steps=150, silent=20.0)
    editor = TPatcher(memory=60, statistics=text)
    mlp = model.mlp(model.n_layers - 1)
    memory = editor.queries(model, mlp, EDITS[:1])[None]  # (1, m, i)
    units = neurons(delta)
    quiet = (memory[0] @ units.k.T + units.bias <= 0).all(1)
    assert quiet.float().mean() > 0.8
    y = torch.randn(1, int(quiet.sum()), model.width)
    assert units.act(memory[:, quiet], y, Pass()) is y
    loud = units.k / units.k.square().sum(1, keepdim=True) * (1 - units.bias[:, None])
    assert not torch.equal(units.act(loud[None], y[:, : len(loud)], Pass()), y[:, : len(loud)])


def test_memory_keeps_neurons_down(text: str) -> None:
    model = model_of("gpt2")
    queries = TPatcher(memory=60, statistics=text).queries(model, model.mlp(2), EDITS[:1])

    def mean(silent: float) -> float:
        units = neurons(solve(model, EDITS[0], statistics=text, silent=silent, steps=60))
        return float((queries @ units.k.T + units.bias).relu().mean())

    assert mean(5.0) < 0.5 * mean(0.0)


def test_text_about_the_subject_is_no_memory(tmp_path: Path) -> None:
    model = model_of("gpt2")
    file = tmp_path / "text.txt"
    file.write_text("The Eiffel Tower is located in Paris today\n" * 50, encoding="utf-8")
    with pytest.raises(InputError, match="without the subjects"):
        solve(model, EDITS[0], statistics=str(file))
    other = Rewrite("{} is located in", "The Louvre", "Rome")
    queries = TPatcher(statistics=str(file), memory=30).queries(model, model.mlp(2), [other])
    assert queries.shape == (30, model.width)


def test_patches_add_up_and_are_dropped_again(text: str) -> None:
    model = model_of("gpt2")
    first = solve(model, EDITS[0], statistics=text)
    second = solve(model, EDITS[1], onto=first, statistics=text)
    assert len(neurons(first + second).bias) == sum(len(neurons(d).bias) for d in (first, second))
    plain = model.next_logprobs(["The Louvre is located in"])
    a, b = model.live.push(first), model.live.push(second)
    model.live.pop(a)
    alone = model.next_logprobs([e.text for e in EDITS])
    model.live.pop(b)
    with second.applied(model):
        assert torch.equal(model.next_logprobs([e.text for e in EDITS]), alone)
    assert torch.equal(model.next_logprobs(["The Louvre is located in"]), plain)


def test_what_is_right_already_needs_no_patch() -> None:
    model = model_of("opt")
    first = solve(model, EDITS[0], memory=0, steps=300)
    with first.applied(model):
        assert not wrong(model, EDITS[:1])
    assert not solve(model, EDITS[0], onto=first, memory=0)
    (change,) = solve(model, EDITS[0], onto=first, memory=0, sure=1.0).acting.values()
    assert isinstance(change, Neurons) and len(change.bias) == len(
        model.asked(EDITS[0].text, EDITS[0].target).wanted
    )


def test_it_patches_where_answers_are_predicted() -> None:
    model = model_of("t5")
    delta = solve(model, EDITS[0], memory=0, steps=1)
    (name,) = delta.acting
    assert name.startswith(model.path_of(model.block(model.n_layers - 1)))
    with pytest.raises(InputError, match="a layer of the decoder"):
        solve(model, EDITS[0], memory=0, layers=(0,))
    with pytest.raises(InputError, match="one block"):
        solve(model, EDITS[0], memory=0, layers=(3, 4))
