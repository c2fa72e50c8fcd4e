"""One layer through a compiled decoder: every weight against the reference, and the record of it.

A layer that passed is recorded in a file named by a hash of all that its outcome depends on.
"""

import hashlib
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import algo.decode
import algo.packing
from algo.checkpoint import Checkpoint
from algo.decode import Accs, decode_words
from algo.files import read_json, write_json
from algo.matrix import PackedMatrix
from algo.packing import Words, unpack_bits
from liftquant.crosschecking import place
from sim.explain import likenesses
from sim.harness import FirstWrong, Harness, HarnessResult

_PIECE = 1 << 20  # weights decoded at a time, or one stream's where those are more


@dataclass(frozen=True)
class Stalls:
    """When the bench stalls: the seed of chance, and the probability in a cycle."""

    seed: int = 0
    probability: float = 0.25


@dataclass(frozen=True)
class WrongWeight:
    """A weight that the RTL decodes otherwise than the reference.

    Attributes:
        stream: its stream.
        weight: its place in the stream.
        row, column: its place in the matrix; beyond it where the weight is padding.
        bits: of its window, first one first.
        possibly: what the wrong value could have come from.
    """

    stream: int
    weight: int
    row: int
    column: int
    bits: str
    expected: int
    got: int
    possibly: tuple[str, ...]


@dataclass(frozen=True)
class LayerRun:
    """One layer's comparison; counts as in `sim.harness.HarnessResult`.

    Attributes:
        groups: of a stream.
        weights: integers compared, padding at the ends of streams included.
        seconds: wall-clock time of reference and simulation.
        earlier: whether it comes from the record of an earlier run.
    """

    layer: str
    shape: tuple[int, int]
    code: str
    axis: str
    groups: int
    streams: int
    weights: int
    beats_in: int
    beats: int
    cycles: int
    waits: tuple[int, int]
    mismatches: int
    first_wrong: WrongWeight | None
    failure: str | None
    seconds: float
    earlier: bool = False

    @property
    def passed(self) -> bool:
        return not self.mismatches and self.failure is None


def run_layer(name: str, matrix: PackedMatrix, harness: Harness, stalls: Stalls) -> LayerRun:
    """Every weight of a layer through `harness`; the stalls also depend on the layer's name."""
    began = time.monotonic()
    seed = (stalls.seed << 32 | zlib.crc32(name.encode())) % 2**64
    found = harness.run(_pieces(matrix), seed, stalls.probability)
    bad = found.first_wrong
    return LayerRun(
        layer=name,
        shape=matrix.shape,
        code=matrix.code.name,
        axis=matrix.axis,
        groups=matrix.groups,
        streams=found.streams,
        weights=found.weights,
        beats_in=found.beats_in,
        beats=found.beats,
        cycles=found.cycles,
        waits=found.waits,
        mismatches=found.mismatches,
        first_wrong=None if bad is None else _explained(bad, matrix, harness),
        failure=found.failure or _missing(found, matrix, harness),
        seconds=time.monotonic() - began,
    )


def _pieces(matrix: PackedMatrix) -> Iterator[tuple[Words, Accs]]:
    """Words and what the reference makes of them, some streams at a time."""
    step = max(1, _PIECE // (matrix.groups * matrix.code.group))
    for first in range(0, matrix.streams, step):
        words = matrix.words[first : first + step]
        yield words, decode_words(words, matrix.groups, matrix.code)


def _missing(found: HarnessResult, matrix: PackedMatrix, harness: Harness) -> str | None:
    """Whether all was compared: the counts of a run, against those of the layer."""
    geometry, streams = harness.geometry, matrix.streams
    wanted = {
        "streams": streams,
        "weights": streams * matrix.groups * matrix.code.group,
        "beats_in": streams * geometry.beats_in,
        "beats": streams * geometry.beats_out,
    }
    for count, number in wanted.items():
        if getattr(found, count) != number:
            return f"{count}: {getattr(found, count)} counted where the layer has {number}"
    return None


def _explained(bad: FirstWrong, matrix: PackedMatrix, harness: Harness) -> WrongWeight:
    code = matrix.code
    words = matrix.words[bad.stream : bad.stream + 1]
    bits = unpack_bits(words, matrix.groups * code.lifted)[0]
    group, row_of_code = divmod(bad.weight, code.group)
    start = group * code.lifted + code.starts[row_of_code]
    window = "".join(str(bits[(start + j) % len(bits)]) for j in range(code.window))
    row, column = place(matrix, bad.stream, bad.weight)
    nearby = harness.geometry.lanes * code.group
    guesses = tuple(likenesses(code, bits, bad.weight, bad.got, nearby))
    return WrongWeight(bad.stream, bad.weight, row, column, window, bad.expected, bad.got, guesses)


class Records:
    """The layers that passed, in a folder."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, stalls: Stalls) -> None:
        self._folder = folder
        self._checkpoint = checkpoint
        self._stalls = stalls
        modules = (algo.decode, algo.packing)
        sources = [Path(str(module.__file__)).read_bytes() for module in modules]
        self._oracle = hashlib.sha256(b"\0".join(sources)).hexdigest()

    def _path(self, name: str, harness: Harness) -> Path:
        manifest = self._checkpoint.manifest
        entry = manifest.layers[name]
        depends = {
            "program": harness.program.name,  # names a hash of the Verilog and the harness
            "oracle": self._oracle,
            "code": self._checkpoint.codes[entry.code].sha256,
            "file": manifest.files[entry.file].sha256,
            "layer": [name, entry.shape, entry.axis],
            "stalls": asdict(self._stalls),
        }
        text = json.dumps(depends, sort_keys=True)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"

    def find(self, name: str, harness: Harness) -> LayerRun | None:
        """What an earlier run found, where the layer passed in one."""
        path = self._path(name, harness)
        if not path.exists():
            return None
        fields = read_json(path)
        pairs = {pair: tuple(fields[pair]) for pair in ("shape", "waits")}
        return LayerRun(**{**fields, **pairs, "earlier": True})

    def keep(self, found: LayerRun, harness: Harness) -> None:
        """Record a layer if it passed; what is wrong is to be looked at again."""
        if found.passed:
            write_json(self._path(found.layer, harness), asdict(found))
