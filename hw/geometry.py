"""Sizes, beat counts and cycle predictions of one decoder; plain integers, no Amaranth."""

from dataclasses import dataclass

from algo.code import LiftCode
from algo.errors import LiftError
from algo.packing import WORD, stream_words
from hw.architecture import DEFAULT, Architecture
from hw.output import ACC_WIDTH, SUMS, Output
from hw.terms import projection_stages


@dataclass(frozen=True)
class Geometry:
    """What a decoder of one code, stream length and width is made of.

    Attributes:
        code: the code to decode.
        groups: G, groups per stream; windows wrap round within the stream.
        lanes: P, groups decoded per output beat.
        architecture: of the projection.
        output: width and scaling of the weights.

    Raises:
        LiftError: lanes or groups cannot work; the message names the value and the remedy.
    """

    code: LiftCode
    groups: int
    lanes: int = 1
    architecture: Architecture = DEFAULT
    output: Output = SUMS

    def __post_init__(self) -> None:
        span = self.code.lifted + self.code.overlap
        if self.lanes < 1:
            raise LiftError(f"lanes={self.lanes}: a beat decodes at least one group; use lanes=1")
        if self.groups < 1 or self.stream_bits < span:
            raise LiftError(
                f"groups={self.groups} is too few for {self.code.name}: its window of {span} bits "
                f"must fit in a stream; use at least groups={-(-span // self.code.lifted)} or a "
                "code with a shorter window"
            )
        if self.lanes > self.groups:
            raise LiftError(
                f"lanes={self.lanes} is more than groups={self.groups}: a beat never spans two "
                f"streams; use at most lanes={self.groups}"
            )

    @property
    def stream_bits(self) -> int:
        """G*D, the bits of one stream before padding."""
        return self.groups * self.code.lifted

    @property
    def stream_words(self) -> int:
        """Whole 32-bit words that hold one stream."""
        return stream_words(self.groups, self.code)

    @property
    def chunk_bits(self) -> int:
        """P*D, the bits one output beat consumes."""
        return self.lanes * self.code.lifted

    @property
    def last_chunk_bits(self) -> int:
        """Bits of a stream's last chunk, 1..P groups."""
        return self.stream_bits - (self.beats_out - 1) * self.chunk_bits

    @property
    def beat_words(self) -> int:
        """W, 32-bit words per input beat: the fewest that keep up with the output."""
        return -(-self.chunk_bits // WORD)

    @property
    def beat_bits(self) -> int:
        """Width of the input payload."""
        return self.beat_words * WORD

    @property
    def last_beat_bits(self) -> int:
        """Bits of a stream's last input beat that belong to the stream."""
        return self.stream_bits - (self.beats_in - 1) * self.beat_bits

    @property
    def unit_bits(self) -> int:
        """The largest power of two that divides beats, chunks and the last ones of a stream: what
        words are shifted by to follow each other.
        """
        every = self.beat_bits | self.chunk_bits | self.last_beat_bits | self.last_chunk_bits
        return every & -every

    @property
    def window_bits(self) -> int:
        """P*D + V, the bits one output beat is decoded from."""
        return self.chunk_bits + self.code.overlap

    @property
    def sums_bits(self) -> int:
        """Width of the projection's output: P*d sums."""
        return self.lanes * self.code.group * ACC_WIDTH

    @property
    def payload_bits(self) -> int:
        """Width of the output payload: P*d weights."""
        return self.lanes * self.code.group * self.output.width

    @property
    def scale_bits(self) -> int:
        """Width of the payload of multipliers: one on axis ``in``, P*d on axis ``out``."""
        scale = self.output.scale
        if scale is None:
            return 0
        each = 1 if scale.axis == "in" else self.lanes * self.code.group
        return each * scale.multiplier_bits

    @property
    def beats_in(self) -> int:
        """Input beats per stream."""
        return -(-self.stream_bits // self.beat_bits)

    @property
    def beats_out(self) -> int:
        """Output beats per stream; the last may hold fewer than P groups."""
        return -(-self.groups // self.lanes)

    @property
    def lookahead(self) -> int:
        """n, whole further chunks that a window can reach into."""
        return -(-self.code.overlap // self.chunk_bits)

    @property
    def latency(self) -> int:
        """Clock edges from the one that takes a stream's first beat to the one that transfers its
        first output beat, counting the second but not the first; the decoder idle before, input
        always valid, output always ready, and multipliers, where there are any, in time.
        """
        gearbox = 1
        window = min(self.lookahead + 1, self.beats_out) if self.code.overlap else 0
        projection = projection_stages(self.code, self.architecture) + self.queued
        return gearbox + window + projection + self.output.stages

    @property
    def queued(self) -> bool:
        """Whether weights wait in an output queue, which costs an edge."""
        return self.architecture.flow == "credit"

    @property
    def queue_beats(self) -> int:
        """Beats the output queue has places for: the power of two that the projection needs so as
        never to wait for credit while the output is ready.
        """
        stages = projection_stages(self.code, self.architecture)
        in_flight = -(-(stages + 1) // self.architecture.cycles)
        return 1 << in_flight.bit_length()

    def cycles(self, streams: int) -> int:
        """Clock edges from the one that takes the first beat to the one that transfers the last
        output beat, counting both, for back-to-back streams without stalls.
        """
        beats = streams * self.beats_out
        return self.latency + 1 + (beats - 1) * self.architecture.cycles
