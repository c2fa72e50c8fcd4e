"""Assertions of an Amaranth harness, proved for all time by k-induction (yosys' ``sat``)."""

import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from hw.yosys import run_yosys

_PROVED = "Induction step proven: SUCCESS!"
_REFUTED = "model found for base case: FAIL!"
_OPEN = "Reached maximum number of time steps -> proof failed."
_STEP = "[base case"


@dataclass(frozen=True)
class Induction:
    """The outcome of one attempt.

    Attributes:
        outcome: ``proved`` for every number of cycles; ``refuted`` from reset; ``bounded``: no
            violation within `depth` cycles from reset, but the induction did not close.
        depth: k where proved; otherwise the cycles looked at.
        trace: yosys' table of the violating run, where refuted.
        seconds: wall-clock time.
    """

    outcome: str
    depth: int
    trace: str
    seconds: float


def prove_by_induction(
    harness: Any,
    probes: Mapping[str, str] | None = None,
    verilog: tuple[str, str] | None = None,
    steps: int = 12,
    cuts: Iterable[str] = (),
) -> Induction:
    """Prove every assertion of `harness` from reset on, whatever its inputs do.

    Args:
        harness: an Amaranth component; ``rst`` is one of the free inputs.
        probes: input ports of the harness that are to read a signal within it, by the signal's name
            after flattening (``submodule.signal``).
        verilog: a text and the name of a module in it, which takes the place of the harness' own
            ``dut``; so the proof is of what was exported.
        steps: the largest k to try.
        cuts: signals, by their names after flattening, that are to do anything at any time instead
            of what drives them; what the harness assumes of them is for another proof.

    Raises:
        LiftError: yosys is missing or fails, a probe's signal does not exist or has another width.
    """
    from amaranth.back import rtlil

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="liftquant-") as name:
        folder = Path(name)
        text = rtlil.convert(harness, name="top", emit_src=False)
        (folder / "harness.il").write_text(text, encoding="utf-8")
        replace = []
        if verilog is not None:
            (folder / "design.v").write_text(verilog[0], encoding="utf-8")
            replace = [
                "delete top.dut",
                "read_verilog -sv design.v",
                f"rename {verilog[1]} top.dut",
            ]
        log = run_yosys(
            [
                "read_rtlil harness.il",
                *replace,
                "hierarchy -check -top top",
                "proc",
                "flatten",
                # fails where the signal is missing
                *(
                    command
                    for signal in cuts
                    for command in (f"select -assert-count 1 w:{signal}", f"cutpoint w:{signal}")
                ),
                *("memory_collect", "memory_map"),  # `memory` would tidy away the signals below
                *(
                    command
                    for port, signal in (probes or {}).items()
                    for command in (
                        # fails where the signal is missing; a free wire would prove nothing
                        f"select -assert-count 1 w:{_pattern(signal)}",
                        f"connect -set {port} {signal}",
                    )
                ),
                "async2sync",
                "chformal -cover -remove",
                f"select -assert-count {text.count('cell $check')} t:$assert t:$assume",
                "setundef -anyseq",
                "opt -fast",
                f"sat -prove-asserts -set-assumes -tempinduct -maxsteps {steps} -show-inputs top",
            ],
            folder,
        )
    seconds = time.perf_counter() - started
    depth = log.count(_STEP)
    for mark, outcome in ((_PROVED, "proved"), (_REFUTED, "refuted"), (_OPEN, "bounded")):
        if mark in log:
            return Induction(outcome, depth, _table(log), seconds)
    raise LiftError(f"yosys gave no verdict on the induction; its log ends:\n{log[-1500:]}")


def _pattern(signal: str) -> str:
    """What selects the one signal of that name; brackets would be a choice of letters."""
    return signal.replace("[", "\\[").replace("]", "\\]")


def _table(log: str) -> str:
    """The table of signals by cycle that yosys prints of a violating run."""
    lines = log.splitlines()
    first = next((n for n, line in enumerate(lines) if line.split()[:2] == ["Time", "Signal"]), -1)
    if first < 0:
        return ""
    last = next((n for n in range(first, len(lines)) if not lines[n].strip()), len(lines))
    return "\n".join(lines[first:last])
