"""Can an edited model be told, and read, without knowing the edit?

For each method, 50 facts that Atlas knows are edited one at a time. The detector sees the two sets of
tensors alone (`audit.changed`, `audit.meaning`), or the edited one alone (`audit.suspicion`):

    named     it lists exactly the tensors that the edit changed
    subject   the subject that it reads is the edited one
    object    the object that it reads is the edit's target
    AUROC     of the one-checkpoint score, edited against unedited checkpoints
    top-1     the most suspicious map of an edited checkpoint is one that was edited
    undone    of the edits that took, how many are gone when the first component of that map is removed

Unedited checkpoints are the embedded models, copies of Atlas trained on for some steps, and copies with
random weights. The false-positive rate is measured on each of them with a threshold from the others.

    python bench/detect.py --edits 50 --json detect.json
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import corrigenda as cg
from corrigenda import atlas
from corrigenda.audit.changed import changed
from corrigenda.audit.meaning import meaning
from corrigenda.audit.reversal import judged, without_leading
from corrigenda.audit.suspicion import MEASURES, excesses, measured, score, threshold
from corrigenda.edit import Case
from corrigenda.editors import make
from corrigenda.evaluate import known_only
from corrigenda.metrics.detection import auroc
from corrigenda.metrics.statistics import wilson
from corrigenda.metrics.text import begins
from corrigenda.models.text import TextModel

READ = ("rome", "r-rome", "memit", "pmet", "alphaedit")  # methods whose object is read too
RATE = 0.1  # false-positive rate that the threshold is set for


def unedited(copies: int, steps: int) -> Iterator[tuple[str, TextModel]]:
    """Checkpoints that were never edited."""
    for name in ("atlas", "atlas-llama", "atlas-t5"):
        yield name, cg.load(name)
        for seed in range(copies // 3):
            yield f"{name}, random {seed}", randomised(cg.load(name), seed)
    for seed in range(copies):
        yield f"atlas, trained on {seed}", trained_on(cg.load("atlas"), seed, steps)


def randomised(model: TextModel, seed: int) -> TextModel:
    """Every matrix drawn anew, with the standard deviation that it had."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.module.parameters():
            if parameter.ndim == 2:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise * parameter.std())
    return model


