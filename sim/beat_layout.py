"""A foreign decoder's beats: which bits go in with each, which weights come out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from algo.code import LiftCode
from algo.decode import Accs
from algo.errors import LiftError
from algo.packing import WORD, Words, check_stream, unpack_bits
from sim.port_map import PortMap


@dataclass(frozen=True)
class BeatLayout:
    """Beats of streams of `groups` groups of `code`, as `ports` describes them.

    Payloads are plain integers with the first bit, or the first weight, in the low bits whatever
    the map says of order; `sim.bench_wrapper` turns them round.

    Raises:
        LiftError: code, stream length and map do not fit each other; the message names the field.
    """

    code: LiftCode
    groups: int
    ports: PortMap

    def __post_init__(self) -> None:
        check_stream(self.groups, self.code)
        sums = np.abs(self.code.taps.astype(int)).sum(axis=1)
        need = int(sums.max()).bit_length() + 1
        if self.ports.output.weight_bits < need:
            raise LiftError(
                f"output.weight_bits = {self.ports.output.weight_bits} is too narrow: a weight of "
                f"{self.code.name} takes {need} bits, its sign included"
            )
        if self.ports.protocol != "fixed-latency":
            return
        if self.beats_in != self.beats_out:
            raise LiftError(
                f"protocol fixed-latency takes a beat in for each beat out, but a stream is "
                f"{self.beats_in} beats of input.per_beat = {self.ports.input.per_beat} "
                f"{self.ports.input.carries} and {self.beats_out} beats of output.weights = "
                f"{self.ports.output.weights}"
            )
        sliding = self.code.overlap and self.ports.input.carries != "windows"
        if sliding and self.ports.reset is None:
            raise LiftError(
                f"reset is missing: without one, a fixed-latency decoder of {self.code.name} "
                "cannot know a stream's first beat"
            )

    @property
    def input_bits(self) -> int:
        """Width of the input payload."""
        per_beat = self.ports.input.per_beat
        match self.ports.input.carries:
            case "words":
                return per_beat * WORD
            case "groups":
                return per_beat * self.code.lifted
            case "windows":
                return per_beat * self.code.lifted + self.code.overlap

    @property
    def input_means(self) -> str:
        """What the input payload is, for messages."""
        carries, per_beat = self.ports.input.carries, self.ports.input.per_beat
        what = carries[:-1] if per_beat == 1 else carries
        return f"{per_beat} {what} of {self.code.name} per beat"

    @property
    def output_bits(self) -> int:
        """Width of the output payload."""
        return self.ports.output.weights * self.ports.output.weight_bits

    @property
    def beats_in(self) -> int:
        """Input beats per stream."""
        if self.ports.input.carries == "words":
            return -(-self.groups * self.code.lifted // self.input_bits)
        return -(-self.groups // self.ports.input.per_beat)

    @property
    def beats_out(self) -> int:
        """Output beats per stream."""
        return -(-self.groups * self.code.group // self.ports.output.weights)

    def inputs(self, words: Words) -> list[int]:
        """Packed streams as input payloads, stream by stream; unused bits are zero."""
        bits = unpack_bits(words, self.groups * self.code.lifted)
        if self.ports.input.carries != "windows":
            padded = np.zeros((len(bits), self.beats_in * self.input_bits), np.uint8)
            padded[:, : bits.shape[1]] = bits
            return _integers(padded.reshape(-1, self.input_bits))
        step = self.ports.input.per_beat * self.code.lifted
        beats = np.zeros((len(bits), self.beats_in, self.input_bits), np.uint8)
        for beat in range(self.beats_in):
            end = min((beat + 1) * step, bits.shape[1]) + self.code.overlap
            span = np.arange(beat * step, end)
            beats[:, beat, : len(span)] = bits[:, span % bits.shape[1]]
        return _integers(beats.reshape(-1, self.input_bits))

    def outputs(self, weights: Accs) -> list[int]:
        """Expected weights, int16 ``(streams, G*d)``, as output payloads; unused weights are 0."""
        per_beat, width = self.ports.output.weights, self.ports.output.weight_bits
        padded = np.zeros((len(weights), self.beats_out * per_beat), np.int64)
        padded[:, : weights.shape[1]] = weights
        # a shift further than the sign would be undefined
        places = np.minimum(np.arange(width), 62)
        bits = (padded[..., None] >> places & 1).astype(np.uint8)
        return _integers(bits.reshape(-1, self.output_bits))

    def masks(self) -> list[int]:
        """The output bits that mean something, beat by beat of a stream."""
        per_beat, total = self.ports.output.weights, self.groups * self.code.group
        counts = [min(per_beat, total - beat * per_beat) for beat in range(self.beats_out)]
        return [(1 << count * self.ports.output.weight_bits) - 1 for count in counts]


def _integers(bits: npt.NDArray[np.uint8]) -> list[int]:
    """One integer for each row of 0/1, least significant first."""
    packed = np.packbits(bits, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]
