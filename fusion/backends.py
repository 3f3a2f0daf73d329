"""The cascade as running fusion asks it, a sub-net at a time.

By PyTorch on any device, or by ONNX Runtime on the CPU, which is as fast there, starts in a tenth
of a second where PyTorch takes seconds, and takes a fifth of its memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fusion.onnx_graph import Part, cut, not_ours
from utils.errors import UserError

if TYPE_CHECKING:  # PyTorch is imported only where it computes
    from torch import Tensor

    from models.mmfnet import MMFNet

WEIGHTS = Path(__file__).parents[1] / "weights/mmfnet.safetensors"
ONNX = WEIGHTS.with_suffix(".onnx")
HAS_GPU = Path("/dev/nvidia0").exists()  # without the seconds it takes to ask PyTorch
# Of decisions, see :func:`models.mmfnet.sharpen`. With it, generated stacks of 5 layers come out
# nearer to the truth than by pairwise folding, in the band and outside it: benchmarks/folding.py
SHARPNESS = 1.2


class Cascade(Protocol):
    """Decides on two (h, w, 3) float32 pictures in [0, 1], by its two sub-nets.

    Attributes:
        parallel: calls at once that are worth it.
        memory: bytes that a process with it takes, measured, before it sees a picture.
    """

    parallel: int
    memory: int

    def guidance(self, image1: np.ndarray, image2: np.ndarray) -> np.ndarray:
        """(h, w) float32: 1 where the first picture is right, 0 where the second is."""

    def coefficients(
        self, image1: np.ndarray, image2: np.ndarray, guidance: np.ndarray
    ) -> np.ndarray | None:
        """(h, w, C) float32, of the residual, see :mod:`models.boundary_fusion`; None for initial
        fusion alone."""


class TorchCascade:
    """By PyTorch, where the model is."""

    parallel = 1  # PyTorch divides each call among the cores itself
    memory = 750_000_000

    def __init__(self, model: MMFNet):
        self.model = model

    def guidance(self, image1: np.ndarray, image2: np.ndarray) -> np.ndarray:
        import torch

        from models.mmfnet import sharpen

        with torch.inference_mode():
            logits = self.model.initial(*map(self._load, (image1, image2)))
            return _array(torch.sigmoid(sharpen(logits, SHARPNESS)))[..., 0]

    def coefficients(
        self, image1: np.ndarray, image2: np.ndarray, guidance: np.ndarray
    ) -> np.ndarray | None:
        import torch

        if self.model.boundary is None:
            return None
        with torch.inference_mode():
            inputs = map(self._load, (image1, image2, guidance[..., None]))
            return _array(self.model.boundary.coefficients(*inputs))

    def _load(self, image: np.ndarray) -> Tensor:
        import torch

        device = next(self.model.parameters()).device
        return torch.from_numpy(image).to(device).permute(2, 0, 1)[None]


def _array(batch: Tensor) -> np.ndarray:
    """(1, C, h, w) as (h, w, C)."""
    return batch[0].permute(1, 2, 0).cpu().numpy()


class OnnxCascade:
    """By ONNX Runtime on the CPU, from a file that :mod:`models.export` wrote.

    Raises:
        UserError: onnx or onnxruntime is not installed, or the file is missing or broken.
    """

    memory = 160_000_000
    PARTS = {
        "initial": Part(["image1", "image2", "sharpness"], "guidance"),
        "boundary": Part(["image1", "image2", "guidance"], "coefficients"),
    }

    def __init__(self, path: str | Path):
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f"{path} needs onnxruntime: pip install onnxruntime, or give safetensors weights"
            ) from error
        self.parallel = len(os.sched_getaffinity(0))
        options = onnxruntime.SessionOptions()
        # Several tiles at once, a thread each, scale better than one tile on several threads.
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # that an input has a default is no warning to users
        try:
            self.sessions = {
                name: onnxruntime.InferenceSession(graph, options)
                for name, graph in cut(path, self.PARTS).graphs.items()
            }
        except UserError:
            raise
        except Exception as error:  # ONNX Runtime's own have no common base but this
            raise not_ours(path) from error

    def guidance(self, image1: np.ndarray, image2: np.ndarray) -> np.ndarray:
        feed = {"image1": _planes(image1), "image2": _planes(image2)}
        feed["sharpness"] = np.array(SHARPNESS, np.float32)
        return self.sessions["initial"].run(None, feed)[0][0, 0]

    def coefficients(
        self, image1: np.ndarray, image2: np.ndarray, guidance: np.ndarray
    ) -> np.ndarray | None:
        if "boundary" not in self.sessions:
            return None
        feed = {"image1": _planes(image1), "image2": _planes(image2)}
        feed["guidance"] = np.ascontiguousarray(guidance)[None, None]
        return self.sessions["boundary"].run(None, feed)[0][0].transpose(1, 2, 0)


def _planes(image: np.ndarray) -> np.ndarray:
    """(h, w, C) as (1, C, h, w)."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))[None]


def load_cascade(weights: str | Path | None = None, device: str | None = None) -> Cascade:
    """Weights as a cascade.

    Args:
        weights: ``.onnx`` for ONNX Runtime, ``.safetensors`` for PyTorch; by default those
            shipped, by ONNX Runtime where there is no GPU.
        device: of PyTorch, see :func:`utils.device.choose_device`.

    Raises:
        UserError: the weights cannot be read, or the device is not there.
    """
    if weights is None:
        weights = ONNX if device in (None, "auto", "cpu") and not HAS_GPU else WEIGHTS
    if Path(weights).suffix == ".onnx":
        return OnnxCascade(weights)
    import torch

    from models.build import load_model
    from utils.device import choose_device

    model = load_model(weights).to(choose_device(device or "auto"))
    return TorchCascade(model.to(memory_format=torch.channels_last))
