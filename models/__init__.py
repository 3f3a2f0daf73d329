"""The cascade and its sub-nets, how they are built, loaded and exported."""

from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "weights/mmfnet.safetensors"  # those shipped
