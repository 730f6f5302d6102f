"""How much faster is the batched, suffix-only value search than one fact at a time?

Both sides minimise the same loss (see `editors/_keyvalue.py`) for the same facts, contexts and
hyperparameters, in one run on one machine:

    whole     one fact at a time; all rows and all tokens go through the whole model at every step
    suffix    many facts at once; only suffix tokens in the layers above the edited one

1. at equal steps (no early leaving on either side): the cosine of the vectors found, and the ratio
   of the times;
2. at equal efficacy: both sides stop by their own best rule; the vectors are written with the same
   rank-one update, and efficacy is the share of facts that the edited model then answers.

    python bench/speed.py --model atlas --layer 2 --facts 100
    python bench/speed.py --shape gpt2-xl --device cuda --dtype bfloat16 --facts 100
    python bench/speed.py --shape llama-3-8b --device cuda --dtype bfloat16 --facts 100
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor

import corrigenda as cg
from corrigenda.delta import Delta, LowRank
from corrigenda.editors import ROME
from corrigenda.editors._keyvalue import _in_context, _kl_row, find_values, mean_keys, search_values
from corrigenda.models.hooks import captured, replaced_output
from corrigenda.models.text import TextModel
from corrigenda.models.tokens import pieces, subject_last
from corrigenda.numerics.solve import Factor, equality

SHAPES = {
    "gpt2-xl": {"n_layer": 48, "n_embd": 1600, "n_head": 25, "vocab_size": 50257},
    "llama-3-8b": {
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}


def whole_model_value(
    model: TextModel,
    edit: cg.Rewrite,
    contexts: Sequence[str],
    layer: int,
    *,
    steps: int,
    lr: float,
    clamp: float,
    weight_decay: float,
    kl_factor: float,
    tolerance: float,
) -> tuple[Tensor, Tensor]:
    """(initial, δ) of one fact by the plain method: a hook at the MLP, the whole model each step."""
    rows, lookups, reads, targets = [], [], [], []
    for context in contexts:
        text, span = _in_context(edit, context)
        cut = pieces(model.tokenizer, text, edit.target)
        rows.append(cut.ids[:-1])
        lookups.append(subject_last(model.tokenizer, text, span))
        reads.append(range(cut.start - 1, len(cut.ids) - 1))
        targets.append(cut.target)
    kl = _kl_row(model, edit, "lookup")
    rows.append(kl.ids)
    lookups.append(kl.lookup)
    batch = model.batch(rows, side="right")
    mark = torch.zeros(*batch.ids.shape, 1, device=model.device, dtype=model.dtype)
    mark[torch.arange(len(rows)), lookups] = 1
    wanted = [torch.tensor(t, device=model.device) for t in targets]
    with torch.no_grad(), captured({"v": (model.mlp(layer), "output")}) as seen:
        logits = model.forward(batch).logits
        base = logits[-1, kl.lookup].float().log_softmax(-1)
        initial = seen["v"].reshape(*batch.ids.shape, -1)[0, lookups[0]].float()
    delta = torch.zeros(model.width, device=model.device, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=lr)
    for step in range(steps):
        with replaced_output(
            model.mlp(layer), lambda out: out + (mark * delta.to(out.dtype)).view(out.shape)
        ):
            logits = model.forward(batch).logits
        nll = torch.stack(
            [
                -logits[j, list(r)].float().log_softmax(-1).gather(1, w[:, None]).mean()
                for j, (r, w) in enumerate(zip(reads, wanted, strict=True))
            ]
        ).mean()
        now = logits[-1, kl.lookup].float().log_softmax(-1)
        divergence = (now.exp() * (now - base)).sum()
        loss = nll + kl_factor * divergence + weight_decay * delta.norm() / initial.norm() ** 2
        if float(loss.detach()) < tolerance or step == steps - 1:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            limit = clamp * initial.norm()
            if delta.norm() > limit:
                delta.mul_(limit / delta.norm())
    return initial.cpu(), delta.detach().cpu()


def facts_for(model: TextModel, n: int, seed: int) -> list[cg.Rewrite]:
    """Atlas facts that the model knows; for a random model, any Atlas facts do."""
    from corrigenda import atlas

    edits = [c.edit for c in atlas.edits(3 * n, seed=seed)]
    if not model.id.startswith("atlas"):
        return edits[:n]
    truths = [cg.Rewrite(e.prompt, e.subject, e.target_true or e.target) for e in edits]
    return [e for e, (ok, _) in zip(edits, model.says(truths), strict=True) if ok][:n]


def random_model(shape: str, device: str, dtype: torch.dtype) -> TextModel:
    """A randomly initialised model of a published shape, with Atlas's tokenizer."""
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

    tokenizer = cg.load("atlas").tokenizer
    config = (GPT2Config if shape.startswith("gpt2") else LlamaConfig)(**SHAPES[shape])
    config.bos_token_id = config.eos_token_id = tokenizer.eos_token_id
    torch.manual_seed(0)
    with torch.device(device):
        module = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return TextModel(module.eval(), tokenizer, shape)


