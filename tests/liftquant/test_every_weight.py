"""`crosscheck --all`: a whole checkpoint through compiled RTL; what is wrong is found and named."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import hw.decoder
import liftquant.rtl_layer
from algo.calibrated import Calibration
from algo.checkpoint import Checkpoint
from algo.code import LiftCode
from algo.errors import LiftError
from algo.quantise import Recipe, quantise_model
from algo.source import open_source
from liftquant.cli import run
from liftquant.every_weight import Listener, Settings, every_weight
from liftquant.rtl_layer import LayerRun, Stalls
from sim.harness import Harness
from tests.conftest import CODES, ROOT, random_code

# besides LQ-3/1+5: a code with parities, and groups that do not fill a stream
MIXED = {
    "model.layers.0.self_attn.k_proj": random_code(3, 2, 8, seed=1, parities=(0b101, 0b11000010)),
    "model.layers.1.mlp.down_proj": random_code(8, 5, 9, seed=2),
}


@pytest.fixture(scope="module")
def folder(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen layers of a tiny model, axis ``out``, three codes, streams of 24, 48 and 80."""
    made = tmp_path_factory.mktemp("every") / "checkpoint"
    windows = torch.arange(64).reshape(2, 32) % 96
    recipe = Recipe(CODES["LQ-3/1+5"], "out", 0, Calibration(windows), MIXED)
    quantise_model(open_source(str(tiny_llama)), recipe, made)
    return made


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared, so that every decoder is built once; seeds keep the tests' records apart."""
    return tmp_path_factory.getbasetemp() / "harnesses"


def with_seed(seed: int) -> Settings:
    return Settings(lanes=2, stalls=Stalls(seed))


