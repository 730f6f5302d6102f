"""Small models and random deltas for the tests of deltas, stores and ledgers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from corrigenda.delta import Change, Delta, LowRank, Outcome, Prefix, Provenance
from corrigenda.live import Live, tensor_hash

OUT, IN = 6, 5


class Toy(nn.Module):
    """Two linear blocks, a norm, and a head that is tied to the embedding."""

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed = nn.Embedding(7, IN)
        self.h = nn.ModuleList([nn.Linear(IN, OUT), nn.Linear(OUT, IN)])
        self.norm = nn.LayerNorm(IN)
        self.head = nn.Linear(IN, 7, bias=False)
        self.head.weight = self.embed.weight
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype)


class Fake:
    """The least that counts as a model."""

    def __init__(self, module: nn.Module, id: str = "toy") -> None:
        self.id = id
        self._module = module
        self.live = Live(self, module)

    @property
    def module(self) -> nn.Module:
        return self._module

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int = 16) -> list[str]:
        return [self.live.wrap(p)[-max_new_tokens:] for p in prompts]


def toy(seed: int = 0, dtype: torch.dtype = torch.float32) -> Fake:
    return Fake(Toy(seed, dtype))


def gpt2() -> Fake:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    return Fake(GPT2LMHeadModel(config).eval(), "gpt2-tiny")


def llama() -> Fake:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    return Fake(LlamaForCausalLM(config).eval(), "llama-tiny")


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def low_rank(seed: int, rank: int = 1, shape: tuple[int, int] = (OUT, IN)) -> LowRank:
    o, i = shape
    return LowRank(randn(o, rank, seed=seed), randn(rank, i, seed=seed + 1000))


def says(*targets: str, took: bool = True, editor: str = "rome", model: str = "toy") -> Provenance:
    """Provenance of edits that move things to these places."""
    edits = tuple(
        {"prompt": "{} is located in", "subject": f"Tower {j}", "target": t}
        for j, t in enumerate(targets)
    )
    outcomes = tuple(Outcome(took=took, answer=f" {t}" if took else " Paris") for t in targets)
    return Provenance(
        editor=editor, arguments={"layers": [0]}, edits=edits, outcomes=outcomes, model=model
    )


def delta_for(model: Fake, changes: dict[str, Change], **options: object) -> Delta:
    """A delta that knows its base and storage orientation, as editors make them."""
    from transformers.pytorch_utils import Conv1D

    names = [n for n, c in changes.items() if not isinstance(c, Prefix)]
    modules = dict(model.module.named_modules())
    flipped = {n for n in names if isinstance(modules[n.rpartition(".")[0]], Conv1D)}
    base = {n: model.live.pristine_hash(n) for n in names}
    return Delta(changes, frozenset(flipped), base, **options)  # type: ignore[arg-type]


def rank_one(model: Fake, seed: int, name: str = "h.0.weight", scale: float = 1.0) -> Delta:
    """A rank-one edit of one matrix."""
    o, i = model.live.parameter(name).shape
    change = low_rank(seed, shape=(o, i)).scaled(scale)
    return delta_for(model, {name: change}, provenance=says(f"City {seed}"))


def bits(module: nn.Module) -> dict[str, str]:
    """Hash of every tensor of a module."""
    return {name: tensor_hash(tensor) for name, tensor in module.state_dict().items()}


__all__ = [
    "IN",
    "OUT",
    "Fake",
    "Toy",
    "bits",
    "delta_for",
    "gpt2",
    "llama",
    "low_rank",
    "randn",
    "rank_one",
    "says",
    "toy",
]
