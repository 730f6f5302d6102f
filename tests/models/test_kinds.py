"""Encoder-decoders and masked models: questions, scores and answers, against the library's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from corrigenda.edit import Rewrite
from corrigenda.errors import EditError, InputError, ModelError
from corrigenda.models.encoder_decoder import EncoderDecoder
from corrigenda.models.hooks import replaced_output
from corrigenda.models.masked import MASKS, Masked
from corrigenda.models.text import TextModel

from .tiny import CAUSAL, ENCODER_DECODER, FAMILIES, MASKED, MOE, T5_GATED, model_of, tiny

OTHERS = (*ENCODER_DECODER, T5_GATED, *MASKED)
PAIRS = [
    ("Rome is", "the capital of Italy"),
    ("The Eiffel Tower is located in", "Rome"),
    ("Question: Where is the tower? Answer: In the city of", "Paris"),
]
EDIT = Rewrite("{} is located in", "The Eiffel Tower", "Rome")
FIRST = Rewrite("", "the Louvre", "Paris", after="is where {} stands.")
MIDDLE = Rewrite("The city of", "the Louvre", "Paris", after="is where {} stands.")


def test_the_wrapper_fits_the_kind() -> None:
    kinds = {name: type(model_of(name)) for name in FAMILIES}
    assert {n for n, kind in kinds.items() if kind is EncoderDecoder} == set(ENCODER_DECODER)
    assert {n for n, kind in kinds.items() if kind is Masked} == set(MASKED)
    assert {n for n, kind in kinds.items() if kind is TextModel} == {*CAUSAL, *MOE}


# -- scores -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*ENCODER_DECODER, T5_GATED])
def test_the_loss_is_the_librarys_own(family: str) -> None:
    model = model_of(family)
    for prompt, target in PAIRS:
        row = model.asked(prompt, target, eos=True)
        assert row.wanted[-1] == model.tokenizer.eos_token_id
        ids, labels = torch.tensor([row.ids]), torch.tensor([row.wanted])
        loss = model.module(input_ids=ids, labels=labels).loss  # the model shifts them itself
        torch.testing.assert_close(model.nll([row]), loss[None], atol=1e-5, rtol=1e-5)
        score = model.score([(prompt, target)])[0]  # without the EOS
        assert score.ids == row.wanted[:-1]


@pytest.mark.parametrize("family", MASKED)
def test_masked_scores_are_those_of_masks_in_place_of_the_target(family: str) -> None:
    model = model_of(family)
    tokenizer = model.tokenizer
    for prompt, target in PAIRS:
        sentence = tokenizer(f"{prompt} {target}.")["input_ids"]
        tail = len(tokenizer(".", add_special_tokens=False)["input_ids"]) + 1
        head = len(tokenizer(prompt)["input_ids"]) - 1
        places = list(range(head, len(sentence) - tail))
        shown = torch.tensor([sentence])
        shown[0, places] = int(tokenizer.mask_token_id)  # type: ignore[arg-type]
        logprobs = model.module(input_ids=shown).logits[0, places].log_softmax(-1)
        wanted = torch.tensor([sentence[p] for p in places])
        (score,) = model.score([(prompt, target)])
        assert score.ids == tuple(wanted.tolist())
        torch.testing.assert_close(
            score.logprobs, logprobs.gather(1, wanted[:, None])[:, 0].detach(), atol=1e-5, rtol=1e-5
        )
        assert score.correct.tolist() == (logprobs.argmax(-1) == wanted).tolist()


@pytest.mark.parametrize("family", MASKED)
def test_masked_losses_are_the_librarys_own(family: str) -> None:
    model = model_of(family)
    row = model.asked(*PAIRS[0])
    labels = torch.full((1, len(row.ids)), -100)
    labels[0, list(row.reads)] = torch.tensor(row.wanted)
    loss = model.module(input_ids=torch.tensor([row.ids]), labels=labels).loss
    torch.testing.assert_close(model.nll([row]), loss[None], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", OTHERS)
def test_padding_and_batch_size_change_no_score(family: str) -> None:
    model = model_of(family)
    rows = [model.asked(*pair) for pair in PAIRS]
    alone = torch.cat([model.nll([row]) for row in rows]).detach()
    for side in ("left", "right"):
        together = model.nll(rows, side).detach()
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    questions = model.force(rows)
    for row, end, ids in zip(rows, questions.ends.tolist(), questions.rows.ids, strict=True):
        last = row.end if row.end is not None else len(row.ids) - 1
        assert int(ids[end]) == row.ids[last]
    scores = model.score(PAIRS)
    for pair, score in zip(PAIRS, scores, strict=True):
        assert model.score([pair])[0].mean == pytest.approx(score.mean, abs=1e-5)


def test_gradients_reach_what_the_loss_depends_on() -> None:
    for family in OTHERS:
        model = model_of(family)
        loss = model.nll([model.asked(*pair) for pair in PAIRS]).mean()
        weight = model.module.get_parameter(model.site("down", 0).parameter)
        (gradient,) = torch.autograd.grad(loss, weight)
        assert float(gradient.abs().max()) > 0, family


def test_roberta_counts_positions_from_behind_its_padding_id() -> None:
    """As the model does by itself, also with padding on the left."""
    model = model_of("roberta")
    rows = [model.ids(text) for text, _ in PAIRS]
    own = [model.module(input_ids=torch.tensor([row])).logits[0] for row in rows]
    for side in ("left", "right"):
        padded = model.batch(rows, side)
        logits = model.forward(padded).logits
        for j, (row, wanted) in enumerate(zip(rows, own, strict=True)):
            at = int(padded.offset[j])
            torch.testing.assert_close(logits[j, at : at + len(row)], wanted, atol=1e-5, rtol=1e-5)


# -- models made by hand ----------------------------------------------------------------------


@contextmanager
def writing(model: TextModel, choose: dict[tuple[int, ...], int], other: int) -> Iterator[None]:
    """The decoder's next token is looked up by the tokens that it was given; else `other`."""
    seen: list[Tensor] = []
    decoder = model.module.get_decoder()

    def look(_m: object, _args: object, kwargs: dict[str, Tensor]) -> None:
        ids = kwargs["input_ids"]
        cached = kwargs.get("past_key_values")
        going_on = cached is not None and cached.get_seq_length() > 0
        seen[:] = [torch.cat([seen[0], ids], 1) if going_on else ids]

    handle = decoder.register_forward_pre_hook(look, with_kwargs=True)

    def speak(logits: Tensor) -> Tensor:
        n = logits.shape[-2]
        told = torch.full_like(logits, -10.0)
        for row, ids in enumerate(seen[0].tolist()):
            for column in range(n):
                upto = tuple(ids[: len(ids) - n + column + 1])
                told[row, column, choose.get(upto, other)] = 10.0
        return told

    with replaced_output(model.head, speak):
        try:
            yield
        finally:
            handle.remove()


