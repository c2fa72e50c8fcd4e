"""Which path a layer takes for so many columns.

A layer asks once, when it is loaded, for its `Plan`; a call then costs one bisection. The same
table and the same layer give the same choice. No choice changes an exact result: tables are about
time alone.
"""

import warnings
from bisect import bisect_left
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from algo.code import LiftCode
from algo.errors import LiftError
from algo.matrix import Axis
from gpu.tuning_table import (
    VARIABLE,
    Choice,
    LayerClass,
    Machine,
    TuningTable,
    default_table,
    distance,
    read_table,
    table_path,
    tuning_folder,
)


class Plan(NamedTuple):
    """A layer's choices: ``choices[i]`` up to ``limits[i]`` columns, the last for any more."""

    limits: tuple[int, ...]
    choices: tuple[Choice, ...]

    def choose(self, columns: int) -> Choice:
        """The choice for a product with `columns` columns (tokens times digits per token).

        Raises:
            LiftError: there is no column.
        """
        if columns < 1:
            raise LiftError(f"a product with {columns} columns; at least one token is needed")
        return self.choices[min(bisect_left(self.limits, columns), len(self.limits) - 1)]


def layer_class(rows: int, inner: int, code: LiftCode, axis: Axis, digits: int) -> LayerClass:
    """The class of a layer of `rows` outputs and `inner` inputs.

    Args:
        digits: columns per token, 1, 2 or 4.
    """
    return LayerClass.model_validate(
        {
            "rows": rows, "inner": inner, "bits": code.rate, "axis": axis, "digits": digits,
            "parities": bool(code.parities),
        }
    )  # fmt: skip


def plan(layer: LayerClass, table: TuningTable) -> Plan:
    """The plan of a layer by the table's nearest class; by the default table's if it has none.

    A class is only near another if both or neither have parities: those never take the one-bit
    product, and a table in which they would is refused when it is read.
    """
    for source in (table, default_table()):
        near = [e for e in source.entries if e.layer.parities == layer.parities]
        if near:
            steps = min(near, key=lambda e: distance(layer, e.layer)).steps
            return Plan(tuple(s.columns for s in steps), tuple(s.choice for s in steps))
    raise LiftError("the default tuning table lacks a class; install liftquant again")


def load_table(machine: Machine | None, folder: Path | None = None) -> TuningTable:
    """The table of a GPU: the user's if there is one, else the estimates that ship.

    A table that was measured with another version of Triton, torch or the driver is used, with a
    warning: its choices may be slower than they could be, never wrong.

    Args:
        machine: the GPU at hand; None for the estimates.
        folder: of the user's tables; `gpu.tuning_table.tuning_folder` by default.

    Raises:
        LiftError: the user's table is corrupt or of another GPU, or the folder is a file, or was
            asked for and does not exist.
    """
    where = tuning_folder(folder)
    if folder is not None and not folder.exists():
        raise LiftError(f"{folder} does not exist; `liftquant kernels tune` makes tables")
    if where.exists() and not where.is_dir():
        raise LiftError(f"{where} is a file; give a directory of tuning tables ({VARIABLE})")
    if machine is None:
        return default_table()
    path = table_path(where, machine)
    if not path.is_file():
        return default_table()
    table = read_table(path)
    measured = table.machine
    if measured is None:
        return table
    if (measured.gpu, measured.capability) != (machine.gpu, machine.capability):
        raise LiftError(
            f"{path} was measured on {measured.gpu} ({measured.capability}), this is {machine.gpu} "
            f"({machine.capability}); delete it, or measure again with `liftquant kernels tune`"
        )
    others = [
        f"{name} {getattr(measured, name)}, now {getattr(machine, name)}"
        for name in ("triton", "torch", "driver")
        if getattr(measured, name) != getattr(machine, name)
    ]
    if others:
        warnings.warn(
            f"{path} was measured with {'; '.join(others)}. It is used as it is: results do not "
            "depend on it, times may. `liftquant kernels tune` measures again",
            stacklevel=2,
        )
    return table


@cache
def table_at_hand(device: torch.device) -> TuningTable:
    """`load_table` of a device, read once; the estimates for a CPU."""
    from gpu.machine import present_gpu

    if device.type == "cpu":
        return default_table()
    with torch.cuda.device(device):
        return load_table(present_gpu())
