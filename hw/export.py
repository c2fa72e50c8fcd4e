"""Verilog of a decoder, with a JSON sidecar that says how to use it."""

import hashlib
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from algo.errors import LiftError
from algo.files import write_json, write_text
from hw.decoder import Decoder
from hw.geometry import Geometry
from hw.output import ACC_WIDTH

_KEYWORDS = frozenset(
    [
        "always", "and", "assign", "begin", "bit", "buf", "byte", "case", "default", "disable",
        "edge", "else", "end", "endcase", "endfunction", "endmodule", "endtask", "event", "for",
        "force", "forever", "fork", "function", "if", "initial", "inout", "input", "int", "integer",
        "join", "logic", "module", "nand", "negedge", "nor", "not", "or", "output", "parameter",
        "posedge", "real", "reg", "release", "repeat", "signed", "supply0", "supply1", "table",
        "task", "time", "tri", "unsigned", "wait", "wand", "while", "wire", "wor", "xnor", "xor",
    ]
)  # fmt: skip


def check_destination(directory: Path, name: str) -> None:
    """Raise LiftError where `name` is no Verilog identifier or `directory` is a file."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name in _KEYWORDS:
        raise LiftError(f"{name!r} cannot name a Verilog module; use letters, digits and _")
    if directory.exists() and not directory.is_dir():
        raise LiftError(f"{directory} is a file; give a directory")


def export(decoder: Decoder, directory: Path, name: str = "liftquant_decoder") -> tuple[Path, Path]:
    """Write ``name.v`` and ``name.json`` to `directory`; the same decoder gives the same bytes.

    Returns:
        The paths of the Verilog and of the sidecar.

    Raises:
        LiftError: `name` is no Verilog identifier, or `directory` is a file.
    """
    check_destination(directory, name)
    text = verilog_text(decoder, name)
    return write_pair(directory, name, text, sidecar(decoder, name, text))


def verilog_text(design: wiring.Component, name: str) -> str:
    """A design as Verilog whose top module is `name`; the same design gives the same text."""
    from amaranth.back import verilog

    text: str = verilog.convert(design, name=name, emit_src=False, strip_internal_attrs=True)
    return text


def write_pair(
    directory: Path, name: str, text: str, described: dict[str, Any]
) -> tuple[Path, Path]:
    """Write Verilog and its sidecar; returns their paths."""
    verilog_path, sidecar_path = directory / f"{name}.v", directory / f"{name}.json"
    write_text(verilog_path, text)
    write_json(sidecar_path, described)
    return verilog_path, sidecar_path


def origin(name: str, text: str) -> dict[str, Any]:
    """The fields that a sidecar begins with: the module, what made it, the hash of its Verilog."""
    return {
        "module": name,
        "generator": {p: _package_version(p) for p in ("liftquant", "amaranth")},
        "verilog_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


CONTROL = {
    "clock": {"port": "clk", "edge": "rising"},
    "reset": {"port": "rst", "active": "high", "synchronous": True},
}
CONTROL_PORTS = [
    {"name": "clk", "direction": "input", "width": 1},
    {"name": "rst", "direction": "input", "width": 1},
]


def stream_ports(name: str, direction: str, payload: int) -> list[dict[str, Any]]:
    """A stream's three ports; `direction` is that of its payload."""
    back = "output" if direction == "input" else "input"
    return [
        _port(f"{name}__valid", direction, 1),
        _port(f"{name}__ready", back, 1),
        _port(f"{name}__payload", direction, payload),
    ]


def sidecar(decoder: Decoder, name: str, text: str) -> dict[str, Any]:
    """What `export` writes beside the Verilog, as JSON values."""
    geometry = decoder.geometry
    code, width = geometry.code, geometry.output.width
    meaning = "acc * 2**-exponent" + (", saturated" if width < ACC_WIDTH else "")
    if geometry.output.scale is not None:
        meaning = "acc * multiplier / 2**shift, rounded half away from zero, saturated"
    return {
        **origin(name, text),
        "code": {"name": code.name, "sha256": code.sha256, **code.definition()},
        "taps_sha256": hashlib.sha256(code.taps.tobytes()).hexdigest(),
        "groups": geometry.groups,
        "lanes": geometry.lanes,
        "architecture": {"text": str(geometry.architecture), **asdict(geometry.architecture)},
        **CONTROL,
        "ports": _ports(decoder),
        "input": {
            "beats_per_stream": geometry.beats_in,
            "words_per_beat": geometry.beat_words,
            "stream_bits": geometry.stream_bits,
            "layout": "bit n of a stream is bit n % 32 of word n // 32; word k of a beat is at "
            "bits [32k, 32k+32); every stream starts at a beat; bits after the stream's last are "
            "ignored",
        },
        "output": {
            "beats_per_stream": geometry.beats_out,
            "weights_per_beat": geometry.lanes * code.group,
            "weights_per_stream": geometry.groups * code.group,
            "weight": {"width": width, "signed": True, "exponent": code.exponent},
            "layout": f"weight n of a beat is at bits [{width}n, {width}n+{width}), two's "
            f"complement, and stands for {meaning}; lanes after a stream's last group are "
            "unspecified",
            "last_marked": decoder.mark_last,
        },
        "scale": _scale(geometry),
        "cycles_per_beat": geometry.architecture.cycles,
        "latency": geometry.latency,
        "latency_is": "clock edges from the one that takes a stream's first beat to the one that "
        "transfers its first output beat, idle before, without stalls",
    }


def _ports(decoder: Decoder) -> list[dict[str, Any]]:
    geometry = decoder.geometry
    ports = [
        *CONTROL_PORTS,
        *stream_ports("i", "input", geometry.beat_bits),
        *stream_ports("o", "output", geometry.payload_bits),
    ]
    if geometry.output.scale is not None:
        ports += stream_ports("scale", "input", geometry.scale_bits)
    if decoder.mark_last:
        ports.append(_port("last", "output", 1))
    return ports


def _scale(geometry: Geometry) -> dict[str, Any] | None:
    scale = geometry.output.scale
    if scale is None:
        return None
    bits = scale.multiplier_bits
    return {
        **asdict(scale),
        "beats_per_stream": 1 if scale.axis == "in" else geometry.beats_out,
        "layout": "the stream's multiplier, unsigned"
        if scale.axis == "in"
        else f"the multiplier of weight n of the output beat at bits [{bits}n, {bits}n+{bits}), "
        "unsigned; lanes after a stream's last group are ignored",
    }


def _port(name: str, direction: str, width: int) -> dict[str, Any]:
    """One port of a sidecar."""
    return {"name": name, "direction": direction, "width": width}


def _package_version(package: str) -> str:
    """Version of an installed package, "unknown" where it is not."""
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
