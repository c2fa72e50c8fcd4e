"""Verilog of a decoder, with a JSON sidecar that says how to use it."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from algo.errors import LiftError
from algo.files import check_folder, write_json, write_text
from hw.decoder import Decoder
from hw.geometry import Geometry
from hw.output import ACC_WIDTH
from hw.template import verilog_template, vhdl_component

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
    check_folder(directory)


def export(
    decoder: Decoder,
    directory: Path,
    name: str = "liftquant_decoder",
    pictures: Mapping[str, str] | None = None,
) -> tuple[Path, ...]:
    """Write ``name.v`` and ``name.json`` to `directory`; the same decoder gives the same bytes.

    Args:
        decoder: what to export.
        directory: where to.
        name: of the module and the files.
        pictures: by what they show, SVG to write as ``name.WHAT.svg``; with these, templates for
            its instance are written too.

    Returns:
        The paths of the Verilog, of the sidecar and of what else was written.

    Raises:
        LiftError: `name` is no Verilog identifier, or `directory` is a file.
    """
    check_destination(directory, name)
    text = verilog_text(decoder, name)
    return write_all(directory, name, text, sidecar(decoder, name, text), pictures)


def verilog_text(design: wiring.Component, name: str) -> str:
    """A design as Verilog whose top module is `name`; the same design gives the same text."""
    from amaranth.back import verilog

    text: str = verilog.convert(design, name=name, emit_src=False, strip_internal_attrs=True)
    return text


def write_all(
    directory: Path,
    name: str,
    text: str,
    described: Mapping[str, Any],
    pictures: Mapping[str, str] | None = None,
) -> tuple[Path, ...]:
    """Write Verilog, its sidecar and, with pictures, these and the templates; returns the paths.

    The sidecar is written last, and names the others.
    """
    files = {"verilog": (f"{name}.v", text)}
    if pictures is not None:
        files["template"] = (f"{name}.template.v", verilog_template(described))
        files["component"] = (f"{name}.component.vhd", vhdl_component(described))
        files |= {what: (f"{name}.{what}.svg", svg) for what, svg in pictures.items()}
    for file, content in files.values():
        write_text(directory / file, content)
    sidecar_path = directory / f"{name}.json"
    names = {what: file for what, (file, _) in files.items()}
    write_json(sidecar_path, {**described, "files": names})
    verilog, *others = (directory / file for file in names.values())
    return verilog, sidecar_path, *others


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


def stream_ports(name: str, direction: str, payload: int, carries: str) -> list[dict[str, Any]]:
    """A stream's three ports; `direction` is that of its payload, which `carries` describes."""
    back = "output" if direction == "input" else "input"
    return [
        _port(f"{name}__valid", direction, 1, f"{name}__payload is a beat"),
        _port(f"{name}__ready", back, 1, "the beat is taken at the next rising edge"),
        _port(f"{name}__payload", direction, payload, carries),
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
    weights = geometry.lanes * geometry.code.group
    words = f"{geometry.beat_words} x 32 bits of packed words, {geometry.beats_in} beats per stream"
    sums = (
        f"{weights} x {geometry.output.width} bits, signed weights, {geometry.beats_out} beats per "
        "stream"
    )
    ports = [
        *CONTROL_PORTS,
        *stream_ports("i", "input", geometry.beat_bits, words),
        *stream_ports("o", "output", geometry.payload_bits, sums),
    ]
    scale = geometry.output.scale
    if scale is not None:
        per = "stream" if scale.axis == "in" else "output beat"
        factors = geometry.scale_bits // scale.multiplier_bits
        carries = f"{factors} x {scale.multiplier_bits} bits, unsigned multipliers of one {per}"
        ports += stream_ports("scale", "input", geometry.scale_bits, carries)
    if decoder.mark_last:
        ports.append(_port("last", "output", 1, "the beat at o is the last of its stream"))
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


def _port(name: str, direction: str, width: int, meaning: str) -> dict[str, Any]:
    """One port of a sidecar."""
    return {"name": name, "direction": direction, "width": width, "meaning": meaning}


CONTROL_PORTS = [
    _port("clk", "input", 1, "rising edge"),
    _port("rst", "input", 1, "synchronous, active high"),
]


def _package_version(package: str) -> str:
    """Version of an installed package, "unknown" where it is not."""
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "unknown"
