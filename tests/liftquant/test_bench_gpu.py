"""``liftquant bench gpu`` and ``liftquant kernels tune``, on a GPU made up of the CPU."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from algo.errors import LiftError
from algo.shipped import load_code
from gpu.dispatch import default_table, load_table, plan
from gpu.exact_layer import decoded_weights
from gpu.interpret import interpreter
from gpu.paths import PathLayer
from gpu.random_layer import random_matrix
from gpu.tuning_table import Timed, read_table, table_path, write_table
from gpu.workload import LayerWorkload, identity_differs
from liftquant.cli import run
from liftquant.gpu_bench import (
    DENSE,
    OURS,
    LayerBench,
    Result,
    check_layers,
    described,
    result_json,
)
from liftquant.gpu_bench_table import check_table, time_tables
from liftquant.gpu_options import check_file, positive_integers, rates
from liftquant.gpu_peer import ADAPTERS, adapter, group_size, grouped, installed
from tests.liftquant import fake_gpu
from tests.liftquant.fake_gpu import DOT, FUSED, FakePaths

SMALL = ("--shapes", "33x64", "--bits", "2.4", "--batch", "1,8")


def answer(capsys, *arguments):
    status = run([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def layer(shape=(33, 64), digits=2, axis="out", code="LQ-12/5+9"):
    return FakePaths(random_matrix(shape, load_code(code), axis), digits)


class Wrong(FakePaths):
    wrong = (DOT,)


class Unprepared(FakePaths):
    off = 1


class Broken(FakePaths):
    broken = (FUSED,)


# ---- exactness


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("digits", [1, 2])
def test_identity_gives_the_weights_in_blocks(axis, digits):
    paths = layer(digits=digits, axis=axis)
    assert identity_differs(paths, FUSED, block=7) is None
    wrong = Wrong(paths.matrix, digits)
    # of 64 columns in blocks of 7 the last of the first block is column 6, of all rows the last
    assert identity_differs(wrong, DOT, block=7) == (32, 6)


def test_a_weight_of_the_last_block_is_looked_at():
    class WrongLate(FakePaths):
        def product(self, choice, digits, step):
            return lambda: FakePaths.product(self, choice, digits, step)() + digits[0, :, 63:]

    assert identity_differs(WrongLate(layer().matrix, 2), FUSED, block=7) == (0, 63)


def test_every_candidate_is_checked_for_every_batch_and_on_the_identity():
    checks = check_layers({"a": layer(), "b": layer((17, 96))}, [1, 3], default_table())
    assert len(checks) == 2 * (2 * (3 + 2) + 3)
    assert {check.batch for check in checks} == {0, 1, 3}
    assert all(check.problem is None and not check.wrong for check in checks)


def test_a_wrong_path_is_found_by_both():
    checks = check_layers({"a": Wrong(layer().matrix, 2)}, [1], default_table())
    assert [(c.batch, c.choice, c.wrong) for c in checks if c.problem] == [
        (1, "decode-dot", True), (0, "decode-dot", True),
    ]  # fmt: skip
    assert checks[-2].problem == "decodes weight (32, 63) wrongly, by the identity"


def test_wrong_preparation_is_found_and_not_timed():
    paths = Unprepared(layer().matrix, 2)
    checks = check_layers({"a": paths}, [1], default_table())
    assert [(c.choice, c.problem, c.wrong) for c in checks if c.problem] == [
        (f"digits for {path}", "sums differ from the reference", True)
        for path in ("fused", "dense")
    ]
    one = measured(paths)
    one.ours(default_table(), checks)
    assert [p.batch for p in one.preparations] == [8]  # which was not checked


def test_what_cannot_run_is_told_and_is_not_wrong():
    checks = check_layers({"a": Broken(layer().matrix, 2)}, [1], default_table())
    assert [(c.choice, c.problem, c.wrong) for c in checks if c.problem] == [
        ("fused", "RuntimeError: too much shared memory", False)
    ] * 2
    checks = [c for c in checks if "digits" not in c.choice]
    assert not Result({}, {}, checks, [], [], []).failed
    assert Result({}, {}, [c for c in checks if c.problem], [], [], []).failed


# ---- times


def measured(paths, batches=(1, 8)):
    one = LayerBench("a", paths, list(batches), fake_gpu.timer, 1e12)
    one.dense()
    return one


def test_rows_by_hand():
    paths = layer((33, 64))
    one = measured(paths)
    one.ours(default_table(), [])
    assert [(r.method, r.batch, r.path) for r in one.rows] == [
        (DENSE, 1, None), (DENSE, 8, None), (OURS, 1, "fused"), (OURS, 8, "fused"),
    ]  # fmt: skip
    dense, ours = one.rows[1], one.rows[3]
    # 10 microseconds; 33*64 weights of 2 bytes, 8 rows of (33 + 64) halves
    assert dense.gigabytes_per_second == pytest.approx((33 * 64 * 2 + 2 * 8 * 97) / 10e-6 / 1e9)
    stored = paths.matrix.payload_bits / 8
    assert ours.gigabytes_per_second == pytest.approx((stored + 2 * 8 * 97) / 10e-6 / 1e9)
    assert ours.bound_share == pytest.approx(ours.gigabytes_per_second / 1000)
    assert ours.times_dense == 1.0
    assert dense.bits_per_weight == 16.0
    assert ours.bits_per_weight == paths.matrix.bits_per_weight


def test_times_dense_is_how_many_times_faster():
    medians = iter([30.0, 12.0, 1.0])

    def timer(call):
        return Timed(median=next(medians), p20=1.0, p80=99.0)

    one = LayerBench("a", layer(), [1], timer, 1e12)
    one.own(default_table(), [])
    assert [row.times_dense for row in one.rows] == [1.0, 2.5]
    assert one.preparations[0].microseconds.median == 1.0


def test_errors_are_those_of_digits_and_of_float16():
    for digits, bound in ((1, 2e-2), (2, 1e-4)):
        one = measured(layer((65, 512), digits))
        one.ours(default_table(), [])
        dense, ours = one.rows[0], one.rows[-1]
        assert 0 < dense.error < 2e-3  # weights and results rounded to 11 bits
        # a step of 1/127 (1/16256) of a token's largest: about 3.5 of 1 sigma, /sqrt(12)
        assert bound / 100 < ours.error < bound


def test_what_was_not_exact_is_not_timed():
    paths = Wrong(layer().matrix, 2)
    table = default_table()
    fused = table.entries[0].steps[0]
    entry = table.entries[0].model_copy(
        update={"steps": (fused.model_copy(update={"choice": DOT}),)}
    )
    table = table.model_copy(update={"entries": (entry,)})
    one = measured(paths)
    one.ours(table, check_layers({"a": paths}, [1, 8], default_table()))
    assert {row.method for row in one.rows} == {DENSE}
    assert "decode-dot was not found exact" in one.failures[0].reason


# ---- peers


@pytest.mark.parametrize("bits", [2, 4])
def test_grouped_weights_are_within_half_a_step(bits):
    weights = decoded_weights(layer((40, 256)).matrix, torch.device("cpu")).half()
    parts = grouped(weights, bits)
    back = fake_gpu.dequantised(parts.codes, parts.scales, parts.zeros, parts.group)
    step = parts.scales.float().repeat_interleave(parts.group, 1)
    # half a step, and what rounding scale and zero to 11 bits moves the ends by
    assert ((back - weights.float()).abs() <= step * (0.5 + 2**bits * 2**-9)).all()
    assert parts.codes.max() == 2**bits - 1
    assert parts.group == 128
    assert parts.bits_per_weight == 0.25


def test_constant_weights_and_narrow_layers():
    parts = grouped(torch.full((3, 32), 0.25, dtype=torch.float16), 4)
    assert torch.isfinite(parts.scales).all()
    assert group_size(576) == 64
    with pytest.raises(LiftError, match="no group of 128, 64 or 32 divides 40"):
        group_size(40)


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_follow_the_documentation(monkeypatch, name):
    """By stand-ins that do what the packages' documentation says; the packages were not run."""
    fake_gpu.install(monkeypatch, name)
    one = measured(layer((64, 256)))
    one.peer(name, adapter(name))
    assert one.failures == []
    rows = [row for row in one.rows if row.method.startswith(name)]
    assert len(rows) == 2 * len(adapter(name).BITS)
    for row in rows:
        bits = int(row.method.split()[1])
        assert bits < row.bits_per_weight <= bits + 0.25
        # a torchao stand-in quantises nothing; of 2 bits a third is noise
        assert 1e-4 < row.error < (0.5 if bits == 2 else 0.15)
    assert "not run" in adapter(name).NOTE
    assert "ot run" in sys.modules[ADAPTERS[name]].__doc__


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_peer_that_fails_is_noted_and_harms_nobody(name):
    one = measured(layer((64, 256)))  # without stand-ins: the packages are not there
    one.peer(name, adapter(name))
    assert {row.method for row in one.rows} == {DENSE}
    assert one.failures[0].layer == "a"
    assert "Error" in one.failures[0].reason


