"""Check a layout on numbers: what every editor relies on, on random tokens.

With h, a, m the recorded block input, attention output and MLP output, and n_a, n_m the
post-norms or the identity:

    key           m = W k + b              for the down-projection, oriented by `linear.py`;
                                           a is the output of the map "o", where there is one
    residual      block(h) = h + n_a(a) + c + n_m(m), with c the cross-attention, if there is one;
                  with norms last  n_a reads h + a,  n_m reads h' + m,  block(h) = n_m(·)
    parallel      m does not depend on a   exactly when the row says parallel
    readout       last_hidden_state = final_norm(last block), logits = head(·), up to a monotone cap
                  or a constant bias
    intervention  m_t + δ moves block(h)_t by δ and nothing else, exactly when there is no post-norm

An encoder-decoder is checked stack by stack. Equality is up to floating-point error, relative to
the largest entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..acting import first
from ..storage import device_of
from .hooks import captured, replaced_output
from .layouts import Layout, has, outside
from .linear import image, is_linear

__all__ = ["Check", "gap", "noise_like", "still", "tokens", "trace", "verify"]


@dataclass(frozen=True, slots=True)
class Check:
    """One numerical check: what was compared, whether it held, and by how much."""

    name: str
    passed: bool
    detail: str

    def __str__(self) -> str:
        return f"{'ok    ' if self.passed else 'FAILED'} {self.name}: {self.detail}"


# -- running ----------------------------------------------------------------------------------


@contextmanager
def still(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes are restored."""
    modes = [(m, m.training) for m in module.modules() if m.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes:
            part.training = mode


def tokens(module: Any, tokenizer: Any, seed: int = 0) -> Tensor:
    """(2, 7) random token ids, special ones avoided where that is possible."""
    rows = module.get_input_embeddings().weight.shape[0]
    known = min(rows, len(tokenizer)) if tokenizer is not None else rows
    special = set(tokenizer.all_special_ids) if tokenizer is not None else set()
    usable = [i for i in range(known) if i not in special] or list(range(known))
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(usable), (2, 7), generator=generator)
    ids = torch.tensor(usable)[picks]
    return ids.to(device_of(module.get_input_embeddings()))


@contextmanager
def _recorded(modules: Mapping[str, tuple[nn.Module, str]]) -> Iterator[dict[str, Tensor]]:
    """As `captured`, with copies of inputs too, and of tensors only."""
    found: dict[str, Tensor] = {}

    def keep(name: str, tensor: Tensor) -> None:
        if isinstance(tensor, Tensor):
            found[name] = tensor.detach().clone()

    with captured(modules, store=keep):
        yield found


def _run(module: Any, ids: Tensor) -> Any:
    options: dict[str, Any] = {"use_cache": False}
    if getattr(module.config, "is_encoder_decoder", False):
        # Fewer tokens than the encoder has, so that the stacks cannot be taken for one another.
        options["decoder_input_ids"] = ids.flip(1)[:, :-2]
    return module(input_ids=ids, attention_mask=torch.ones_like(ids), **options)


def trace(
    module: nn.Module, ids: Tensor, modules: Mapping[str, tuple[nn.Module, str]]
) -> tuple[dict[str, Tensor], Any]:
    """Run the model once. Copies of the inputs or outputs asked for, and the model's output."""
    with _recorded(modules) as found:
        output = _run(module, ids)
    return found, output


# -- comparing --------------------------------------------------------------------------------


def _tolerance(dtype: torch.dtype) -> float:
    """Relative error allowed between two ways to compute the same few sums."""
    return max(1e-5, 4 * torch.finfo(dtype).eps)


