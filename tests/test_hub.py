"""torch.hub finds the model from any folder, with what it says it needs."""

from __future__ import annotations

import ast
import subprocess
import sys

import torch

import hubconf
from models.build import load_model
from tests.conftest import ROOT

ELSEWHERE = f"""
import torch
path = {str(ROOT)!r}
model = torch.hub.load(path, "mmfnet", source="local")
photographs = torch.rand(1, 2, 3, 40, 52, generator=torch.Generator().manual_seed(0))
torch.save(model(photographs).fused, "fused.pt")
raw = torch.hub.load(path, "mmfnet", source="local", pretrained=False)
assert not model.training and raw.training
assert raw(torch.rand(1, 3, 3, 40, 52)).guidance.shape == (1, 3, 1, 40, 52)
"""


def test_hub_loads_the_shipped_weights_from_any_folder(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    model = load_model(ROOT / "weights/mmfnet.safetensors")
    photographs = torch.rand(1, 2, 3, 40, 52, generator=torch.Generator().manual_seed(0))
    fused = torch.load(tmp_path / "fused.pt", weights_only=True)
    torch.testing.assert_close(fused, model(photographs).fused, atol=1e-4, rtol=0)


def test_the_only_entry_point_says_what_it_does():
    entries = [name for name, value in vars(hubconf).items() if callable(value) and name[0] != "_"]
    assert entries == ["mmfnet"]  # as torch.hub.list finds them
    assert "pretrained" in hubconf.mmfnet.__doc__


def test_dependencies_are_all_that_is_imported():
    """Without any other package that the repository uses, the model loads all the same."""
    needed = "import hubconf; print(hubconf.dependencies)"
    absent = ["cv2", "omegaconf", "scipy", "skimage", "PIL"]
    blocker = f"import sys; sys.modules.update(dict.fromkeys({absent}))"
    result = subprocess.run(
        [sys.executable, "-c", f"{blocker}; {needed}; hubconf.mmfnet()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "safetensors" in ast.literal_eval(result.stdout)
