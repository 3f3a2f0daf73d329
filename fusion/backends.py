"""The steps of the cascade, computed by PyTorch or ONNX Runtime.

On the CPU, ONNX Runtime is as fast as PyTorch, starts in a tenth of the time and needs a fifth of
the memory.
"""

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from models import WEIGHTS
from utils.errors import UserError
from utils.images import white
from utils.process import cores

if TYPE_CHECKING:  # PyTorch is imported only where it computes
    from torch import Tensor

    from models.mmfnet import MMFNet

ONNX = WEIGHTS.with_suffix(".onnx")
HAS_GPU = Path("/dev/nvidia0").exists()  # asking PyTorch would take seconds

LARGEST = 8  # photographs at once
AT_ONCE = 2_000_000  # pixels in all photographs together that the sub-nets process at once
Planes = Any  # (N, 3, h, w) in [0, 1], array or tensor: both are indexed alike


class TorchBackend:
    """PyTorch, on the device of the model; on CUDA the sub-nets compute in half precision.

    Attributes, of :class:`OnnxBackend` too:
        device: of the model.
        threads: at work in each step.
        memory: bytes that a process needs with it before the first photograph, as measured.
        features: bytes per pixel of each photograph at most, as measured; of no more than
            ``AT_ONCE`` pixels, however many threads call it.
        largest: number of photographs that it takes at once.
    """

    memory, features = 750_000_000, 250

    def __init__(self, model: "MMFNet"):
        import torch

        self.model, self.torch = model, torch
        place = next(model.parameters())
        kind = torch.float16 if place.is_cuda else torch.float32
        model.to(dtype=kind, memory_format=torch.channels_last)
        self.device, self.threads = str(place.device), torch.get_num_threads()
        self.largest = model.initial.largest or LARGEST
        self._lock = threading.Lock()  # PyTorch keeps a thread pool for each calling thread

    def load(self, photographs: Sequence[np.ndarray]) -> "Tensor":
        """Photographs (h, w, 3) uint8, uint16 or float32 in [0, 1] as input of the steps."""
        x = self._place(np.stack(photographs)).permute(0, 3, 1, 2)
        return x if x.is_floating_point() else x.float() / white(photographs[0].dtype)

    def guide(self, photographs: "Tensor", alone: bool = False) -> np.ndarray:
        """The guidance map, (N, h, w) float32 of sum 1; ``alone`` if this is the only call now, so
        that all threads may work on it."""
        with self._lock, self.torch.inference_mode():
            found = self.model.initial(photographs[None]).guidance
            return found[0, :, 0].float().cpu().numpy()

    def coefficients(
        self, photographs: "Tensor", guidance: np.ndarray, alone: bool = False
    ) -> np.ndarray | None:
        """Of the residual, (C, h, w) float32, see :mod:`models.boundary_fusion`; None from a
        cascade of initial fusion alone."""
        if self.model.boundary is None:
            return None
        with self._lock, self.torch.inference_mode():
            maps = self._place(guidance)[None, :, None]
            return self.model.boundary(photographs[None], maps)[0].float().cpu().numpy()

    def blend(
        self, photographs: "Tensor", guidance: np.ndarray, coefficients: np.ndarray | None
    ) -> np.ndarray:
        """The fused photograph (3, h, w) float32; perhaps not clipped."""
        with self._lock, self.torch.inference_mode():
            found = None if coefficients is None else self._place(coefficients)[None]
            maps = self._place(guidance)[None, :, None]
            return self.model.blend(photographs[None], maps, found)[1][0].cpu().numpy()

    def _place(self, array: np.ndarray) -> "Tensor":
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


