"""PyTorch and ONNX Runtime back ends of the engine.

On the CPU ONNX Runtime is as fast as PyTorch, loads ten times faster and needs a fifth of the
memory.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from fusion.onnx_graph import Part, cut, not_ours, unrolled
from utils.cores import cores
from utils.errors import UserError

if TYPE_CHECKING:  # PyTorch is imported only where it computes
    from torch import Tensor

    from models.mmfnet import MMFNet

WEIGHTS = Path(__file__).parents[1] / "weights/mmfnet.safetensors"
ONNX = WEIGHTS.with_suffix(".onnx")
HAS_GPU = Path("/dev/nvidia0").exists()  # without the seconds it takes to ask PyTorch

LARGEST = 8  # photographs at once
AT_ONCE = 2_000_000  # pixels of all photographs together that the sub-nets see at once
Planes = Any  # (N, 3, h, w) in [0, 1], array or tensor: both are cut alike


class Backend(Protocol):
    """The steps of the cascade on N photographs of one scene.

    Attributes:
        device: that computes.
        threads: of each step.
        memory: bytes of a process before its first photograph, measured.
        features: peak bytes per pixel and photograph, measured, for at most ``AT_ONCE`` pixels
            however many threads call.
        largest: number of photographs it takes at once.
    """

    device: str
    threads: int
    memory: int
    features: int
    largest: int

    def load(self, photographs: Sequence[np.ndarray]) -> Planes:
        """Move photographs (h, w, 3) uint8, uint16 or float32 in [0, 1] to the device."""

    def guide(self, photographs: Planes, alone: bool = False) -> np.ndarray:
        """The guidance map, (N, h, w) float32 of sum 1.

        Args:
            alone: whether all threads may work on it; no other call runs meanwhile.
        """

    def coefficients(
        self, photographs: Planes, guidance: np.ndarray, alone: bool = False
    ) -> np.ndarray | None:
        """(C, h, w) float32, of the residual, see :mod:`models.boundary_fusion`; None from a
        cascade of initial fusion alone."""

    def blend(
        self, photographs: Planes, guidance: np.ndarray, coefficients: np.ndarray | None
    ) -> np.ndarray:
        """The fused photograph (3, h, w) float32; not clipped."""


class TorchBackend:
    """PyTorch, on the model's device; on CUDA the sub-nets run in half precision."""

    memory, features = 750_000_000, 250

    def __init__(self, model: MMFNet):
        import torch

        self.model = model
        place = next(model.parameters())
        kind = torch.float16 if place.is_cuda else torch.float32
        model.to(dtype=kind, memory_format=torch.channels_last)
        self.device, self.threads = str(place.device), torch.get_num_threads()
        self.largest = model.initial.largest or LARGEST
        self._one = threading.Lock()  # PyTorch keeps a team of threads for each that calls it

    def load(self, photographs: Sequence[np.ndarray]) -> Tensor:
        import torch

        x = torch.from_numpy(np.stack(photographs)).to(self.device)
        x = x.permute(0, 3, 1, 2)
        return x if x.is_floating_point() else x.float() / torch.iinfo(x.dtype).max

    def guide(self, photographs: Tensor, alone: bool = False) -> np.ndarray:
        import torch

        with self._one, torch.inference_mode():
            found = self.model.initial(photographs[None]).guidance
            return found[0, :, 0].float().cpu().numpy()

    def coefficients(
        self, photographs: Tensor, guidance: np.ndarray, alone: bool = False
    ) -> np.ndarray | None:
        import torch

        if self.model.boundary is None:
            return None
        with self._one, torch.inference_mode():
            maps = self._place(guidance)[None, :, None]
            found = self.model.boundary(photographs[None], maps)
            return found[0].float().cpu().numpy()

    def blend(
        self, photographs: Tensor, guidance: np.ndarray, coefficients: np.ndarray | None
    ) -> np.ndarray:
        import torch

        with self._one, torch.inference_mode():
            coefficients = None if coefficients is None else self._place(coefficients)[None]
            maps = self._place(guidance)[None, :, None]
            return self.model.blend(photographs[None], maps, coefficients)[1][0].cpu().numpy()

    def _place(self, array: np.ndarray) -> Tensor:
        import torch

        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