def _unselected(model: TextModel, rows: Sequence[tuple[str, str]]) -> list[list[bool]]:
    """Whether each target token is the argmax, computed with the labels the library shifts."""
    found = []
    for prompt, target in rows:
        row = model.asked(prompt, target)
        out = model.module(
            input_ids=torch.tensor([row.ids]), decoder_input_ids=torch.tensor([row.decoder])
        )
        found.append((out.logits[0].argmax(-1) == torch.tensor(row.wanted)).tolist())
    return found


@pytest.mark.parametrize("family", ENCODER_DECODER)
def test_writing_the_target_counts_and_copying_the_decoders_input_does_not(family: str) -> None:
    model = model_of(family)
    prompt, target = PAIRS[0]
    row = model.asked(prompt, target, eos=True)
    start = row.decoder[0]
    writes = {(start, *row.wanted[:j]): row.wanted[j] for j in range(len(row.wanted))}
    eos = int(model.tokenizer.eos_token_id)  # type: ignore[arg-type]
    with writing(model, writes, eos):
        assert model.generate([prompt], max_new_tokens=32) == [target]
        assert _unselected(model, [(prompt, target)]) == [[True] * len(row.wanted[:-1])]
        edit = Rewrite("{} is", "Rome", target)
        assert model.says([edit]) == [(True, target)]
    copies = {given: given[-1] for given in writes}
    with writing(model, copies, eos):
        assert not any(_unselected(model, [(prompt, target)])[0])
        assert model.says([Rewrite("{} is", "Rome", target)])[0][0] is False