class OnnxBackend:
    """ONNX Runtime on the CPU, with a file that :mod:`models.export` wrote; methods as above.

    Each call runs in the calling thread, which scales better than several threads for one call.
    Calls wait until there is memory for them. ``threads`` is by default one for each core that the
    process may use. Raises :class:`UserError` if onnx or onnxruntime is not installed, or the file
    is missing or broken.
    """

    device, memory, features = "cpu", 168_000_000, 150
    PARTS = {  # outputs of the graph, and the inputs that each is computed from
        "guidance": ["photographs"],
        "coefficients": ["photographs", "guidance"],
        "initial": ["photographs", "guidance"],
        "fused": ["photographs", "guidance", "coefficients"],
    }

    def __init__(self, path: str | Path, threads: int | None = None):
        try:
            from fusion.onnx_graph import cut

            self.runtime = _runtime()
        except ImportError as error:
            way = "pip install onnx onnxruntime, or give safetensors weights"
            raise UserError(f"{path} needs {error.name}: {way}") from error
        self.path, self.graphs, self.threads = path, cut(path, self.PARTS), threads or cores()
        self._sessions: dict[tuple[str, int | None, bool], Any] = {}
        self._making = threading.Lock()
        self._waiting, self._seen = threading.Condition(), 0
        count = self._session("initial").get_inputs()[0].shape[0]
        self.largest = count if isinstance(count, int) else LARGEST

    def load(self, photographs: Sequence[np.ndarray]) -> np.ndarray:
        planes = np.empty((len(photographs), 3, *photographs[0].shape[:2]), np.float32)
        for image, target in zip(photographs, planes, strict=True):
            for plane, goal in zip(cv2.split(image), target, strict=True):
                np.multiply(plane, np.float32(1 / white(image.dtype)), out=goal)
        return planes

    def guide(self, photographs: np.ndarray, alone: bool = False) -> np.ndarray:
        return self._step("guidance", alone, photographs)[:, 0]

    def coefficients(
        self, photographs: np.ndarray, guidance: np.ndarray, alone: bool = False
    ) -> np.ndarray | None:
        if "coefficients" in self.graphs:
            return self._step("coefficients", alone, photographs, guidance[:, None])

    def blend(
        self, photographs: np.ndarray, guidance: np.ndarray, coefficients: np.ndarray | None
    ) -> np.ndarray:
        given = [] if coefficients is None else [coefficients]
        session = self._session("fused" if given else "initial")
        return _run(session, photographs, guidance[:, None], *given)

    def _step(self, name: str, alone: bool, *inputs: np.ndarray) -> np.ndarray:
        """Run a sub-net as soon as there is memory for it."""
        count, _, height, width = inputs[0].shape
        pixels = count * height * width
        with self._waiting:
            self._waiting.wait_for(lambda: not self._seen or self._seen + pixels <= AT_ONCE)
            self._seen += pixels
        try:
            session = self._session(name, count, alone)
            if len(session.get_inputs()) > len(inputs):  # one for each photograph
                inputs = [x[i : i + 1] for x in inputs for i in range(count)]
            return _run(session, *inputs)
        finally:
            with self._waiting:
                self._seen -= pixels
                self._waiting.notify_all()

    def _session(self, name: str, count: int | None = None, alone: bool = False) -> Any:
        """The session of a part of the graph, perhaps for ``count`` photographs; made on first
        use. Raises :class:`UserError` if ONNX Runtime does not take the graph."""
        from fusion.onnx_graph import not_ours, unroll

        key = name, count, alone
        with self._making:
            if key not in self._sessions:
                options = self.runtime.SessionOptions()
                options.intra_op_num_threads = self.threads if alone else 1
                options.enable_mem_pattern = False  # it keeps memory for each size met
                options.log_severity_level = 3  # no warnings of unused weights in the parts
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                options.add_session_config_entry("session.use_env_allocators", "1")
                try:
                    graph = self.graphs[name]
                    graph = graph if count is None else unroll(graph, count)
                    session = self.runtime.InferenceSession(
                        graph, options, ["CPUExecutionProvider"]
                    )
                except Exception as error:  # ONNX Runtime's own have no common base but this
                    raise not_ours(self.path) from error
                self._sessions[key] = session
            return self._sessions[key]


def _run(session: Any, *inputs: np.ndarray) -> np.ndarray:
    names = [entry.name for entry in session.get_inputs()]
    feed = zip(names, map(np.ascontiguousarray, inputs), strict=True)
    return session.run(None, dict(feed))[0]


@functools.cache
def _runtime() -> Any:
    """ONNX Runtime, with a memory arena that all sessions share. Boxes come in many sizes: without
    it malloc's heap fragments to several times what they need."""
    import onnxruntime as ort

    kinds = ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    as_requested = 1  # it grows by no more than is asked for
    arena = ort.OrtArenaCfg(0, as_requested, -1, -1)
    ort.create_and_register_allocator(ort.OrtMemoryInfo("Cpu", *kinds), arena)
    return ort


Backend = TorchBackend | OnnxBackend


def load_backend(weights: str | Path | None = None, device: str | None = None) -> Backend:
    """Load weights into a back end: ``.onnx`` into ONNX Runtime, ``.safetensors`` into PyTorch on a
    device of :func:`utils.device.choose_device`; by default those shipped, into ONNX Runtime where
    there is no GPU. Raises :class:`UserError` if they cannot be read, or the device is absent."""
    weights = choose_weights(weights, device)
    if weights.suffix == ".onnx":
        return OnnxBackend(weights)
    from models.build import load_model
    from utils.device import choose_device

    return TorchBackend(load_model(weights).to(choose_device(device or "auto")))


def choose_weights(weights: str | Path | None = None, device: str | None = None) -> Path:
    """The file of weights that :func:`load_backend` takes; raises :class:`UserError` for an ONNX
    file on another device than the CPU."""
    on_cpu = device in (None, "auto", "cpu")
    if weights is None:
        return ONNX if on_cpu and not HAS_GPU else WEIGHTS
    if Path(weights).suffix == ".onnx" and not on_cpu:
        raise UserError(f"--device {device}: {weights} runs on the CPU, by ONNX Runtime")
    return Path(weights)
