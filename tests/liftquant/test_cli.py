"""The command line as a user meets it, in this process."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from algo.shipped import REFERENCE, load_code, shipped_codes
from liftquant.cli import run
from tests.conftest import ROOT, write_tiny_llama


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = run([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_codes_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(capsys, "codes", "list", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0
    assert set(rows) == set(shipped_codes())
    assert rows["LQ-24/10"].keys() == {
        "name", "lifted", "group", "overlap", "rate", "window", "shifts", "parities", "linear",
        "mse", "standard_error", "gap_db",
    }  # fmt: skip
    row = rows["LQ-12/5+9"]
    assert (row["lifted"], row["group"], row["overlap"], row["rate"]) == (12, 5, 9, 2.4)
    assert (row["window"], row["shifts"]) == (12, [2, 2, 3, 2, 3])


@pytest.mark.parametrize("name", REFERENCE)
def test_one_code_as_json(capsys: pytest.CaptureFixture[str], name: str) -> None:
    status, out, _ = answer(capsys, "codes", "show", name, "--json")
    shown = json.loads(out)
    code = load_code(name)
    assert status == 0
    assert shown["sha256"] == code.sha256
    assert shown["exponent"] == code.exponent
    taps = np.array(shown["taps"])
    bits = code.lifted + code.overlap
    assert taps.shape == (code.group, bits + len(shown["parity_masks"]))
    assert np.abs(taps).sum(1).max() <= 2047
    for i, row in enumerate(taps):
        first = sum(shown["shifts"][:i])
        assert not row[:first].any()
        assert not row[first + shown["window"] : bits].any()


def test_codes_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(capsys, "codes", "list")
    assert status == 0
    assert all(name in out for name in shipped_codes())
    status, out, _ = answer(capsys, "codes", "show", "LQ-24/10")
    assert status == 0
    assert "learned by: liftquant codes learn --lifted 24 --group 10" in out


def test_codes_are_learned_and_written_whole(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, _, err = answer(
        capsys, "codes", "learn", tmp_path / "mine.json", "--lifted", 3, "--group", 2,
        "--window", 5, "--starts", 2, "--bred", 1, "--weights", 512, "--measured", 5000,
    )  # fmt: skip
    assert status == 0
    assert "LQ-3/2+3, MSE 0." in err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.json"]


@pytest.fixture(scope="module")
def checkpoint(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "out"
    assert run(["quantize", str(tiny_llama), str(folder), "--bits", "2.4", "--calib", "none"]) == 0
    return folder


def test_quantize_reports_true_bits(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(capsys, "inspect", checkpoint, "--verify", "--json")
    summary = json.loads(out)
    assert status == 0
    assert summary["layers"] == 14
    assert summary["code_bits_per_weight"] == pytest.approx(2.4)
    stored = summary["bytes"]["words"] + summary["bytes"]["scales"] + summary["bytes"]["whitening"]
    assert summary["bits_per_weight"] == stored * 8 / summary["weights"]
    assert sum(summary["bytes"].values()) == summary["disk_bytes"]
    status, out, _ = answer(capsys, "inspect", checkpoint)
    assert status == 0
    assert "LQ-12/5+9" in out


def test_altered_checkpoint_is_found(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    data = bytearray((copy / "block-000.safetensors").read_bytes())
    data[-5] ^= 16
    (copy / "block-000.safetensors").write_bytes(data)
    for command in (["inspect", "--verify"], ["eval"], ["crosscheck"]):
        status, _, err = answer(capsys, command[0], copy, *command[1:])
        assert (status, "block-000.safetensors hashes to" in err) == (2, True), command


def test_layers_are_listed(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(capsys, "inspect", checkpoint, "--layers")
    assert status == 0
    assert "model.layers.1.mlp.down_proj" in out


def test_learned_code_can_be_used(
    tiny_llama: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "mine.json"
    shutil.copyfile(ROOT / "algo" / "codes" / "lq-3-1-5.json", file)
    status, out, _ = answer(
        capsys, "quantize", tiny_llama, tmp_path / "o", "--calib", "none", "--code", file
    )
    assert (status, "LQ-3/1+5" in out) == (0, True)
    status, _, err = answer(capsys, "rtl", "export", file, tmp_path / "v", "--weights", 48)
    assert (status, "streams of 48 groups" in err) == (0, True)


def test_real_model_is_evaluated(real_gguf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(capsys, "eval", real_gguf, "--tokens", 256, "--context", 128, "--json")
    assert status == 0
    (result,) = json.loads(out)
    assert result["predicted"] == 254
    assert 3 < result["perplexity"] < 60  # trained weights: random ones give tens of thousands


def test_names_with_brackets_are_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = answer(capsys, "quantize", "m[/x]", tmp_path / "o")
    assert (status, "m[/x] is no local path" in err) == (2, True)


def test_unexpected_errors_are_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("algo.shipped.load_code", broken)
    status, _, err = answer(capsys, "codes", "show", "LQ-24/10")
    assert (status, "internal error: KeyError: 'surprise'" in err) == (3, True)


def test_crosscheck_in_full(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Verilator, one layer of every shape: 48x48, 24x48, 80x48, 48x80."""
    report = tmp_path / "report.json"
    status, out, _ = answer(capsys, "crosscheck", checkpoint, "--seed", 5, "--report", report)
    assert status == 0, out
    assert "integers equal in all three" in out
    result = json.loads(report.read_text())
    assert result["passed"]
    assert [tuple(layer["shape"]) for layer in result["layers"]] == [
        (48, 48), (24, 48), (80, 48), (48, 80)
    ]  # fmt: skip
    for layer in result["layers"]:
        assert layer["mismatches"] == {"rtl": 0, "kernel": 0, "layer": 0}
        assert layer["first_mismatch"] is None
        assert layer["cycles"] > 0
        assert layer["words"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quantize", "nowhere", "out"], "nowhere does not exist"),
        (["quantize", "nowhere.gguf", "out"], "nowhere.gguf does not exist"),
        (
            ["quantize", "m", "out", "--bits", "2.55", "--uniform"],
            "no shipped code has 2.55 bits",
        ),
        (["quantize", "m", "out", "--bits", "5"], "5 bits per weight are outside what the shipped"),
        (["quantize", "m", "out", "--bits", "2", "--code", "LQ-16/8"], "exclude each other"),
        (["quantize", "m", "out", "--calib", "none", "--correct"], "--correct and"),
        (["quantize", "m", "out", "--code", "LQ-1/9"], "no code LQ-1/9 is shipped"),
        (["quantize", "m", "out", "--axis", "up"], "--axis up is none of in, out"),
        (["quantize", "m"], "Missing argument 'folder'"),
        (["inspect", "nowhere"], "nowhere does not exist"),
        (["crosscheck", "nowhere"], "nowhere does not exist"),
        (["eval", "nowhere"], "nowhere does not exist"),
        (["eval", "m", "--text", "none.txt"], "--text none.txt cannot be read"),
        (["eval", "m", "--integers", "a9"], "--integers a9 is neither a8 nor a15"),
        (["eval", "m", "--dtype", "float8"], "--dtype float8 is neither float32 nor bfloat16"),
        (["eval", "m", "--dataset", "ptb"], "--dataset ptb is none of wikitext2, c4"),
        (["compare", "m", "--bits", "2,x"], "--bits 2,x: numbers separated by commas"),
        (["compare", "m", "--against", "awq"], "--against awq is none of rtn, hqq, gptq"),
        (["compare", "nowhere"], "nowhere does not exist"),
        (["codes", "show", "LQ-1"], "is not a code name"),
        (["codes", "learn", "c.json", "--lifted", "2", "--group", "1", "--window", "2"],
         "window of 2 bits does not reach past"),
        (["kernels", "build", "--arch", "sm_1"], "unknown target 'sm_1'; known targets are"),
        (["rtl", "export", "LQ-12/5+9", "out", "--weights", "3"], "too narrow for LQ-12/5"),
        (["quantize", "m", "out", "--seed", "-1"], "Invalid value for '--seed'"),
        (["rtl", "export", "LQ-24/10", "out", "--weights", "30", "--name", "../evil"],
         "cannot name a Verilog module"),
        (["rtl", "export", "LQ-24/10", "out", "--weights", "30", "--name", "module"],
         "cannot name a Verilog module"),
        (["codes", "learn", "c.json", "--lifted", "32", "--group", "100", "--weights", "64"],
         "at least one group of 100"),
        (["codes", "learn", ".", "--lifted", "3", "--group", "1"], "the name of a new file"),
        (["crosscheck", "m", "--waves"], "--waves needs --workdir"),
        (["frobnicate"], "No such command"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_message_and_status_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = answer(capsys, *arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_narrow_layers_are_named_with_status_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = write_tiny_llama(tmp_path / "m", hidden_size=8, num_key_value_heads=1)
    status, _, err = answer(capsys, "quantize", model, tmp_path / "out", "--calib", "none")
    assert status == 2
    assert "too narrow for LQ-12/5+9" in err
    assert not (tmp_path / "out").exists()


def test_unknown_layer_and_simulator_are_named(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = answer(capsys, "crosscheck", checkpoint, "--layer", "head")
    assert (status, "no quantised layer 'head'" in err) == (2, True)
    status, _, err = answer(capsys, "crosscheck", checkpoint, "--simulator", "spice")
    assert (status, "simulator 'spice' is unknown" in err) == (2, True)


def test_missing_compiler_is_named(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    status, _, err = answer(capsys, "crosscheck", checkpoint)
    assert status == 2
    assert "install" in err
    assert "g++" in err


def test_rtl_is_exported_with_its_sidecar(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, _ = answer(capsys, "rtl", "export", "LQ-24/10", tmp_path, "--weights", 576)
    assert status == 0
    assert "liftquant_decoder.v" in out
    sidecar = json.loads((tmp_path / "liftquant_decoder.json").read_text())
    assert load_code("LQ-24/10").sha256 in json.dumps(sidecar)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(capsys, "--version")
    assert (status, out.strip()) == (0, "liftquant 0.1.0")
    for command in (
        "quantize",
        "eval",
        "compare",
        "crosscheck",
        "inspect",
        "codes",
        "kernels",
        "rtl",
    ):
        status, out, _ = answer(capsys, command, "--help")
        assert status == 0
        assert "Usage" in out
