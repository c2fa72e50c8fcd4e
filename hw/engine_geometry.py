"""Sizes, beat counts, widths and cycle predictions of one engine; plain integers, no Amaranth."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from algo.code import LiftCode
from algo.errors import LiftError
from algo.packing import stream_groups
from hw.engine_program import Op, check_no_parities, projection_program
from hw.output import Output

TABLE_INPUTS = 4  # activations per table: 16 signed sums, one cell of LUT RAM for every 4 bits
ENTRIES = 1 << TABLE_INPUTS
LARGEST = 127  # of an activation, the contract's digits
MAX_LANES = 2048  # the adder tree stays shorter than the pause in which tables are written
PROJECT_STAGES = 6  # from a weight position's last operation to its sum at the output
_ORACLE_BITS = 63  # `algo.activations.requantise` computes in 64 bits


@dataclass(frozen=True)
class EngineGeometry:
    """What an engine of one layer is made of.

    Attributes:
        code: of the weights, on axis ``out``; without parities.
        rows: outputs of the layer.
        columns: inputs of the layer.
        lanes: K, sign bits and activations per cycle.
        builders: B, tables that are written at a time.
        output: width and scaling of the outputs; None gives the sums themselves.

    Raises:
        LiftError: a value cannot work; the message names it and the remedy.
    """

    code: LiftCode
    rows: int
    columns: int
    lanes: int
    builders: int = 1
    output: Output | None = None

    def __post_init__(self) -> None:
        check_no_parities(self.code)
        if self.columns < 1:
            raise LiftError(f"columns={self.columns}: a layer has at least one input")
        stream_groups(self.rows, self.code)
        if self.builders < 1:
            raise LiftError(f"builders={self.builders}: at least one writes the tables")
        unit = TABLE_INPUTS * self.builders
        if not (unit <= self.lanes <= MAX_LANES and self.lanes % unit == 0):
            raise LiftError(
                f"lanes={self.lanes} with builders={self.builders}: lanes are a multiple of "
                f"{TABLE_INPUTS} for every builder, here of {unit}, and at most {MAX_LANES}"
            )
        if self.output is None:
            return
        scale = self.output.scale
        if scale is None or scale.axis != "out":
            raise LiftError(
                "an engine requantises by a multiplier per row: give a scale of axis out "
                "(--scale out:BITS:SHIFT), or none for the sums themselves"
            )
        if max(self.result_width + scale.multiplier_bits, scale.shift + 1) > _ORACLE_BITS:
            raise LiftError(
                f"sums of {self.result_width} bits times {scale.multiplier_bits} bits, shifted by "
                f"{scale.shift}, do not fit in {_ORACLE_BITS} bits; use a narrower multiplier"
            )

    @cached_property
    def program(self) -> tuple[tuple[Op, ...], ...]:
        """The projection's operations, by weight position."""
        return projection_program(self.code)

    @cached_property
    def groups(self) -> int:
        """G, groups in a stream, which is a column."""
        return stream_groups(self.rows, self.code)

    @property
    def bit_rows(self) -> int:
        """G*D, rows of the one-bit matrix."""
        return self.groups * self.code.lifted

    @property
    def tables(self) -> int:
        """Tables of 16 sums."""
        return self.lanes // TABLE_INPUTS

    @property
    def tiles(self) -> int:
        """Tiles of K columns; the last one's columns beyond the layer have activations of 0."""
        return -(-self.columns // self.lanes)

    @property
    def build_beats(self) -> int:
        """Activation beats per tile."""
        return self.tables // self.builders

    @property
    def activation_bits(self) -> int:
        """Payload of the activations: 4*B of 8 bits."""
        return 8 * TABLE_INPUTS * self.builders

    @property
    def activation_beats(self) -> int:
        """Activation beats per vector."""
        return self.tiles * self.build_beats

    @property
    def row_beats(self) -> int:
        """Beats of sign bits per vector."""
        return self.tiles * self.bit_rows

    @property
    def tree_levels(self) -> int:
        """Levels of adders, each with its register, from the tables to one sum."""
        return (self.tables - 1).bit_length()

    @property
    def sum_width(self) -> int:
        """Bits of a sum of activations at clear bits, over all columns."""
        return (LARGEST * self.columns).bit_length() + 1

    @property
    def result_width(self) -> int:
        """Bits of a projected sum: 127 * columns * the largest row sum of |taps|, and a sign."""
        largest = int(abs(self.code.taps.astype(int)).sum(axis=1).max())
        return max(LARGEST * self.columns * largest, 1).bit_length() + 1

    @property
    def payload_bits(self) -> int:
        """Bits of an output."""
        return self.result_width if self.output is None else self.output.width

    @property
    def requantise_steps(self) -> int:
        """N, cycles of the last stage between taking a sum and having its output; 0 without it."""
        scale = None if self.output is None else self.output.scale
        return 0 if scale is None else max(scale.multiplier_bits, scale.shift)

    @property
    def build_cycles(self) -> int:
        """Cycles in which a tile's tables are written and nothing is read from them."""
        return ENTRIES * self.build_beats

    @property
    def tile_cycles(self) -> int:
        """Cycles per tile: the tables are written, the last entry arrives, the row of all zeros,
        the rows of the stream.
        """
        return self.build_cycles + 2 + self.bit_rows

    @property
    def project_cycles(self) -> int:
        """Cycles per vector in the projection, its output taken at once."""
        lengths = [len(ops) + PROJECT_STAGES for ops in self.program]
        whole, rest = divmod(self.rows, self.code.group)
        return whole * sum(lengths) + sum(lengths[:rest])

    @property
    def peak_weights_per_cycle(self) -> Fraction:
        """K * d/D, while rows stream."""
        return Fraction(self.lanes * self.code.group, self.code.lifted)

    @property
    def weights_per_cycle(self) -> Fraction:
        """Sustained over many vectors: the layer's weights by the cycles from one to the next."""
        many = 8
        period = Fraction(self.cycles(2 * many) - self.cycles(many), many)
        return Fraction(self.rows * self.columns) / period

    def cycles(self, vectors: int) -> int:
        """Clock edges from the one that takes the first activation beat to the one that transfers
        the last output, counting both; inputs always valid, output always ready.
        """
        swept = 1  # the edge before which the tables may be written again
        sums_at: list[int] = []  # the edge after which a vector's sums are complete
        freed: list[int] = []  # the edge after which a vector's memory may be written again
        last_out = issue = 0
        requantiser = _Requantiser(self)
        for vector in range(vectors):
            for tile in range(self.tiles):
                zeros = swept + self.build_cycles + 1
                if tile == 0 and vector >= 2:
                    zeros = max(zeros, freed[vector - 2] + 1)
                swept = zeros + 1 + self.bit_rows
            # last row taken, bits, table, levels, the sum so far, sum
            sums_at.append(swept - 1 + 4 + self.tree_levels)
            issue = max(sums_at[-1] + 2, issue + 1)
            for row in range(self.rows):
                ready = issue + len(self.program[row % self.code.group]) - 1 + PROJECT_STAGES
                taken, last_out = requantiser.take(ready)
                issue = taken + 1
            freed.append(ready)
        return last_out + 1


class _Requantiser:
    """When the last stage takes a sum and gives an output; none takes and gives at once."""

    def __init__(self, geometry: EngineGeometry) -> None:
        self.steps = geometry.requantise_steps and geometry.requantise_steps + 1
        self.free = 0

    def take(self, ready: int) -> tuple[int, int]:
        """The edges at which a sum that is there from `ready` on is taken, and transferred."""
        taken = max(ready, self.free)
        self.free = taken + self.steps
        return taken, self.free
