"""Decode a checkpoint's own packed words three ways and compare every integer.

The reference (`algo.decode`) is the oracle. The hardware decoder is exported to Verilog and
simulated; the Triton decode kernel runs under Triton's interpreter. Equal means ``==``. The whole
integer layer, by the kernels, is compared with `algo.layer` on a few tokens, bit for bit.
"""

import re
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from algo.checkpoint import Checkpoint
from algo.decode import Accs, decode_words
from algo.errors import LiftError
from algo.matrix import PackedMatrix
from algo.whitening import Whitening, no_whitening


@dataclass(frozen=True)
class Difference:
    """The first weight that an implementation decodes otherwise than the reference.

    Of the implementation ``layer`` it is an output: its token and row.
    """

    implementation: str
    row: int
    column: int
    expected: float
    got: float


@dataclass(frozen=True)
class LayerCheck:
    """One layer's comparison.

    Attributes:
        words: uint32 words decoded.
        weights: integers compared, padding at the ends of streams included.
        outputs: outputs of the whole layer compared, of some tokens by all paths of GPU and CPU.
        cycles: clock cycles of the simulated decoder, stalls included.
        mismatches: differing weights by implementation, and outputs of the ``layer``.
        first_mismatch: the first of them, hardware before kernel before layer.
        failure: how the simulated decoder broke its protocol, where it did.
        waves: path of the waveform file, where one was asked for.
    """

    layer: str
    shape: tuple[int, int]
    code: str
    axis: str
    bits_per_weight: float
    words: int
    weights: int
    outputs: int
    cycles: int
    mismatches: dict[str, int]
    first_mismatch: Difference | None
    failure: str | None
    waves: str | None = None

    @property
    def passed(self) -> bool:
        return not any(self.mismatches.values()) and self.failure is None


@dataclass(frozen=True)
class Settings:
    """How the hardware decoder is simulated."""

    simulator: str = "verilator"
    lanes: int = 4
    seed: int = 0
    stalls: tuple[float, float] = (0.25, 0.25)
    waves: bool = False
    architecture: str = "tables:4"


def one_layer_per_shape(checkpoint: Checkpoint) -> list[str]:
    """The first layer of every shape, axis and code there is."""
    first: dict[object, str] = {}
    for name, entry in checkpoint.manifest.layers.items():
        first.setdefault((entry.shape, entry.axis, entry.code), name)
    return list(first.values())


def _file_name(layer: str) -> str:
    """A layer's name as that of a file: names come from the checkpoint and may hold anything."""
    return "layer-" + re.sub(r"[^A-Za-z0-9_]+", "-", layer)


def place(matrix: PackedMatrix, stream: int, weight: int) -> tuple[int, int]:
    """Row and column of weight `weight` of stream `stream`."""
    return (stream, weight) if matrix.axis == "in" else (weight, stream)


def _run_kernel(matrix: PackedMatrix, expected: Accs) -> tuple[int, Difference | None]:
    from algo.packing import extend_words
    from gpu.interpret import interpreted_decode

    extended = extend_words(matrix.words, matrix.groups, matrix.code)
    got = interpreted_decode(extended, matrix.code, matrix.groups)
    wrong = got != expected
    if not wrong.any():
        return 0, None
    stream, weight = np.argwhere(wrong)[0].tolist()
    row, column = place(matrix, stream, weight)
    first = Difference(
        "kernel", row, column, int(expected[stream, weight]), int(got[stream, weight])
    )
    return int(wrong.sum()), first


def _run_layer(matrix: PackedMatrix, whitening: Whitening) -> tuple[int, int, Difference | None]:
    """Outputs compared, how many are wrong, and the first of these."""
    from liftquant.layer_product import layer_outputs

    expected, got = outputs = layer_outputs(matrix, whitening)
    wrong = outputs.wrong
    if not bool(wrong.any()):
        return wrong.numel(), 0, None
    token, row = wrong.nonzero()[0].tolist()
    first = Difference("layer", token, row, expected[token, row].item(), got[token, row].item())
    return wrong.numel(), int(wrong.sum()), first


