"""Tuning tables: which path, tile and split a layer takes for so many columns.

A table is JSON: for classes of layers a list of choices, each good up to a number of columns. The
table that ships, `gpu/tuning/default.json`, holds estimates; ``liftquant kernels tune`` measures
one for the GPU at hand. Exact results are the same integers whatever a table says.
"""

import math
import os
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from algo.errors import LiftError
from algo.files import write_json

FORMAT: Literal[1] = 1
DEFAULT = Path(__file__).parent / "tuning" / "default.json"
VARIABLE = "LIFTQUANT_TUNING"

# the simplest first: one launch, one launch, two launches, two launches and the whole matrix
PathName = Literal["fused", "decode-dot", "bitmm", "dense"]
PATHS: tuple[PathName, ...] = get_args(PathName)
ONE_BIT: tuple[PathName, ...] = ("fused", "bitmm")  # no parity is a row of the one-bit matrix

_Model = TypeVar("_Model", bound=BaseModel)
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Choice(_Strict):
    """One way to carry out a layer's product.

    Attributes:
        path: one of `PATHS`.
        tile: name of one of the path's tile configurations; None for the one the path takes by
            itself for so many columns.
        split: parts that K is cut into.
    """

    path: PathName
    tile: str | None = None
    split: PositiveInt = 1

    def __str__(self) -> str:
        tile = "" if self.tile is None else f" {self.tile}"
        return f"{self.path}{tile}" + (f" split {self.split}" if self.split > 1 else "")


class Timed(_Strict):
    """Microseconds: median, 20th and 80th percentile."""

    median: _Positive
    p20: _Positive
    p80: _Positive


class Step(_Strict):
    """What to take for at most `columns` columns; the last step of a list also for more."""

    columns: PositiveInt
    choice: Choice
    microseconds: Timed | None = None


class LayerClass(_Strict):
    """What a choice depends on besides the number of columns.

    Attributes:
        rows: outputs of the layer, or of the stack of layers.
        inner: K, inputs.
        bits: D/d of the code, per weight.
        axis: direction of the streams.
        digits: columns per token: int8 digits that an activation is cut into.
        parities: whether the code has parities.
    """

    rows: PositiveInt
    inner: PositiveInt
    bits: _Positive
    axis: Literal["in", "out"] = "out"
    digits: Literal[1, 2, 4] = 1
    parities: bool = False

    def __str__(self) -> str:
        parities = ", parities" if self.parities else ""
        return (
            f"{self.rows}x{self.inner} at {self.bits:g} bits, axis {self.axis}, "
            f"{self.digits} digit(s){parities}"
        )


class Entry(_Strict):
    """The choices of one class, by ascending number of columns."""

    layer: LayerClass
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Entry":
        if any(a.columns >= b.columns for a, b in pairwise(self.steps)):
            raise ValueError("the columns of the steps do not ascend")
        taken = [s.choice.path for s in self.steps if s.choice.path in ONE_BIT]
        if self.layer.parities and taken:
            raise ValueError(f"{taken[0]} is chosen for a code with parities, which it cannot take")
        return self


class Machine(_Strict):
    """What a measurement belongs to. Versions that are not known are ``unknown``."""

    gpu: str
    capability: str
    driver: str
    torch: str
    triton: str


class TuningTable(_Strict):
    """A table. A measured one says on which machine, an estimated one holds for any.

    Attributes:
        date: ISO date of the measurement or estimate.
        source: where estimates come from, or the command that measured.
    """

    format: Literal[1]
    kind: Literal["measured", "estimated"]
    machine: Machine | None
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    source: str
    entries: tuple[Entry, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "TuningTable":
        measured = self.kind == "measured"
        if measured != (self.machine is not None):
            raise ValueError("a measured table names its machine, an estimated one has none")
        if measured and any(s.microseconds is None for e in self.entries for s in e.steps):
            raise ValueError("a measured table has microseconds for every step")
        if len({e.layer for e in self.entries}) < len(self.entries):
            raise ValueError("two entries are for the same class of layers")
        return self


def read_table(path: Path) -> TuningTable:
    """A table's file.

    Raises:
        LiftError: it is missing, truncated, of another format, or a field is wrong; the message
            names the file and what to do.
    """
    return read_model(path, TuningTable)


def read_model(path: Path, model: type[_Model]) -> _Model:
    """A file of `model`, a tuning table or a part of one; raises as `read_table` does."""
    remedy = "delete it, or measure again with `liftquant kernels tune`"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LiftError(f"{path} does not exist; `liftquant kernels tune` makes tables") from None
    except UnicodeDecodeError:
        raise LiftError(f"{path} is no tuning table: not UTF-8; {remedy}") from None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"]) or "the whole"
        raise LiftError(f"{path} is no tuning table: {place}: {first['msg']}; {remedy}") from None


def write_table(path: Path, table: BaseModel) -> None:
    """Write a table, or a part of one, aside and rename it."""
    write_json(path, table.model_dump(mode="json"))


@cache
def default_table() -> TuningTable:
    """The estimates that ship with the package; read once."""
    return read_table(DEFAULT)


def tuning_folder(option: Path | None = None) -> Path:
    """Where measured tables are: `option`, else ``LIFTQUANT_TUNING``, else the user's cache."""
    if option is not None:
        return option
    if named := os.environ.get(VARIABLE):
        return Path(named)
    cache_home = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache_home) if cache_home else Path.home() / ".cache") / "liftquant" / "tuning"


def table_path(folder: Path, machine: Machine) -> Path:
    """The file of a GPU: ``nvidia-h100-80gb-hbm3-9.0.json``."""
    name = re.sub(r"[^a-z0-9]+", "-", machine.gpu.lower()).strip("-")
    return folder / f"{name}-{machine.capability}.json"


def distance(wanted: LayerClass, held: LayerClass) -> tuple[float, ...]:
    """How far apart two classes are, to be compared: axis, digits, bits, then shape.

    Shapes and bits are compared by their logarithms. The last three only settle ties.
    """
    shape = abs(math.log(wanted.rows / held.rows)) + abs(math.log(wanted.inner / held.inner))
    return (
        wanted.axis != held.axis,
        wanted.digits != held.digits,
        abs(math.log(wanted.bits / held.bits)),
        shape,
        held.rows, held.inner, held.bits,
    )  # fmt: skip
