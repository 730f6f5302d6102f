"""`SuffixRun` computes what the whole model computes, for every family, layer and padding."""

from __future__ import annotations

import pytest
import torch

from corrigenda.models.hooks import replaced_output
from corrigenda.models.suffix import Row, SuffixRun
from corrigenda.models.text import TextModel

from .tiny import CAUSAL, MOE, tiny

ROWS = ((7, 3), (5, 0), (9, 6), (6, 5))  # (tokens, lookup)


def _rows(vocabulary: int) -> list[Row]:
    generator = torch.Generator().manual_seed(1)
    rows = []
    for length, lookup in ROWS:
        ids = tuple(torch.randint(5, vocabulary - 1, (length,), generator=generator).tolist())
        rows.append(Row(ids, lookup, tuple(range(lookup, length))))
    return rows


def _whole(model: TextModel, layer: int, site: str, row: Row, delta: torch.Tensor) -> torch.Tensor:
    """The same logits from the whole model, one row, no padding, no cache."""
    module = model.mlp(layer) if site == "mlp" else model.block(layer)

    def add(hidden: torch.Tensor) -> torch.Tensor:
        flat = hidden.reshape(1, len(row.ids), -1).clone()
        flat[:, row.lookup] += delta
        return flat.reshape(hidden.shape)

    with torch.no_grad(), replaced_output(module, add):
        return model.forward(model.batch([list(row.ids)])).logits[0, list(row.reads)].float()


@pytest.mark.parametrize("site", ["mlp", "block"])
@pytest.mark.parametrize("family", [*CAUSAL, *MOE])
def test_equals_the_whole_model(family: str, site: str) -> None:
    module, tokenizer = tiny(family)
    model = TextModel(module, tokenizer, family)
    rows = _rows(len(tokenizer))
    keep = torch.tensor([0, 2, 3])
    delta = 0.5 * torch.randn(len(keep), model.width, generator=torch.Generator().manual_seed(2))
    for layer in range(model.n_layers):
        with model.frozen():
            run = SuffixRun(model, layer, rows, site=site)
            got = run.logits(delta, keep)
            again = run.logits(delta, keep)
        wanted = torch.cat(
            [_whole(model, layer, site, rows[j], delta[n]) for n, j in enumerate(keep.tolist())]
        )
        assert torch.equal(got, again), "a run must not extend the cache it reads from"
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
        unedited = torch.cat(
            [_whole(model, layer, site, rows[j], torch.zeros(model.width)) for j in keep.tolist()]
        ).log_softmax(-1)
        torch.testing.assert_close(run.base_at(keep), unedited, atol=1e-4, rtol=1e-4)


def test_gradients_are_those_of_the_whole_model() -> None:
    module, tokenizer = tiny("llama")
    model = TextModel(module, tokenizer, "llama")
    row = _rows(len(tokenizer))[0]
    with model.frozen():
        run = SuffixRun(model, 1, [row])
        delta = torch.zeros(1, model.width, requires_grad=True)
        (ours,) = torch.autograd.grad(run.logits(delta, torch.tensor([0])).square().sum(), delta)
        free = torch.zeros(model.width, requires_grad=True)

        def add(hidden: torch.Tensor) -> torch.Tensor:
            mark = torch.zeros(hidden.shape[1], 1)
            mark[row.lookup] = 1
            return hidden + mark * free

        with replaced_output(model.mlp(1), add):
            logits = model.forward(model.batch([list(row.ids)])).logits[0, list(row.reads)]
        (theirs,) = torch.autograd.grad(logits.square().sum(), free)
    torch.testing.assert_close(ours[0], theirs, atol=1e-4, rtol=1e-4)
    assert all(p.grad is None for p in model.module.parameters())


def test_blocks_are_their_own_again_after_an_error() -> None:
    module, tokenizer = tiny("gpt2")
    model = TextModel(module, tokenizer, "gpt2")
    rows = _rows(len(tokenizer))
    with model.frozen():
        run = SuffixRun(model, 1, rows)
        with pytest.raises(RuntimeError):
            run.logits(torch.zeros(2, model.width + 1), torch.tensor([0, 1]))
    assert all("forward" not in vars(block) for block in model.blocks)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.module.modules())
