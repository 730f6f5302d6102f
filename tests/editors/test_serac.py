"""SERAC: the scope, what is trained, who answers, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from corrigenda.context import Retrieval
from corrigenda.delta import Delta
from corrigenda.edit import Case, Probe, Rewrite
from corrigenda.editors.serac import COSINE, SERAC, Scope, scope_loss
from corrigenda.errors import ModelError

from .finetuning import EDITS, bits, text_model, untouched

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

TOWER, CURIE, PHONE = EDITS
AWAY = "Berlin is the capital of"
CASES = [
    Case(
        Rewrite("{} is located in", subject, "Rome"),
        (
            Probe(f"Where is {subject}? In", ("Rome",), "generalization", "paraphrase"),
            Probe(f"{subject} is made by", (), "locality", "far"),
        ),
    )
    for subject in ("The Louvre", "Big Ben", "The Colosseum", "Windows", "Marie Curie")
]


def serac(**more: object) -> SERAC:
    return SERAC(**{"trained": "initial", **more})  # type: ignore[arg-type]


def retrieval(delta: Delta) -> Retrieval:
    assert isinstance(delta.context, Retrieval)
    return delta.context


def test_an_edit_answers_in_scope_and_nothing_changes_out_of_it() -> None:
    model = text_model()
    before, plain = bits(model), model.next_logprobs([AWAY])
    delta = serac(least=0.9)(model, [TOWER])
    assert untouched(model, before) and not delta.weights
    with delta.applied(model):
        assert model.live.wrap(TOWER.text) == f"New Fact: {TOWER.statement}\nPrompt: {TOWER.text}"
        assert model.live.given([AWAY])[0] == (AWAY, None)
        assert torch.equal(model.next_logprobs([AWAY]), plain)


def test_an_empty_memory_is_the_model_itself() -> None:
    empty = Retrieval((), torch.zeros(0, 32), metric=torch.eye(32))
    assert [one.text for one in empty.given([AWAY, TOWER.text], text_model())] == [AWAY, TOWER.text]


def test_the_score_is_the_papers() -> None:
    generator = torch.Generator().manual_seed(0)
    keys, queries = torch.randn(4, 6, generator=generator), torch.randn(3, 6, generator=generator)
    metric = 0.3 * torch.randn(2, 6, generator=generator)
    memory = Retrieval(("a", "b", "c", "d"), keys, metric=metric)
    for j, q in enumerate(queries):
        for i, k in enumerate(keys):
            wanted = torch.exp(-(metric @ (q - k)).square().sum())
            assert float(memory.scores(queries)[j, i]) == pytest.approx(float(wanted), abs=1e-4)


def test_the_untrained_scope_ends_at_a_cosine() -> None:
    network = Scope(8, 8, seed=0)
    a = normalize(torch.randn(8, generator=torch.Generator().manual_seed(1)), dim=0)
    b = normalize(torch.randn(8, generator=torch.Generator().manual_seed(2)), dim=0)
    b = normalize(b - (a @ b) * a, dim=0)
    at = COSINE * a + (1 - COSINE**2) ** 0.5 * b
    memory = Retrieval(("a",), a[None], metric=network.metric)
    assert float(memory.scores(at[None])) == pytest.approx(0.5, abs=1e-3)


def test_the_scope_loss_is_balanced_cross_entropy() -> None:
    keys = torch.eye(2)
    inside, outside = keys.clone(), -3.0 * keys
    metric = torch.eye(2)
    # In: s = 1 for the own key. Out: exp(-2) for the crossed ones, exp(-10) for those far away.
    crossed, far = -torch.log1p(-torch.exp(torch.tensor([-2.0, -10.0])))
    wanted = (0.0 + (2 * crossed + 2 * far) / 4) / 2
    assert float(scope_loss(metric, keys, inside, outside)) == pytest.approx(
        float(wanted), rel=1e-4
    )
    same = torch.zeros(2, 2)
    assert float(scope_loss(metric, same, same, outside)) < 1e-3, "prompts of one edit are no pair"


def test_training_parts_the_scopes(tmp_path: Path) -> None:
    model = text_model()
    before = bits(model)
    losses: list[float] = []
    fitted = SERAC(lessons=5, rate=0.02).fit(
        model,
        CASES,
        steps=40,
        out=tmp_path / "fit",
        progress=lambda _d, _n, found: losses.append(found["scope"]),
    )
    assert untouched(model, before)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    delta = fitted(model, [CASES[0].edit])
    assert not torch.equal(retrieval(delta).metric, retrieval(serac()(model, [TOWER])).metric)
    near, far = (p.prompt for p in CASES[0].probes)
    with delta.applied(model):
        score = [float(retrieval(delta).scores(_of(model, p))) for p in (near, far)]
    assert score[0] > score[1]


def _of(model: object, prompt: str) -> torch.Tensor:
    return model.embed([prompt])


def test_an_interrupted_training_ends_alike(tmp_path: Path) -> None:
    model = text_model()
    whole = SERAC(lessons=3).fit(model, CASES, steps=4, out=tmp_path / "a")
    SERAC(lessons=3).fit(model, CASES, steps=4, out=tmp_path / "b", stop_at=2)
    resumed = SERAC(lessons=3).fit(model, CASES, steps=4, out=tmp_path / "b")
    assert whole(model, [TOWER]).id == resumed(model, [TOWER]).id


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_small_model_of_its_own_answers_in_scope(family: str, tmp_path: Path) -> None:
    model = text_model(family)
    plain = model.next_logprobs([AWAY])
    editor = SERAC(counterfactual="small", depth=1, lessons=5, rate=0.01, least=0.9)
    fitted = editor.fit(model, CASES, steps=5, out=tmp_path / "fit")
    delta = fitted(model, [TOWER])
    loaded = Delta.load(delta.save(tmp_path / "edit"))
    assert loaded.id == delta.id and retrieval(loaded).weights
    with loaded.applied(model):
        inside, outside = model.live.given([TOWER.text, AWAY])
        assert outside.by is None and inside.by is not None and inside.by.n_layers == 1
        assert torch.equal(model.next_logprobs([AWAY]), plain)
        answer = model.generate([TOWER.text], max_new_tokens=4)
        assert answer == inside.by.generate([inside.text], max_new_tokens=4)
        assert len(model.score([(TOWER.text, "Rome"), (AWAY, "Rome")])) == 2


def test_a_model_without_a_trained_scope_is_refused() -> None:
    with pytest.raises(ModelError, match="corrigenda fit"):
        SERAC()(text_model(), [TOWER])
