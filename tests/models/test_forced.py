"""`ForcedRun`: a vector at one token, on any kind of model; `looked_up`: which token that is."""

from __future__ import annotations

import pytest
import torch

from corrigenda.acting import Affine, place
from corrigenda.delta import Delta
from corrigenda.edit import Rewrite
from corrigenda.editors._keyvalue import find_values, lookup_rows, mean_keys
from corrigenda.errors import EditError
from corrigenda.models.forced import ForcedRun, looked_up, read, run_of
from corrigenda.models.hooks import captured, replaced_output
from corrigenda.models.prefixes import ORDINARY, sample_prefixes
from corrigenda.models.suffix import SuffixRun
from corrigenda.models.text import TextModel

from .tiny import ENCODER_DECODER, MASKED, model_of

EDITS = (
    Rewrite("{} is located in", "The Eiffel Tower", "Rome"),
    Rewrite("The mother tongue of {} is", "Marie Curie", "German"),
    Rewrite("Question: Where is {}? Answer: In the city of", "the Louvre", "Berlin"),
)
BEHIND = Rewrite("The city of", "the Louvre", "Rome", after="is where {} stands.")
CONTEXTS = ("", "It rained all day.")


def spelt(model: TextModel, ids: tuple[int, ...], upto: int) -> str:
    text = model.tokenizer.decode(list(ids[: upto + 1]), skip_special_tokens=True)
    return "".join(text.lower().split())


@pytest.mark.parametrize("family", ["gpt2", "llama", *ENCODER_DECODER, *MASKED])
def test_the_lookup_token_is_the_subjects_last(family: str) -> None:
    model = model_of(family)
    edits = list(EDITS) + ([BEHIND] if family in ("t5", *MASKED) else [])
    for edit in edits:
        for context in CONTEXTS:
            row = looked_up(model, edit, context)
            end = "".join(edit.subject.lower().split())
            assert spelt(model, row.asked.ids, row.at).endswith(end)
            assert not spelt(model, row.asked.ids, row.at - 1).endswith(end)
    with pytest.raises(EditError, match="subject stands after the object"):
        looked_up(model_of("gpt2"), BEHIND)
    if family in ENCODER_DECODER:
        row = looked_up(model, EDITS[0], layer=4)
        assert row.at == 0 and row.asked.decoder


@pytest.mark.parametrize("site", ["mlp", "block"])
@pytest.mark.parametrize("family", ["gpt2", "gemma2", "falcon"])
def test_it_agrees_with_the_suffix_run(family: str, site: str) -> None:
    model = model_of(family)
    rows = lookup_rows(model, EDITS, CONTEXTS, 1)
    keep = torch.tensor([0, 3, 4])
    delta = 0.5 * torch.randn(3, model.width, generator=torch.Generator().manual_seed(0))
    with model.frozen():
        short = run_of(model, 1, rows, site)
        long = ForcedRun(model, 1, rows, site=site, batch_size=2)
        assert isinstance(short, SuffixRun)
        for a, b in (
            (short.initial, long.initial),
            (short.base_at(keep), long.base_at(keep)),
            (short.logits(delta, keep), long.logits(delta, keep)),
        ):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        assert torch.equal(short.reads(keep), long.reads(keep))


@pytest.mark.parametrize(
    ("family", "layer"), [(f, 1) for f in (*ENCODER_DECODER, *MASKED)] + [("t5", 3), ("bart", 4)]
)
def test_it_is_the_model_with_a_vector_added(family: str, layer: int) -> None:
    model = model_of(family)
    rows = lookup_rows(model, EDITS, ("",), layer)
    keep = torch.tensor([0, 2])
    delta = 0.5 * torch.randn(2, model.width, generator=torch.Generator().manual_seed(0))
    delta.requires_grad_(True)
    with model.frozen():
        run = run_of(model, layer, rows)
        logits = run.logits(delta, keep)
        (gradient,) = torch.autograd.grad(logits.square().sum(), delta)
        assert float(gradient.norm(dim=1).min()) > 0
        parts = []
        for j, change in zip(keep.tolist(), delta.detach(), strict=True):
            row = rows[j]

            def add(out: torch.Tensor, row=row, change=change) -> torch.Tensor:  # type: ignore
                new = out.clone()
                new[0, row.at] += change
                return new

            ids = torch.tensor([row.asked.ids])
            more = (
                {"decoder_input_ids": torch.tensor([row.asked.decoder])}
                if row.asked.decoder
                else {}
            )
            with torch.no_grad(), replaced_output(model.mlp(layer), add):
                out = model.module(input_ids=ids, **more).logits
            parts.append(out[0, list(row.asked.reads)])
            with torch.no_grad(), captured({"v": (model.mlp(layer), "output")}) as seen:
                model.module(input_ids=ids, **more)
            torch.testing.assert_close(run.initial[j], seen["v"][0, row.at], atol=1e-5, rtol=1e-5)
            value = read(model, rows, model.mlp(layer), "output")[j]
            torch.testing.assert_close(value, run.initial[j], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits.detach(), torch.cat(parts), atol=1e-4, rtol=1e-4)


