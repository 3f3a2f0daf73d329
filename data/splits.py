"""Train/validation splits by source photograph, stable across machines and time."""

from __future__ import annotations

import hashlib


def is_held_out(photograph: str, fraction: float) -> bool:
    """Whether a photograph belongs to validation, decided by a hash of its name alone.

    So the split neither changes when photographs are added, nor puts two cut-outs of one
    photograph on different sides.

    Args:
        photograph: stem of the source photograph's file name.
        fraction: share of photographs to hold out, in [0, 1].
    """
    digest = hashlib.sha256(photograph.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64
