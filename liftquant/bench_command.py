"""``liftquant bench``: measurements for those who have the machine."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from liftquant.bench_generate_command import bench_generate
from liftquant.console import err, out, print_json, progress
from liftquant.gpu_options import BITS_HELP, SHAPES_HELP

if TYPE_CHECKING:
    from algo.activations import Digits
    from algo.matrix import PackedMatrix
    from gpu.tuning_table import TuningTable
    from gpu.workload import Paths
    from liftquant.gpu_bench import Check, Result
    from liftquant.gpu_layers import MakeLayers

bench = typer.Typer(help="Measure on a machine of yours.", no_args_is_help=True)
bench.command("generate")(bench_generate)
_SMALL = "17x40,48x96"  # what the interpreter does in seconds
_MOST_LINES = 20  # of problems alike
_MODELS = "llama-3-8b,llama-3-70b,smollm2-135m"


@bench.callback()
def group() -> None:
    """Measure on a machine of yours."""


@bench.command("gpu")
def bench_gpu(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="Take one layer of every shape and code of this checkpoint."),
    ] = None,
    shapes: Annotated[str | None, typer.Option(help=f"Without a checkpoint: {SHAPES_HELP}")] = None,
    batch: Annotated[
        str | None, typer.Option(help="Numbers of tokens; 1,8,32,512 by default.")
    ] = None,
    bits: Annotated[str, typer.Option(help=BITS_HELP)] = "2,2.4,3",
    axis: Annotated[str, typer.Option(help="Direction of random layers' streams: in, out.")] = (
        "out"
    ),
    digits: Annotated[
        int, typer.Option(min=1, max=2, help="int8 digits per activation: 1 (a8) or 2 (a15).")
    ] = 2,
    against: Annotated[
        str | None,
        typer.Option(
            help="Peers: gemlite, torchao, bitblas, marlin; by default those installed. 'none' "
            "for dense float16 alone."
        ),
    ] = None,
    tuning: Annotated[
        Path | None, typer.Option(help="Folder of tuning tables, as `kernels tune` writes them.")
    ] = None,
    file: Annotated[Path | None, typer.Option("--out", help="Write the result, as JSON.")] = None,
    interpret: Annotated[
        bool,
        typer.Option(help="Without a GPU: exactness alone, small layers, Triton's interpreter."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check every kernel against the reference, then time it beside dense float16 and peers.

    All results have to be equal, integer by integer; the exit status is 1 if one is not. Times
    are medians with the 20th and 80th percentile of 50 runs, each from a cold cache. Ours are of
    the product; making digits of the activations, which layers of one input share, is timed by
    itself. A peer that fails is told, and does no harm.
    """
    from algo.errors import LiftError
    from algo.files import write_json
    from liftquant.gpu_bench import result_json
    from liftquant.gpu_layers import layer_source
    from liftquant.gpu_options import check_file, positive_integers, rates

    if checkpoint is not None and (shapes or interpret):
        raise LiftError(
            "a checkpoint brings its own layers, and Triton's interpreter takes hours for whole "
            "ones: leave out --shapes, --interpret or the checkpoint"
        )
    batches = positive_integers("--batch", batch or ("1,3" if interpret else "1,8,32,512"))
    sizes, peers = rates("--bits", bits), _peers(against)
    if file is not None:
        check_file("--out", file)
    make = layer_source(checkpoint, shapes or (_SMALL if interpret else _MODELS), sizes, axis)
    exact: Digits = 1 if digits == 1 else 2
    if interpret:
        result = _interpreted(make(), exact, batches)
    else:
        result = _measured(make, exact, batches, peers, tuning)
    if file is not None:
        write_json(file, result_json(result))
    if json:
        print_json(result_json(result))
    else:
        _show(result)
    if file is not None:
        err.print(f"result in {file}", soft_wrap=True)
    if result.failed:
        raise typer.Exit(1)


def _peers(against: str | None) -> list[str]:
    from liftquant.gpu_peer import ADAPTERS, check_peers, installed

    if against is None:
        return [name for name in ADAPTERS if installed(name)]
    names = [name.strip() for name in against.split(",") if name.strip()]
    if names == ["none"]:
        return []
    check_peers(names)
    return list(dict.fromkeys(names))


def _interpreted(
    matrices: "Mapping[str, PackedMatrix]", digits: "Digits", batches: Sequence[int]
) -> "Result":
    import torch

    from gpu.interpret import interpreter
    from gpu.machine import package_version
    from gpu.paths import PathLayer
    from gpu.tuning_table import default_table

    with interpreter(checked=True) as run:
        layers = {
            name: PathLayer(matrix, digits, torch.device("cpu"), run)
            for name, matrix in matrices.items()
        }
        checks = _check(layers, batches, default_table())
    environment = {
        "gpu": None, "note": "run under Triton's interpreter on the CPU: no times",
        "versions": {name: package_version(name) for name in ("torch", "triton")},
    }  # fmt: skip
    return _result(environment, layers, checks)


