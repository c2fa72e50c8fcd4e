"""The GPU at hand and what drives it. Nothing is asked before a function here is called."""

import subprocess
from importlib.metadata import PackageNotFoundError, version

import torch

from gpu.tuning_table import Machine


def present_gpu() -> Machine | None:
    """The current CUDA or HIP device; None where there is none."""
    if not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    capability = f"{properties.major}.{properties.minor}"
    if torch.version.hip is not None:
        capability = properties.gcnArchName.split(":")[0]
    return Machine(
        gpu=properties.name,
        capability=capability,
        driver=smi("driver_version") or "unknown",
        torch=torch.__version__,
        triton=package_version("triton") or "unknown",
    )


def gpu_device() -> torch.device:
    """The current CUDA or HIP device."""
    return torch.device("cuda", torch.cuda.current_device())


def package_version(name: str) -> str | None:
    """The installed version of a package, which is not imported for it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def smi(field: str) -> str | None:
    """One field of ``nvidia-smi --query-gpu`` for the current device; None where it cannot say."""
    try:
        # by its unique name: CUDA may count and hide devices otherwise than the tool does
        where = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
        asked = (f"--query-gpu={field}", "--format=csv,noheader,nounits", f"--id={where}")
        done = subprocess.run(
            ("nvidia-smi", *asked), capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError, RuntimeError, AssertionError, AttributeError):
        return None
    return done.stdout.strip() or None
