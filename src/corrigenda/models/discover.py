"""Propose a layout for an architecture that has none.

By structure and one traced forward pass: the list of equal blocks that holds most parameters; in
a block the linear map outside attention whose output is as wide as the residual stream; the
largest modules that return exactly that output, and attention's; which norms receive exactly
these values; the norm that receives the last block's output. `verify` then says whether the
proposal is right, and `explain` puts both into words.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..experts import fused
from .hooks import replaced_output
from .layouts import LAYOUTS, Layout, text_type
from .linear import is_linear, shape
from .verify import Check, gap, noise_like, still, tokens, trace, verify

__all__ = ["Check", "explain", "propose", "verify"]


def propose(module: Any) -> Layout:
    """A layout for a language model, from its structure and one traced forward pass.

    The row is a proposal: `verify` says whether it is right. Raises `ModelError` naming the part
    that could not be found.
    """
    if getattr(module.config, "is_encoder_decoder", False):
        stacks = [_path_of(module, part, what) for part, what in _stacks(module)]
        read, written = (_propose(module, path, "encoder-decoder") for path in stacks)
        return replace(written, encoder=read)
    if not _looks_ahead(module):
        return _propose(module, "", "causal")
    row = _propose(module, "", "masked")
    return replace(row, position_offset=_position_offset(module))


def _stacks(module: Any) -> list[tuple[Any, str]]:
    return [(module.get_encoder(), "encoder"), (module.get_decoder(), "decoder")]


def _looks_ahead(module: Any) -> bool:
    """Whether logits at a token depend on those after it."""
    with still(module):
        ids = tokens(module, None)
        changed = ids.clone()
        changed[:, -1] = ids[:, 0]
        logits = [trace(module, one, {})[1].logits[:, 0] for one in (ids, changed)]
    return gap(*logits) > 1e-4


def _position_offset(module: Any) -> int:
    """The first position that the model gives by itself."""
    if "position_ids" not in inspect.signature(module.forward).parameters:
        return 0
    with still(module):
        ids = tokens(module, None)
        mask, count = torch.ones_like(ids), torch.arange(ids.shape[1], device=ids.device)
        own = module(input_ids=ids, attention_mask=mask).logits
        for offset in range(4):
            positions = (count + offset).expand_as(ids)
            told = module(input_ids=ids, attention_mask=mask, position_ids=positions).logits
            if gap(told, own) < 1e-4:
                return offset
    return 0


def _propose(module: Any, root: str, kind: Any) -> Layout:
    """The row of the stack at `root`; of the whole model for ""."""
    width = _width(module)
    blocks_path = _find_blocks(module, root, width)
    blocks: Any = module.get_submodule(blocks_path)
    block: nn.Module = blocks[0]
    linears = {n: m for n, m in block.named_modules() if is_linear(m)}
    home = _find_attention(block)
    down = _find_down(linears, home, width)
    decoder = blocks_path.rpartition(".")[0]
    with still(module):
        ids = tokens(module, None)
        traced = _trace_block(module, block, ids)
        mlp = _outermost(down, block, traced, traced[f"{down} out"])
        attention, output = _attention_output(block, home, traced, width)
        cross = _cross_attention(block, home, traced, width) if root else None
        norms = _norms(block, width)
        last = next((n for n in norms if _same(traced.get(f"{n} out"), traced[" out"])), None)
        if last is None:
            post_norm = _reader(norms, traced, traced[f"{mlp} out"])
            attention_norm = _reader(norms, traced, output)
            final_norm = _find_final_norm(module, decoder, blocks_path, blocks[-1], width, ids)
        else:
            post_norm, final_norm = last, None
            attention_norm = _reader(norms, traced, traced[" in"] + output.view_as(traced[" in"]))
        noise = noise_like(traced[" in"])  # the block's own input has the empty path
        with replaced_output(block.get_submodule(attention), lambda a: a + noise.reshape(a.shape)):
            other, _ = trace(module, ids, {"m": (block.get_submodule(mlp), "output")})
        head = _path_of(module, module.get_output_embeddings(), "output embeddings (head)")
        end = blocks[-1] if final_norm is None else module.get_submodule(final_norm)
        head = _outermost_reader(module, head, end, ids)
    roles = _roles(linears, down, home, width)
    stack = module.get_submodule(root) if root else module
    return Layout(
        model_type=text_type(module),
        decoder=decoder,
        blocks=blocks_path,
        mlp=mlp,
        attention=attention,
        linears=roles,
        final_norm=final_norm,
        head=head,
        embedding=_path_of(module, stack.get_input_embeddings(), "input embeddings"),
        parallel=gap(other["m"], traced[f"{mlp} out"]) < 1e-4,
        post_norm=post_norm,
        gated="gate" in roles or "gate_up" in roles or fused(block.get_submodule(down)),
        attention_norm=attention_norm,
        kind=kind,
        cross=cross,
        norm_last=last is not None,
    )


def _width(module: Any) -> int:
    width = getattr(module.config.get_text_config(decoder=True), "hidden_size", None)
    return int(width or module.get_input_embeddings().weight.shape[1])


def _path_of(module: nn.Module, part: nn.Module | None, what: str) -> str:
    for path, found in module.named_modules():
        if found is part:
            return path
    raise ModelError(f"{type(module).__name__} does not say where its {what} are.")


def _find_blocks(module: nn.Module, root: str, width: int) -> str:
    """The list of blocks of one class, each with a linear map onto the stream, that is largest."""
    best, most = "", 0
    for path, part in module.named_modules():
        if (
            (root and not _inside(path, root))
            or not isinstance(part, nn.ModuleList)
            or not len(part)
        ):
            continue
        if len({type(p) for p in part}) > 1:
            continue
        if not any(is_linear(m) and shape(m)[0] == width for m in part[0].modules()):
            continue
        size = sum(p.numel() for p in part.parameters())
        if size > most:
            best, most = path, size
    if not best:
        raise ModelError(
            f"{type(module).__name__} has no list of equal blocks with linear maps onto its "
            f"{width}-wide residual stream."
        )
    return best


_ATTENTION = re.compile(r"att(ention|n)", re.IGNORECASE)


def _find_attention(block: nn.Module) -> str:
    """The outermost module in a block that is called attention and holds linear maps."""
    for path, part in block.named_modules():
        if not path or not any(is_linear(m) for m in part.modules()):
            continue
        if _ATTENTION.search(type(part).__name__) or _ATTENTION.search(path):
            return path
    raise ModelError(
        f"No module in a {type(block).__name__} is called attention; it has "
        f"{', '.join(n for n, _ in block.named_children())}."
    )


def _inside(path: str, parent: str) -> bool:
    return path == parent or path.startswith(f"{parent}.")


def _find_down(linears: Mapping[str, nn.Module], attention: str, width: int) -> str:
    """The last linear map onto the stream outside attention, from a wider key if there is one."""
    onto = [p for p, m in linears.items() if not _inside(p, attention) and shape(m)[0] == width]
    wider = [p for p in onto if shape(linears[p])[1] > width]
    if not onto:
        raise ModelError(
            f"No linear map outside attention has an output of width {width}: this is no dense MLP "
            "(nor a mixture of experts whose gated MLPs are stacked without biases)."
        )
    return (wider or onto)[-1]


def _trace_block(module: nn.Module, block: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """Inputs and outputs of everything in a block, as "path in" and "path out"."""
    places: dict[str, tuple[nn.Module, str]] = {}
    for path, part in block.named_modules():
        places[f"{path} in"] = (part, "input")
        places[f"{path} out"] = (part, "output")
    return trace(module, ids, places)[0]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None or a.numel() != b.numel():
        return False
    return torch.equal(a.flatten(), b.flatten())


def _outermost(path: str, block: nn.Module, traced: Mapping[str, Tensor], output: Tensor) -> str:
    """The largest module around `path` that returns exactly this output."""
    parts = path.split(".")
    for n in range(1, len(parts)):
        outer = ".".join(parts[:n])
        if _same(traced.get(f"{outer} out"), output):
            return outer
    return path


def _attention_output(
    block: nn.Module, attention: str, traced: Mapping[str, Tensor], width: int
) -> tuple[str, Tensor]:
    """The module that returns attention's output before the residual sum, and that output."""
    onto = [
        f"{attention}.{n}"
        for n, m in block.get_submodule(attention).named_modules()
        if n and is_linear(m) and shape(m)[0] == width and f"{attention}.{n} out" in traced
    ]
    if not onto:
        return attention, traced[f"{attention} out"]
    final = onto[-1]
    outer = _outermost(final, block, traced, traced[f"{final} out"])
    return outer, traced[f"{outer} out"]


