"""The model wrapper: padding, batching and prefixes change no answer; scores are what they say."""

from __future__ import annotations

import pytest
import torch

from corrigenda.delta import CONTEXT, Delta, LowRank, Prefix
from corrigenda.edit import Rewrite
from corrigenda.errors import EditError, InputError
from corrigenda.models.tokens import pieces

from .tiny import CAUSAL, model_of

PROMPTS = ["Rome", "The Eiffel Tower is located in", "Question: Where is the tower? Answer:"]


@pytest.mark.parametrize("family", CAUSAL)
def test_padding_and_batch_size_change_nothing(family: str) -> None:
    model = model_of(family)
    together = model.next_logprobs(PROMPTS)
    alone = torch.cat([model.next_logprobs([p]) for p in PROMPTS])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    rows = [model.ids(p) for p in PROMPTS]
    for side in ("left", "right"):
        padded = model.batch(rows, side)
        last = padded.offset + torch.tensor([len(r) - 1 for r in rows])
        got = model.logits_at(padded, torch.arange(len(rows)), last).log_softmax(-1)
        torch.testing.assert_close(got, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "bloom"])
def test_score_is_the_models_own_log_probability(family: str) -> None:
    model = model_of(family)
    pairs = [("The Eiffel Tower is located in", "Rome"), ("Rome is", "the capital of Italy")]
    for (prompt, target), got in zip(pairs, model.score(pairs), strict=True):
        cut = pieces(model.tokenizer, prompt, target)
        ids = torch.tensor([cut.ids])
        logits = model.module(ids).logits[0, :-1].float().log_softmax(-1)
        places = range(cut.start - 1, len(cut.ids) - 1)
        wanted = torch.stack([logits[p, cut.ids[p + 1]] for p in places])
        torch.testing.assert_close(got.logprobs, wanted.detach(), atol=1e-4, rtol=1e-4)
        labels = torch.tensor([[-100] * cut.start + list(cut.target)])
        loss = float(model.module(ids, labels=labels).loss)
        assert got.mean == pytest.approx(-loss, abs=1e-4)
        assert got.correct.tolist() == [int(logits[p].argmax()) == cut.ids[p + 1] for p in places]


def test_generation_is_greedy_and_says_what_it_says() -> None:
    model = model_of("llama")
    answers = model.generate(PROMPTS, max_new_tokens=4)
    ids = model.ids(PROMPTS[1])
    for _ in range(4):
        logits = model.module(torch.tensor([ids])).logits[0, -1]
        ids = [*ids, int(logits.argmax())]
    assert model.tokenizer.decode(ids[-4:], skip_special_tokens=True) == answers[1]
    said = Rewrite("{} is located in", "The Eiffel Tower", answers[1].split()[0])
    other = Rewrite("{} is located in", "The Eiffel Tower", "Timbuktu")
    assert [ok for ok, _ in model.says([said, other])] == [True, False]


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_a_continuation_ends_where_it_is_told_to_whatever_the_batch(name: str) -> None:
    model = model_of(name)
    whole = model.generate(PROMPTS, max_new_tokens=12)

    def told(text: str) -> bool:
        return len(text) >= 10

    together = model.generate(PROMPTS, max_new_tokens=12, until=told)
    alone = [model.generate([p], max_new_tokens=12, until=told)[0] for p in PROMPTS]
    assert together == alone
    for long, short in zip(whole, together, strict=True):
        assert long.startswith(short) and (told(short) or short == long)


def test_prefixes_go_in_front_while_they_are_live() -> None:
    model = model_of("gpt2")
    delta = Delta({CONTEXT: Prefix(("Rome is the capital of Italy. ",), "Question: {} Answer:")})
    wrapped = "Rome is the capital of Italy. Question: Where is Rome? Answer:"
    with delta.applied(model):
        inside = model.next_logprobs(["Where is Rome?"])
    torch.testing.assert_close(inside, model.next_logprobs([wrapped]))
    assert not torch.equal(inside, model.next_logprobs(["Where is Rome?"]))


def test_bad_questions_are_refused_clearly() -> None:
    model = model_of("gpt2")
    with pytest.raises(InputError, match="empty"):
        model.generate(["  "])
    with pytest.raises(InputError, match="do not fit"):
        model.generate(["Rome " * 500])
    with pytest.raises(EditError, match="empty"):
        model.score([("Rome is", " ")])
    with pytest.raises(InputError, match="Layer 7 does not exist"):
        model.site("down", 7)
    with pytest.raises(InputError, match="no linear map 'gate'"):
        model.site("gate", 0)


def test_frozen_restores_modes_and_gradients() -> None:
    model = model_of("gpt2")
    model.module.train()
    next(iter(model.module.parameters())).requires_grad_(False)
    modes = [m.training for m in model.module.modules()]
    wanted = [p.requires_grad for p in model.module.parameters()]
    with pytest.raises(KeyboardInterrupt), model.frozen():
        assert not any(p.requires_grad for p in model.module.parameters())
        assert not any(m.training for m in model.module.modules())
        raise KeyboardInterrupt
    assert [m.training for m in model.module.modules()] == modes
    assert [p.requires_grad for p in model.module.parameters()] == wanted


def test_the_weights_hash_is_that_of_the_pristine_model() -> None:
    model = model_of("gpt2")
    site = model.site("down", 0)
    o, i = model.weight(site).shape
    before = model.weights_hash()
    delta = Delta(
        {site.parameter: LowRank(torch.ones(o, 1), torch.ones(1, i))}, frozenset({site.parameter})
    )
    with delta.applied(model):
        assert model.weights_hash() == before
    with torch.no_grad():
        model.module.get_parameter(site.parameter)[0, 0] += 1
    assert model.weights_hash() != before


def test_taking_prompts_as_they_are_hides_no_delta_from_others() -> None:
    model = model_of("gpt2")
    delta = Delta({CONTEXT: Prefix(("Rome is the capital of Italy. ",))})
    with delta.applied(model):
        with model.live.without_context():
            assert model.live.deltas == (delta,)
            assert not model.live.has_context and model.live.wrap("Where?") == "Where?"
        assert model.live.has_context and model.live.wrap("Where?").startswith("Rome")
