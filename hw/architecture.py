"""Which arrangement of tables and adders decodes, and how it is pipelined; plain values."""

from dataclasses import dataclass

from algo.errors import LiftError

KINDS = ("tables", "tree", "shared")
FLOWS = ("chain", "credit")
MAX_INPUTS = 6  # a table of 64 entries: four 4-input LUTs and their multiplexers for each bit
MAX_CYCLES = 32
_DEFAULT_INPUTS = {"tables": 4, "tree": 1, "shared": 2}
_HELP = "write tables:K, tree or shared:C, then any of ,inputs=K ,levels=N ,flow=chain|credit"


@dataclass(frozen=True)
class Architecture:
    """One way to build the projection.

    Attributes:
        kind: ``tables``: k features index a table of partial sums, which a tree of registered
            adders sums (distributed arithmetic). ``tree``: every feature selects plus or minus its
            tap, no tables. ``shared``: a weight is summed in C steps, by the same tables and
            adders, the tables indexed by k features and the number of the step.
        inputs: k, features per table: 2..6 in ``tables``, 1 in ``tree``, 1..6 in ``shared``.
        cycles: C, clock cycles per output beat: 2..32 in ``shared``, 1 in the others.
        levels: adder levels between registers, at least 1.
        flow: ``chain``: a stage moves when it is empty or its successor moves, so ``o.ready``
            reaches all registers through one gate per stage. ``credit``: stages always move, and a
            beat enters only where the output queue has a place for it.

    Raises:
        LiftError: a value is unknown or out of range; the message names it and what is possible.
    """

    kind: str = "tables"
    inputs: int = 4
    cycles: int = 1
    levels: int = 1
    flow: str = "chain"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LiftError(f"architecture {self.kind!r} is unknown; {_HELP}")
        least, most = {"tables": (2, MAX_INPUTS), "tree": (1, 1), "shared": (1, MAX_INPUTS)}[
            self.kind
        ]
        if not least <= self.inputs <= most:
            raise LiftError(
                f"inputs={self.inputs}: a table of architecture {self.kind} takes "
                f"{least}..{most} features"
            )
        least, most = (2, MAX_CYCLES) if self.kind == "shared" else (1, 1)
        if not least <= self.cycles <= most:
            raise LiftError(
                f"cycles={self.cycles}: architecture {self.kind} takes {least}..{most} cycles per "
                f"beat{'' if self.kind == 'shared' else '; to share adders, use shared:C'}"
            )
        if self.levels < 1:
            raise LiftError(f"levels={self.levels}: registers are at least one adder level apart")
        if self.flow not in FLOWS:
            raise LiftError(f"flow={self.flow!r} is unknown; use one of {', '.join(FLOWS)}")

    def __str__(self) -> str:
        """The text that `parse_architecture` reads back."""
        first = {
            "tables": f"tables:{self.inputs}",
            "tree": "tree",
            "shared": f"shared:{self.cycles}",
        }[self.kind]
        options = []
        if self.kind == "shared" and self.inputs != _DEFAULT_INPUTS["shared"]:
            options.append(f"inputs={self.inputs}")
        if self.levels != 1:
            options.append(f"levels={self.levels}")
        if self.flow != "chain":
            options.append(f"flow={self.flow}")
        return ",".join([first, *options])


DEFAULT = Architecture()


def parse_architecture(text: str) -> Architecture:
    """``tables:5``, ``tree,levels=2``, ``shared:3,flow=credit`` and the like.

    Raises:
        LiftError: a word is unknown or a number is none or out of range.
    """
    first, *options = text.split(",")
    kind, colon, number = first.partition(":")
    if kind not in KINDS or (kind == "tree" and colon) or (kind == "shared" and not colon):
        raise LiftError(f"architecture {text!r} is unknown; {_HELP}")
    fields: dict[str, int | str] = {"kind": kind, "inputs": _DEFAULT_INPUTS[kind]}
    if colon:
        fields["inputs" if kind == "tables" else "cycles"] = _number(number, text)
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in ("inputs", "levels", "flow"):
            raise LiftError(f"architecture {text!r}: {option!r} is unknown; {_HELP}")
        fields[key] = value if key == "flow" else _number(value, text)
    return Architecture(**fields)  # type: ignore[arg-type]


def as_architecture(given: "Architecture | str") -> Architecture:
    """`given` itself, or what its text says."""
    return parse_architecture(given) if isinstance(given, str) else given


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise LiftError(f"architecture {where!r}: {text!r} is not a number; {_HELP}")
    return int(text)