def _cross_attention(
    block: nn.Module, home: str, traced: Mapping[str, Tensor], width: int
) -> str | None:
    """The output of the second module in a block that is called attention."""
    for path, part in block.named_modules():
        called = _ATTENTION.search(path) or _ATTENTION.search(type(part).__name__)
        maps = any(is_linear(m) for m in part.modules())
        if path and called and maps and not _inside(path, home) and not _inside(home, path):
            return _attention_output(block, path, traced, width)[0]
    return None


def _outermost_reader(module: nn.Module, path: str, end: nn.Module, ids: Tensor) -> str:
    """The largest module around the head that receives the final hidden states."""
    parts = path.split(".")
    around = [".".join(parts[:n]) for n in range(1, len(parts))]
    places = {name: (module.get_submodule(name), "input") for name in around}
    got, _ = trace(module, ids, {**places, " out": (end, "output")})
    return next((name for name in around if _same(got.get(name), got[" out"])), path)


def _norms(block: nn.Module, width: int) -> list[str]:
    """Modules with vectors as wide as the stream for parameters, or called norm and with none."""
    found = []
    for path, part in block.named_modules():
        own = list(part.parameters())
        called = "norm" in type(part).__name__.lower()
        if path and (own or called) and all(p.ndim == 1 and p.numel() == width for p in own):
            found.append(path)
    return found


