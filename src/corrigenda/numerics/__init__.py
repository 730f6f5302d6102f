"""Linear algebra and optimisation that editors share. Torch only; knows nothing of models."""
