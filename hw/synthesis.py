"""Verilog to cells of an ECP5 and to gates, by yosys, and what they count."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from algo.errors import LiftError
from hw.memory_files import write_with_files
from hw.yosys import run_yosys

MAPPED = "mapped.v"
RAM_SITES = (
    6  # LUT sites of a 16x4 cell: four hold its bits, two give their place to its write port
)
_BLOCK_RAMS = ("DP16KD", "PDPW16KD")
# between the LUTs of a slice, or nothing at all: sites of their own, of which no LUT is lost
_FREE = ("PFUMX", "L6MUX21", "$scopeinfo", "GND", "VCC")
_GATES = ("$_AND_", "$_NAND_", "$_OR_", "$_NOR_", "$_XOR_", "$_XNOR_", "$_ANDNOT_", "$_ORNOT_")
_FLIP_FLOPS = ("$_DFF", "$_SDFF")


@dataclass(frozen=True)
class Area:
    """Cells of an ECP5.

    Attributes:
        lut: LUT4, and two for every CCU2C.
        carry: those of them that are in a CCU2C.
        lut_ram: TRELLIS_DPR16X4, which are not in `lut`.
        ff: TRELLIS_FF.
        bram: DP16KD and PDPW16KD, 18 kbit each.
        dsp: MULT18X18D.
    """

    lut: int
    carry: int
    lut_ram: int
    ff: int
    bram: int
    dsp: int

    @property
    def sites(self) -> int:
        """LUT sites taken: `lut`, and `RAM_SITES` for every cell of LUT RAM."""
        return self.lut + RAM_SITES * self.lut_ram


@dataclass(frozen=True)
class Gates:
    """Generic gates.

    Attributes:
        two_input: ANDs, ORs, XORs, each with or without inverters at output or at one input.
        inverters: what inverters are left.
        flip_flops: of any kind; an enable or synchronous reset is part of it.
    """

    two_input: int
    inverters: int
    flip_flops: int


def map_to_ecp5(verilog: str, top: str, folder: Path, dsp: bool = True) -> Area:
    """Map a design; its netlist is `MAPPED` in `folder` afterwards.

    Args:
        verilog: the design.
        top: its top module.
        folder: where yosys works.
        dsp: multipliers may become DSP blocks; without, they become LUTs.

    Raises:
        LiftError: yosys rejects the design, or a cell is of a kind that has no count here.
    """
    write_with_files(verilog, folder / "design.v")
    run_yosys(
        [
            "read_verilog -sv design.v",
            f"synth_ecp5 -top {top}{'' if dsp else ' -nodsp'}",
            f"write_verilog -noattr {MAPPED}",
            "write_json mapped.json",
        ],
        folder,
    )
    return area_of_json(folder / "mapped.json", top)


def area_of(cells: Mapping[str, int]) -> Area:
    """Count cells, given how many there are of each type.

    Raises:
        LiftError: a type has no count here.
    """
    left = Counter(cells)
    for free in _FREE:
        left.pop(free, 0)
    carry = 2 * left.pop("CCU2C", 0)
    area = Area(
        lut=left.pop("LUT4", 0) + carry,
        carry=carry,
        lut_ram=left.pop("TRELLIS_DPR16X4", 0),
        ff=left.pop("TRELLIS_FF", 0),
        bram=sum(left.pop(kind, 0) for kind in _BLOCK_RAMS),
        dsp=left.pop("MULT18X18D", 0),
    )
    if left:
        raise LiftError(f"cells of type {', '.join(sorted(left))} have no count in hw/synthesis.py")
    return area


def count_gates(verilog: str, top: str, folder: Path) -> Gates:
    """Map a design to two-input gates and flip-flops by yosys and abc, and count them.

    Raises:
        LiftError: yosys rejects the design, or a cell is no gate and no flip-flop.
    """
    (folder / "design.v").write_text(verilog, encoding="utf-8")
    run_yosys(
        [
            "read_verilog -sv design.v",
            f"synth -flatten -top {top}",
            "abc -g gates",
            "opt_clean",
            "write_json gates.json",
        ],
        folder,
    )
    return gates_of(_cells(folder / "gates.json", top))


def gates_of(cells: Mapping[str, int]) -> Gates:
    """Count gates, given how many cells there are of each type.

    Raises:
        LiftError: a type is neither a gate nor a flip-flop.
    """
    left = Counter(cells)
    left.pop("$scopeinfo", 0)
    flip_flops = [kind for kind in left if kind.startswith(_FLIP_FLOPS)]
    gates = Gates(
        two_input=sum(left.pop(kind, 0) for kind in _GATES),
        inverters=left.pop("$_NOT_", 0),
        flip_flops=sum(left.pop(kind) for kind in flip_flops),
    )
    if left:
        raise LiftError(f"cells of type {', '.join(sorted(left))} are neither gate nor flip-flop")
    return gates


def area_of_json(path: Path, top: str, without: tuple[str, ...] = ()) -> Area:
    """Count the cells of the module `top` in what yosys' ``write_json`` wrote.

    Args:
        path: the file.
        top: the module, flat.
        without: types of cells that are left out.

    Raises:
        LiftError: a type has no count here.
    """
    cells = _cells(path, top)
    return area_of({kind: count for kind, count in cells.items() if kind not in without})


def _cells(path: Path, top: str) -> Counter[str]:
    """How many cells of each type the flat module `top` has."""
    modules = json.loads(path.read_text(encoding="utf-8"))["modules"]
    return Counter(cell["type"] for cell in modules[top]["cells"].values())
