"""Which device a script runs on."""

import os
import re

import torch

from utils.errors import UserError


def choose_device(name: str = "auto") -> torch.device:
    """The device of a ``--device`` or ``device=`` option; "auto" takes CUDA where there is one.

    Under torchrun, "auto" and "cuda" mean the GPU of this process's local rank. Raises
    :class:`UserError` if the device is unknown or absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise UserError(f"there is no device {name!r}; use cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(f"device {name}: no CUDA GPU is available here; use cpu")
        rank = int(os.environ.get("LOCAL_RANK", 0))
        device = torch.device("cuda", rank if device.index is None else device.index)
        if device.index >= (count := torch.cuda.device_count()):
            raise UserError(f"device {device} is absent, this machine has {count} GPUs")
        torch.cuda.set_device(device)
    return device
