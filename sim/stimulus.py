"""What a bench drives and expects, and its form as a file between processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from algo.decode import decode_words
from algo.errors import LiftError
from algo.packing import Words
from hw.beats import Weights, input_beats, lane_mask, output_beats
from hw.geometry import Geometry

Octets = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Stimulus:
    """Input beats, expected output beats and how the bench is to behave.

    Attributes:
        inputs: payloads to send.
        expected: payloads to receive.
        masks: the bits of each stream's output beats that mean something, one entry per beat of a
            stream.
        field: width of one signed weight in an output payload.
        group: weights per lane, to name a mismatch.
        seed: of the stalls.
        stalls: probability that a cycle stalls at the input, and at the output; below 1.
        patience: cycles without a transfer, not counting the bench's own stalls, after which the
            design counts as stuck.
        drain: cycles to watch for surplus output after the last expected beat.
        longest_stall: a stall lasts 1 to so many cycles.
    """

    inputs: Sequence[int]
    expected: Sequence[int]
    masks: Sequence[int]
    field: int
    group: int
    seed: int = 0
    stalls: tuple[float, float] = (0.0, 0.0)
    patience: int = 1000
    drain: int = 64
    longest_stall: int = 1

    def __post_init__(self) -> None:
        if not all(0 <= p < 1 for p in self.stalls):
            raise LiftError(
                f"stalls={self.stalls}: both are probabilities, at least 0 and below 1 "
                "(at 1 nothing would ever move)"
            )
        if not self.masks or len(self.expected) % len(self.masks):
            raise LiftError(
                f"{len(self.expected)} expected beats are not whole streams of "
                f"{len(self.masks)} beats"
            )


def decoder_stimulus(
    geometry: Geometry,
    words: Words,
    expected: Weights | None = None,
    seed: int = 0,
    stalls: tuple[float, float] = (0.0, 0.0),
) -> Stimulus:
    """Stimulus for a decoder, expecting what `algo.decode` gives unless told otherwise.

    Args:
        geometry: of the decoder.
        words: packed streams, uint32 ``(streams, stream_words)``.
        expected: integers ``(streams, G*d)``; has to be given where the decoder requantises.
        seed: of the stalls.
        stalls: probabilities at the input and at the output.

    Raises:
        LiftError: shapes do not fit, padding bits are set or a probability is out of range.
    """
    inputs = input_beats(words, geometry)  # says what shape is wanted
    if expected is None and geometry.output.scale is not None:
        raise LiftError("the decoder requantises by multipliers of its own; give expected weights")
    accs: Weights
    accs = decode_words(words, geometry.groups, geometry.code) if expected is None else expected
    if len(accs) != len(words):
        raise LiftError(f"{len(words)} streams of words but {len(accs)} of expected weights")
    return Stimulus(
        inputs=inputs,
        expected=output_beats(accs, geometry),
        masks=[lane_mask(beat, geometry) for beat in range(geometry.beats_out)],
        field=geometry.output.width,
        group=geometry.code.group,
        seed=seed,
        stalls=stalls,
    )


def save_stimulus(stimulus: Stimulus, path: Path) -> None:
    """Write as an npz file without pickled objects."""
    np.savez(
        path,
        allow_pickle=False,
        inputs=_rows(stimulus.inputs),
        expected=_rows(stimulus.expected),
        masks=_rows(stimulus.masks),
        numbers=np.array(
            [
                stimulus.field,
                stimulus.group,
                stimulus.seed,
                stimulus.patience,
                stimulus.drain,
                stimulus.longest_stall,
            ],
            np.int64,
        ),
        stalls=np.array(stimulus.stalls, np.float64),
    )


def load_stimulus(path: Path) -> Stimulus:
    """Read what `save_stimulus` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        field, group, seed, patience, drain, longest = stored["numbers"].tolist()
        return Stimulus(
            inputs=_integers(stored["inputs"]),
            expected=_integers(stored["expected"]),
            masks=_integers(stored["masks"]),
            field=field,
            group=group,
            seed=seed,
            stalls=(float(stored["stalls"][0]), float(stored["stalls"][1])),
            patience=patience,
            drain=drain,
            longest_stall=longest,
        )


def _rows(values: Sequence[int]) -> Octets:
    width = max(((value.bit_length() + 7) // 8 for value in values), default=0) or 1
    octets = b"".join(value.to_bytes(width, "little") for value in values)
    return np.frombuffer(octets, np.uint8).reshape(len(values), width)


def _integers(rows: Octets) -> list[int]:
    return [int.from_bytes(row.tobytes(), "little") for row in rows]