class Clock:
    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0

    def __enter__(self) -> Clock:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._start

    @property
    def peak_bytes(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def written(
    model: TextModel,
    edits: Sequence[cg.Rewrite],
    contexts: Sequence[str],
    layer: int,
    deltas: Tensor,
    factor: Factor,
) -> float:
    """Efficacy: each δ written alone with ROME's update, then answered freely."""
    site = model.site("down", layer)
    right = 0
    for edit, delta in zip(edits, deltas, strict=True):
        key = mean_keys(model, [edit], contexts, site, equal=True)
        update = equality(key, delta.double()[:, None], factor)
        change = Delta(
            {site.parameter: LowRank(update.u, update.v)},
            frozenset({site.parameter} if site.transposed else ()),
        )
        with change.applied(model):
            right += model.says([edit])[0][0]
    return right / len(edits)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="atlas")
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--layer", type=int)
    parser.add_argument("--facts", type=int, default=100)
    parser.add_argument("--one-at-a-time", type=int, help="facts for the slow side (default: all)")
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    model = (
        random_model(options.shape, options.device, dtype)
        if options.shape
        else cg.load(options.model, device=options.device)
    )
    random.seed(options.seed)
    edits = facts_for(model, options.facts, options.seed)
    some = edits[: options.one_at_a_time or len(edits)]
    rome = ROME(seed=options.seed).resolved(model)
    layer = options.layer if options.layer is not None else model.n_layers // 2 - 1
    contexts = rome.contexts(model)
    search = {
        "lr": rome.lr,
        "clamp": rome.clamp,
        "weight_decay": rome.weight_decay,
        "kl_factor": rome.kl_factor,
    }

    def whole(tolerance: float) -> Tensor:
        return torch.stack(
            [
                whole_model_value(
                    model, e, contexts, layer, steps=options.steps, tolerance=tolerance, **search
                )[1]
                for e in some
            ]
        )

    def suffix(tolerance: float, **more: object) -> Tensor:
        with_defaults = {**search, "steps": options.steps, "tolerance": tolerance, **more}
        return search_values(
            model,
            edits,
            contexts,
            batch_size=options.batch,
            layer=layer,
            site="mlp",
            **with_defaults,
        ).delta

    never = -1.0  # no loss is below it
    with model.frozen():
        suffix(never) if len(edits) <= 4 else find_values(  # warm up
            model, edits[:4], contexts, layer=layer, site="mlp", steps=2, tolerance=never, **search
        )
        with Clock(model.device) as slow:
            theirs = whole(never)
        with Clock(model.device) as fast:
            ours = suffix(never, leave=False)
    cosine = torch.nn.functional.cosine_similarity(ours[: len(some)], theirs, dim=1)
    per = [slow.seconds / len(some), fast.seconds / len(edits)]
    result = {
        "model": model.id,
        "layer": layer,
        "layers": model.n_layers,
        "facts": len(edits),
        "one_at_a_time": len(some),
        "contexts": len(contexts),
        "steps": options.steps,
        "device": str(model.device),
        "dtype": str(model.dtype),
        "threads": torch.get_num_threads(),
        "equal_steps": {
            "min_cosine": float(cosine.min()),
            "times_faster": per[0] / per[1],
            "peak_bytes": fast.peak_bytes,
        },
    }
    if model.device.type == "cuda":
        result["equal_steps"] |= {
            "edits_per_second": 1 / per[1],
            "edits_per_second_whole": 1 / per[0],
        }
    if not options.shape:
        with model.frozen():
            with Clock(model.device) as slow:
                theirs = whole(rome.tolerance)
            with Clock(model.device) as fast:
                ours = suffix(rome.tolerance, stop="answer", lr=(rome.lr or 0.5) * 2)
            moments = (
                rome.__class__(layers=(layer,), seed=options.seed).resolved(model).moments(model)
            )
            factor = Factor.of(next(iter(moments.moments.values())).mean)
            per = [slow.seconds / len(some), fast.seconds / len(edits)]
            result["equal_efficacy"] = {
                "times_faster": per[0] / per[1],
                "efficacy": written(model, some, contexts, layer, ours[: len(some)], factor),
                "efficacy_whole": written(model, some, contexts, layer, theirs, factor),
            }
    if options.json:
        json.dump(result, sys.stdout, indent=2)
        print()
        return
    equal = result["equal_steps"]
    print(
        f"{model.id}, layer {layer} of {model.n_layers}, {len(edits)} facts, "
        f"{len(contexts)} contexts, {options.steps} steps, {result['threads']} threads"
    )
    print(
        f"equal steps:    {equal['times_faster']:.1f}x faster, least cosine {equal['min_cosine']:.6f}"
    )
    if "equal_efficacy" in result:
        e = result["equal_efficacy"]
        print(
            f"equal efficacy: {e['times_faster']:.1f}x faster, efficacy {e['efficacy']:.3f} "
            f"against {e['efficacy_whole']:.3f}"
        )


if __name__ == "__main__":
    main()
