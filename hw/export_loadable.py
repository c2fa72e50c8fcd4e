"""Verilog of a loadable decoder, with a sidecar, and the writes that load a code."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from algo.code import LiftCode
from algo.files import write_json
from hw.capacity import REGISTER_MAP, Capacity
from hw.export import (
    CONTROL,
    CONTROL_PORTS,
    check_destination,
    origin,
    stream_ports,
    verilog_text,
    write_all,
)
from hw.loadable import LoadableDecoder

_BUS = "value in bits [0, 32), address in bits [32, 48)"


def export_loadable(
    capacity: Capacity, directory: Path, name: str, pictures: Mapping[str, str] | None = None
) -> tuple[Path, ...]:
    """Write ``name.v`` and ``name.json`` to `directory`; the same capacity gives the same bytes.

    Pictures are as for `hw.export.export`.

    Returns:
        The paths of the Verilog, of the sidecar and of what else was written.

    Raises:
        LiftError: `name` is no Verilog identifier, or `directory` is a file.
    """
    check_destination(directory, name)
    decoder = LoadableDecoder(capacity)
    text = verilog_text(decoder, name)
    sidecar = {
        **origin(name, text),
        "capacity": asdict(capacity),
        **CONTROL,
        "ports": [
            *CONTROL_PORTS,
            *stream_ports("i", "input", len(decoder.i.payload), "one packed word"),
            *stream_ports("o", "output", len(decoder.o.payload), "one signed weight"),
            *stream_ports("bus", "input", len(decoder.bus.payload), f"a write: {_BUS}"),
        ],
        "bus": {"layout": _BUS, **REGISTER_MAP},
    }
    return write_all(directory, name, text, sidecar, pictures)


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
