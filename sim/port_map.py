"""The port map: what a foreign decoder's ports are called and mean, as a TOML file says it."""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError

from algo.errors import LiftError

Protocol = Literal["ready-valid", "valid-only", "fixed-latency"]
# which of the optional port names each protocol has: (input, output)
HANDSHAKES: dict[str, tuple[str, ...]] = {
    "ready-valid": ("valid", "ready"),
    "valid-only": ("valid",),
    "fixed-latency": (),
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ResetPort(_Strict):
    """``[reset]``; left out by a design that has none.

    `active` is the level that resets; an ``async`` reset works without a clock edge.
    """

    port: str
    active: Literal["high", "low"]
    kind: Literal["sync", "async"]


class InputPorts(_Strict):
    """``[input]``: a beat carries `per_beat` 32-bit words, groups, or groups with their windows."""

    payload: str
    valid: str | None = None
    ready: str | None = None
    carries: Literal["words", "groups", "windows"]
    per_beat: PositiveInt = 1
    first: Literal["lsb", "msb"] = "lsb"


class OutputPorts(_Strict):
    """``[output]``: a beat carries `weights` weights of `weight_bits` bits each."""

    payload: str
    valid: str | None = None
    ready: str | None = None
    weights: PositiveInt
    weight_bits: PositiveInt
    first: Literal["lsb", "msb"] = "lsb"


class PortMap(_Strict):
    """A whole map.

    Attributes:
        protocol: ``ready-valid`` has both handshake signals on both sides; ``valid-only`` has no
            back-pressure; ``fixed-latency`` takes a beat in every cycle.
        latency: of ``fixed-latency``: the output of a beat is there `latency` clock edges after
            the beat was presented; 0 is a combinational decoder.
        clock: the clock, whose rising edge counts; a combinational decoder may have none.
        tie: constants for input ports that are not otherwise named.
    """

    protocol: Protocol
    latency: NonNegativeInt | None = None
    clock: str | None = None
    reset: ResetPort | None = None
    input: InputPorts
    output: OutputPorts
    tie: dict[str, NonNegativeInt] = Field(default_factory=dict)


_TABLES: dict[str, type[BaseModel]] = {
    "reset": ResetPort,
    "input": InputPorts,
    "output": OutputPorts,
}


def read_port_map(path: Path) -> PortMap:
    """Read a port map.

    Raises:
        LiftError: the file is missing, is not TOML, or a field is unknown, missing or wrong; the
            message names the field and what it may be.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LiftError(f"{path} does not exist; docs/rtl-verify.md shows a port map") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LiftError(f"{path} is not TOML: {error}") from None
    try:
        ports = PortMap.model_validate(fields)
    except ValidationError as error:
        raise LiftError(f"{path}: {_first_problem(error)}") from None
    problem = _inconsistency(ports)
    if problem:
        raise LiftError(f"{path}: {problem}")
    return ports


def _first_problem(error: ValidationError) -> str:
    # a misspelt field is also a missing one, and the better answer
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    table = _TABLES.get(str(first["loc"][0]), PortMap) if len(first["loc"]) > 1 else PortMap
    match first["type"]:
        case "extra_forbidden":
            return f"{place}: unknown field; known here: {', '.join(table.model_fields)}"
        case "missing":
            return f"{place} is missing; {_wanted(table, str(first['loc'][-1]))}"
        case _:
            return f"{place} = {first['input']!r}: {first['msg']}"


def _wanted(table: type[BaseModel], field: str) -> str:
    annotation: Any = table.model_fields[field].annotation
    choices = getattr(annotation, "__args__", None)
    if choices and all(isinstance(choice, str) for choice in choices):
        return "one of " + ", ".join(choices)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a table with {', '.join(annotation.model_fields)}"
    return "a whole number" if annotation is int else "the name of a port"


def _inconsistency(ports: PortMap) -> str | None:
    """What no field shows by itself."""
    fixed = ports.protocol == "fixed-latency"
    if fixed and ports.latency is None:
        return "latency is missing; protocol fixed-latency needs the number of clock edges"
    if not fixed and ports.latency is not None:
        return f"latency = {ports.latency} has no meaning with protocol {ports.protocol}; drop it"
    if ports.clock is None and (not fixed or ports.latency or ports.reset):
        return "clock is missing; only a fixed-latency decoder of latency 0 has none"
    known = HANDSHAKES[ports.protocol]
    for side in ("input", "output"):
        for signal in ("valid", "ready"):
            name = getattr(getattr(ports, side), signal)
            if signal in known and name is None:
                return f"{side}.{signal} is missing; protocol {ports.protocol} has one"
            if signal not in known and name is not None:
                return (
                    f"{side}.{signal} = {name!r}: protocol {ports.protocol} has no {signal}; drop "
                    "it or change the protocol"
                )
    return None
