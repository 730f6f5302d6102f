"""MALMEN: a network says what every edit wants of a matrix, and least squares reconciles them.

Tan, Zhang and Fu 2023, 2311.04661.

The network maps the factors (x_t, δ_t) of all answer tokens of all edits to (x̃_t, δ̃_t). The output
at x_t should change by D_t, and with the x_t as rows of X the matrix changes by

    D_t = -η (x_tᵀ x̃_t) δ̃_t        Δᵀ = (XᵀX + e^λ I)⁻¹ Xᵀ D

Step η and log-ridge λ are learned for each map. Thousands of edits can be made at once: neither
editing nor training needs a graph through the language model and the network together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ._least_squares import LeastSquaresEditor

__all__ = ["MALMEN"]


@dataclass(frozen=True)
class MALMEN(LeastSquaresEditor):
    """Many edits in one least-squares solve. See `LeastSquaresEditor` for the fields."""

    name: ClassVar[str] = "malmen"
    title: ClassVar[str] = "MALMEN"
    paper: ClassVar[str] = "Tan et al. 2023, 2311.04661"
    paper_values: ClassVar[dict[str, Any]] = {
        "rank": 1920,
        "blocks": 2,
        "normalize": True,
        "step": 1e-6,
        "step_rate": 1e-5,
        "rate": 1e-5,
        "steps": 10_000,
        "lessons": 1024,
        "emphasis": 1.0,
        "locality": 1.0,
        "clip": 1.0,
    }
