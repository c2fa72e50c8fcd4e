"""``liftquant kernels build``."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

import gpu.build
from gpu import bitmm
from liftquant.cli import run
from liftquant.kernels_table import kernels_table


@pytest.fixture(autouse=True)
def one_kernel(monkeypatch):
    """The one-bit product's first configuration stands for all kernels."""
    monkeypatch.setattr(gpu.build, "all_jobs", lambda: bitmm.jobs()[:1])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The report of that kernel for sm_90."""
    path = tmp_path_factory.mktemp("report") / "kernels.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu.build, "all_jobs", lambda: bitmm.jobs()[:1])
        assert run(["kernels", "build", "--arch", "sm_90", "--write", str(path)]) == 0
    return path


def test_the_table_fits_and_the_json_is_what_is_written(written, capsys):
    assert run(["kernels", "build", "--arch", "sm_90"]) == 0
    table = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 120
    record = json.loads(written.read_text())
    kernel = record["kernels"][0]
    row = next(line for line in table.splitlines() if " sm_90 " in line and "bitmm" in line)
    shown = [kernel["kernel"], "sm_90", str(kernel["registers"]), "0"]
    assert row.split()[:4] == shown
    assert row.split()[-2:] == [
        f"{kernel['per_weight']['2.4']:.2f}",
        f"{kernel['hbm_share']:.2f}",
    ]
    assert "not run on a GPU" in table
    assert "H100 SXM 1.755 GHz" in table
    assert run(["kernels", "build", "--arch", "sm_90", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record


def test_a_narrow_terminal_cuts_no_figure(written):
    record = json.loads(written.read_text())
    console = Console(width=80, file=io.StringIO())
    console.print(kernels_table(record, wide=False))
    shown = console.file.getvalue()
    assert "…" not in shown
    assert record["kernels"][0]["kernel"] in shown
    assert "of HBM" in shown
    headings = next(line for line in shown.splitlines() if " regs " in line)
    assert "shared" not in headings


def test_against_itself_nothing_is_worse(written, capsys):
    assert run(["kernels", "build", "--arch", " sm_90,", "--baseline", str(written)]) == 0
    assert "nothing worse than in" in capsys.readouterr().err


def test_what_got_worse_is_named_with_status_1(written, capsys, tmp_path):
    record = json.loads(written.read_text())
    record["versions"]["triton"] = "0.1"
    record["kernels"][0]["registers"] -= 20
    gone = {**record["kernels"][0], "kernel": "gone"}
    record["kernels"].append(gone)
    path = tmp_path / "before.json"
    path.write_text(json.dumps(record))
    assert run(["kernels", "build", "--arch", "sm_90", "--baseline", str(path)]) == 1
    said = capsys.readouterr().err
    assert "worse: gone (any) for sm_90: missing" in said
    assert f"registers {record['kernels'][0]['registers']} before" in said
    assert "'triton': '0.1'" in said


def test_a_kernel_that_is_new_is_said_to_be(written, capsys, tmp_path):
    record = json.loads(written.read_text())
    record["kernels"] = []
    path = tmp_path / "before.json"
    path.write_text(json.dumps(record))
    assert run(["kernels", "build", "--arch", "sm_90", "--baseline", str(path)]) == 0
    assert f"not in {path}: bitmm" in capsys.readouterr().err


def test_some_kernels_are_compared_with_those_alone(written, capsys, tmp_path, monkeypatch):
    every = bitmm.jobs()
    first, other = every[0], next(j for j in every if j.suits("sm_90") and j != every[0])
    monkeypatch.setattr(gpu.build, "all_jobs", lambda: [first, replace(other, kernel="other")])
    record = json.loads(written.read_text())
    record["kernels"].append({**record["kernels"][0], "kernel": "gone"})
    path = tmp_path / "before.json"
    path.write_text(json.dumps(record))
    arguments = ["kernels", "build", "--arch", "sm_90", "--kernel", first.kernel, "--json"]
    assert run([*arguments, "--baseline", str(path)]) == 0
    assert len(json.loads(capsys.readouterr().out)["kernels"]) == len(record["kernels"]) - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "sm_90,sm_7"], "unknown target 'sm_7'; known targets are sm_80"),
        (["--arch", ","], "no target given"),
        (["--baseline", "missing.json"], "missing.json does not exist"),
        (["--kernel", "bitmn"], "no kernel is called 'bitmn'...; all are compiled without"),
        (["--write", "."], ". is a directory; name a file"),
    ],
)
def test_bad_input_is_one_message_before_anything_is_compiled(
    arguments, message, capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr("gpu.build.compile_one", lambda job, target: pytest.fail("compiled"))
    monkeypatch.chdir(tmp_path)
    assert run(["kernels", "build", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("error") == 1
    assert captured.out == ""