def test_peers_are_not_imported_to_see_whether_they_are_there():
    script = (
        "import sys; from liftquant.gpu_peer import ADAPTERS, installed\n"
        "[installed(name) for name in ADAPTERS]\n"
        "assert not {'gemlite', 'torchao', 'bitblas', 'vllm'} & set(sys.modules)\n"
        "assert not [m for m in sys.modules if m.startswith('liftquant.gpu_peer_')]\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert not installed("bitblas")


def test_a_peer_that_overflows_is_nan_in_the_table_and_null_in_json(monkeypatch):
    fake_gpu.install(monkeypatch, "gemlite")
    one = measured(layer((64, 256)))
    peer = adapter("gemlite")
    prepare = peer.prepare

    def overflowing(weights, bits):
        return prepare(weights, bits)._replace(call=lambda x: x[:, :1] * torch.inf + weights[:, 0])

    monkeypatch.setattr(peer, "prepare", overflowing)
    one.peer("gemlite", peer)
    result = Result({}, {"a": described(layer((64, 256)))}, [], one.rows, [], [])
    assert [row["error"] for row in result_json(result)["rows"]][2:] == [None] * 4
    text = io.StringIO()
    Console(file=text, width=80).print(time_tables(result)[0])
    assert "inf" in text.getvalue() or "nan" in text.getvalue()


def test_an_error_of_ours_leaves_what_was_measured(monkeypatch):
    paths = layer()
    one = LayerBench("a", paths, [1], fake_gpu.timer, 1e12)
    monkeypatch.setattr(FakePaths, "product", lambda *_: 1 / 0)
    one.own(default_table(), [])
    assert [row.method for row in one.rows] == [DENSE]
    assert one.failures[0].reason == "ZeroDivisionError: division by zero"


def test_tensors_are_made_again_after_they_were_released():
    one = measured(layer())
    rows = list(one.rows)
    one.release()
    assert not [name for name in vars(one) if name in ("_work", "_weights", "_exact")]
    one.rows.clear()
    one.dense()
    assert one.rows == rows


# ---- the command


def test_a_benchmark_from_end_to_end(capsys, monkeypatch, tmp_path):
    fake_gpu.pretend(monkeypatch)
    fake_gpu.install(monkeypatch, "gemlite", "marlin")
    monkeypatch.setenv("LIFTQUANT_TUNING", str(tmp_path))
    file = tmp_path / "deep" / "result.json"
    status, out, err = answer(capsys, "bench", "gpu", *SMALL, "--out", file, "--json")
    assert status == 0, err
    result = json.loads(out)
    assert json.loads(file.read_text()) == result
    environment = result["environment"]
    assert environment["gpu"] == "Made up 9000"
    assert environment["tuning"] == "estimated"
    assert environment["peer_notes"]["gemlite"] == "written after its documentation, not run"
    assert environment["copy_gigabytes_per_second"] == 1000
    assert {row["method"] for row in result["rows"]} == {
        DENSE, OURS, "gemlite 2 bit", "gemlite 4 bit", "marlin 4 bit",
    }  # fmt: skip
    assert result["rows"][0]["microseconds"] == {"median": 10.0, "p20": 9.0, "p80": 12.0}
    assert [check["problem"] for check in result["checks"]] == [None] * 13
    assert [row["batch"] for row in result["preparations"]] == [1, 8]
    assert result["preparations"][0]["microseconds"]["p80"] == 12.0
    assert result["layers"]["33x64, LQ-12/5+9"]["rows"] == 33
    assert result["failures"] == []
    assert "checking: done" in err


@pytest.mark.parametrize("axis", ["in", "out"])
def test_the_kernels_themselves_from_end_to_end(capsys, monkeypatch, tmp_path, axis):
    """Interpreted where a GPU would run them; all else as with one."""
    fake_gpu.pretend(monkeypatch, PathLayer)
    monkeypatch.setenv("LIFTQUANT_TUNING", str(tmp_path))
    layers = ("--shapes", "17x40", "--bits", "2.4", "--axis", axis)
    with interpreter(checked=False) as run_kernel:
        monkeypatch.setattr("gpu.interpret.as_is", run_kernel)
        tune = ("kernels", "tune", *layers, "--columns", 4, "--digits", 2)
        status, _, err = answer(capsys, *tune)
        assert status == 0, err
        bench = ("bench", "gpu", *layers, "--batch", 1, "--against", "none", "--json")
        status, out, err = answer(capsys, *bench)
    assert status == 0, err
    result = json.loads(out)
    assert result["environment"]["tuning"] == "measured"
    assert [row["method"] for row in result["rows"]] == [DENSE, OURS]
    assert result["rows"][1]["path"].startswith("fused ")  # all take the same time
    assert result["rows"][1]["error"] < 1e-3
    assert len(result["preparations"]) == 1


def test_the_table_for_people(capsys, monkeypatch, tmp_path):
    fake_gpu.pretend(monkeypatch)
    fake_gpu.install(monkeypatch, "gemlite")
    monkeypatch.setenv("LIFTQUANT_TUNING", str(tmp_path))
    status, out, err = answer(capsys, "bench", "gpu", *SMALL, "--against", "gemlite,bitblas")
    assert status == 0
    for text in (
        "Made up 9000 (9.9), driver 1.2", "ours by batch: 1: fused, 8: fused",
        "33x64, LQ-12/5+9: 33x64, axis out", "a copy moves 1,000 GB/s", "choices are estimated",
    ):  # fmt: skip
        assert text in out
    assert re.search(r"8 +fp16 dense +16.00 +10.0 +9.0 +12.0 ", out)
    assert re.search(r"\(preparing x\) +10.0 +9.0 +12.0 ", out)
    assert "not measured: bitblas: not installed" in err
    assert "gemlite: written after its documentation, not run" in err


@pytest.mark.parametrize("against", ["none", "bitblas"])
def test_without_peers(capsys, monkeypatch, tmp_path, against):
    fake_gpu.pretend(monkeypatch)
    monkeypatch.setenv("LIFTQUANT_TUNING", str(tmp_path))
    status, out, _ = answer(capsys, "bench", "gpu", *SMALL, "--against", against, "--json")
    assert status == 0
    assert {row["method"] for row in json.loads(out)["rows"]} == {DENSE, OURS}
    assert len(json.loads(out)["failures"]) == (against == "bitblas")


def test_a_wrong_integer_is_status_1_and_says_which(capsys, monkeypatch, tmp_path):
    fake_gpu.pretend(monkeypatch, Wrong)
    monkeypatch.setenv("LIFTQUANT_TUNING", str(tmp_path))
    status, out, err = answer(capsys, "bench", "gpu", *SMALL, "--against", "none")
    assert status == 1
    assert "INEXACT: 33x64, LQ-12/5+9, batch 1, decode-dot: differs from the reference" in err
    assert "identity, decode-dot: decodes weight (32, 63) wrongly" in err
    assert "ours by batch: 1: fused, 8: fused" in out  # what is right is timed all the same


def test_many_problems_are_told_in_few_lines(capsys, monkeypatch, tmp_path):
    fake_gpu.pretend(monkeypatch, Wrong)
    monkeypatch.setenv("LIFTQUANT_TUNING", str(tmp_path))
    batches = ",".join(map(str, range(1, 24)))
    shapes = ("--shapes", "33x40,17x40", "--bits", "2.4", "--batch", batches)
    fake_gpu.install(monkeypatch, "gemlite")
    status, _, err = answer(capsys, "bench", "gpu", *shapes)
    assert status == 1
    assert err.count("INEXACT") == 20
    assert "and 28 more; --json has them all" in err  # two layers, 23 batches and the identity
    assert "no group of 128, 64 or 32 divides 40 columns (2 layers)" in err.replace("\n", " ")


def test_a_checkpoints_layers(capsys, monkeypatch, tmp_path, tiny_llama):
    fake_gpu.pretend(monkeypatch)
    monkeypatch.setenv("LIFTQUANT_TUNING", str(tmp_path))
    folder = tmp_path / "checkpoint"
    assert run(["quantize", str(tiny_llama), str(folder), "--bits", "3", "--calib", "none"]) == 0
    capsys.readouterr()
    status, out, _ = answer(
        capsys, "bench", "gpu", folder, "--batch", 1, "--against", "none", "--json"
    )
    assert status == 0
    layers = json.loads(out)["layers"]
    assert {(at["rows"], at["columns"]) for at in layers.values()} == {
        (48, 48), (24, 48), (80, 48), (48, 80),
    }  # fmt: skip
    assert all(name.startswith("model.layers.0.") for name in layers)


INTERPRETED = (
    "bench", "gpu", "--interpret", "--shapes", "17x40", "--bits", "2.4", "--batch", "1",
)  # fmt: skip


def test_exactness_without_a_gpu(capsys):
    """The kernels themselves, under the interpreter."""
    status, out, err = answer(capsys, *INTERPRETED, "--json")
    assert status == 0, err
    result = json.loads(out)
    assert result["environment"]["gpu"] is None
    assert result["rows"] == result["preparations"] == []
    paths = {check["choice"].split()[0] for check in result["checks"]}
    assert paths == {"fused", "bitmm", "decode-dot", "dense", "digits"}
    assert {check["batch"] for check in result["checks"]} == {0, 1}
    assert not [check for check in result["checks"] if check["problem"]]


def test_a_broken_kernel_is_found_without_a_gpu(capsys, monkeypatch):
    from gpu import fused

    launch = fused.launch

    def rounded_otherwise(*arguments):
        y = launch(*arguments)
        return torch.nextafter(y, torch.zeros_like(y))

    monkeypatch.setattr("gpu.fused.launch", rounded_otherwise)
    status, out, err = answer(capsys, *INTERPRETED)
    assert status == 1
    assert "no times" in out
    found = [line for line in err.splitlines() if line.startswith("INEXACT")]
    assert found
    assert all("fused" in line for line in found)


@pytest.mark.parametrize("command", [("bench", "gpu"), ("kernels", "tune")])
def test_without_a_gpu_one_message(capsys, monkeypatch, command):
    monkeypatch.setattr("gpu.machine.torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("liftquant.gpu_layers.random_matrix", lambda *_: 1 / 0)  # none is made
    status, out, err = answer(capsys, *command)
    assert (status, out) == (2, "")
    assert err.count("error:") == 1
    for text in ("no CUDA or HIP device", "sm_80", "kernels build", "make test", "--interpret"):
        assert text in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch", "-1"), "--batch -1: positive integers"),
        (("--batch", "0"), "--batch 0: positive integers"),
        (("--batch", ","), "positive integers"),
        (("--bits", "two"), "--bits two: positive numbers"),
        (("--bits", "-2"), "--bits -2: positive numbers"),
        (("--bits", "inf"), "--bits inf: positive numbers"),
        (("--bits", "2.77"), "no shipped code has 2.77 bits"),
        (("--shapes", "4096"), "is neither ROWSxCOLUMNS"),
        (("--shapes", "1x4096"), "layer 1x4096 (1x4096): a stream of 1 weights is too narrow"),
        (("--axis", "up"), "--axis up is none of in, out"),
        (("--against", "gemlight"), "--against gemlight is none of gemlite, torchao, bitblas"),
        (("--out", "/"), "--out / is a directory"),
        (("--out", "/dev/null/x"), "/dev/null is a file"),
        (("--out", "/proc/none/x"), "cannot be written"),
        (("/nowhere",), "/nowhere does not exist"),
        ((__file__,), "is a file; a checkpoint is a directory"),
        (("--bits", "99"), "no shipped code has 99 bits"),
        (("/nowhere", "--interpret"), "leave out --shapes, --interpret or the checkpoint"),
        (("/nowhere", "--shapes", "33x64"), "leave out --shapes, --interpret or the checkpoint"),
        (("--digits", "3"), "less than or equal to 2"),
    ],
)  # fmt: skip
def test_wrong_input(capsys, arguments, message):
    status, out, err = answer(capsys, "bench", "gpu", *arguments)
    assert (status, out) == (2, "")
    assert message in err.replace("\n", " ")
    assert "Traceback" not in err


