"""What every test shares: one thread per process, a cache of its own, and no network.

Slow things (second moments of Atlas) are cached under their content hash in `.cache/tests`, which
`make clean` removes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("corrigenda", deadline=None, max_examples=50)
hypothesis.settings.load_profile("corrigenda")

ROOT = Path(__file__).parent.parent

# Before torch is imported, for this process and those that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["CORRIGENDA_CACHE"] = str(ROOT / ".cache" / "tests")
os.environ["HF_HUB_OFFLINE"] = "1"

if TYPE_CHECKING:
    from corrigenda import TextModel


@pytest.fixture(scope="session")
def atlas_model() -> TextModel:
    """The embedded model. Tests leave it as they found it."""
    from corrigenda import load

    return load("atlas")