def trained_on(model: TextModel, seed: int, steps: int) -> TextModel:
    """Some steps of AdamW on part of the world's text, at one of several rates."""
    draw = random.Random(seed)
    documents = [d.text for d in islice(atlas.documents(atlas.world(), seed), 400)]
    rate = (3e-5, 1e-4, 3e-4)[seed % 3]
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=rate)
    for _ in range(steps):
        rows = model.encode(draw.sample(documents, 8), side="right")
        rows_ids, mask = rows.ids[:, :96], rows.mask[:, :96]
        labels = rows_ids.masked_fill(mask == 0, -100)
        loss = model.module(input_ids=rows_ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.module.eval()
    return model


def one_method(model: TextModel, name: str, cases: list[Case], usual: Any) -> dict[str, Any]:
    editor = make(name)
    others = [c.edit for c in atlas.edits(40, seed=99)]
    controls = [edit.text for edit in others]
    found: dict[str, Any] = {k: [] for k in ("took", "named", "subject", "object", "top", "rows")}
    scores: dict[str, list[float]] = {m: [] for m in MEASURES}
    undone = restored = held = moved = asked = 0
    start = time.perf_counter()
    for case in cases:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            delta = editor(model, [case.edit])
        with delta.applied(model):
            after = {k: v.detach().clone() for k, v in model.module.state_dict().items()}
            maps = excesses({**usual, **measured(model, delta.weights)})
            for measure in MEASURES:
                scores[measure].append(score(maps, measure))
            suspect = max(maps, key=lambda s: s.excess["gap"]).tensor
            found["top"].append(suspect in delta.weights)
            back = judged(model, without_leading(model, [suspect]), [case.edit], controls)
        held, undone = held + back.edits, undone + back.undone
        restored, moved, asked = restored + back.restored, moved + back.moved, asked + back.others
        change = changed(model, after)
        found["took"].append(not delta.failed)
        found["named"].append(
            set(change.names) == {model.live.first_name(n) for n in delta.weights}
        )
        if name in READ:
            said = meaning(model, change)
            found["subject"].append(said.subject == case.edit.subject)
            found["object"].append(bool(said.object and begins(said.object, case.edit.target)))
            row = {"edit": case.edit.statement, "read": f"{said.subject}: {said.object}"}
            found["rows"].append({**row, "took": found["took"][-1], "right": found["object"][-1]})
        print(f"\r{name} {len(found['named'])}/{len(cases)}", end="", file=sys.stderr)
    print(f" {time.perf_counter() - start:.0f} s", file=sys.stderr)
    shares = {k: share(sum(v), len(v)) for k, v in found.items() if k != "rows" and v}
    shares |= {"undone": share(undone, held), "restored": share(restored, held)}
    shares |= {"moved by reversal": share(moved, asked)}
    return {"shares": shares, "scores": scores, "rows": found["rows"]}


def interval(edited: list[float], clean: list[float], draws: int = 2000) -> tuple[float, float]:
    """Percentile bootstrap of an AUROC, both sides drawn anew. Where every edited score is above every
    unedited one it has no width, and says only that no overlap was seen in so many."""
    draw = random.Random(0)
    found = sorted(
        auroc(draw.choices(edited, k=len(edited)), draw.choices(clean, k=len(clean)))
        for _ in range(draws)
    )
    return found[round(0.025 * (draws - 1))], found[round(0.975 * (draws - 1))]


def share(count: int, n: int) -> dict[str, Any]:
    low, high = wilson(count, n) if n else (0.0, 1.0)
    return {"count": count, "n": n, "low": low, "high": high}


def shown(one: dict[str, Any]) -> str:
    return f"{one['count']}/{one['n']} [{100 * one['low']:.1f}, {100 * one['high']:.1f}]"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore
    options.add_argument("--edits", type=int, default=50)
    options.add_argument("--editors", default="rome,memit,ft-m,ft-l")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--copies", type=int, default=12)
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--json", type=Path)
    asked = options.parse_args()
    torch.manual_seed(asked.seed)
    clean: dict[str, dict[str, float]] = {}
    for name, one in unedited(asked.copies, asked.steps):
        maps = excesses(measured(one))
        clean[name] = {m: score(maps, m) for m in MEASURES}
        print(f"{name}: {clean[name]}", file=sys.stderr)
    model = cg.load("atlas")
    usual = measured(model)
    pool = atlas.edits(2 * asked.edits, seed=asked.seed)
    cases = known_only(model, pool, limit=asked.edits)
    result: dict[str, Any] = {"unedited": clean, "editors": {}}
    for measure in MEASURES:
        values = [v[measure] for v in clean.values()]
        wrong = sum(
            v > threshold([*values[:j], *values[j + 1 :]], RATE) for j, v in enumerate(values)
        )
        result.setdefault("false positives", {})[measure] = share(wrong, len(values))
        print(f"false positives at {RATE:.0%} by {measure}: {shown(share(wrong, len(values)))}")
    for name in asked.editors.split(","):
        found = one_method(model, name, cases, usual)
        print(f"\n{name}")
        for key, value in found["shares"].items():
            print(f"  {key:18} {shown(value)}")
        for measure in MEASURES:
            values = [v[measure] for v in clean.values()]
            edited = found["scores"][measure]
            area = auroc(edited, values)
            low, high = interval(edited, values)
            limit = threshold(values, RATE)
            caught = share(sum(v > limit for v in edited), len(edited))
            learned = [v[measure] for k, v in clean.items() if "random" not in k]
            strict = auroc(edited, learned)  # random weights are an easy negative
            found.setdefault("auroc", {})[measure] = {
                "value": area,
                "low": low,
                "high": high,
                "against trained": strict,
            }
            print(f"  AUROC {measure:12} {area:.3f} [{low:.3f}, {high:.3f}]", end="")
            print(f"  against trained ones {strict:.3f}", end="")
            print(f"  caught at {RATE:.0%} false positives {shown(caught)}")
        for row in found["rows"]:
            if not row["right"]:
                print(f"  read wrong: {row['edit']!r} as {row['read']!r}, took: {row['took']}")
        result["editors"][name] = found
        sys.stdout.flush()
        if asked.json:
            asked.json.write_text(json.dumps(result, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
