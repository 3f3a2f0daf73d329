"""A cascade from an ONNX file, run by ONNX Runtime on the CPU.

>>> model = load_onnx("out.onnx")
>>> fused, guidance, boundary = fuse_arrays(model, near, far)

The sub-nets are cut out of the graph that :mod:`models.export` wrote, so what comes is an ordinary
:class:`~models.mmfnet.MMFNet`: whatever takes one takes it, in tiles too.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from models.mmfnet import MMFNet
from models.onnx_graph import Part, cut, not_ours
from utils.errors import UserError

PARTS = {
    "initial": Part(["image1", "image2"], "logits"),
    "boundary": Part(["image1", "image2", "guidance"], "residual"),
}


class OnnxNet(nn.Module):
    """A sub-net on ONNX Runtime.

    Args:
        graph: serialised, with one output.
        multiple, reach: see :mod:`models.fuse`.
        threads: by default as many as PyTorch takes.
    """

    def __init__(self, graph: bytes, multiple: int, reach: int, threads: int | None = None):
        import onnxruntime

        super().__init__()
        self.multiple, self.reach = multiple, reach
        # Tells where the net is, as the parameters of other modules do.
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """One tensor (N, C, H, W) on the CPU from several."""
        names = [node.name for node in self.session.get_inputs()]
        arrays = [tensor.contiguous().numpy() for tensor in inputs]
        return torch.from_numpy(self.session.run(None, dict(zip(names, arrays, strict=True)))[0])


def load_onnx(path: str | Path, threads: int | None = None) -> MMFNet:
    """A cascade from a file that :mod:`models.export` wrote.

    Args:
        threads: by default as many as PyTorch takes.

    Raises:
        UserError: onnx or onnxruntime is not installed, or the file is missing, broken or none of
            ours.
    """
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as faults
    except ImportError as error:
        raise UserError(
            f"{path} needs {error.name}: pip install onnx onnxruntime, or give safetensors weights"
        ) from error
    graphs, about = cut(path, PARTS)
    try:
        nets = {
            name: OnnxNet(graph, **json.loads(about[name]), threads=threads)
            for name, graph in graphs.items()
        }
    except (faults.Fail, faults.InvalidGraph, faults.InvalidProtobuf, ValueError) as error:
        raise not_ours(path) from error
    return MMFNet(nets["initial"], nets.get("boundary")).eval()
