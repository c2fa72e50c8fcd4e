"""Crosscheck must find what is wrong: each implementation is broken in turn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import algo.decode
import gpu.interpret
import gpu.linear
import hw.decoder
from algo.calibrated import Calibration
from algo.checkpoint import Checkpoint
from algo.code import LiftCode
from algo.matrix import AXES, Axis, PackedMatrix, quantise_matrix
from algo.quantise import Recipe, quantise_model
from algo.shipped import load_code
from algo.source import open_source
from gpu.cpu.layer import MOST_COUNTED
from liftquant import layer_product
from liftquant.cli import run
from liftquant.crosschecking import Difference, Settings, check_layer, crosscheck
from tests.conftest import CODES, random_code

AMARANTH = Settings(simulator="amaranth", lanes=2, seed=9)


def gaussian_matrix(code: LiftCode, axis: Axis) -> PackedMatrix:
    weights = np.random.default_rng(3).standard_normal((30, 40)).astype("f")
    return quantise_matrix(torch.from_numpy(weights), code, axis)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["LQ-16/8", "LQ-24/10", "LQ-2/1+10", "LQ-3/1+5", "LQ-12/5+9"])
def test_all_three_agree(name: str, axis: Axis, tmp_path: Path) -> None:
    matrix = gaussian_matrix(load_code(name), axis)
    check = check_layer("layer", matrix, AMARANTH, tmp_path)
    assert check.passed, check
    assert check.weights == matrix.streams * matrix.groups * matrix.code.group
    assert check.words == matrix.words.size


def test_parity_taps_agree_too(tmp_path: Path) -> None:
    matrix = gaussian_matrix(CODES["LQ-2/1+6^3"], "out")
    assert check_layer("layer", matrix, AMARANTH, tmp_path).passed


# 1.5, 2.67 and 4 bits per weight
MIXED = {
    "model.layers.0.self_attn.k_proj": random_code(3, 2, 8, seed=1, parities=(0b101, 0b11000010)),
    "model.layers.1.mlp.down_proj": random_code(8, 3, 9, seed=2),
    "model.layers.1.self_attn.o_proj": random_code(4, 1, 8, seed=3, parities=(0b10010001,)),
}


@pytest.mark.parametrize(("axis", "layers"), [("out", [0, 1]), ("in", [2])])
def test_calibrated_layers_of_many_rates_agree_in_verilator(
    tiny_llama: Path, tmp_path: Path, axis: Axis, layers: list[int]
) -> None:
    windows = torch.arange(64).reshape(2, 32) % 96
    recipe = Recipe(CODES["LQ-3/1+5"], axis, 0, Calibration(windows), MIXED)
    made = quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "out")
    names = [list(MIXED)[i] for i in layers]
    checks = crosscheck(made, names, Settings(lanes=1, seed=2))
    for name, check in zip(names, checks, strict=True):
        assert check.passed, check
        assert (check.layer, check.code, check.axis) == (name, MIXED[name].name, axis)
        assert check.words == made.matrix(name).words.size
        assert check.cycles > check.weights / MIXED[name].group


def with_one_tap_changed(code: LiftCode) -> LiftCode:
    taps = code.taps.copy()
    taps[0, 0] ^= 2
    return LiftCode(code.lifted, code.group, code.overlap, code.shifts, taps, code.exponent)


def test_wrong_hardware_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = hw.decoder.Decoder
    monkeypatch.setattr(
        hw.decoder, "Decoder", lambda code, *rest: right(with_one_tap_changed(code), *rest)
    )
    matrix = gaussian_matrix(load_code("LQ-12/5+9"), "out")
    check = check_layer("layer", matrix, AMARANTH, tmp_path)
    assert not check.passed
    # one weight in five has the wrong tap, so all of them are off by 2
    assert check.mismatches == {"rtl": 40 * matrix.groups, "kernel": 0, "layer": 0}
    expected = int(matrix.accumulators()[0, 0])
    first = check.first_mismatch
    assert first is not None
    assert first == Difference("rtl", 0, 0, expected, first.got)
    assert abs(first.got - expected) == 2


def test_wrong_kernel_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = gpu.interpret.interpreted_decode

    def off_by_one(words: np.ndarray, code: LiftCode, groups: int) -> np.ndarray:
        decoded = right(words, code, groups)
        decoded[7, 11] += 1
        return decoded

    monkeypatch.setattr(gpu.interpret, "interpreted_decode", off_by_one)
    matrix = gaussian_matrix(load_code("LQ-24/10"), "in")
    check = check_layer("layer", matrix, AMARANTH, tmp_path)
    expected = int(matrix.accumulators()[7, 11])
    assert check.mismatches == {"rtl": 0, "kernel": 1, "layer": 0}
    assert check.first_mismatch == Difference("kernel", 7, 11, expected, expected + 1)


@pytest.mark.parametrize("name", ["LQ-12/5+9", "LQ-12/5+9^12"])
def test_a_wrong_product_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = gaussian_matrix(load_code(name), "out")
    right = gpu.linear.LiftLinear.by_kernels

    def one_output_wrong(self: gpu.linear.LiftLinear, *rest: Any) -> torch.Tensor:
        product = right(self, *rest)
        product[2, 5] += 1
        return product

    monkeypatch.setattr(gpu.linear.LiftLinear, "by_kernels", one_output_wrong)
    check = check_layer("layer", matrix, AMARANTH, tmp_path)
    paths = 1 if matrix.code.parities else 2
    assert (check.outputs, check.mismatches) == (
        (paths + 2) * 3 * 30, {"rtl": 0, "kernel": 0, "layer": paths}
    )  # fmt: skip
    first = check.first_mismatch
    assert first is not None
    assert (first.implementation, first.row, first.column) == ("layer", 2, 5)
    assert first.got == pytest.approx(first.expected + 1)
    assert not check.passed


@pytest.mark.parametrize("tokens", [3, 36])
def test_a_wrong_product_of_the_cpu_is_found(
    tokens: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = gpu.linear.LiftLinear.forward

    def one_output_wrong(self: gpu.linear.LiftLinear, x: torch.Tensor) -> torch.Tensor:
        product = right(self, x)
        product[-1, 5] += len(x) == tokens
        return product

    monkeypatch.setattr(gpu.linear.LiftLinear, "forward", one_output_wrong)
    matrix = gaussian_matrix(load_code("LQ-12/5+9"), "out")
    check = check_layer("layer", matrix, AMARANTH, tmp_path)
    assert check.mismatches == {"rtl": 0, "kernel": 0, "layer": 1}


def test_many_tokens_are_decoded_on_the_cpu() -> None:
    assert max(MOST_COUNTED.values()) < layer_product.TOKENS * layer_product.MANY


def test_wrong_reference_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = algo.decode.decode_bits
    matrix = gaussian_matrix(load_code("LQ-24/10"), "in")
    monkeypatch.setattr(algo.decode, "decode_bits", lambda bits, code: -right(bits, code))
    check = check_layer("layer", matrix, AMARANTH, tmp_path)
    assert check.mismatches["rtl"] > 0
    assert check.mismatches["rtl"] == check.mismatches["kernel"]
    assert check.mismatches["layer"] > check.outputs / 2  # not those of a scale of zero


@pytest.fixture(scope="module")
def checkpoint(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crosscheck") / "out"
    quantise_model(open_source(str(tiny_llama)), Recipe(load_code("LQ-3/1+5"), "in"), folder)
    return folder


def test_mismatch_is_exit_status_1_and_shown(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = hw.decoder.Decoder
    monkeypatch.setattr(
        hw.decoder, "Decoder", lambda code, *rest: right(with_one_tap_changed(code), *rest)
    )
    layer = "model.layers.1.self_attn.k_proj"
    status = run(
        ["crosscheck", str(checkpoint), "--layer", layer, "--simulator", "amaranth", "--seed", "3"]
    )
    out = capsys.readouterr().out
    assert status == 1
    assert "NOT equal" in out
    assert "rtl (0, 0)" in out


def test_layers_can_be_chosen_and_progress_covers_them(checkpoint: Path) -> None:
    layers = ["model.layers.1.mlp.down_proj", "model.layers.0.self_attn.v_proj"]
    totals: list[int] = []
    seen: list[tuple[int, str]] = []
    checks = crosscheck(
        Checkpoint(checkpoint), layers, AMARANTH, None, totals.append,
        lambda weights, name: seen.append((weights, name)),
    )  # fmt: skip
    assert [check.layer for check in checks] == layers
    assert all(check.passed for check in checks)
    assert totals == [48 * 80 + 24 * 48]
    assert sorted(seen) == sorted([(48 * 80, layers[0]), (24 * 48, layers[1])])


def test_altered_checkpoint_is_not_decoded(checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    path = copy / "block-001.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    assert run(["crosscheck", str(copy), "--simulator", "amaranth"]) == 2


def test_waveforms_of_every_layer_are_kept(checkpoint: Path, tmp_path: Path) -> None:
    layers = ["model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.v_proj"]
    settings = Settings(simulator="amaranth", seed=1, waves=True)
    checks = crosscheck(Checkpoint(checkpoint), layers, settings, tmp_path)
    files = [Path(check.waves or "") for check in checks]
    assert len(set(files)) == 2
    assert all(file.is_relative_to(tmp_path) and file.stat().st_size > 1000 for file in files)


def test_layer_names_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    matrix = gaussian_matrix(load_code("LQ-3/1+5"), "in")
    settings = Settings(simulator="amaranth", seed=1, waves=True)
    check = check_layer("../../outside", matrix, settings, tmp_path / "inner")
    assert check.passed
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert check.waves == str(tmp_path / "inner" / "layer--outside.vcd")


def test_waves_need_a_folder(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["crosscheck", str(checkpoint), "--waves"]) == 2
    assert "--waves needs --workdir" in capsys.readouterr().err
