"""Train/validation splits by source photograph, stable across machines and time."""

from __future__ import annotations

import hashlib


def is_held_out(photograph: str, fraction: float) -> bool:
    """Whether a photograph belongs to validation, to which ``fraction`` in [0, 1] of all do.

    A hash of its name (the stem of its file) decides: the split stays when photographs are added,
    and all cut-outs of a photograph are on one side.
    """
    digest = hashlib.sha256(photograph.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