def test_the_scores_of_a_model_that_writes_the_target_are_perfect() -> None:
    """Through `score`, which computes logits at the reads alone."""
    model = model_of("t5")
    prompt, target = PAIRS[0]
    row = model.asked(prompt, target)

    def speak(logits: Tensor) -> Tensor:  # (1, n, V), in the order of the reads
        told = torch.full_like(logits, -10.0)
        told[0, torch.arange(len(row.wanted)), torch.tensor(row.wanted)] = 10.0
        return told

    def copy(logits: Tensor) -> Tensor:
        told = torch.full_like(logits, -10.0)
        told[0, torch.arange(len(row.decoder)), torch.tensor(row.decoder)] = 10.0
        return told

    with replaced_output(model.head, speak):
        (score,) = model.score([(prompt, target)])
    assert score.correct.all() and score.mean > -1e-4
    with replaced_output(model.head, copy):
        (score,) = model.score([(prompt, target)])
    assert not score.correct.any() and score.mean < -10


@pytest.mark.parametrize("family", MASKED)
def test_a_gap_of_the_right_length_is_filled(family: str) -> None:
    model = model_of(family)
    prompt, target = PAIRS[0]
    row = model.asked(prompt, target)
    mask = int(model.tokenizer.mask_token_id)  # type: ignore[arg-type]
    shown: list[Tensor] = []

    def look(_m: object, _args: object, kwargs: dict[str, Tensor]) -> None:
        shown[:] = [kwargs["input_ids"]]

    def speak(logits: Tensor) -> Tensor:
        """Certain of the target where there is room for it; else of nothing."""
        told = torch.zeros_like(logits)
        ids = shown[0][0].tolist()
        if len(ids) == len(row.ids):
            for j, place in enumerate(row.reads):
                told[0, j, row.wanted[j]] = 10.0 - j
                assert ids[place] in (mask, row.wanted[j])
        return told

    handle = model.module.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with replaced_output(model.head, speak):
            if len(row.wanted) <= MASKS:
                (answer,) = model.generate([prompt])
                assert answer.strip().lower() == target.lower()
            # A target is given as much room as it needs.
            assert model.says([Rewrite("{} is", "Rome", target)])[0][0]
            assert not model.says([Rewrite("{} is", "Rome", "Berlin")])[0][0]
    finally:
        handle.remove()


# -- answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*ENCODER_DECODER, T5_GATED])
def test_generation_is_greedy(family: str) -> None:
    model = model_of(family)
    prompts = [p for p, _ in PAIRS]
    answers = model.generate(prompts, max_new_tokens=5)
    start = model.asked(*PAIRS[0]).decoder[0]
    for prompt, answer in zip(prompts, answers, strict=True):
        ids, said = torch.tensor([model.ids(prompt)]), [start]
        for step in range(5):
            out = model.module(input_ids=ids, decoder_input_ids=torch.tensor([said]))
            new = int(out.logits[0, -1].argmax())
            if family == "bart" and step == 4:
                new = 2  # its configuration forces an EOS at the end
            said.append(new)
            if new == model.tokenizer.eos_token_id:
                break
        assert model.tokenizer.decode(said[1:], skip_special_tokens=True) == answer
        assert model.generate([prompt], max_new_tokens=5) == [answer]


@pytest.mark.parametrize("family", OTHERS)
def test_the_first_token_of_an_answer(family: str) -> None:
    model = model_of(family)
    prompts = [p for p, _ in PAIRS]
    found = model.next_logprobs(prompts)
    alone = torch.cat([model.next_logprobs([p]) for p in prompts])
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(len(prompts)))
    # Of a target with one token it is the score.
    row = model.asked("The Louvre is in", "Rome")
    if len(row.wanted) == 1:
        (score,) = model.score([("The Louvre is in", "Rome")])
        got = model.next_logprobs(["The Louvre is in"])[0, row.wanted[0]]
        assert float(got) == pytest.approx(score.total, abs=1e-5)