def check_layer(
    name: str,
    matrix: PackedMatrix,
    settings: Settings,
    workdir: Path,
    whitening: Whitening | None = None,
) -> LayerCheck:
    """Decode one layer three ways, and run it by the kernels. `workdir` keeps what is built."""
    from sim.verify import simulate_decoder

    expected = decode_words(matrix.words, matrix.groups, matrix.code)
    lanes = min(settings.lanes, matrix.groups)
    result = simulate_decoder(
        matrix.code, matrix.words, matrix.groups, lanes, settings.simulator, settings.seed,
        settings.stalls, settings.waves, workdir, expected, _file_name(name),
        settings.architecture,
    )  # fmt: skip
    outputs, outputs_wrong, first_output = _run_layer(
        matrix, whitening or no_whitening(matrix.shape[1])
    )
    kernel_wrong, first = _run_kernel(matrix, expected)
    first = first or first_output
    if (bad := result.first_mismatch) is not None:
        weight = (bad.beat * lanes + bad.lane) * matrix.code.group + bad.weight
        row, column = place(matrix, bad.stream, weight)
        first = Difference("rtl", row, column, bad.expected, bad.got)
    return LayerCheck(
        layer=name,
        shape=matrix.shape,
        code=matrix.code.name,
        axis=matrix.axis,
        bits_per_weight=matrix.bits_per_weight,
        words=matrix.words.size,
        weights=expected.size,
        outputs=outputs,
        cycles=result.cycles,
        mismatches={"rtl": result.mismatches, "kernel": kernel_wrong, "layer": outputs_wrong},
        first_mismatch=first,
        failure=result.failure,
        waves=result.waves,
    )


def crosscheck(
    checkpoint: Checkpoint,
    layers: Sequence[str] | None = None,
    settings: Settings | None = None,
    workdir: Path | None = None,
    on_start: Callable[[int], None] | None = None,
    on_progress: Callable[[int, str], None] | None = None,
) -> list[LayerCheck]:
    """Check layers of a checkpoint; files are hashed against the manifest first.

    Layers whose decoders differ (another code or stream length) are built and run side by side.

    Args:
        checkpoint: an open checkpoint.
        layers: names; one of every shape by default.
        settings: simulator, lanes, seed and stall probabilities.
        workdir: keeps what the simulator made; temporary by default.
        on_start: told the number of weights to check.
        on_progress: told the number of weights finished since the last call, and the layer.

    Raises:
        LiftError: the checkpoint is corrupt, a layer is unknown, a simulator or compiler missing.
    """
    checkpoint.verify()
    settings = settings or Settings()
    names = list(layers) if layers else one_layer_per_shape(checkpoint)
    if len(set(names)) != len(names):
        raise LiftError("a layer is named twice; name each once")
    matrices = {name: checkpoint.matrix(name) for name in names}
    whitenings = checkpoint.whitenings()
    sizes = {name: m.shape[0] * m.shape[1] for name, m in matrices.items()}
    if on_start:
        on_start(sum(sizes.values()))
    builds: dict[tuple[str, int], list[str]] = {}
    for name, matrix in matrices.items():
        builds.setdefault((matrix.code.name, matrix.groups), []).append(name)
    checks: dict[str, LayerCheck] = {}
    reporting = Lock()
    with ExitStack() as stack:
        if workdir is None:
            workdir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="liftquant-")))

        def run_build(index: int, members: list[str]) -> None:
            for name in members:
                checks[name] = check_layer(
                    name, matrices[name], settings, workdir / f"{index}", whitenings[name]
                )
                if on_progress:
                    with reporting:
                        on_progress(sizes[name], name)

        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(run_build, i, m) for i, m in enumerate(builds.values())]
            for job in jobs:
                job.result()
    return [checks[name] for name in names]