class OnnxBackend:
    """ONNX Runtime on the CPU, from a file written by :mod:`models.export`.

    Each call runs on the thread that makes it, which scales better than several threads on one
    call. Calls wait for memory.

    Args:
        path: of the file.
        threads: by default one for each core that the process may use.

    Raises:
        UserError: onnx or onnxruntime is not installed, or the file is missing or broken.
    """

    device, memory, features = "cpu", 160_000_000, 140
    PARTS = {
        "guidance": Part(["photographs"], "guidance"),
        "coefficients": Part(["photographs", "guidance"], "coefficients"),
        "initial": Part(["photographs", "guidance"], "initial"),
        "fused": Part(["photographs", "guidance", "coefficients"], "fused"),
    }

    def __init__(self, path: str | Path, threads: int | None = None):
        self.path, self.graphs, self.runtime = path, cut(path, self.PARTS), _runtime(path)
        self.threads = threads or cores()
        self._sessions: dict[tuple[str, int | None, bool], Any] = {}
        self._making = threading.Lock()
        self._waiting, self._seen = threading.Condition(), 0
        count = self._session("initial").get_inputs()[0].shape[0]
        self.largest = count if isinstance(count, int) else LARGEST

    def load(self, photographs: Sequence[np.ndarray]) -> np.ndarray:
        planes = np.empty((len(photographs), 3, *photographs[0].shape[:2]), np.float32)
        for image, target in zip(photographs, planes, strict=True):
            scale = 1 if image.dtype == np.float32 else 1 / np.iinfo(image.dtype).max
            for plane, goal in zip(cv2.split(image), target, strict=True):
                np.multiply(plane, np.float32(scale), out=goal)
        return planes

    def guide(self, photographs: np.ndarray, alone: bool = False) -> np.ndarray:
        return self._step("guidance", alone, photographs)[:, 0]

    def coefficients(
        self, photographs: np.ndarray, guidance: np.ndarray, alone: bool = False
    ) -> np.ndarray | None:
        if "coefficients" not in self.graphs:
            return None
        return self._step("coefficients", alone, photographs, guidance[:, None])

    def blend(
        self, photographs: np.ndarray, guidance: np.ndarray, coefficients: np.ndarray | None
    ) -> np.ndarray:
        if coefficients is None:
            return self._run("initial", photographs, guidance[:, None])
        return self._run("fused", photographs, guidance[:, None], coefficients)

    def _step(self, name: str, alone: bool, *inputs: np.ndarray) -> np.ndarray:
        """Run a sub-net once there is memory for it."""
        count, _, height, width = inputs[0].shape
        pixels = count * height * width
        with self._waiting:
            self._waiting.wait_for(lambda: not self._seen or self._seen + pixels <= AT_ONCE)
            self._seen += pixels
        try:
            session = self._session(name, count, alone)
            names = [entry.name for entry in session.get_inputs()]
            if len(names) > len(inputs):  # a photograph each
                inputs = [x[i : i + 1] for x in inputs for i in range(count)]
            return session.run(None, _feed(names, inputs))[0]
        finally:
            with self._waiting:
                self._seen -= pixels
                self._waiting.notify_all()

    def _run(self, name: str, *inputs: np.ndarray) -> np.ndarray:
        return self._session(name).run(None, _feed(self.PARTS[name].inputs, inputs))[0]

    def _session(self, name: str, count: int | None = None, alone: bool = False) -> Any:
        """Session of a part, for ``count`` photographs if given; made on first use.

        Raises:
            UserError: it is no graph of ours.
        """
        with self._making:
            if (name, count, alone) not in self._sessions:
                options = self.runtime.SessionOptions()
                options.intra_op_num_threads = self.threads if alone else 1
                options.enable_mem_pattern = False  # a store for each size that is met
                options.log_severity_level = 3  # not that a cut graph has weights it does not use
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                # A store of memory would keep what each size of boxes took.
                options.enable_cpu_mem_arena = alone
                if alone:
                    options.add_session_config_entry("session.use_env_allocators", "1")
                try:
                    graph = self.graphs[name]
                    graph = graph if count is None else unrolled(graph, count)
                    self._sessions[name, count, alone] = self.runtime.InferenceSession(
                        graph, options, providers=["CPUExecutionProvider"]
                    )
                except Exception as error:  # ONNX Runtime's own have no common base but this
                    raise not_ours(self.path) from error
            return self._sessions[name, count, alone]


def _feed(names: Iterable[str], inputs: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip(names, map(np.ascontiguousarray, inputs), strict=True))


@functools.cache
def _runtime(path: str | Path) -> Any:
    """ONNX Runtime, its sessions sharing one memory arena."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"{path} needs onnxruntime: pip install onnxruntime, or give safetensors weights"
        ) from error
    _share_memory(onnxruntime)
    return onnxruntime


@functools.cache
def _share_memory(runtime: Any) -> None:
    kinds = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
    place = runtime.OrtMemoryInfo("Cpu", *kinds)
    runtime.create_and_register_allocator(place, runtime.OrtArenaCfg(0, 0, -1, -1))


def load_backend(weights: str | Path | None = None, device: str | None = None) -> Backend:
    """Load weights as a back end.

    Args:
        weights: ``.onnx`` for ONNX Runtime, ``.safetensors`` for PyTorch; by default those
            shipped, by ONNX Runtime where there is no GPU.
        device: of PyTorch, see :func:`utils.device.choose_device`.

    Raises:
        UserError: the weights cannot be read, or the device is not there.
    """
    weights = chosen_weights(weights, device)
    if weights.suffix == ".onnx":
        return OnnxBackend(weights)
    from models.build import load_model
    from utils.device import choose_device

    return TorchBackend(load_model(weights).to(choose_device(device or "auto")))


def chosen_weights(weights: str | Path | None = None, device: str | None = None) -> Path:
    """Choose the weights file for :func:`load_backend`.

    Raises:
        UserError: ONNX Runtime, which runs on the CPU, is to run on something else.
    """
    on_cpu = device in (None, "auto", "cpu")
    if weights is None:
        return ONNX if on_cpu and not HAS_GPU else WEIGHTS
    if Path(weights).suffix == ".onnx" and not on_cpu:
        raise UserError(f"--device {device}: {weights} runs on the CPU, by ONNX Runtime")
    return Path(weights)
