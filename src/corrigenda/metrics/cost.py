"""What an edit costs: time by the clock and of the processor, peak memory, size.

Time runs from the request to the usable model. The accelerator is synchronised at both ends;
loading, evaluation and precomputation (second moments) are measured apart. A batch's time is
divided among its edits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import InputError

__all__ = ["Cost", "edits_per_second", "measured", "resident_bytes", "slowdown"]


@dataclass
class Cost:
    """Filled in when the `measured` block ends. Bytes; None where it cannot be measured.

    `processor` is the time that this process computed, over all its threads: beside other work it
    says more than the clock does, and nothing about a GPU.
    """

    seconds: float = 0.0
    processor: float = 0.0
    cuda_allocated: int | None = None
    cuda_reserved: int | None = None
    resident: int | None = None


def edits_per_second(edits: int, seconds: float) -> float:
    """Throughput; infinite for no time at all."""
    return edits / seconds if seconds > 0 else float("inf")


def slowdown(before: float, after: float) -> float:
    """How many times as long the edited model takes for the same prompts; 1 for as long.

    Raises `InputError` for times that are not above 0.
    """
    if before <= 0 or after <= 0:
        raise InputError(f"A slowdown compares times above 0, not {before} and {after} s.")
    return after / before


def resident_bytes() -> int | None:
    """The largest resident set that this process has had, or None where it is unknown."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def measured() -> Iterator[Cost]:
    """Time a block and read the peak memory that it needed, also if it raises."""
    import torch

    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    cost = Cost()
    start, begun = time.perf_counter(), time.process_time()
    try:
        yield cost
    finally:
        if cuda:
            torch.cuda.synchronize()
            cost.cuda_allocated = torch.cuda.max_memory_allocated()
            cost.cuda_reserved = torch.cuda.max_memory_reserved()
        cost.seconds = time.perf_counter() - start
        cost.processor = time.process_time() - begun
        cost.resident = resident_bytes()