def gap(found: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference over the largest magnitude; infinite for other sizes."""
    if found.numel() != wanted.numel():
        return float("inf")
    found, wanted = found.double().flatten(), wanted.double().flatten()
    scale = max(float(wanted.abs().max()), 1e-12)
    error = float((found - wanted).abs().max()) / scale
    return error if error == error else float("inf")


def _monotone(raw: Tensor, shown: Tensor, tolerance: float) -> bool:
    """Whether `shown` is an increasing function of `raw`, entry by entry."""
    if raw.numel() != shown.numel():
        return False
    order = raw.double().flatten().argsort()
    steps = shown.double().flatten()[order].diff()
    return bool(steps.min() >= -tolerance * float(shown.double().abs().max()))


# -- verification -----------------------------------------------------------------------------


def verify(module: Any, layout: Layout, tokenizer: Any = None) -> list[Check]:
    """Check a layout on random tokens: the first, middle and last block, and the readout.

    The module is left as it was. A check that cannot be run because a path does not exist or the
    forward pass fails is a failed check; nothing is raised for it.
    """
    if layout.encoder is None:
        return _check_stack(module, layout, tokenizer)
    read = _check_stack(module, layout.encoder, tokenizer, answers=False)
    found = [replace(c, name=f"encoder, {c.name}") for c in read]
    written = _check_stack(module, layout, tokenizer)
    return found + [replace(c, name=f"decoder, {c.name}") for c in written]


def _check_stack(
    module: Any, layout: Layout, tokenizer: Any, *, answers: bool = True
) -> list[Check]:
    """Check the row of one stack. answers: the logits are computed from its output."""
    checks = _check_paths(module, layout)
    if not all(c.passed for c in checks):
        return checks
    blocks = module.get_submodule(layout.blocks)
    tolerance = _tolerance(module.get_input_embeddings().weight.dtype)
    with still(module):
        try:
            ids = tokens(module, tokenizer)
            for layer in sorted({0, len(blocks) // 2, len(blocks) - 1}):
                checks += _check_block(module, layout, layer, ids, tolerance)
            checks += _check_readout(module, layout, ids, tolerance, answers)
        except Exception as error:  # an architecture that we do not know may fail in any way
            message = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            checks.append(Check("forward pass", False, message))
    return checks


def _check_paths(module: nn.Module, layout: Layout) -> list[Check]:
    lost = [p for p in outside(layout) if not has(module, p)]
    if lost:
        return [Check("paths", False, f"the model has no {', '.join(lost)}")]
    blocks = module.get_submodule(layout.blocks)
    if not isinstance(blocks, nn.ModuleList | nn.Sequential) or not len(blocks):
        return [Check("paths", False, f"{layout.blocks} is a {type(blocks).__name__}, not a list")]
    inside = [layout.mlp, layout.attention, *layout.linears.values()]
    inside += [p for p in (layout.post_norm, layout.attention_norm, layout.cross) if p]
    if layout.norm_last and not (layout.post_norm and layout.attention_norm):
        return [Check("paths", False, "norm_last needs post_norm and attention_norm")]
    if layout.norm_last and "up" not in layout.linears:
        return [Check("paths", False, "norm_last needs 'up' in linears")]
    lost = sorted({p for block in blocks for p in inside if not has(block, p)})
    if lost:
        return [Check("paths", False, f"some blocks have no {', '.join(lost)}")]
    if "down" not in layout.linears:
        return [Check("paths", False, "linears has no 'down'")]
    maps = layout.linears.values()
    bent = sorted({p for b in blocks for p in maps if not is_linear(b.get_submodule(p))})
    if bent:
        return [Check("paths", False, f"not plain linear maps: {', '.join(bent)}")]
    return [Check("paths", True, f"{len(blocks)} blocks at {layout.blocks}")]


def _check_block(
    module: nn.Module, layout: Layout, layer: int, ids: Tensor, tolerance: float
) -> list[Check]:
    block = module.get_submodule(layout.blocks)[layer]  # type: ignore[index]
    mlp, attention = block.get_submodule(layout.mlp), block.get_submodule(layout.attention)
    down = block.get_submodule(layout.down)
    places: dict[str, tuple[nn.Module, str]] = {
        "in": (block, "input"),
        "out": (block, "output"),
        "m": (mlp, "output"),
        "a": (attention, "output"),
        "k": (down, "input"),
        "v": (down, "output"),
    }
    if "o" in layout.linears:
        places["o"] = (block.get_submodule(layout.linears["o"]), "output")
    if layout.post_norm:
        places["m'"] = (block.get_submodule(layout.post_norm), "output")
    if layout.attention_norm:
        places["a'"] = (block.get_submodule(layout.attention_norm), "output")
    if layout.cross:
        places["c"] = (block.get_submodule(layout.cross), "output")
    if layout.norm_last:
        places["h+a"] = (block.get_submodule(layout.attention_norm or ""), "input")
        places["h'"] = (block.get_submodule(layout.linears["up"]), "input")
        places["h'+m"] = (block.get_submodule(layout.post_norm or ""), "input")
    got, _ = trace(module, ids, places)
    where = f"layer {layer}"
    if silent := sorted(places.keys() - got.keys()):
        names = ", ".join(type(places[s][0]).__name__ for s in silent)
        return [Check(f"key, {where}", False, f"not used in the forward pass: {names}")]
    checks = []

    def compare(name: str, found: Tensor, wanted: Tensor, what: str) -> None:
        error = gap(found, wanted)
        detail = f"{what} (relative {error:.1e})"
        checks.append(Check(f"{name}, {where}", error <= tolerance, detail))

    compare("key", got["v"], got["m"], "output of down = output of mlp")
    compare("key", image(down, got["k"]), got["m"], "W k + b = output of mlp")
    if "o" in got:
        compare("key", got["o"], got["a"], "output of o = output of attention")
    whole = got["in"].shape
    if layout.norm_last:
        a, m = (got[name].reshape(whole) for name in "am")
        compare("residual", got["in"] + a, got["h+a"], "norm reads h + a")
        compare("residual", got["h'"] + m, got["h'+m"], "norm reads h' + m")
        compare("residual", got["m'"], got["out"], "block output = norm(h' + m)")
    else:
        parts = [got["in"], got.get("a'", got["a"]), got.get("m'", got["m"])]
        terms = f"h + {'norm(a)' if layout.attention_norm else 'a'} + "
        terms += "norm(m)" if layout.post_norm else "m"
        if layout.cross:
            parts.append(got["c"])
            terms += " + c"
        total = torch.stack([p.reshape(whole) for p in parts]).sum(0)
        compare("residual", total, got["out"], f"block output = {terms}")
    checks.append(_check_parallel(module, layout, attention, mlp, ids, got, where, tolerance))
    checks.append(_check_intervention(module, layout, block, mlp, ids, got, where, tolerance))
    return checks


def noise_like(tensor: Tensor, seed: int = 0) -> Tensor:
    """Gaussian noise as large as the tensor's entries are, the same on each call."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(tensor.shape, generator=generator)
    size = float(tensor.float().std().clamp_min(1e-6))
    return (noise * size).to(tensor.device, tensor.dtype)


def _check_parallel(
    module: nn.Module, layout: Layout, attention: nn.Module, mlp: nn.Module, ids: Tensor,
    got: Mapping[str, Tensor], where: str, tolerance: float,
) -> Check:  # fmt: skip
    # As large as the stream, or the change could drown in the MLP's rounding.
    noise = noise_like(got["in"], 1)
    with replaced_output(attention, lambda a: a + noise.reshape(a.shape)):
        after, _ = trace(module, ids, {"m": (mlp, "output")})
    reads = gap(after["m"], got["m"]) > tolerance
    detail = "the MLP reads the stream " + ("after" if reads else "before") + " attention is added"
    return Check(f"parallel, {where}", reads != layout.parallel, detail)


def _check_intervention(
    module: nn.Module, layout: Layout, block: nn.Module, mlp: nn.Module, ids: Tensor,
    got: Mapping[str, Tensor], where: str, tolerance: float,
) -> Check:  # fmt: skip
    whole = got["in"].shape
    delta = torch.zeros(whole, dtype=got["m"].dtype, device=got["m"].device)
    at = whole[1] // 2
    delta[0, at] = noise_like(got["m"].reshape(whole)[0, at], 2)
    with replaced_output(mlp, lambda m: m + delta.reshape(m.shape)):
        after, _ = trace(module, ids, {"out": (block, "output")})
    change = (after["out"] - got["out"]).double()
    # What is left of δ in the sum is as exact as the sum at that position is.
    scale = float(got["out"][0, at].double().abs().max()) + float(delta.double().abs().max())
    exact = float((change - delta.double())[0, at].abs().max()) <= tolerance * scale
    change[0, at] = 0
    local = float(change.abs().max()) <= tolerance * float(got["out"].double().abs().max())
    detail = "adding δ to the MLP output at one position moves the block output "
    detail += "by δ there" if exact else "there by something else"
    detail += "" if local else " and moves other positions"
    return Check(f"intervention, {where}", local and exact == (layout.post_norm is None), detail)


def _check_readout(
    module: Any, layout: Layout, ids: Tensor, tolerance: float, answers: bool
) -> list[Check]:
    blocks: Any = module.get_submodule(layout.blocks)
    head = module.get_submodule(layout.head)
    # Where each block ends in a norm, its output is the final one.
    norm = blocks[-1] if layout.final_norm is None else module.get_submodule(layout.final_norm)
    decoder = module.get_submodule(layout.decoder)
    last: list[Tensor] = []

    def keep_state(_module: nn.Module, _args: Any, output: Any) -> None:
        state = getattr(output, "last_hidden_state", None)
        if isinstance(state, Tensor):
            last.append(state)

    handle = decoder.register_forward_hook(keep_state)
    try:
        places = {
            "out": (blocks[-1], "output"),
            "normed": (norm, "output"),
            "embedded": (module.get_submodule(layout.embedding), "output"),
        }
        if layout.final_norm is not None:
            places["into"] = (norm, "input")
        got, output = trace(module, ids, places)
    finally:
        handle.remove()
    checks = []
    if silent := sorted(places.keys() - got.keys()):
        names = ", ".join(type(places[s][0]).__name__ for s in silent)
        return [Check("readout", False, f"not used in the forward pass: {names}")]
    if "into" in got:
        error = gap(got["into"], got["out"])
        detail = f"final norm reads the last block (relative {error:.1e})"
        checks.append(Check("readout", error <= tolerance, detail))
    if last:
        error = gap(got["normed"], last[-1])
        detail = f"final norm = last_hidden_state (relative {error:.1e})"
        checks.append(Check("readout", error <= tolerance, detail))
    else:
        detail = f"{layout.decoder} returns no last_hidden_state"
        checks.append(Check("readout", False, detail))
    if not answers:
        reads = got["embedded"].shape[1] == ids.shape[1]
        detail = f"the stack reads {'the prompt' if reads else 'the answer'}"
        return [*checks, Check("readout", reads, detail)]
    raw = image(head, got["normed"]) if is_linear(head) else first(head(got["normed"]))
    logits = output.logits.to(raw.dtype)
    error = gap(raw, logits)
    detail = "logits = head(final norm)"
    if error <= tolerance:
        return [*checks, Check("readout", True, f"{detail} (relative {error:.1e})")]
    if raw.shape != logits.shape:
        return [*checks, Check("readout", False, f"{detail}, which has another shape")]
    shift = logits - raw
    if float(shift.flatten(0, 1).std(0).max()) <= tolerance * float(logits.abs().max()):
        return [*checks, Check("readout", True, f"{detail} up to a constant bias")]
    if _monotone(raw, logits, tolerance):
        return [*checks, Check("readout", True, f"{detail} up to a monotone cap or scale")]
    return [*checks, Check("readout", False, f"{detail} (relative {error:.1e})")]
