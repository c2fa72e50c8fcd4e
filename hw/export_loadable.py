"""Verilog of a loadable decoder, with a sidecar, and the writes that load a code."""

import hashlib
from dataclasses import asdict
from pathlib import Path

from algo.code import LiftCode
from algo.files import write_json, write_text
from hw.capacity import (
    LAST_ROW,
    MASKS,
    OVERLAP,
    PARITY_COLUMN,
    ROW,
    SHIFTS,
    STREAM_BITS,
    TAPS,
    WEIGHTS,
    WINDOW,
    Capacity,
)  # fmt: skip
from hw.export import check_destination, package_version, port
from hw.loadable import LoadableDecoder


def export_loadable(capacity: Capacity, directory: Path, name: str) -> tuple[Path, Path]:
    """Write ``name.v`` and ``name.json`` to `directory`; the same capacity gives the same bytes.

    Returns:
        The paths of the Verilog and of the sidecar.

    Raises:
        LiftError: `name` is no Verilog identifier, or `directory` is a file.
    """
    from amaranth.back import verilog

    check_destination(directory, name)
    decoder = LoadableDecoder(capacity)
    text = verilog.convert(decoder, name=name, emit_src=False, strip_internal_attrs=True)
    sidecar = {
        "module": name,
        "generator": {p: package_version(p) for p in ("liftquant", "amaranth")},
        "verilog_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "capacity": asdict(capacity),
        "clock": {"port": "clk", "edge": "rising"},
        "reset": {"port": "rst", "active": "high", "synchronous": True},
        "ports": [
            port("clk", "input", 1),
            port("rst", "input", 1),
            *(
                port(f"{stream}__{part}", direction if part != "ready" else back, width)
                for stream, direction, back, payload in (
                    ("i", "input", "output", len(decoder.i.payload)),
                    ("o", "output", "input", len(decoder.o.payload)),
                    ("bus", "input", "output", len(decoder.bus.payload)),
                )
                for part, width in (("valid", 1), ("ready", 1), ("payload", payload))
            ),
        ],
        "bus": {
            "layout": "value in bits [0, 32), address in bits [32, 48)",
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
        },
    }
    verilog_path, sidecar_path = directory / f"{name}.v", directory / f"{name}.json"
    write_text(verilog_path, text)
    write_json(sidecar_path, sidecar)
    return verilog_path, sidecar_path


def export_writes(
    capacity: Capacity, code: LiftCode, groups: int, directory: Path, name: str
) -> Path:
    """Write ``name.writes.json``: the bus writes for streams of `groups` groups of `code`.

    Raises:
        LiftError: the code does not fit, `name` is no Verilog identifier, or `directory` is a file.
    """
    check_destination(directory, name)
    path = directory / f"{name}.writes.json"
    fields = {
        "code": {"name": code.name, "sha256": code.sha256},
        "groups": groups,
        "latency": capacity.latency(code, groups),
        "cycles_per_stream": capacity.cycles(code, groups, 2) - capacity.cycles(code, groups, 1),
        "writes": [{"address": at, "value": value} for at, value in capacity.writes(code, groups)],
    }
    write_json(path, fields)
    return path