def test_a_corrupt_table_is_refused(capsys, monkeypatch, tmp_path):
    fake_gpu.pretend(monkeypatch)
    table_path(tmp_path, fake_gpu.MACHINE).write_text("{")
    status, _, err = answer(capsys, "bench", "gpu", *SMALL, "--tuning", tmp_path)
    assert status == 2
    assert "made-up-9000-9.9.json is no tuning table" in err.replace("\n", "")


def test_a_table_of_another_version_is_used_and_told(capsys, monkeypatch, tmp_path):
    fake_gpu.pretend(monkeypatch)
    old = fake_gpu.MACHINE.model_copy(update={"triton": "3.8.0"})
    table = default_table()
    timed = (
        table.entries[0]
        .steps[0]
        .model_copy(update={"choice": DOT, "microseconds": fake_gpu.timer(lambda: None)})
    )
    entry = table.entries[0].model_copy(update={"steps": (timed,)})
    own = table.model_copy(update={"kind": "measured", "machine": old, "entries": (entry,)})
    write_table(table_path(tmp_path, fake_gpu.MACHINE), own)
    status, out, err = answer(
        capsys, "bench", "gpu", *SMALL, "--tuning", tmp_path, "--against", "none"
    )
    assert status == 0
    assert "ours by batch: 1: decode-dot, 8: decode-dot" in out
    assert "choices are measured" in out
    assert "warning: " in err
    assert "was measured with triton 3.8.0, now 3.9.0" in err


