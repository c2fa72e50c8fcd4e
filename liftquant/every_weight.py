"""The RTL on every weight of a checkpoint: compiled harnesses, layer by layer, resumable.

For each decoder that the checkpoint needs (a code and a stream length) the Verilog is exported and
compiled with a harness once; then every layer's own words go through it and every integer that
comes out is compared with `algo.decode`.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from algo.checkpoint import Checkpoint
from algo.code import LiftCode
from algo.errors import LiftError
from algo.files import remove_unfinished
from algo.packing import stream_groups
from algo.search import default_workers
from liftquant.rtl_layer import LayerRun, Records, Stalls, run_layer
from sim.harness import Harness


@dataclass(frozen=True)
class Settings:
    """The decoder and its bench.

    Attributes:
        lanes: groups per clock cycle, at most those of a stream.
        architecture: of the decoder, as `hw.architecture.parse_architecture` reads it.
        stalls: of the bench.
    """

    lanes: int = 4
    architecture: str = "tables:4"
    stalls: Stalls = field(default_factory=Stalls)


@dataclass(frozen=True)
class Build:
    """A decoder compiled with its harness: what it decodes, and how long making it took."""

    code: str
    groups: int
    lanes: int
    seconds: float


def _ignore(*_: object) -> None:
    """For a caller who did not ask to be told."""


@dataclass(frozen=True)
class Listener:
    """Who is told of progress.

    Attributes:
        start: called with the weights to check; again, with fewer, where layers were recorded.
        advance: called with the weights finished since the last call, and the layer.
    """

    start: Callable[[float], None] = _ignore
    advance: Callable[[float, str], None] = _ignore


def every_weight(
    checkpoint: Checkpoint,
    workdir: Path,
    settings: Settings | None = None,
    layers: Sequence[str] | None = None,
    jobs: int | None = None,
    listener: Listener | None = None,
) -> tuple[list[LayerRun], list[Build]]:
    """Check the RTL on every weight; files are hashed against the manifest first.

    Args:
        checkpoint: an open checkpoint.
        workdir: keeps Verilog, programs and the record of every layer that passed; a later call
            goes on from there. For one call at a time.
        settings: the decoder and its bench.
        layers: names; all by default.
        jobs: processes side by side, every processor by default.
        listener: who is told of progress.

    Returns:
        The layers in the checkpoint's order, or in that of `layers`, and the builds.

    Raises:
        LiftError: the checkpoint is corrupt, a layer is unknown, a tool missing, lanes or
            architecture cannot work.
    """
    from sim.toolchain import tool_environment

    tool_environment("verilator")  # what is missing is said before anything is done
    if layers and len(set(layers)) != len(layers):
        raise LiftError("a layer is named twice; name each once")
    checkpoint.verify()
    for folder in ("programs", "layers"):
        remove_unfinished(workdir / folder)
    run = _Run(
        checkpoint, workdir, settings or Settings(), list(layers or checkpoint.manifest.layers)
    )
    with ThreadPoolExecutor(jobs or default_workers()) as pool:
        return run.carry_out(pool, jobs or default_workers(), listener or Listener())


class _Run:
    """One call."""

    def __init__(
        self, checkpoint: Checkpoint, workdir: Path, settings: Settings, names: list[str]
    ) -> None:
        self._checkpoint = checkpoint
        self._workdir = workdir
        self._settings = settings
        self._names = names
        self._records = Records(workdir / "layers", checkpoint, settings.stalls)
        self._sizes: dict[str, int] = {}
        members: dict[tuple[str, int], list[str]] = {}
        for name in names:
            if name not in checkpoint.manifest.layers:
                checkpoint.matrix(name)  # says so
            entry = checkpoint.manifest.layers[name]
            rows, columns = entry.shape
            length = columns if entry.axis == "in" else rows
            groups = stream_groups(length, checkpoint.codes[entry.code])
            members.setdefault((entry.code, groups), []).append(name)
            self._sizes[name] = rows * columns
        # the decoder with most weights first
        self._decoders = sorted(members.items(), key=lambda item: -self._weights(item[1]))

    def _weights(self, names: Sequence[str]) -> int:
        return sum(self._sizes[name] for name in names)

    def carry_out(
        self, pool: ThreadPoolExecutor, jobs: int, listener: Listener
    ) -> tuple[list[LayerRun], list[Build]]:
        """Layers are queued when their decoder is built, and only then another decoder."""
        runs: dict[str, LayerRun] = {}
        builds: list[Build] = []
        making: dict[Future[tuple[Harness, Build]], list[str]] = {}
        checking: set[Future[LayerRun]] = set()
        waiting = iter(self._decoders)

        def make_next() -> None:
            for (code, groups), names in waiting:
                making[pool.submit(self._make, self._checkpoint.codes[code], groups)] = names
                return

        left = self._weights(self._names)
        listener.start(left)
        try:
            for _ in range(jobs):
                make_next()
            while making or checking:
                queued: list[Future[Any]] = [*making, *checking]
                done = wait(queued, return_when=FIRST_COMPLETED).done
                for made in [future for future in making if future in done]:
                    harness, build = made.result()
                    builds.append(build)
                    for name in making.pop(made):
                        known = self._records.find(name, harness)
                        if known is None:
                            checking.add(pool.submit(self._check, name, harness))
                        else:
                            runs[name] = known
                            left -= self._sizes[name]
                            listener.start(left)
                    make_next()
                for checked in [future for future in checking if future in done]:
                    checking.remove(checked)
                    found = checked.result()
                    runs[found.layer] = found
                    listener.advance(self._sizes[found.layer], found.layer)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [runs[name] for name in self._names], builds

    def _make(self, code: LiftCode, groups: int) -> tuple[Harness, Build]:
        from hw.architecture import parse_architecture
        from hw.decoder import Decoder
        from hw.export import export
        from hw.geometry import Geometry
        from sim.harness_build import build_harness

        began = time.monotonic()
        lanes = min(self._settings.lanes, groups)
        geometry = Geometry(code, groups, lanes, parse_architecture(self._settings.architecture))
        text = f"{code.sha256} {groups} {lanes} {geometry.architecture}"
        folder = self._workdir / "verilog" / hashlib.sha256(text.encode()).hexdigest()[:16]
        verilog, _ = export(Decoder(code, groups, lanes, geometry.architecture), folder)
        harness = build_harness(verilog, geometry, self._workdir / "programs")
        return harness, Build(code.name, groups, lanes, time.monotonic() - began)

    def _check(self, name: str, harness: Harness) -> LayerRun:
        matrix = self._checkpoint.matrix(name)
        found = run_layer(name, matrix, harness, self._settings.stalls)
        self._records.keep(found, harness)
        return found
