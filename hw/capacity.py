"""What a loadable decoder can hold, its registers, and how long a stream takes; plain integers."""

from dataclasses import dataclass

from algo.code import MAX_BLOCK_WINDOW, LiftCode
from algo.errors import LiftError
from algo.packing import WORD, check_stream

STREAM_BITS, WEIGHTS, LAST_ROW, WINDOW, OVERLAP = range(5)  # addresses of single registers
SHIFTS = 0x40  # one register per weight of a group
MASKS = 0x80  # one per parity
TAPS = 0x1000  # one per tap, ROW of them per weight
ROW = 64
PARITY_COLUMN = 32
REGISTER_MAP = {
    "stream_bits": STREAM_BITS,
    "weights_per_stream": WEIGHTS,
    "group_minus_one": LAST_ROW,
    "window": WINDOW,
    "overlap": OVERLAP,
    "shift_of_weight_0": SHIFTS,
    "mask_of_parity_0": MASKS,
    "tap_0_of_weight_0": TAPS,
    "from_weight_to_weight": ROW,
    "from_tap_0_to_tap_of_parity_0": PARITY_COLUMN,
}
MAX_GROUP = 64
MAX_PARITIES = 32
COUNTER_BITS = 24


@dataclass(frozen=True)
class Capacity:
    """The largest code that a loadable decoder can hold.

    Attributes:
        lifted: D, 1..32; every shift is at most that.
        group: d, 1..64.
        window: L, 1..32.
        parities: P, 0..32.

    Raises:
        LiftError: a value is out of range.
    """

    lifted: int
    group: int
    window: int
    parities: int = 0

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("lifted", self.lifted, 1, MAX_BLOCK_WINDOW),
            ("group", self.group, 1, MAX_GROUP),
            ("window", self.window, 1, MAX_BLOCK_WINDOW),
            ("parities", self.parities, 0, MAX_PARITIES),
        ):
            if not least <= value <= most:
                raise LiftError(f"{name}={value}: a loadable decoder holds {least}..{most}")

    @property
    def features(self) -> int:
        """Window bits and parities that one weight is the sum of."""
        return self.window + self.parities

    @property
    def full(self) -> int:
        """Bits in the buffer with which no further word is needed: a window and a shift."""
        return self.window + self.lifted

    @property
    def stages(self) -> int:
        """Registers of the pipeline: features and taps, signed taps, one per level of adders."""
        return 2 + (self.features - 1).bit_length()

    def check(self, code: LiftCode, groups: int) -> None:
        """Raise LiftError where `code` or a stream of `groups` groups does not fit."""
        for name, value, most in (
            ("D", max(code.shifts), self.lifted),
            ("d", code.group, self.group),
            ("window", code.window, self.window),
            ("parities", len(code.parities), self.parities),
        ):
            if value > most:
                raise LiftError(
                    f"{code.name} has {name}={value}, the decoder was built for {most}; build it "
                    "with more, or load a smaller code"
                )
        if max(code.shifts) > code.window:
            raise LiftError(
                f"{code.name} shifts by {max(code.shifts)} bits, more than its window of "
                f"{code.window}: the buffer would drop bits that have not come; use a decoder of "
                "its own"
            )
        check_stream(groups, code)
        if groups * max(code.lifted, code.group) >= 1 << COUNTER_BITS:
            raise LiftError(f"groups={groups} is too long a stream; its bits have a 24-bit count")

    def writes(self, code: LiftCode, groups: int) -> list[tuple[int, int]]:
        """Addresses and 32-bit values that make the decoder one of `code` and G = `groups`.

        Raises:
            LiftError: the code does not fit.
        """
        self.check(code, groups)
        singles = {
            STREAM_BITS: groups * code.lifted,
            WEIGHTS: groups * code.group,
            LAST_ROW: code.group - 1,
            WINDOW: code.window,
            OVERLAP: code.overlap,
        }
        masks = [*code.parities, *[0] * (self.parities - len(code.parities))]
        writes = list(singles.items())
        writes += [(SHIFTS + i, shift) for i, shift in enumerate(code.shifts)]
        writes += [(MASKS + p, mask) for p, mask in enumerate(masks)]
        for i, row in enumerate(code.window_taps.tolist()):
            bits, parities = row[: code.window], row[code.window :]
            bits += [0] * (self.window - len(bits))
            parities += [0] * (self.parities - len(parities))
            at = TAPS + ROW * i
            writes += [(at + j, tap & 0xFF) for j, tap in enumerate(bits)]
            writes += [(at + PARITY_COLUMN + p, tap & 0xFF) for p, tap in enumerate(parities)]
        return writes

    def latency(self, code: LiftCode, groups: int) -> int:
        """Clock edges from the one that takes a stream's first word to the one that transfers its
        first weight, input always valid, output always ready.
        """
        return self._issues(code, groups)[0] + self.stages

    def cycles(self, code: LiftCode, groups: int, streams: int) -> int:
        """Clock edges from the one that takes the first word to the one that transfers the last
        weight, counting both, for back-to-back streams without stalls.
        """
        return streams * (self._issues(code, groups)[-1] + 1) + self.stages

    def _issues(self, code: LiftCode, groups: int) -> list[int]:
        """The edge of each weight's issue, counted from the one that takes the first word."""
        self.check(code, groups)
        left, wrapped, fill, edge = groups * code.lifted, False, 0, 0
        issues: list[int] = []
        while len(issues) < groups * code.group:
            shift = code.shifts[len(issues) % code.group]
            gained = 0
            if fill < self.full and left:
                gained = min(WORD, left)
                left -= gained
            elif fill < self.full and not wrapped:
                gained, wrapped = code.overlap, True
            if fill >= code.window:
                issues.append(edge)
                fill -= shift
            fill += gained
            edge += 1
        return issues
