"""Provenance of a run, written beside its results."""

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime")
STARTED = datetime.now(timezone.utc)  # imported at the start of a command


def provenance() -> dict[str, str | int]:
    """Command, git revision, versions and time; torch and its device if it was used at all."""
    about = {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": STARTED.isoformat(timespec="seconds"),
        "revision": "unknown",
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    git = ["git", "-C", Path(__file__).parent, *"describe --always --dirty --abbrev=12".split()]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        said = subprocess.run(git, capture_output=True, text=True, check=True)
        about["revision"] = said.stdout.strip()
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            about[package] = importlib.metadata.version(package)
    if torch := sys.modules.get("torch"):
        about["torch"] = torch.__version__
        about["machine"] = f"{platform.machine()}, {torch.get_num_threads()} threads"
        about["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return about