def test_options():
    assert positive_integers("--batch", "8, 1,8") == [1, 8]
    assert rates("--bits", "3,2.4") == [2.4, 3.0]


def test_a_file_that_can_be_written_is_not_made(tmp_path):
    check_file("--out", tmp_path / "new" / "file.json")
    assert list((tmp_path / "new").iterdir()) == []


# ---- tuning


def test_tuning_from_end_to_end(capsys, monkeypatch, tmp_path):
    fake_gpu.pretend(monkeypatch)
    monkeypatch.setenv("LIFTQUANT_TUNING", str(tmp_path))
    tune = ("kernels", "tune", "--shapes", "33x64", "--bits", "2.4", "--columns", "1,2,8")
    status, out, err = answer(capsys, *tune, "--json")
    assert status == 0, err
    path = table_path(tmp_path, fake_gpu.MACHINE)
    table = read_table(path)
    assert json.loads(out)["file"] == str(path)
    assert json.loads(out)["table"] == json.loads(table.model_dump_json())
    assert [(e.layer.digits, [s.columns for s in e.steps]) for e in table.entries] == [
        (1, [1, 2, 8]), (2, [2, 8]),
    ]  # fmt: skip
    # all take ten microseconds, so the simplest wins
    assert plan(table.entries[0].layer, load_table(fake_gpu.MACHINE)).choose(5) == FUSED
    status, out, err = answer(capsys, *tune)
    assert status == 0
    assert "33x64 at 2.4 bits, axis out, 1 digit(s)" in out
    assert f"table in {path}" in err.replace("\n", "")


