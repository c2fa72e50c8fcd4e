"""What the commands for GPUs read from their options, and what they say where there is none."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from algo.errors import LiftError
from algo.files import check_folder

if TYPE_CHECKING:
    from gpu.tuning_table import Machine

SHAPES_HELP = "ROWSxCOLUMNS or models (llama-3-8b, llama-3-70b, smollm2-135m), with commas between."
BITS_HELP = "Bits per weight of the codes, with commas between."
WITHOUT_GPU = (
    "no CUDA or HIP device is available. This needs an NVIDIA GPU from sm_80 on or an AMD gfx942, "
    "and a torch built for it. Without one, `liftquant kernels build` compiles every kernel, "
    "`make test` runs them under Triton's interpreter, and `liftquant bench gpu --interpret` "
    "checks small layers"
)


def positive_integers(option: str, text: str) -> list[int]:
    """Numbers of an option, ascending.

    Raises:
        LiftError: one is not a positive integer, or there is none.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise LiftError(f"{option} {text}: positive integers separated by commas are expected")
    return sorted({int(part) for part in parts})


def rates(option: str, text: str) -> list[float]:
    """Bits per weight of an option, ascending.

    Raises:
        LiftError: one is no positive number, or there is none.
    """
    try:
        found = sorted({float(part) for part in text.split(",") if part.strip()})
    except ValueError:
        found = []
    if not found or not all(0 < rate < float("inf") for rate in found):
        raise LiftError(f"{option} {text}: positive numbers separated by commas are expected")
    return found


def check_file(option: str, path: Path) -> None:
    """Raise LiftError where a file cannot be written at `path`; better before a long run."""
    if path.is_dir():
        raise LiftError(f"{option} {path} is a directory; name a file")
    check_folder(path.parent)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise LiftError(f"{option} {path} cannot be written: {error}") from None


def need_gpu() -> "Machine":
    """The GPU at hand.

    Raises:
        LiftError: there is none; the message says what can be done without.
    """
    from gpu.machine import present_gpu

    machine = present_gpu()
    if machine is None:
        raise LiftError(WITHOUT_GPU)
    return machine