@pytest.mark.parametrize("family", MASKED)
def test_free_answers_do_not_depend_on_their_batch(family: str) -> None:
    model = model_of(family)
    prompts = [p for p, _ in PAIRS]
    together = model.generate(prompts, max_new_tokens=3)
    assert together == [model.generate([p], max_new_tokens=3)[0] for p in prompts]


# -- where the object stands ------------------------------------------------------------------


def _words(model: TextModel, ids: Sequence[int]) -> str:
    text = model.tokenizer.decode(list(ids))
    text = text.replace("<extra", " <extra").replace("_0>", "_0> ")
    return " ".join(text.replace("</s>", "").replace("<s>", "").split()).lower()


def test_t5_is_asked_with_sentinels_for_an_object_that_is_not_last() -> None:
    model = model_of("t5")
    for edit, shown in (
        (MIDDLE, "the city of <extra_id_0> is where the louvre stands."),
        (FIRST, "<extra_id_0> is where the louvre stands."),
    ):
        row = model.asked(edit.text, edit.target, edit.following)
        assert _words(model, row.ids) == shown
        assert _words(model, row.wanted) == "<extra_id_0> paris <extra_id_1>"
        assert row.decoder[1:] == row.wanted[:-1] and row.reads == tuple(range(len(row.wanted)))
    plain = model.asked(EDIT.text, EDIT.target, EDIT.following)
    assert _words(model, plain.wanted) == "rome"
    assert len(model.says([FIRST, MIDDLE, EDIT])) == 3


@pytest.mark.parametrize("family", MASKED)
def test_masks_stand_where_the_object_stands(family: str) -> None:
    model = model_of(family)
    mask = str(model.tokenizer.mask_token).lower()
    for edit, before, behind in (
        (EDIT, "the eiffel tower is located in", "."),
        (MIDDLE, "the city of", "is where the louvre stands."),
        (FIRST, "", "is where the louvre stands."),
    ):
        row = model.asked(edit.text, edit.target, edit.following)
        text = _words(model, row.ids)
        for mark in ("[cls]", "[sep]"):
            text = text.replace(mark, "").strip()
        head, gap, tail = text.partition(mask * len(row.wanted) if family != "bert" else mask)
        assert gap and head.strip() == before and tail.replace(mask, "").strip() == behind
        assert row.end == row.reads[0]
    assert len(model.says([EDIT, MIDDLE, FIRST])) == 3


def test_what_cannot_be_asked_is_refused_in_words() -> None:
    with pytest.raises(EditError, match="no sentinel tokens"):
        model_of("bart").says([MIDDLE])
    with pytest.raises(EditError, match="nothing stands before"):
        model_of("gpt2").says([FIRST])
    for family in OTHERS:
        model = model_of(family)
        with pytest.raises(EditError, match="empty"):
            model.score([("Rome is", " ")])
        with pytest.raises(InputError, match="empty"):
            model.generate([" "])
    for family in ("bart", *MASKED):
        with pytest.raises(InputError, match="fit"):
            model_of(family).generate(["Rome " * 500])
    module, tokenizer = tiny("bert")
    tokenizer.mask_token = None
    with pytest.raises(ModelError, match="no mask token"):
        TextModel.of(module, tokenizer, "bert")
    module, tokenizer = tiny("t5")
    module.config.decoder_start_token_id = None
    with pytest.raises(ModelError, match="decoder_start_token_id"):
        TextModel.of(module, tokenizer, "t5")


# -- anatomy ----------------------------------------------------------------------------------


def test_layers_count_the_encoder_first() -> None:
    model = model_of("t5")
    assert model.n_layers == 5 and model.prompt_layers == range(3)
    assert model.site("down", 2).module == "encoder.block.2.layer.1.DenseReluDense.wo"
    assert model.site("down", 3).module == "decoder.block.0.layer.2.DenseReluDense.wo"
    assert model.path_of(model.mlp(4)) == "decoder.block.1.layer.2.DenseReluDense"
    assert model.path_of(model.attention(3)) == "decoder.block.0.layer.0.SelfAttention"
    with pytest.raises(InputError, match="Layer 5 does not exist"):
        model.site("down", 5)
    assert model_of("bert").prompt_layers == range(3) and model_of("bert").width == 32