def test_tuning_finds_a_wrong_candidate(capsys, monkeypatch, tmp_path):
    fake_gpu.pretend(monkeypatch, Wrong)
    status, _, err = answer(
        capsys, "kernels", "tune", "--shapes", "33x64", "--bits", "2.4", "--columns", 8,
        "--digits", 1, "--out", tmp_path / "t.json",
    )  # fmt: skip
    assert status == 1
    assert "8 columns: decode-dot: differs from the reference" in err
    assert read_table(tmp_path / "t.json").entries[0].steps[0].choice == FUSED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--columns", "0"), "--columns 0: positive integers"),
        (("--digits", "3"), "--digits 3: 1 (a8), 2 (a15) or both"),
        (("--bits", "0"), "--bits 0: positive numbers"),
        (("--axis", "up"), "--axis up"),
        (("--out", "/proc/none/x"), "cannot be written"),
        (("--checkpoint", "/nowhere"), "/nowhere does not exist"),
    ],
)  # fmt: skip
def test_wrong_input_to_tuning(capsys, arguments, message):
    status, out, err = answer(capsys, "kernels", "tune", *arguments)
    assert (status, out) == (2, "")
    assert message in err.replace("\n", " ")


def test_columns_of_no_whole_token_are_refused(capsys, monkeypatch, tmp_path):
    fake_gpu.pretend(monkeypatch)
    status, _, err = answer(
        capsys, "kernels", "tune", "--shapes", "33x64", "--bits", "2.4", "--columns", "1,3",
        "--digits", 2, "--out", tmp_path / "t.json",
    )  # fmt: skip
    assert status == 2
    assert "none of [1, 3] columns is a whole number of tokens" in err.replace("\n", " ")


