"""A benchmark of layers on a GPU: exactness first, then times, beside dense float16 and peers.

What runs and what measures is handed in, so that all of this is tested on a CPU. A choice that was
not found exact is not timed. Weights and activations are the same for everybody: our decoded
weights in float16, which peers round once more to their formats; `Row.error` is what that costs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import torch

from gpu.dispatch import plan
from gpu.exact_layer import decoded_weights
from gpu.timing import Timer
from gpu.tune import exactly_equal
from gpu.tuning_table import ONE_BIT, Choice, Timed, TuningTable
from gpu.workload import LayerWorkload, Paths, identity_differs
from liftquant.gpu_peer import Adapter, Prepared

OURS, DENSE = "liftquant", "fp16 dense"
PREPARE = "digits for"
_CHUNK = 1 << 24  # weights in float64 at a time
OnProgress = Callable[[float, str], None]


@dataclass(frozen=True)
class Check:
    """One choice run against the reference.

    Attributes:
        batch: tokens; 0 for the identity.
        problem: None where every result is equal.
        wrong: whether a result differed; otherwise a problem is that it could not run.
    """

    layer: str
    batch: int
    choice: str
    problem: str | None = None
    wrong: bool = False


@dataclass(frozen=True)
class Row:
    """One method at one batch.

    Attributes:
        path: the choice, for ours.
        bits_per_weight: as stored, scales included.
        microseconds: median, p20, p80.
        gigabytes_per_second: stored weights and float16 activations in and out, over the median.
        bound_share: the same over what memory moves in a plain copy.
        times_dense: median of dense float16 over this one.
        error: ``|y - y64| / |y64|`` against float64 and our decoded weights.
    """

    layer: str
    batch: int
    method: str
    path: str | None
    bits_per_weight: float
    microseconds: Timed
    gigabytes_per_second: float
    bound_share: float
    times_dense: float
    error: float


@dataclass(frozen=True)
class PreparationTime:
    """Time to whiten, quantise and lift activations, shared by the layers of one input."""

    layer: str
    batch: int
    microseconds: Timed


@dataclass(frozen=True)
class Failure:
    """A peer that could not be measured, and why."""

    peer: str
    layer: str | None
    reason: str


@dataclass(frozen=True)
class Result:
    """All that was found. `layers`: rows, columns, code and axis by name."""

    environment: dict[str, Any]
    layers: dict[str, dict[str, Any]]
    checks: list[Check]
    rows: list[Row]
    preparations: list[PreparationTime]
    failures: list[Failure]

    @property
    def failed(self) -> bool:
        """Whether a result differed, or there was nothing that could run."""
        return any(c.wrong for c in self.checks) or all(c.problem for c in self.checks)


def described(paths: Paths) -> dict[str, Any]:
    """A layer as `Result.layers` has it."""
    m = paths.matrix
    return {
        "rows": m.shape[0], "columns": m.shape[1], "code": m.code.name, "axis": m.axis,
        "digits": paths.digits, "bits_per_weight": m.bits_per_weight,
    }  # fmt: skip


def check_layers(
    layers: Mapping[str, Paths],
    batches: Sequence[int],
    table: TuningTable,
    on_progress: OnProgress = lambda amount, note: None,
) -> list[Check]:
    """Every candidate of every layer and batch against the reference; each path on the identity.

    Args:
        table: what it chooses is run, too.
        on_progress: called with 1 for each batch, and once more for the identity, of every layer.
    """
    checks = []
    for name, paths in layers.items():
        first_of_path: dict[str, Choice] = {}
        for batch in batches:
            work = LayerWorkload(paths, batch)
            expected = work.expected()
            chosen = plan(paths.layer, table).choose(work.columns)
            for choice in dict.fromkeys((*work.candidates, chosen)):
                first_of_path.setdefault(choice.path, choice)
                test = partial(_against_reference, work, choice, expected)
                checks.append(_checked(name, batch, str(choice), test))
            # the one-bit product and the decoding paths may read different digits
            for choice in {c.path in ONE_BIT: c for c in work.candidates}.values():
                test = partial(_on_preparation, paths, choice, work.x)
                checks.append(_checked(name, batch, f"{PREPARE} {choice.path}", test))
            on_progress(1, f"{name}, batch {batch}")
        for choice in first_of_path.values():
            checks.append(_checked(name, 0, str(choice), partial(_on_identity, paths, choice)))
        on_progress(1, f"{name}, identity")
    return checks


def _against_reference(work: LayerWorkload, choice: Choice, expected: torch.Tensor) -> str | None:
    return None if exactly_equal(work.run(choice), expected) else "differs from the reference"


def _on_preparation(paths: Paths, choice: Choice, x: torch.Tensor) -> str | None:
    return paths.preparation(choice, x).differs()


def _on_identity(paths: Paths, choice: Choice) -> str | None:
    where = identity_differs(paths, choice)
    return None if where is None else f"decodes weight {where} wrongly, by the identity"


def _checked(layer: str, batch: int, choice: str, test: Callable[[], str | None]) -> Check:
    try:
        found = test()
    except Exception as error:  # a tile may be too large for a GPU; the others are still checked
        return Check(layer, batch, choice, _reason(error))
    return Check(layer, batch, choice, found, found is not None)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


class LayerBench:
    """Times of one layer.

    Args:
        name: of the layer.
        paths: the layer.
        batches: numbers of tokens.
        timer: measures a call.
        bandwidth: bytes per second of a copy.

    Attributes:
        rows, preparations, failures: what was found so far.
    """

    def __init__(
        self, name: str, paths: Paths, batches: Sequence[int], timer: Timer, bandwidth: float
    ) -> None:
        self.rows: list[Row] = []
        self.preparations: list[PreparationTime] = []
        self.failures: list[Failure] = []
        self.name, self._paths, self._timer = name, paths, timer
        self._bandwidth = bandwidth
        self._batches = list(batches)
        self._dense: dict[int, float] = {}

    @cached_property
    def _work(self) -> dict[int, LayerWorkload]:
        return {batch: LayerWorkload(self._paths, batch) for batch in self._batches}

    @cached_property
    def _weights(self) -> torch.Tensor:
        return decoded_weights(self._paths.matrix, self._paths.device).half()

    @cached_property
    def _exact(self) -> dict[int, torch.Tensor]:
        weights = decoded_weights(self._paths.matrix, self._paths.device)
        return {batch: _exact_product(work.x, weights) for batch, work in self._work.items()}

    def release(self) -> None:
        """Forget the tensors, which are large; they are made again when they are needed."""
        for name in ("_work", "_weights", "_exact"):
            self.__dict__.pop(name, None)

    def dense(self) -> None:
        """Dense float16, which the others are compared with: comes first."""
        for batch, work in self._work.items():
            product = partial(torch.matmul, work.x, self._weights.T)
            timed = self._timer(product)
            self._dense[batch] = timed.median
            self._add(batch, DENSE, None, 16.0, timed, product())

    def ours(self, table: TuningTable, checks: Sequence[Check]) -> None:
        """Our product by the choices of `table`, where `checks` found them exact.

        Activations are digits already: preparing them is shared by the layers of one input and
        timed by itself.
        """
        problems = {(c.batch, c.choice) for c in checks if c.problem and c.layer == self.name}
        chosen = plan(self._paths.layer, table)
        for batch, work in self._work.items():
            choice = chosen.choose(work.columns)
            if (batch, str(choice)) in problems or (0, str(choice)) in problems:
                reason = f"batch {batch}: {choice} was not found exact, so it is not timed"
                self.failures.append(Failure(OURS, self.name, reason))
                continue
            self._ours(batch, work, choice)
            if (batch, f"{PREPARE} {choice.path}") not in problems:
                time = self._timer(self._paths.preparation(choice, work.x).run)
                self.preparations.append(PreparationTime(self.name, batch, time))

    def _ours(self, batch: int, work: LayerWorkload, choice: Choice) -> None:
        timed = self._timer(partial(work.run, choice))
        bits = self._paths.matrix.bits_per_weight
        self._add(batch, OURS, str(choice), bits, timed, work.run(choice))

    def own(self, table: TuningTable, checks: Sequence[Check]) -> None:
        """`dense` and `ours`; what fails is noted."""
        try:
            self.dense()
            self.ours(table, checks)
        except Exception as error:  # what was measured before is worth keeping
            self.failures.append(Failure(OURS, self.name, _reason(error)))

    def peer(self, name: str, adapter: Adapter) -> None:
        """A peer at all its sizes; what fails is noted."""
        for bits in adapter.BITS:
            label = f"{name} {bits} bit"
            if self._dense.keys() != set(self._batches):
                self.failures.append(Failure(label, self.name, "dense float16 was not measured"))
                continue
            try:
                self._peer_rows(label, adapter.prepare(self._weights, bits))
            except Exception as error:  # another's package, another's errors
                self.failures.append(Failure(label, self.name, _reason(error)))

    def _peer_rows(self, label: str, prepared: Prepared) -> None:
        for batch, work in self._work.items():
            product = partial(prepared.call, work.x.to(prepared.dtype))
            y = product()
            self._add(batch, label, None, prepared.bits_per_weight, self._timer(product), y)

    def _add(
        self, batch: int, method: str, path: str | None, bits: float, timed: Timed, y: torch.Tensor
    ) -> None:
        rows, columns = self._paths.matrix.shape
        moved = bits * rows * columns / 8 + 2 * batch * (rows + columns)
        speed = moved / (timed.median * 1e-6)
        exact = self._exact[batch]
        self.rows.append(
            Row(
                layer=self.name,
                batch=batch,
                method=method,
                path=path,
                bits_per_weight=bits,
                microseconds=timed,
                gigabytes_per_second=speed / 1e9,
                bound_share=speed / self._bandwidth,
                times_dense=self._dense[batch] / timed.median,
                error=float((y.double() - exact).norm() / exact.norm()),
            )
        )


def _exact_product(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """float64 ``x @ weights.T``, some rows at a time."""
    exact = torch.empty((len(x), len(weights)), dtype=torch.float64, device=x.device)
    step = max(1, _CHUNK // weights.shape[1])
    for first in range(0, len(weights), step):
        exact[:, first : first + step] = x.double() @ weights[first : first + step].double().T
    return exact


def result_json(result: Result) -> dict[str, Any]:
    """JSON values of a result."""
    fields = asdict(result)
    for name in ("rows", "preparations"):
        for row in fields[name]:
            row["microseconds"] = row["microseconds"].model_dump()
    for row in fields["rows"]:
        if not math.isfinite(row["error"]):  # a peer overflowed; JSON has no NaN
            row["error"] = None
    return {"format": 1, **fields}
