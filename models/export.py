"""Export a cascade to ONNX: one graph, for any number of photographs of any size.

    python -m models.export --onnx out.onnx
    python -m models.export --onnx out.onnx --weights runs/mmfnet/best.safetensors

The graph takes photographs (N, 3, H, W), RGB in [0, 1], N ≥ 2, of at least 16×16 pixels, and gives
fused and initial (3, H, W), guidance (N, 1, H, W) and boundary (1, H, W), all in [0, 1]. Its
metadata tell the weights and their terms. Nothing is written unless ONNX Runtime gives with the
file what PyTorch gives with the weights. :mod:`fusion.onnx_graph` cuts the graph into its steps.
"""

import hashlib
import io
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors import safe_open
from torch import Tensor, nn

from models import WEIGHTS
from models.build import load_model
from models.mmfnet import MMFNet, boundary_map
from utils.atomic import atomic_path
from utils.errors import UserError, cli, option_parser
from utils.provenance import provenance

TERMS = "non-commercial research and education: trained on BSDS500, see weights/README.md"
OPSET = 17  # old enough for the runtimes in use; the sub-nets need nothing newer
SHAPES = ((2, 3, 97, 130), (3, 3, 160, 256), (5, 3, 211, 83))  # of the check: on grids and off
TOLERANCE = 1e-3  # a quarter of a grey level: rounding shows where photographs are all but tied
OUTPUTS = {  # with the axes that are free
    "fused": {1: "height", 2: "width"},
    "initial": {1: "height", 2: "width"},
    "guidance": {0: "photographs", 2: "height", 3: "width"},
    "boundary": {1: "height", 2: "width"},
    "coefficients": {0: "coefficients", 1: "height", 2: "width"},  # of a boundary sub-net alone
}


class Graph(nn.Module):
    """The cascade with everything that the ONNX graph names, for one scene."""

    def __init__(self, model: MMFNet):
        super().__init__()
        self.model = model

    def forward(self, photographs: Tensor) -> tuple[Tensor, ...]:
        """:data:`OUTPUTS` of photographs (N, 3, H, W)."""
        # The steps are cut apart at the clones' names; they must not be optimised away.
        guidance = self.model.initial(photographs).guidance.clone()
        coefficients = None
        if self.model.boundary:
            coefficients = self.model.boundary(photographs, guidance).clone()
        initial, fused = self.model.blend(photographs, guidance, coefficients)
        found = fused.clamp(0, 1), initial, guidance, boundary_map(guidance)
        return found if coefficients is None else (*found, coefficients)


@cli
def main(argv: list[str] | None = None) -> None:
    parser = option_parser(__doc__)
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
    for (count, _, height, width), error in zip(SHAPES, errors, strict=True):
        print(f"{count} of {width}×{height}: 99.99 % of the values within {error:.1e} of PyTorch's")


def about(weights: Path, terms: str | None = None) -> dict[str, str]:
    """What the metadata say of the weights."""
    content = weights.read_bytes()
    shipped = content == WEIGHTS.read_bytes()
    with safe_open(weights, "pt") as file:
        model = file.metadata()["model"]
    return {
        "weights": weights.name,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "terms": terms or (TERMS if shipped else "not stated; ask who trained the weights"),
        "model": model,
        "version": provenance()["revision"],
        "torch": torch.__version__,
    }


def to_onnx(model: MMFNet, metadata: dict[str, str]) -> onnx.ModelProto:
    """The cascade as one graph with its weights and metadata; height and width are free, and the
    number of photographs, unless the network takes pairs alone."""
    names = list(OUTPUTS)[: None if model.boundary else -1]
    free = {"photographs": {2: "height", 3: "width"}, **OUTPUTS}
    if not model.initial.largest:
        free["photographs"][0] = "photographs"
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that PyTorch prefers takes many times as long and needs PyTorch 2.5; the
        # graph is the same.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            Graph(model).eval(),
            (torch.rand(model.initial.largest or 3, 3, 70, 90),),
            buffer,
            input_names=["photographs"],
            output_names=names,
            dynamic_axes={name: free[name] for name in ("photographs", *names)},
            opset_version=OPSET,
            dynamo=False,
        )
    proto = onnx.load_from_string(buffer.getvalue())
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def check(proto: onnx.ModelProto, model: MMFNet) -> list[float]:
    """The largest difference between ONNX Runtime and PyTorch at each of ``SHAPES``, but for one
    value in 10,000, where rounding may decide between two photographs; raises :class:`UserError`
    if it is above ``TOLERANCE``."""
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    random = torch.Generator().manual_seed(0)
    errors = []
    for shape in SHAPES:
        photographs = torch.rand(*shape, generator=random)[: model.initial.largest]
        result = session.run(list(OUTPUTS)[:4], {"photographs": photographs.numpy()})
        with torch.inference_mode():
            fusion = model(photographs[None])
        expected = fusion.fused.clamp(0, 1), fusion.initial, fusion.guidance, fusion.boundary
        differences = [np.abs(x - y[0].numpy()) for x, y in zip(result, expected, strict=True)]
        errors.append(float(np.max([np.quantile(plane, 0.9999) for plane in differences])))
    if not np.max(errors) <= TOLERANCE:  # not Python's max, which may pass NaN over
        what = f"the graph is {np.max(errors):.1e} from PyTorch, more than {TOLERANCE:.0e}"
        raise UserError(f"{what}; nothing was written")
    return errors


if __name__ == "__main__":
    sys.exit(main())
