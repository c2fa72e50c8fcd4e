"""``liftquant rtl prove`` of a decoder whose code is loaded while it runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from algo.code import LiftCode
    from hw.capacity import Capacity
    from hw.prove import Proof


@dataclass(frozen=True)
class Loadable:
    """A loadable decoder and the codes that it is proved with.

    Attributes:
        capacity: what it holds.
        codes: each with the groups of its streams.
    """

    capacity: "Capacity"
    codes: "Sequence[tuple[LiftCode, int]]"

    def prove(self, verilog: str, top: str, step: Callable[[str], None]) -> "list[Proof]":
        """The proofs of its Verilog, module `top`; `step` is told each claim."""
        from hw.prove_loadable import prove_loadable

        return prove_loadable(self.capacity, self.codes, verilog, top, step)

    def describe(self) -> dict[str, Any]:
        """What it is, as JSON values."""
        return {
            "code": f"loadable, {len(self.codes)} codes",
            "capacity": asdict(self.capacity),
            "codes": [
                {"code": code.name, "code_sha256": code.sha256, "groups": groups}
                for code, groups in self.codes
            ],
        }


def is_loadable(path: Path) -> bool:
    """Whether the sidecar beside a .v file is that of a loadable decoder."""
    from algo.files import read_json

    return "capacity" in read_json(path.with_suffix(".json"))


def read_loadable(sidecar: Mapping[str, Any], names: list[str], weights: int) -> Loadable:
    """The decoder of a sidecar, with the codes named, or every shipped one that fits.

    Raises:
        LiftError: a code that is named does not fit, or none does.
    """
    from algo.errors import LiftError
    from algo.packing import stream_groups
    from algo.shipped import find_code, shipped_codes
    from hw.capacity import Capacity

    capacity = Capacity(**sidecar["capacity"])
    codes = []
    for code in [find_code(n) for n in names] or [s.code for s in shipped_codes().values()]:
        groups = stream_groups(weights, code)
        try:
            capacity.check(code, groups)
        except LiftError:
            if names:
                raise
            continue
        codes.append((code, groups))
    if not codes:
        raise LiftError(f"no shipped code fits {capacity}; name code files that do")
    return Loadable(capacity, codes)
