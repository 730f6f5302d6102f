"""Adding directions to the residual stream (methods.md §8.6)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from corrigenda.acting import Affine
from corrigenda.delta import Delta
from corrigenda.edit import Contrast
from corrigenda.editor import margins
from corrigenda.editors._states import every, opened, states, writes
from corrigenda.editors._steering import sides
from corrigenda.editors.actadd import ActAdd
from corrigenda.editors.caa import CAA
from corrigenda.editors.repe import RepE, reading
from corrigenda.errors import EditError, InputError
from corrigenda.models.asked import Asked

from ..models.tiny import model_of
from .finetuning import EDITS

pytestmark = pytest.mark.filterwarnings("ignore::corrigenda.editor.EditWarning")

PAIRS = (
    Contrast("Paris", "Rome", "The Louvre is located in"),
    Contrast("France", "Italy", "The capital is the city of"),
    Contrast("Apple", "Microsoft", "The iPhone is made by"),
)
PROMPTS = ["The Colosseum is located in", "Question: Where is it?"]
KINDS = ["gpt2", "gptj", "llama", "t5", "bart", "bert", "roberta"]


def only(delta: Delta) -> tuple[str, Affine]:
    ((name, change),) = delta.changes.items()
    assert isinstance(change, Affine)
    return name.removesuffix("@output"), change


@pytest.mark.parametrize("kind", [CAA, ActAdd, RepE])
@pytest.mark.parametrize("family", KINDS)
def test_no_coefficient_is_the_identity(kind, family):
    model = model_of(family)
    plain = model.next_logprobs(PROMPTS)
    with kind(coefficient=0.0)(model, PAIRS).applied(model):
        assert torch.equal(model.next_logprobs(PROMPTS), plain)


@pytest.mark.parametrize("family", KINDS)
def test_caa_adds_the_mean_difference_at_the_answers_last_token(family):
    model = model_of(family)
    layer = model.n_layers - 1
    path, change = only(CAA(layers=(layer,), coefficient=1.5)(model, PAIRS))
    assert path == model.path_of(model.block(layer)) and change.where == "answer"

    def state(pair, answer):
        """By another way: the tokens of the whole text, run alone."""
        if model.kind == "encoder-decoder":
            row = model.asked(pair.prompt, answer)
            rows = [replace(row, decoder=(*row.decoder, row.wanted[-1]))]
            return states(model, rows, [path], every)[path].x[-1]
        ids = model.ids(f"{pair.prompt} {answer}")
        end = len(ids) - (1 if model.kind == "causal" else 2)
        rows = [replace(model.opening(pair.prompt), ids=tuple(ids), reads=(0,), end=end)]
        return states(model, rows, [path], every)[path].x[end]

    pairs = [state(p, p.positive) - state(p, p.negative) for p in PAIRS]
    torch.testing.assert_close(change.b, 1.5 * torch.stack(pairs).mean(0), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_caa_acts_after_the_prompt_whatever_the_padding_and_the_cache(family):
    """Generation with a cache says what every longer prompt, run anew, says next."""
    model = model_of(family)
    delta = CAA(coefficient=2.0)(model, PAIRS)
    with delta.applied(model):
        together = model.generate(PROMPTS, max_new_tokens=4)
        assert together == [model.generate([p], max_new_tokens=4)[0] for p in PROMPTS]
        for side in ("left", "right"):
            rows = model.force([model.opening(p) for p in PROMPTS], side)
            alone = torch.cat([model.next_logprobs([p]) for p in PROMPTS])
            with torch.no_grad():
                found = model.target_logits(rows).log_softmax(-1)
            torch.testing.assert_close(found, alone, atol=1e-4, rtol=1e-4)
        path, _ = only(delta)
        rows = opened(model, PROMPTS)
        steered = states(model, rows, [path], every)[path].x
    moved = (steered != states(model, rows, [path], every)[path].x).any(1)
    ends = torch.tensor([j == len(r.ids) - 1 for r in rows for j in range(len(r.ids))])
    assert torch.equal(moved, ends)


@pytest.mark.parametrize("family", ["gpt2", "t5", "bert"])
def test_the_effect_is_monotone_near_zero(family):
    """The margin falls, or rises, all the way from -c to c."""
    model = model_of(family)
    delta = CAA(layers=(model.n_layers - 1,), coefficient=1.0)(model, PAIRS[:1])
    found = []
    for by in (-0.02, -0.01, 0.0, 0.01, 0.02):
        with (delta * by).applied(model):
            found.append(margins(model, PAIRS[:1])[0])
    steps = torch.tensor(found).diff()
    assert (steps > 0).all() or (steps < 0).all()
    assert steps.max() / steps.min() == pytest.approx(1.0, abs=0.2), "linear, nearly"


def test_a_random_direction_of_equal_length_does_less():
    """Toward a token: the direction is that of the states, taken where the logits are made."""
    model = model_of("gpt2")
    layer = (model.n_layers - 1,)
    # States after a text differ by what would follow; the contrast's sides are such texts here.
    pair = Contrast("The Louvre is located in Paris", "Berlin is the capital of Germany")
    delta = CAA(layers=layer, coefficient=1.0)(model, [pair])
    path, change = only(delta)
    wanted = model.next_logprobs([pair.positive])[0]

    def distance(b):
        with Delta({f"{path}@output": replace(change, b=b)}).applied(model):
            found = model.next_logprobs([pair.negative])[0]
        return float((wanted.exp() * (wanted - found)).sum())  # KL

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20, model.width, generator=generator)
    noise = noise / noise.norm(dim=1, keepdim=True) * change.b.norm()
    assert distance(change.b) < min(distance(b) for b in noise) * 0.1


def test_relative_coefficients_are_lengths_of_states():
    model = model_of("gpt2")
    delta = CAA(layers=(1,), coefficient=0.5, relative=True)(model, PAIRS)
    _, change = only(delta)
    positive, negative = sides(model, PAIRS, (1,))[1]
    typical = float(torch.cat([positive, negative]).norm(dim=1).mean())
    assert float(change.b.norm()) == pytest.approx(0.5 * typical, rel=1e-4)
    assert delta.provenance.diagnostics["typical length of states"][1] == pytest.approx(typical)


def test_what_moved_the_wrong_way_is_reported():
    model = model_of("gpt2")
    for coefficient in (0.3, -0.3):
        delta = CAA(layers=(2,), coefficient=coefficient)(model, PAIRS[:1])
        before = margins(model, PAIRS[:1])[0]
        with delta.applied(model):
            after = margins(model, PAIRS[:1])[0]
        assert bool(delta.failed) == ((after - before) * coefficient <= 0)
        assert f"{before:+.3f} before, {after:+.3f} after" in delta.provenance.outcomes[0].answer


# -- ActAdd -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bert"])
def test_actadd_adds_the_difference_at_the_first_tokens(family):
    model = model_of(family)
    pair = Contrast("In the city of Paris", "Rome", "The Louvre is located in a place")
    path, change = only(ActAdd(layers=(0,), coefficient=3.0)(model, [pair]))
    n = len(model.ids(pair.positive))
    assert change.where == "start" and change.b.shape == (n, model.width)
    rows = opened(model, [pair.positive, pair.negative])
    alone = states(model, rows[:1], [path], every)[path].x
    with Delta({f"{path}@output": change}).applied(model):
        moved = states(model, rows[:1], [path], every)[path].x
    reach = min(n, len(alone))
    torch.testing.assert_close(
        moved[:reach] - alone[:reach], change.b[:reach], atol=1e-4, rtol=1e-4
    )
    assert torch.equal(moved[reach:], alone[reach:])


def test_actadd_pads_the_shorter_text_with_spaces():
    model = model_of("gpt2")
    pair = Contrast("Rome", "Rome in Italy")
    short, long = (model.ids(text) for text in (pair.positive, pair.negative))
    _, change = only(ActAdd(layers=(0,), coefficient=1.0)(model, [pair]))
    path = model.path_of(model.block(0))
    space = model.ids(" ")
    rows = [(*short, *space * (len(long) - len(short))), tuple(long)]
    x = [states(model, [Asked(r, (0,), ())], [path], every)[path].x for r in rows]
    torch.testing.assert_close(change.b, x[0] - x[1], atol=1e-5, rtol=1e-5)
    assert not change.b[: len(short)].any(), "equal beginnings have no difference"
    assert change.b[len(short) :].any(1).all()


def test_several_pairs_add_up():
    model = model_of("gpt2")
    editor = ActAdd(layers=(0,), coefficient=2.0)
    _, both = only(editor(model, PAIRS[:2]))
    parts = [only(editor(model, [pair]))[1].b for pair in PAIRS[:2]]
    total = torch.zeros_like(both.b)
    for part in parts:
        total[: len(part)] += part
    torch.testing.assert_close(both.b, total, atol=1e-4, rtol=1e-4)
    first, second = editor(model, PAIRS[:1]), editor(model, PAIRS[1:2])
    with first.applied(model), second.applied(model):
        apart = model.next_logprobs(PROMPTS)
    with editor(model, PAIRS[:2]).applied(model):
        torch.testing.assert_close(model.next_logprobs(PROMPTS), apart, atol=1e-4, rtol=1e-4)


def test_actadd_needs_a_layer_that_reads_the_prompt():
    with pytest.raises(InputError, match="does not read it"):
        ActAdd(layers=(4,))(model_of("t5"), PAIRS)


# -- RepE -------------------------------------------------------------------------------------


def test_the_direction_points_to_the_positive_side():
    model = model_of("gpt2")
    flipped = [Contrast(p.negative, p.positive, p.prompt) for p in PAIRS]
    there, back = RepE().directions(model, PAIRS), RepE().directions(model, flipped)
    for layer, w in there.items():
        torch.testing.assert_close(w, -back[layer])
        assert float(w.norm()) == pytest.approx(1.0)
        positive, negative = sides(model, PAIRS, (layer,))[layer]
        ahead = (positive.double() - negative.double()) @ w
        assert (ahead > 0).double().mean() >= 0.5


def test_reading_is_the_dot_product_and_control_moves_it():
    model = model_of("llama")
    editor = RepE(layers=(1,), coefficient=0.5)
    directions = editor.directions(model, PAIRS)
    before = reading(model, PROMPTS, directions)[1]
    path = model.path_of(model.block(1))
    x = [states(model, [r], [path], every)[path].x[-1] for r in opened(model, PROMPTS)]
    torch.testing.assert_close(
        before, torch.stack(x).double() @ directions[1], atol=1e-4, rtol=1e-4
    )
    delta = editor(model, PAIRS)
    typical = delta.provenance.diagnostics["typical length of states"][1]
    with delta.applied(model):
        after = reading(model, PROMPTS, directions)[1]
    torch.testing.assert_close(
        after - before, torch.full_like(before, 0.5 * typical), atol=1e-3, rtol=1e-3
    )


def test_projected_out_nothing_is_read():
    model = model_of("gpt2")
    editor = RepE(control="project")
    directions = editor.directions(model, PAIRS)
    delta = editor(model, PAIRS)
    assert len(delta.changes) == len(directions)
    with delta.applied(model):
        for scores in reading(model, PROMPTS, directions).values():
            assert float(scores.abs().max()) < 1e-4
        now = margins(model, PAIRS)
    before = margins(model, PAIRS)
    took = [o.took for o in delta.provenance.outcomes]
    assert took == [abs(a) < abs(b) for a, b in zip(now, before, strict=True)]


def test_the_answer_is_steered_in_the_decoder():
    model = model_of("bart")
    for editor in (CAA(), RepE()):
        delta = editor(model, PAIRS)
        assert all(writes(model, name.removesuffix("@output")) for name in delta.changes)


def test_a_contrast_without_a_prompt_is_judged_too():
    for family in ("gpt2", "t5", "bert"):
        delta = CAA()(model_of(family), [Contrast(" Love", " Hate")])
        assert "before" in delta.provenance.outcomes[0].answer


def test_other_edits_and_layers_are_refused():
    model = model_of("gpt2")
    with pytest.raises(EditError, match="takes Contrast edits"):
        CAA()(model, [EDITS[0]])
    with pytest.raises(InputError, match="Layer 9"):
        RepE(layers=(9,))(model, PAIRS)
