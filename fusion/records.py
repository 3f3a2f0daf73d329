"""Records of finished stacks, by which ``--resume`` knows what is left to do.

A stack's record lies beside its results and is written after them. It holds the report of the
stack and what the results were made from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from fusion.options import Options
from fusion.stack_files import Source
from utils.atomic import atomic_path
from utils.errors import UserError


def made_from(source: Source, options: Options, weights: Path) -> dict:
    """What decides the results of a stack: its files, the options and the weights.

    Raises:
        UserError: a file cannot be looked at.
    """
    try:
        stats = [path.stat() for path in source.files]
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    files = [
        {"file": path.name, "bytes": stat.st_size, "changed": stat.st_mtime_ns}
        for path, stat in zip(source.files, stats, strict=True)
    ]
    chosen = asdict(options)
    del chosen["memory"]  # decides whether there are results, not what they are
    return {"files": files, "options": chosen, "weights": digest}


def save(output: Path, report: dict, origin: dict) -> None:
    """Note that a stack is finished.

    Raises:
        UserError: the record cannot be written.
    """
    with atomic_path(_path(output, report["name"])) as temporary:
        record = {"report": report, "made_from": origin}
        temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")


def finished(output: Path, name: str, origin: dict) -> dict | None:
    """The report of a stack that is finished: made from the same, and its results are there."""
    try:
        record = json.loads(_path(output, name).read_text(encoding="utf-8"))
        done = record["made_from"] == origin
        done = done and all((output / file).exists() for file in record["report"]["files"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, or of other make
        return None
    return record["report"] if done else None


def _path(output: Path, name: str) -> Path:
    return output / f"{name}-Record.json"
