"""Export a cascade to ONNX: one graph, for images of any size.

    python -m models.export --onnx out.onnx
    python -m models.export --onnx out.onnx --weights runs/mmfnet/best.safetensors

The graph takes image1 and image2 (N, 3, H, W), RGB in [0, 1], of at least 16×16 pixels, and gives
fused (N, 3, H, W), guidance and boundary (N, 1, H, W), all in [0, 1], and the coefficients of the
residual (N, C, H, W). A third input, sharpness (models.mmfnet.sharpen), is for stacks and need not
be given. What the weights are, and their terms, is in the file's metadata. Nothing is
written unless ONNX Runtime gives with the file what PyTorch gives with the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from safetensors import safe_open
from torch import Tensor, nn

from defocus.guidance import boundary_map
from models.build import load_model
from models.mmfnet import MMFNet, select, sharpen
from utils.atomic import atomic_path
from utils.errors import UserError, cli
from utils.provenance import provenance

WEIGHTS = Path(__file__).parents[1] / "weights/mmfnet.safetensors"
TERMS = "non-commercial research and education: trained on BSDS500, see weights/README.md"
OPSET = 17  # old enough for the runtimes in use; the sub-nets need nothing newer
SIZES = ((97, 130), (160, 256), (211, 83))  # (H, W) of the check: on the grids of the nets and off
TOLERANCE = 1e-4
PLANES = ("fused", "guidance", "boundary", "logits")  # then, of a boundary sub-net:
CORRECTION = ("coefficients", "residual")
INSIDE = ("logits", "residual")  # no outputs, but models/onnx_backend.py cuts the graph there


class Graph(nn.Module):
    """The cascade with everything that the ONNX graph names."""

    def __init__(self, model: MMFNet):
        super().__init__()
        self.model = model

    def forward(self, image1: Tensor, image2: Tensor, sharpness: Tensor) -> tuple[Tensor, ...]:
        """``PLANES``, and ``CORRECTION`` if there is a boundary sub-net."""
        logits = self.model.initial(image1, image2)
        guidance = torch.sigmoid(sharpen(logits, sharpness))
        initial = select(image1, image2, guidance)
        boundary = boundary_map(guidance)
        if self.model.boundary is None:
            return initial.clamp(0, 1), guidance, boundary, logits
        coefficients = self.model.boundary.coefficients(image1, image2, guidance)
        residual = self.model.boundary.residual(coefficients, image1, image2)
        fused = (initial + boundary * residual).clamp(0, 1)
        return fused, guidance, boundary, logits, coefficients, residual


@cli
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--onnx", required=True, metavar="FILE", help="to write")
    parser.add_argument("--weights", default=WEIGHTS, type=Path, help="by default the shipped")
    parser.add_argument("--terms", help="of use of the weights, for the metadata")
    args = parser.parse_args(argv)
    if Path(args.onnx).suffix != ".onnx":
        raise UserError(f"--onnx {args.onnx}: the name of an ONNX file ends in .onnx")
    model = load_model(args.weights)
    proto = to_onnx(model, about(args.weights, args.terms))
    errors = check(proto, model)
    with atomic_path(args.onnx) as temporary:
        onnx.save(proto, temporary)
    print(f"{args.onnx}: opset {OPSET}, {proto.ByteSize() / 1e6:.1f} MB")
    for (height, width), error in zip(SIZES, errors, strict=True):
        print(f"{width}×{height}: at most {error:.1e} from PyTorch")


def about(weights: Path, terms: str | None = None) -> dict[str, str]:
    """What the metadata say of the weights."""
    content = weights.read_bytes()
    with safe_open(weights, "pt") as file:
        stored = file.metadata()
    if terms is None:
        shipped = content == WEIGHTS.read_bytes()
        terms = TERMS if shipped else "not stated; ask who trained the weights"
    return {
        "weights": weights.name,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "terms": terms,
        "model": stored["model"],
        "version": provenance()["revision"],
        "torch": torch.__version__,
    }


def to_onnx(model: MMFNet, metadata: dict[str, str]) -> onnx.ModelProto:
    """The cascade as one graph with its weights; batch, height and width are free.

    Args:
        metadata: to store; how the sub-nets may be tiled is added, see :mod:`models.fuse`.
    """
    nets = {"initial": model.initial, "boundary": model.boundary}
    nets = {name: net for name, net in nets.items() if net is not None}
    names = [*PLANES, *(CORRECTION if "boundary" in nets else ())]
    images = ("image1", "image2")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that PyTorch prefers takes many times as long and needs PyTorch 2.5; the
        # graph is the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            Graph(model).eval(),
            (*(torch.rand(2, 3, 70, 90) for _ in images), torch.ones(())),
            buffer,
            input_names=[*images, "sharpness"],
            output_names=names,
            dynamic_axes={
                name: {0: "batch", 2: "height", 3: "width"} for name in (*images, *names)
            },
            opset_version=OPSET,
            dynamo=False,
        )
    proto = onnx.load_from_string(buffer.getvalue())
    # An input with an initial value need not be given.
    proto.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "sharpness"))
    for output in [node for node in proto.graph.output if node.name in INSIDE]:
        proto.graph.value_info.append(output)
        proto.graph.output.remove(output)
    tiles = {
        name: json.dumps({"multiple": net.multiple, "reach": net.reach})
        for name, net in nets.items()
    }
    onnx.helper.set_model_props(proto, metadata | tiles)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def check(proto: onnx.ModelProto, model: MMFNet) -> list[float]:
    """The largest difference between ONNX Runtime and PyTorch at each of ``SIZES``.

    Raises:
        UserError: it is above ``TOLERANCE``.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of an input that has an initial value
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    random = torch.Generator().manual_seed(0)
    errors = []
    for size in SIZES:
        images = [torch.rand(1, 3, *size, generator=random) for _ in range(2)]
        feed = {f"image{i}": image.numpy() for i, image in enumerate(images, 1)}
        result = session.run(["fused", "guidance", "boundary"], feed)
        with torch.inference_mode():
            fusion = model(*images)
        expected = fusion.fused.clamp(0, 1), fusion.guidance, fusion.boundary
        errors.append(
            max(np.abs(x - y.numpy()).max() for x, y in zip(result, expected, strict=True))
        )
    if not max(errors) <= TOLERANCE:
        raise UserError(
            f"the graph is up to {max(errors):.1e} from PyTorch, more than {TOLERANCE:.0e}; "
            "nothing was written"
        )
    return errors


if __name__ == "__main__":
    sys.exit(main())