def _reader(norms: Sequence[str], traced: Mapping[str, Tensor], value: Tensor) -> str | None:
    """The norm whose input is exactly this value."""
    return next((n for n in norms if _same(traced.get(f"{n} in"), value)), None)


def _find_final_norm(
    module: nn.Module, decoder: str, blocks: str, last: nn.Module, width: int, ids: Tensor
) -> str:
    parent = module.get_submodule(decoder)
    prefix = f"{decoder}." if decoder else ""
    names = [p for p in _norms(parent, width) if not _inside(prefix + p, blocks)]
    places = {n: (parent.get_submodule(n), "input") for n in names}
    got, _ = trace(module, ids, {**places, " out": (last, "output")})
    for name in names:
        if _same(got.get(name), got[" out"]):
            return prefix + name
    raise ModelError(
        f"No norm in {decoder or 'the model'} reads the last block's output; candidates: "
        f"{', '.join(names) or 'none'}."
    )


def _roles(linears: Mapping[str, nn.Module], down: str, home: str, width: int) -> dict[str, str]:
    """Name the linear maps of a block by place and shape. home: the module of attention."""
    roles = {"down": down}
    key = shape(linears[down])[1]
    for path, part in linears.items():
        out, into = shape(part)
        leaf = path.rpartition(".")[2].lower()
        if path == down:
            continue
        if not _inside(path, home):
            if into != width:
                continue
            if out == 2 * key:
                roles["gate_up"] = path
            elif out == key:
                roles["gate" if "gate" in leaf or leaf in {"w1", "wi_0"} else "up"] = path
        elif re.search(r"qkv|query_key_value|c_attn|in_proj", leaf):
            roles["qkv"] = path
        elif match := re.fullmatch(r"w?_?(q|k|v)(_?proj|_?lin|uery|ey|alue)?", leaf):
            roles[match.group(1)] = path
        elif out == width:
            roles["o"] = path
    return roles


def explain(module: Any) -> str:
    """What to do about an architecture without a row: the proposal, its checks, the next step."""
    kind = text_type(module)
    lines = [
        f"There is no layout for the architecture {kind!r} ({type(module).__name__}). "
        f"Known: {', '.join(sorted(LAYOUTS))}.",
    ]
    try:
        row = propose(module)
    except Exception as error:  # whatever an unknown model does, the message must come out
        reason = str(error).splitlines()[0] if str(error) else ""
        lines += [
            f"None could be proposed from its structure: {reason or type(error).__name__}",
            "If it has attention and dense MLP blocks, write the paths down as a Layout "
            "(corrigenda.models.Layout) and pass it: load(..., layout=row).",
        ]
        return "\n".join(lines)
    checks = verify(module, row)
    failed = [c for c in checks if not c.passed]
    lines += ["Proposed from its structure:", "", row.source(), ""]
    lines += [f"    {check}" for check in _summary(checks)]
    lines.append("")
    if failed:
        lines.append(
            f"{len(failed)} of {len(checks)} checks failed, so this row must not be used as it is: "
            "correct the paths, or the architecture's blocks are no sum of the stream, attention "
            "and MLP (then editing it is not supported). Check a corrected row with "
            "corrigenda.models.discover.verify(module, row)."
        )
    else:
        lines.append(
            f"All {len(checks)} numerical checks hold. Use it now with load(..., layout=row), "
            "where row is the text above (from corrigenda.models import Layout), or add it to "
            "LAYOUTS in corrigenda/models/layouts.py."
        )
    return "\n".join(lines)


def _summary(checks: Sequence[Check]) -> list[Check]:
    """Failed checks, and one line per kind of check that held everywhere."""
    kinds: dict[str, list[Check]] = {}
    for check in checks:
        kinds.setdefault(check.name.partition(",")[0], []).append(check)
    shown: list[Check] = []
    for kind, group in kinds.items():
        failed = [c for c in group if not c.passed]
        shown += failed or [replace(group[0], name=kind)]
    return shown