def _measured(
    make: "MakeLayers",
    digits: "Digits",
    batches: Sequence[int],
    peers: Sequence[str],
    tuning: Path | None,
) -> "Result":
    import warnings

    from gpu import timing
    from gpu.dispatch import load_table
    from gpu.interpret import as_is
    from gpu.machine import gpu_device
    from gpu.paths import PathLayer
    from liftquant.gpu_options import need_gpu

    machine = need_gpu()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        table = load_table(machine, tuning)
    for warning in told:
        err.print(f"warning: {warning.message}", soft_wrap=True)
    device = gpu_device()
    layers = {name: PathLayer(m, digits, device, as_is) for name, m in make().items()}
    checks = _check(layers, batches, table)
    timer = timing.gpu_timer()
    bandwidth = timing.copy_bandwidth(timer, device)
    environment = _environment(machine.model_dump(), bandwidth, table, peers)
    result = _result(environment, layers, checks)
    _time(result, layers, batches, peers, table, timer, bandwidth)
    return result


def _check(
    layers: "Mapping[str, Paths]", batches: Sequence[int], table: "TuningTable"
) -> "list[Check]":
    from liftquant.gpu_bench import check_layers

    with progress("checking", len(layers) * (len(batches) + 1)) as meter:
        return check_layers(layers, batches, table, meter.advance)


def _result(
    environment: dict[str, Any], layers: "Mapping[str, Paths]", checks: "list[Check]"
) -> "Result":
    from liftquant.gpu_bench import Result, described

    shown = {name: described(paths) for name, paths in layers.items()}
    return Result(environment, shown, checks, [], [], [])


def _time(
    result: "Result",
    layers: "Mapping[str, Paths]",
    batches: Sequence[int],
    peers: Sequence[str],
    table: "TuningTable",
    timer: Any,
    bandwidth: float,
) -> None:
    from liftquant.gpu_bench import Failure, LayerBench
    from liftquant.gpu_peer import adapter, installed

    there = [name for name in peers if installed(name)]
    result.failures.extend(
        Failure(name, None, "not installed") for name in peers if name not in there
    )
    benches = [LayerBench(*layer, batches, timer, bandwidth) for layer in layers.items()]
    with progress("timing", len(layers) * (1 + len(there))) as meter:
        # peers come last: an error of theirs may leave the GPU unusable
        for one in benches:
            one.own(table, result.checks)
            one.release()
            meter.advance(1, one.name)
        for one in benches if there else []:
            for peer in there:
                one.peer(peer, adapter(peer))
                meter.advance(1, f"{one.name}, {peer}")
            one.release()
    for one in benches:
        result.rows.extend(one.rows)
        result.preparations.extend(one.preparations)
        result.failures.extend(one.failures)


def _environment(
    machine: dict[str, str], bandwidth: float, table: "TuningTable", peers: Sequence[str]
) -> dict[str, Any]:
    from gpu.machine import package_version, smi
    from liftquant.gpu_peer import PACKAGES, adapter, installed

    there = [name for name in peers if installed(name)]
    return {
        **machine,
        "copy_gigabytes_per_second": bandwidth / 1e9,
        "sm_clock_mhz": smi("clocks.sm"),
        "memory_clock_mhz": smi("clocks.mem"),
        "tuning": table.kind,
        "peers": {n: package_version(PACKAGES[n]) for n in there},
        "peer_notes": {n: adapter(n).NOTE for n in there},
    }


def _show(result: "Result") -> None:
    from liftquant.gpu_bench_table import check_table, time_tables

    environment = result.environment
    if environment["gpu"] is None:
        out.print(environment["note"])
    else:
        out.print(
            f"{environment['gpu']} ({environment['capability']}), driver "
            f"{environment['driver']}, torch {environment['torch']}, triton "
            f"{environment['triton']}; a copy moves "
            f"{environment['copy_gigabytes_per_second']:,.0f} GB/s; choices are "
            f"{environment['tuning']}"
        )
    out.print(check_table(result.checks))
    for table in time_tables(result):
        out.print(table)
    for name, note in environment.get("peer_notes", {}).items():
        err.print(f"{name}: {note}", soft_wrap=True)
    _tell(
        f"{'INEXACT' if check.wrong else 'not run'}: {check.layer}, "
        f"{f'batch {check.batch}' if check.batch else 'identity'}, {check.choice}: {check.problem}"
        for check in sorted(result.checks, key=lambda check: not check.wrong)
        if check.problem is not None
    )
    alike: dict[str, int] = {}
    for failure in result.failures:
        line = f"not measured: {failure.peer}: {failure.reason}"
        alike[line] = alike.get(line, 0) + 1
    _tell(f"{line} ({count} layers)" if count > 1 else line for line, count in alike.items())


def _tell(lines: Iterable[str]) -> None:
    held = list(lines)
    for line in held[:_MOST_LINES]:
        err.print(line, soft_wrap=True)
    if len(held) > _MOST_LINES:
        err.print(f"and {len(held) - _MOST_LINES} more; --json has them all")