# ---- the look


def test_tables_fit_80_columns():
    paths = layer((33, 64))
    one = measured(paths, (1, 512))
    one.ours(default_table(), [])
    name = "llama-3-70b gate_up, LQ-12/5+9"
    wide = [
        type(row)(**{**row.__dict__, "layer": name, "path": row.path and "decode-dot 64x16x64x4x2",
                     "microseconds": row.microseconds.model_copy(
                         update={"median": 12345.6, "p20": 12300.1, "p80": 12400.2})})
        for row in one.rows
    ]  # fmt: skip
    prepared = [replace(one, layer=name) for one in one.preparations]
    checks = check_layers({name: paths}, [1], default_table())
    result = Result({}, {name: described(paths)}, checks, wide, prepared, [])
    for width in (80, 160):
        stream = io.StringIO()
        console = Console(file=stream, width=width)
        console.print(check_table(checks))
        for table in time_tables(result):
            console.print(table)
        text = stream.getvalue()
        print(text)
        assert max(len(line) for line in text.splitlines()) <= width
        assert "…" not in text
        assert "12,346" in text


def test_a_workload_is_the_same_every_time():
    a, b = (LayerWorkload(layer(), 3) for _ in range(2))
    assert torch.equal(a.x, b.x)
    assert a.columns == 6
    assert torch.equal(a.run(FUSED), a.expected())
