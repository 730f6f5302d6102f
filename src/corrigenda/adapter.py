"""A delta as a PEFT adapter (LoRA), which PEFT, vLLM and lm-eval can load.

LoRA computes `y = W x + (alpha / r) B A x`. With alpha = r, B = u and A = v that is the edited
map exactly, so the adapter holds the fp32 factors of the delta. Sites of smaller rank are padded
with zeros: many readers want one rank for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .delta import Delta, Dense, LowRank
from .errors import DeltaError
from .numerics.lowrank import factorize

__all__ = ["Adapter", "as_adapter"]

TOLERANCE = 1e-6  # relative error up to which a dense change may be written as two factors


TASKS = {"encoder-decoder": "SEQ_2_SEQ_LM", "masked": None}
"""PEFT's name of what a kind of model does, where it is not causal; it has none for filling masks."""


@dataclass(frozen=True)
class Adapter:
    """The content of `adapter_config.json` and of `adapter_model.safetensors`."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def rank(self) -> int:
        return self.config["r"]


def as_adapter(delta: Delta) -> Adapter:
    """The delta as a LoRA adapter: keys `base_model.model.<module>.lora_A.weight` (r, i) and
    `.lora_B.weight` (o, r), alpha = r.

    Raises `DeltaError` with the reason where no adapter would do the same as the delta.
    """
    if delta.context is not None:
        raise DeltaError("It acts on the prompt (a prefix), and an adapter holds weights only.")
    if delta.acting:
        raise DeltaError("It acts on activations, and an adapter holds weights only.")
    if not delta.weights:
        raise DeltaError("It changes nothing.")
    pairs = {_module(name): _factors(name, change) for name, change in delta.weights.items()}
    rank = max(1, *(u.shape[1] for u, _ in pairs.values()), 1)
    tensors: dict[str, Tensor] = {}
    for module, (u, v) in pairs.items():
        a, b = torch.zeros(rank, v.shape[1]), torch.zeros(u.shape[0], rank)
        a[: v.shape[0]], b[:, : u.shape[1]] = v, u
        tensors[f"base_model.model.{module}.lora_A.weight"] = a
        tensors[f"base_model.model.{module}.lora_B.weight"] = b
    config = {
        "peft_type": "LORA",
        "task_type": TASKS.get(delta.provenance.kind, "CAUSAL_LM"),
        "base_model_name_or_path": delta.provenance.model,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": bool(delta.transposed & delta.weights.keys()),
        "target_modules": sorted(pairs),
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    return Adapter(config, tensors)


def _module(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if kind != "weight" or not module:
        raise DeltaError(f"It changes {name}, and LoRA changes weight matrices only.")
    # Outside the blocks are embeddings and heads: not linear maps, or tied to one another, and
    # an adapter on one of two tied tensors is not the same change.
    if not any(part.isdigit() for part in module.split(".")):
        raise DeltaError(
            f"It changes {name}, which may be an embedding or tied to one; LoRA adapters are "
            "written for the linear maps inside the blocks."
        )
    return module


def _factors(name: str, change: LowRank | Dense) -> tuple[Tensor, Tensor]:
    if isinstance(change, LowRank):
        return change.u, change.v
    if len(change.shape) != 2:
        raise DeltaError(f"It changes {name}, which is not a matrix.")
    factors = factorize(change.d, TOLERANCE, limit=min(change.shape) // 2)
    if factors is None:
        raise DeltaError(
            f"The change of {name} is dense and of full rank, so that LoRA factors of it would be "
            "larger than the change itself."
        )
    return factors
