"""Records of finished stacks, which ``--resume`` skips.

A record is written beside the results, after them. It holds the report of the stack and what the
results were made from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from fusion.options import Options
from fusion.outputs import FORMATS
from fusion.stack_files import Source
from utils.atomic import clear, partial, write_json
from utils.errors import UserError


def describe_origin(source: Source, options: Options, weights: Path) -> dict:
    """What the results of a stack depend on: its files, the options and the weights."""
    try:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    files = [_state(path) for path in source.files]
    chosen = asdict(options)
    del chosen["memory"]  # does not change the results
    return {"files": files, "options": chosen, "weights": digest}


def _state(path: Path) -> dict:
    """Size and time of a file, to notice changes; only the name of an absent one."""
    try:
        stat = path.stat()
    except OSError:
        return {"file": path.name}
    return {"file": path.name, "bytes": stat.st_size, "changed": stat.st_mtime_ns}


def save(output: Path, report: dict, origin: dict) -> None:
    """Record that a stack is finished."""
    path = _path(output, report["name"])
    clear(output, path.stem)
    write_json(path, {"report": report, "made_from": origin})


def load_finished(output: Path, name: str, origin: dict) -> dict | None:
    """The report of a stack that was finished from the same origin and whose results exist."""
    try:
        record = json.loads(_path(output, name).read_text(encoding="utf-8"))
        done = record["made_from"] == origin
        done = done and all((output / file).exists() for file in record["report"]["files"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, or not ours
        return None
    return record["report"] if done else None


def check_results(output: Path, name: str, pair: bool) -> None:
    """Raise a :class:`UserError` if the result of a pair would replace that of a stack, or that of
    a stack a file that no stack gave."""
    record = _path(output, name)
    if pair:
        if record.exists():
            raise UserError(
                f"{record} says that {name}-Fusion is a stack's result, which the pair's would "
                "replace; give another --output"
            )
        return
    results = [
        path for suffix in FORMATS.values() if (path := output / f"{name}-Fusion{suffix}").exists()
    ]
    unfinished = partial(output, name).exists()  # of a stack that was killed between two files
    if results and not unfinished and not record.exists():
        raise UserError(
            f"{results[0]} is there and no stack's, for {record.name} is not beside it; move it, "
            "or give another --output"
        )


def _path(output: Path, name: str) -> Path:
    return output / f"{name}-Record.json"
