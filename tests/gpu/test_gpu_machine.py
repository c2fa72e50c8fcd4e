"""What is asked of a GPU, with a made-up driver."""

import subprocess
from types import SimpleNamespace

import pytest
import torch

from gpu.machine import package_version, present_gpu, smi

H100 = SimpleNamespace(name="NVIDIA H100 80GB HBM3", major=9, minor=0, uuid="1234-5678")
MI300X = SimpleNamespace(
    name="AMD Instinct MI300X", major=9, minor=4, gcnArchName="gfx942:sramecc+:xnack-", uuid="x"
)


def pretend(monkeypatch, properties, run):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(subprocess, "run", run)


def answering(text):
    asked = []

    def run(command, **_):
        asked.append(command)
        return SimpleNamespace(stdout=text)

    return run, asked


def test_no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert present_gpu() is None


def test_an_nvidia_gpu_and_its_driver(monkeypatch):
    run, asked = answering("550.54.15\n")
    pretend(monkeypatch, H100, run)
    machine = present_gpu()
    assert (machine.gpu, machine.capability, machine.driver) == (H100.name, "9.0", "550.54.15")
    assert machine.torch == torch.__version__
    assert machine.triton == package_version("triton")
    assert asked == [
        ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader,nounits",
         "--id=GPU-1234-5678"),
    ]  # fmt: skip


def test_an_amd_gpu_says_its_architecture(monkeypatch):
    run, _ = answering("")
    pretend(monkeypatch, MI300X, run)
    monkeypatch.setattr(torch.version, "hip", "6.4")
    machine = present_gpu()
    assert (machine.capability, machine.driver) == ("gfx942", "unknown")


@pytest.mark.parametrize(
    "problem",
    [
        FileNotFoundError("nvidia-smi"),
        subprocess.CalledProcessError(6, "nvidia-smi"),
        subprocess.TimeoutExpired("nvidia-smi", 10),
    ],
)
def test_a_driver_that_does_not_answer_is_unknown(monkeypatch, problem):
    def run(*_, **__):
        raise problem

    pretend(monkeypatch, H100, run)
    assert smi("clocks.sm") is None
    assert present_gpu().driver == "unknown"


def test_a_package_that_is_not_there():
    assert package_version("no-such-package-anywhere") is None