def test_a_whole_checkpoint(
    folder: Path, workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    command = ["crosscheck", str(folder), "--all", "--lanes", "2", "--workdir", str(workdir)]
    assert run([*command, "--report", str(path)]) == 0
    shown = capsys.readouterr().out
    report = json.loads(path.read_text())
    checkpoint = Checkpoint(folder)
    layers = checkpoint.manifest.layers
    assert [layer["layer"] for layer in report["layers"]] == list(layers)
    weights = 0
    for layer in report["layers"]:
        matrix = checkpoint.matrix(layer["layer"])
        padded = matrix.streams * matrix.groups * matrix.code.group
        assert (layer["weights"], layer["passed"]) == (padded, True)
        assert padded >= matrix.shape[0] * matrix.shape[1]
        assert layer["beats"] == matrix.streams * -(-matrix.groups // 2)
        assert layer["cycles"] > layer["beats"]
        weights += padded
    assert (report["passed"], report["weights"]) == (True, weights)
    assert f"{weights:,} integers in {len(layers)} layers equal the reference" in shown
    kinds = {(layer["code"], layer["groups"]) for layer in report["layers"]}
    assert {(one["code"], one["groups"]) for one in report["decoders"]} == kinds
    assert len(kinds) == 5
    for count in ("weights", "beats", "cycles", "streams"):
        assert report[count] == sum(one[count] for one in report["decoders"])

    # once more: nothing is simulated
    assert run([*command, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["earlier_layers"] == len(layers)
    for before, now in zip(report["layers"], again["layers"], strict=True):
        assert now == {**before, "earlier": True}


def test_another_architecture_on_axis_in(tiny_llama: Path, workdir: Path, tmp_path: Path) -> None:
    recipe = Recipe(random_code(12, 8, 4, seed=3), "in")
    made = quantise_model(open_source(str(tiny_llama)), recipe, tmp_path / "out")
    names = ["model.layers.1.mlp.down_proj", "model.layers.0.mlp.down_proj"]
    settings = Settings(lanes=11, architecture="shared:3,flow=credit")
    runs, builds = every_weight(made, workdir, settings, names)
    assert [found.layer for found in runs] == names
    assert [(build.groups, build.lanes) for build in builds] == [(10, 10)]
    for found in runs:
        assert found.passed, found
        assert (found.axis, found.streams, found.weights) == ("in", 48, 48 * 80)
        assert found.cycles >= 3 * found.beats


def wrong_decoder(monkeypatch: pytest.MonkeyPatch, only: LiftCode) -> None:
    """Decoders of one code get a tap that is wrong by 2."""
    right = hw.decoder.Decoder

    def build(code: LiftCode, *rest: object) -> object:
        if code == only:
            taps = code.taps.copy()
            taps[1, 2] ^= 2
            code = LiftCode(
                code.lifted, code.group, code.overlap, code.shifts, taps, code.exponent,
                code.parities,
            )  # fmt: skip
        return right(code, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(hw.decoder, "Decoder", build)


def test_a_wrong_tap_is_found_and_named(
    folder: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "model.layers.1.mlp.down_proj"
    matrix = Checkpoint(folder).matrix(name)
    wrong_decoder(monkeypatch, matrix.code)
    command = ["crosscheck", str(folder), "--all", "--lanes", "2", "--workdir", str(workdir)]
    command += ["--layer", name]
    assert run(command) == 1  # although the right decoder has been recorded here
    shown = capsys.readouterr().out
    # the second weight of every group is off by twice the difference of the taps
    assert f"{name}: {matrix.streams * matrix.groups:,} of" in shown
    assert "first: weight 1 of stream 0, that is (1, 0) of the 48x80 matrix" in shown
    assert "NOT equal" in shown
    expected = int(matrix.accumulators()[1, 0])
    found = re.search(r"expected (-?\d+), got (-?\d+)", shown)
    assert found is not None
    assert int(found[1]) == expected
    assert abs(int(found[2]) - expected) == 2
    start = matrix.code.starts[1]
    word = int(matrix.words[0, 0])
    bits = "".join(str(word >> start + j & 1) for j in range(matrix.code.window))
    assert f"bits of its window, first one first: {bits}" in shown
    assert run(command) == 1  # what failed is not recorded


def test_a_wrong_reference_is_found(
    folder: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = liftquant.rtl_layer.decode_words

    def off_by_one(words: np.ndarray, groups: int, code: LiftCode) -> np.ndarray:
        decoded = right(words, groups, code)
        decoded[-1, -1] += 1
        return decoded

    monkeypatch.setattr(liftquant.rtl_layer, "decode_words", off_by_one)
    names = [*MIXED, "model.layers.0.mlp.up_proj"]
    runs, _ = every_weight(Checkpoint(folder), workdir, with_seed(1), names)
    assert {found.mismatches for found in runs} == {1}
    for found in runs:
        assert found.first_wrong is not None
        assert found.first_wrong.stream == found.streams - 1
        assert found.first_wrong.expected == found.first_wrong.got + 1


def test_streams_that_were_not_fed_are_missed(
    folder: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = liftquant.rtl_layer._pieces

    def without_the_last(matrix):
        for words, expected in right(matrix):
            yield words[:-1], expected[:-1]

    monkeypatch.setattr(liftquant.rtl_layer, "_pieces", without_the_last)
    name = "model.layers.0.self_attn.k_proj"
    (found,), _ = every_weight(Checkpoint(folder), workdir, with_seed(2), [name])
    assert found.mismatches == 0
    assert found.failure == "streams: 47 counted where the layer has 48"
    assert not found.passed


def test_pieces_make_no_difference(
    folder: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list(MIXED)
    settings = with_seed(3)
    whole, _ = every_weight(Checkpoint(folder), workdir, settings, names)
    monkeypatch.setattr(liftquant.rtl_layer, "_PIECE", 200)
    monkeypatch.setattr(liftquant.rtl_layer.Records, "find", lambda *_: None)
    pieces, _ = every_weight(Checkpoint(folder), workdir, settings, names)
    assert [replace(a, seconds=0) for a in whole] == [replace(a, seconds=0) for a in pieces]


KILLED = """
import os, signal, sys
from pathlib import Path
from algo.checkpoint import Checkpoint
from liftquant.every_weight import Listener, Settings, every_weight
from liftquant.rtl_layer import Stalls

def finished(weights, layer):
    print(layer, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

every_weight(
    Checkpoint(Path(sys.argv[1])), Path(sys.argv[2]), Settings(lanes=2, stalls=Stalls(4)),
    listener=Listener(advance=finished),
)
"""


def test_a_killed_run_goes_on(folder: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", KILLED, str(folder), str(workdir)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = killed.stdout.strip()
    leftovers = [workdir / "programs" / ".build.1", workdir / "layers" / ".1.json.1"]
    for leftover in leftovers:  # a kill may come at any time
        leftover.mkdir()

    simulated = []
    right = Harness.run

    def count(self: Harness, *arguments: object) -> object:
        simulated.append(self.program)
        return right(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Harness, "run", count)
    totals: list[float] = []
    seen: list[tuple[float, str]] = []
    runs, _ = every_weight(
        Checkpoint(folder), workdir, with_seed(4),
        listener=Listener(totals.append, lambda weights, name: seen.append((weights, name))),
    )  # fmt: skip
    assert not any(leftover.exists() for leftover in leftovers)
    earlier = {found.layer for found in runs if found.earlier}
    assert finished in earlier
    assert all(found.passed for found in runs)
    assert len(simulated) == len(runs) - len(earlier)
    # progress is of what was left
    assert totals[0] == sum(a * b for a, b in (found.shape for found in runs))
    assert totals[-1] == sum(weights for weights, _ in seen)
    assert {name for _, name in seen} == {found.layer for found in runs} - earlier


@pytest.mark.parametrize("changed", ["seed", "stall", "lanes", "words", "code"])
def test_a_record_holds_for_what_was_run_alone(
    changed: str, folder: Path, workdir: Path, tmp_path: Path
) -> None:
    name = "model.layers.0.self_attn.v_proj"
    every_weight(Checkpoint(folder), workdir, with_seed(5), [name])
    settings, copy = with_seed(5), folder
    if changed == "seed":
        settings = with_seed(6)
    elif changed == "stall":
        settings = Settings(2, stalls=Stalls(5, 0.5))
    elif changed == "lanes":
        settings = Settings(1, stalls=Stalls(5))
    else:
        copy = Path(shutil.copytree(folder, tmp_path / "copy"))
        alter(copy, name, changed)
    (found,), _ = every_weight(Checkpoint(copy), workdir, settings, [name])
    assert (found.passed, found.earlier) == (True, False)
    (again,), _ = every_weight(Checkpoint(folder), workdir, with_seed(5), [name])
    assert again.earlier


def alter(folder: Path, name: str, what: str) -> None:
    """Another checkpoint that is whole: one bit of a layer's words, or a tap of its code."""
    from algo.manifest import MANIFEST, file_entry

    manifest = json.loads((folder / MANIFEST).read_text())
    entry = manifest["layers"][name]
    if what == "words":
        from safetensors.torch import load_file, save_file

        path = folder / entry["file"]
        tensors = load_file(path)
        tensors[f"{name}.weight"].view(torch.int32)[0, 0] ^= 1
        save_file(tensors, path)
        manifest["files"][entry["file"]] = file_entry(path).model_dump()
    else:
        fields = manifest["codes"][entry["code"]]
        fields["taps"][0][0] ^= 2
        fields["sha256"] = LiftCode.from_definition(
            {key: value for key, value in fields.items() if key != "sha256"}
        ).sha256
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_what_cannot_be_checked_is_said(
    folder: Path, workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = Checkpoint(folder)
    with pytest.raises(LiftError, match=r"has no quantised layer 'model\.nothing'"):
        every_weight(checkpoint, workdir, layers=["model.nothing"])
    with pytest.raises(LiftError, match="named twice"):
        every_weight(checkpoint, workdir, layers=[next(iter(MIXED))] * 2)
    with pytest.raises(LiftError, match="architecture 'nonsense' is unknown"):
        every_weight(checkpoint, workdir, Settings(architecture="nonsense"))
    command = ["crosscheck", str(folder), "--all", "--workdir", str(workdir)]
    for option in (["--waves"], ["--simulator", "icarus"]):
        assert run([*command, *option]) == 2
        assert "leave out --simulator and --waves" in capsys.readouterr().err.replace("\n", " ")
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    path = copy / "block-001.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    with pytest.raises(LiftError, match="was altered"):
        every_weight(Checkpoint(copy), workdir)


def test_a_layer_that_fails_is_not_recorded(folder: Path, tmp_path: Path) -> None:
    from liftquant.rtl_layer import Records

    checkpoint = Checkpoint(folder)
    records = Records(tmp_path, checkpoint, Stalls())
    name = "model.layers.0.self_attn.v_proj"
    harness = Harness(tmp_path / "harness-0", None)  # type: ignore[arg-type]
    found = LayerRun(
        name, (24, 48), "LQ-3/1+5", "out", 24, 48, 1152, 1, 1, 1, (0, 0), 0, None, None, 0.1
    )
    records.keep(replace(found, mismatches=1), harness)
    records.keep(replace(found, failure="stuck"), harness)
    assert records.find(name, harness) is None
    records.keep(found, harness)
    assert records.find(name, harness) == replace(found, earlier=True)
