"""Verilog of an engine, with a JSON sidecar that says how to use it."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hw.engine import Engine
from hw.export import (
    CONTROL,
    CONTROL_PORTS,
    check_destination,
    origin,
    stream_ports,
    verilog_text,
    write_all,
)


def export_engine(
    engine: Engine, directory: Path, name: str = "liftquant_engine"
) -> tuple[Path, ...]:
    """Write ``name.v``, ``name.json`` and templates that instantiate it to `directory`; the same
    engine gives the same bytes.

    Returns:
        The paths of the Verilog, of the sidecar and of the templates.

    Raises:
        LiftError: `name` is no Verilog identifier, or `directory` is a file.
    """
    check_destination(directory, name)
    text = verilog_text(engine, name)
    return write_all(directory, name, text, _sidecar(engine, name, text), pictures={})


def _sidecar(engine: Engine, name: str, text: str) -> dict[str, Any]:
    geometry = engine.geometry
    code, scale = geometry.code, geometry.output and geometry.output.scale
    ports = [
        *CONTROL_PORTS,
        *stream_ports("act", "input", geometry.activation_bits, "activations of 8 bits"),
        *stream_ports("i", "input", geometry.lanes, "a sign bit per lane"),
        *stream_ports("o", "output", geometry.payload_bits, "one signed output"),
    ]
    if scale:
        ports += stream_ports("scale", "input", scale.multiplier_bits, "a row's multiplier")
    return {
        **origin(name, text),
        "code": {"name": code.name, "sha256": code.sha256, **code.definition()},
        "taps_sha256": hashlib.sha256(code.taps.tobytes()).hexdigest(),
        "rows": geometry.rows,
        "columns": geometry.columns,
        "lanes": geometry.lanes,
        "builders": geometry.builders,
        **CONTROL,
        "ports": ports,
        "activations": {
            "beats_per_vector": geometry.activation_beats,
            "layout": "activation n of a beat is at bits [8n, 8n+8), two's complement, -127..127; "
            "the vector's in order, zeros after its last",
        },
        "bits": {
            "beats_per_vector": geometry.row_beats,
            "tiles": geometry.tiles,
            "beats_per_tile": geometry.bit_rows,
            "layout": "bit l of beat t*beats_per_tile + n is bit n of the stream of column "
            f"{geometry.lanes}*t + l; those of columns after the last are ignored",
        },
        "output": {
            "beats_per_vector": geometry.rows,
            "width": geometry.payload_bits,
            "signed": True,
            "meaning": "sum, of acc * activation"
            if scale is None
            else "sum * multiplier / 2**shift, rounded half away from zero, saturated",
        },
        "scale": None if scale is None else {**asdict(scale), "beats_per_vector": geometry.rows},
        "cycles": {"of_one_vector": geometry.cycles(1), "of_two_vectors": geometry.cycles(2)},
        "cycles_are": "clock edges from the one that takes the first activation beat to the one "
        "that transfers the last output, counting both, without stalls",
    }
