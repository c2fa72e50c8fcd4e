"""The ``liftquant`` command: wires the commands together and turns errors into messages."""

import os
import sys
import warnings

import typer

from algo.errors import LiftError
from liftquant import __version__
from liftquant.bench_command import bench
from liftquant.codes_command import codes
from liftquant.compare_command import compare
from liftquant.console import err
from liftquant.crosscheck_command import crosscheck
from liftquant.eval_command import evaluate
from liftquant.generate_command import generate
from liftquant.inspect_command import inspect
from liftquant.kernels_command import kernels
from liftquant.kernels_tune_command import tune_kernels
from liftquant.plan_command import plan
from liftquant.quantize_command import quantize
from liftquant.rtl_command import rtl
from liftquant.tune_command import tune

_INTERRUPTED = 130  # the status typer gives to Ctrl-C

app = typer.Typer(
    help="LLM weights at any bit-width, from quantiser to silicon.\n\n"
    "A first run: `liftquant quantize MODEL OUT --bits 2.4`, then `liftquant eval OUT`, then "
    "`liftquant crosscheck OUT` to prove that reference, RTL and GPU kernel decode it alike.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("quantize")(quantize)
app.command("eval")(evaluate)
app.command("compare")(compare)
app.command("generate")(generate)
app.command("crosscheck")(crosscheck)
app.command("tune")(tune)
app.command("inspect")(inspect)
app.command("plan")(plan)
app.add_typer(codes, name="codes")
kernels.command("tune")(tune_kernels)
app.add_typer(kernels, name="kernels")
app.add_typer(bench, name="bench")
app.add_typer(rtl, name="rtl")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"liftquant {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Options before any command."""


def run(arguments: list[str]) -> int:
    """Run one command line; its exit status: 0 well, 1 a comparison failed, 2 bad input."""
    try:
        app(arguments)
    except SystemExit as done:  # typer has shown wrong usage itself, with status 2
        if done.code == _INTERRUPTED and arguments[:1] != ["generate"]:  # which says so itself
            err.print("stopped; what was finished is kept, the same command goes on from there")
        return done.code if isinstance(done.code, int) else 2
    except (LiftError, OSError) as error:
        err.print(f"error: {error}", style="red", soft_wrap=True)
        return 2
    except Exception as error:  # ours to mend, but nobody should have to read a traceback
        if os.environ.get("LIFTQUANT_TRACEBACK"):
            raise
        err.print(
            f"internal error: {type(error).__name__}: {error}\n"
            "set LIFTQUANT_TRACEBACK=1 to see where, and report it",
            style="red", soft_wrap=True,
        )  # fmt: skip
        return 3
    return 0


def main() -> None:
    # libraries' own bars and advice are not for our users; tqdm reads this when it is imported
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    sys.exit(run(sys.argv[1:]))