def test_parts_are_added_where_they_belong() -> None:
    model = model_of("bert")
    rows = lookup_rows(model, EDITS, ("",), 1)
    keep = torch.arange(len(rows))
    delta = 0.5 * torch.randn(len(rows), model.width, generator=torch.Generator().manual_seed(0))
    with model.frozen():
        both, mlp = ForcedRun(model, 1, rows, site="parts"), ForcedRun(model, 1, rows)
        assert torch.equal(both.initial[:, model.width :], mlp.initial)
        nothing = torch.zeros_like(delta)
        only = both.logits(torch.cat([nothing, delta], 1), keep)
        torch.testing.assert_close(only, mlp.logits(delta, keep))
        other = both.logits(torch.cat([delta, nothing], 1), keep)
        assert not torch.allclose(only, other)


def test_live_changes_of_activations_are_part_of_the_run() -> None:
    model = model_of("gpt2")
    rows = lookup_rows(model, EDITS, ("",), 1)
    keep = torch.arange(len(rows))
    zero = torch.zeros(len(rows), model.width)
    site = place("transformer.h.2")
    noise = torch.randn(model.width, generator=torch.Generator().manual_seed(0))
    shift = Affine(torch.zeros(model.width, 1), torch.zeros(1, model.width), noise)
    with model.frozen():
        plain = run_of(model, 1, rows).logits(zero, keep)
        with Delta({site: shift}).applied(model):
            run = run_of(model, 1, rows)
            assert isinstance(run, ForcedRun)
            moved = run.logits(zero, keep)
            wanted = model.target_logits(model.force([r.asked for r in rows]))
        torch.testing.assert_close(moved, wanted)
        assert not torch.allclose(moved, plain, atol=1e-2)
        assert isinstance(run_of(model, 1, rows), SuffixRun)


def within_reach(family: str) -> tuple[TextModel, Rewrite]:
    """A model and an edit towards a one-token answer that some vector at the subject gives and the
    model does not: of a random model not every answer can be had."""
    plain, keep = Rewrite("{} is", "Rome", "x"), torch.tensor([0])
    for seed in range(20):
        model = model_of(family, seed)
        run = ForcedRun(model, 0, [looked_up(model, plain)])
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            before = int(run.base_at(keep)[0].argmax())
            for _ in range(20):
                noise = 50 * torch.randn(1, model.width, generator=generator)
                after = int(run.logits(noise, keep)[0].argmax())
                said = model.tokenizer.decode([after]).strip(" #<>") or "x"
                edit = Rewrite("{} is", "Rome", said)
                if before != after and model.asked(edit.text, edit.target).wanted == (after,):
                    return model, edit
    raise AssertionError("no other answer within reach")


@pytest.mark.parametrize("family", ["t5", "bart", "bert", "roberta"])
def test_the_value_that_is_found_makes_the_target_the_answer(family: str) -> None:
    """By a hook alone: the site's output at the lookup token is replaced by the value."""
    model, edit = within_reach(family)
    search = {"layer": 0, "site": "mlp", "lr": 1.0, "clamp": 100.0, "tolerance": 0.05}
    free = {"weight_decay": 0.0, "kl_factor": 0.0}
    with model.frozen():
        found = find_values(model, [edit], ("",), steps=150, stop="answer", **search, **free)
        none = find_values(model, [edit], ("",), steps=1, **search, **free)
    assert torch.equal(none.target, none.initial)
    assert (found.delta.norm(dim=1) <= 100.0 * found.initial.norm(dim=1) * 1.0001).all()
    row = looked_up(model, edit)

    def put(out: torch.Tensor) -> torch.Tensor:
        new = out.clone()
        new[:, row.at] = found.target[0]
        return new

    with torch.no_grad(), replaced_output(model.mlp(0), put):
        logits = model.target_logits(model.force([row.asked]))
    assert tuple(logits.argmax(-1).tolist()) == row.asked.wanted


def test_keys_are_read_where_the_subject_is() -> None:
    model = model_of("bert")
    site = model.site("down", 1)
    key = mean_keys(model, EDITS[:1], ("",), site, equal=True)
    row = looked_up(model, EDITS[0])
    with torch.no_grad(), captured({"k": (model.linear(site), "input")}) as seen:
        model.module(input_ids=torch.tensor([row.asked.ids]))
    torch.testing.assert_close(key[:, 0].float(), seen["k"][0, row.at], atol=1e-5, rtol=1e-5)


def test_contexts_are_sentences_where_nothing_is_sampled() -> None:
    model = model_of("t5")
    found = sample_prefixes(model, ((3, 8), (2, 30)), seed=1)
    assert len(set(found)) == 5 and set(found) <= set(ORDINARY)
    sizes = [len(model.ids(s)) for s in found]
    assert max(sizes[:3]) < min(sizes[3:])
    assert found == sample_prefixes(model, ((3, 8), (2, 30)), seed=1)
