"""The cascade as running fusion asks it: two pictures in, a decision out.

By PyTorch on any device, or by ONNX Runtime on the CPU, which is as fast there, starts in a tenth
of a second where PyTorch takes seconds, and takes a fifth of its memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from utils.errors import UserError

if TYPE_CHECKING:  # PyTorch is imported only where it computes
    from models.mmfnet import MMFNet

WEIGHTS = Path(__file__).parents[1] / "weights/mmfnet.safetensors"
ONNX = WEIGHTS.with_suffix(".onnx")
HAS_GPU = Path("/dev/nvidia0").exists()  # without the seconds it takes to ask PyTorch
# Of decisions, see :func:`models.mmfnet.sharpen`. With it, generated stacks of 5 layers come out
# nearer to the truth than by pairwise folding, in the band and outside it: benchmarks/folding.py
SHARPNESS = 1.2


class Decision(NamedTuple):
    """What the cascade says about two pictures, by which they are fused.

    Attributes:
        guidance: (h, w) float32, 1 where the first picture is right, 0 where the second is.
        coefficients: (h, w, C) float32 of the residual, see :mod:`models.boundary_fusion`; None
            for initial fusion alone.
    """

    guidance: np.ndarray
    coefficients: np.ndarray | None

    def part(self, window: tuple[slice, slice]) -> Decision:
        """The decision on a window of the pictures."""
        return Decision(*(x if x is None else x[window] for x in self))


class Cascade(Protocol):
    """Decides on two (h, w, 3) float32 pictures in [0, 1].

    Attributes:
        parallel: calls at once that are worth it.
        memory: bytes that a process with it takes, measured, before it sees a picture.
    """

    parallel: int
    memory: int

    def __call__(self, image1: np.ndarray, image2: np.ndarray) -> Decision: ...


class TorchCascade:
    """By PyTorch, where the model is."""

    parallel = 1  # PyTorch divides each call among the cores itself
    memory = 750_000_000

    def __init__(self, model: MMFNet):
        self.model = model

    def __call__(self, image1: np.ndarray, image2: np.ndarray) -> Decision:
        import torch

        from models.mmfnet import sharpen

        device = next(self.model.parameters()).device
        with torch.inference_mode():
            images = [
                torch.from_numpy(x).to(device).permute(2, 0, 1)[None] for x in (image1, image2)
            ]
            guidance = torch.sigmoid(sharpen(self.model.initial(*images), SHARPNESS))
            if self.model.boundary is None:
                return Decision(guidance[0, 0].cpu().numpy(), None)
            coefficients = self.model.boundary.coefficients(*images, guidance)
            return Decision(
                guidance[0, 0].cpu().numpy(), coefficients[0].permute(1, 2, 0).cpu().numpy()
            )


class OnnxCascade:
    """By ONNX Runtime on the CPU, from a file that :mod:`models.export` wrote.

    Raises:
        UserError: onnxruntime is not installed, or the file is missing or broken.
    """

    memory = 160_000_000

    def __init__(self, path: str | Path):
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f"{path} needs onnxruntime: pip install onnxruntime, or give safetensors weights"
            ) from error
        if not Path(path).is_file():
            raise UserError(f"{path} is missing; python -m models.export writes it")

        self.parallel = len(os.sched_getaffinity(0))
        options = onnxruntime.SessionOptions()
        # Several tiles at once, a thread each, scale better than one tile on several threads.
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # that an input has a default is no warning to users
        try:
            self.session = onnxruntime.InferenceSession(str(path), options)
        except Exception as error:  # its classes have no common base but this
            raise UserError(f"{path} is no ONNX file that can be read") from error
        self.options = onnxruntime.RunOptions()
        self.options.only_execute_path_to_fetches = True

    def __call__(self, image1: np.ndarray, image2: np.ndarray) -> Decision:
        feed = {
            "image1": np.ascontiguousarray(image1.transpose(2, 0, 1))[None],
            "image2": np.ascontiguousarray(image2.transpose(2, 0, 1))[None],
            "sharpness": np.array(SHARPNESS, np.float32),
        }
        outputs = ["guidance", "coefficients"]
        guidance, coefficients = self.session.run(outputs, feed, self.options)
        return Decision(guidance[0, 0], coefficients[0].transpose(1, 2, 0))


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
