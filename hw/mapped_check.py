"""That a mapped netlist does what its Verilog does, on random inputs."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from algo.errors import LiftError
from hw.netlist import MAPPING, Netlist, map_verilog, read_netlist
from hw.netlist_sim import NetlistSimulator
from hw.synthesis import MAPPED
from hw.yosys import run_yosys

RUNS = 128
_RESETS = 6  # every other run is reset in one of 2**_RESETS cycles, the others at the start only
_RESET_RUNS = sum(1 << run for run in range(0, RUNS, 2))


@dataclass(frozen=True)
class Check:
    """What was compared: `beats` output beats, in all runs together, over `cycles` cycles."""

    runs: int
    cycles: int
    beats: int


def read_mapped(folder: Path, top: str) -> Netlist:
    """The netlist of `MAPPED` in `folder`, its cells replaced by yosys' own models of them.

    Raises:
        LiftError: a cell has no model (memories, multipliers).
    """
    run_yosys(
        [
            f"read_verilog {MAPPED}",
            "read_verilog -sv -D NO_INCLUDES +/ecp5/cells_sim.v",
            f"hierarchy -check -top {top}",
            *MAPPING,
            "flatten",
            "write_json modelled.json",
        ],
        folder,
    )
    return read_netlist(json.loads((folder / "modelled.json").read_text("utf-8")), top)


def check_mapped(verilog: str, top: str, folder: Path, cycles: int, seed: int = 0) -> Check:
    """Run a design and its mapped netlist, `MAPPED` in `folder`, side by side.

    Args:
        verilog: the design, with stream ports.
        top: its top module.
        folder: where `hw.synthesis.map_to_ecp5` mapped it.
        cycles: how long each of `RUNS` runs is.
        seed: of the inputs.

    Raises:
        LiftError: they differ, or no beat came out, or a cell has no model.
    """
    return compare_netlists(map_verilog(verilog, top), read_mapped(folder, top), cycles, seed)


def compare_netlists(one: Netlist, two: Netlist, cycles: int, seed: int) -> Check:
    """Random inputs into both: handshakes must be equal, payloads where they are valid.

    Inputs are valid, and outputs ready, in three of four cycles; every other run is reset now and
    then.

    Raises:
        LiftError: ports differ, an output does (port, bit, cycle are named), or nothing came out.
    """
    widths = [{n: len(nets) for n, nets in x.inputs.items()} for x in (one, two)]
    outputs = [{n: len(nets) for n, nets in x.outputs.items()} for x in (one, two)]
    if widths[0] != widths[1] or outputs[0] != outputs[1]:
        raise LiftError("the mapped netlist has other ports than its Verilog")
    drawn = random.Random(seed)
    first, second = NetlistSimulator(one, RUNS, seed), NetlistSimulator(two, RUNS, seed + 1)
    beats = 0
    for cycle in range(cycles):
        inputs = {n: [_word(drawn, n, cycle) for _ in range(w)] for n, w in widths[0].items()}
        expected, got = first.step(inputs), second.step(inputs)
        for port, bits in expected.items():
            base, is_payload, _ = port.partition("__payload")
            meant = expected[f"{base}__valid"][0] if is_payload else -1
            for n, (a, b) in enumerate(zip(bits, got[port], strict=True)):
                if (a ^ b) & meant:
                    raise LiftError(
                        f"the mapped netlist differs from its Verilog: {port}[{n}], cycle {cycle} "
                        f"of seed {seed}"
                    )
            if port.endswith("__valid"):
                ready = inputs.get(port.removesuffix("valid") + "ready", [0])
                beats += (bits[0] & ready[0]).bit_count()
    if not beats:
        raise LiftError(f"no output beat in {cycles} cycles; nothing was compared")
    return Check(RUNS, cycles, beats)


def _word(drawn: random.Random, port: str, cycle: int) -> int:
    """One input bit of all runs."""
    word = drawn.getrandbits(RUNS)
    if port.endswith(("__valid", "__ready")):
        word |= drawn.getrandbits(RUNS)
    if port == "rst":
        for _ in range(_RESETS - 1):
            word &= drawn.getrandbits(RUNS)
        return word & _RESET_RUNS if cycle else (1 << RUNS) - 1
    return word
