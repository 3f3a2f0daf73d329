"""Devices: everything stays where its inputs are, shown with fake CUDA tensors."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from configs.schema import load_config
from data.datasets import Batch
from models.build import build
from models.mmfnet import boundary_map
from tests.conftest import ROOT
from training.losses import LogLoss, PaperLoss
from training.validation import guidance_accuracy, oracle_selection, psnr
from utils.device import choose_device
from utils.errors import UserError


@pytest.mark.parametrize("config", ["paper", "released", "mmfnet"])
def test_fusion_losses_and_figures_stay_on_the_device(config):
    model = asdict(load_config(ROOT / "configs" / f"{config}.yaml").model)
    with FakeTensorMode():  # operations on tensors of two devices raise
        with torch.device("cuda"):
            net = build(model)
            photographs, truth = torch.rand(2, 2, 3, 37, 50), torch.rand(2, 3, 37, 50)
            guidance = torch.rand(2, 2, 1, 37, 50)
        fusion = net(photographs)
        results = [plane for plane in fusion if plane is not None]
        for loss in (PaperLoss(), *([] if fusion.scores is None else [LogLoss()])):
            results += loss(fusion, Batch(photographs, truth, guidance)).values()
        results.append(oracle_selection(photographs, truth))
        results.append(psnr(fusion.fused, truth, boundary_map(guidance)))
        results.append(guidance_accuracy(fusion.guidance, guidance))
        assert {result.device.type for result in results} == {"cuda"}


def test_devices_that_are_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="device cuda: no CUDA GPU is available here; use cpu"):
        choose_device("cuda")
    for name in ("gpu", "cpu:x", ""):
        with pytest.raises(UserError, match=f"there is no device '{name}'; use cpu, cuda or"):
            choose_device(name)


def test_each_process_of_torchrun_takes_its_own_gpu(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:1")
    assert choose_device("cuda:0") == torch.device("cuda:0")
    assert taken[:2] == [torch.device("cuda:1")] * 2
    with pytest.raises(UserError, match="cuda:2 is absent, this machine has 2 GPUs"):
        choose_device("cuda:2")
