"""Steps of the cascade as graphs of their own, cut out of the one that :mod:`models.export` wrote.

Needs no PyTorch: ONNX Runtime computes all of a graph, even what is not asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError


class Part(NamedTuple):
    """A part of the graph, by the names of what goes in and what comes out."""

    inputs: list[str]
    output: str


def cut(path: str | Path, parts: Mapping[str, Part]) -> dict[str, bytes]:
    """Cut parts out of an ONNX file, each serialised; one whose names it has not is left out.

    Raises:
        UserError: onnx is not installed, or the file is missing, broken or none of ours.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
        from onnx.utils import Extractor
    except ImportError as error:
        raise UserError(
            f"{path} needs {error.name}: pip install onnx onnxruntime, or give safetensors weights"
        ) from error
    try:
        model = onnx.load(path)
        outputs = {output.name for output in model.graph.output}
        extractor = Extractor(model)
        graphs = {
            name: extractor.extract_model(part.inputs, [part.output]).SerializeToString()
            for name, part in parts.items()
            if outputs >= {part.output, *part.inputs[1:]}
        }
    except OSError as error:
        raise UserError(f"cannot read weights {path}: {error.strerror or error}") from error
    except (DecodeError, ValueError) as error:
        raise not_ours(path) from error
    if "initial" not in graphs:
        raise not_ours(path)
    return graphs


def not_ours(path: str | Path) -> UserError:
    """What to say of a file that cannot be used."""
    return UserError(
        f"{path} is not a whole ONNX file of ours; write it with python -m models.export"
    )
