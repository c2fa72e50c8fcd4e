"""What config.json says of a checkpoint: made from it, read back, and refused where damaged."""

import base64
import copy
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from algo.calibrated import Calibration
from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.manifest import CARRIED, WHITENING
from algo.quantise import Recipe, quantise_model
from algo.serving_config import Basis, ServingConfig, layer_parts
from algo.serving_files import GUARD, GUARD_KEY
from algo.source import open_source
from algo.tune import Tuning, tune_checkpoint
from algo.whitening import Whitening
from tests.conftest import CODES

WINDOWS = torch.randint(96, (4, 16), generator=torch.Generator().manual_seed(3))
RECIPE = Recipe(
    CODES["LQ-2/1+3"], "out", 4, Calibration(WINDOWS, learned=True),
    {"model.layers.1.mlp.down_proj": CODES["LQ-16/8"]},
)  # fmt: skip
NAME = "model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module")
def learned(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with input scales, turns and two codes."""
    folder = tmp_path_factory.mktemp("learned") / "out"
    quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    return folder


def section_of(folder: Path) -> dict[str, Any]:
    section: dict[str, Any] = json.loads((folder / "config.json").read_text())[
        "quantization_config"
    ]
    return section


def indexed(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor the index lists, from the file it names."""
    checkpoint = Checkpoint(folder)
    where = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    return {name: checkpoint.tensors(file, [name])[name] for name, file in where.items()}


def test_config_and_index_hold_all_that_the_layers_are(learned: Path) -> None:
    checkpoint, tensors = Checkpoint(learned), indexed(learned)
    config = ServingConfig.parse(section_of(learned))
    assert config.codes() == checkpoint.codes
    whitenings = checkpoint.whitenings()
    assert list(config.layers) == list(checkpoint.manifest.layers)
    for name in config.layers:
        stored = config.stored(name)
        assert stored == {key: (tuple(tensors[key].shape), tensors[key].dtype) for key in stored}
        matrix, whitening = layer_parts(config, name, {key: tensors[key] for key in stored})
        expected = checkpoint.matrix(name)
        assert (matrix.code, matrix.axis, matrix.shape) == (
            expected.code, expected.axis, expected.shape
        )  # fmt: skip
        assert np.array_equal(matrix.words, expected.words)
        assert torch.equal(matrix.scales, expected.scales)
        for part in ("left", "right", "pre"):
            assert torch.equal(getattr(whitening, part), getattr(whitenings[name], part))
        assert whitening.turns is not None


def test_layers_of_one_input_share_their_transform(learned: Path) -> None:
    config, tensors = ServingConfig.parse(section_of(learned)), indexed(learned)
    known: dict[Basis, Whitening] = {}
    made = {n: layer_parts(config, n, tensors, known)[1] for n in config.layers}
    parent = "model.layers.1.self_attn"
    assert made[f"{parent}.q_proj"] is made[f"{parent}.v_proj"]
    assert made[f"{parent}.q_proj"] is not made[f"{parent}.o_proj"]
    assert made[f"{parent}.q_proj"] is not made["model.layers.0.self_attn.q_proj"]
    assert len(known) == 2 * 4  # inputs of q k v, o, gate up, down


def test_index_lists_every_tensor_but_the_rotations(learned: Path) -> None:
    checkpoint = Checkpoint(learned)
    index = json.loads((learned / "model.safetensors.index.json").read_text())
    expected = {}
    for file in checkpoint.manifest.files:
        if file.endswith(".safetensors") and file != WHITENING:
            expected |= dict.fromkeys(checkpoint.tensors(file), file)
    assert index["weight_map"] == expected
    assert CARRIED in expected.values()
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in indexed(learned).values())


def test_config_is_the_model_s_own_and_what_is_added(learned: Path, tiny_llama: Path) -> None:
    config = json.loads((learned / "config.json").read_text())
    own = json.loads((tiny_llama / "config.json").read_text())
    assert config == {**own, "quantization_config": config["quantization_config"], GUARD_KEY: GUARD}
    assert {"config.json", "model.safetensors.index.json"} <= set(
        Checkpoint(learned).manifest.files
    )


def test_manifest_and_rotations_make_the_section(learned: Path) -> None:
    checkpoint = Checkpoint(learned)
    made = ServingConfig.from_manifest(checkpoint.manifest, checkpoint.tensors(WHITENING))
    section = section_of(learned)
    assert made.as_json() == section
    assert ServingConfig.parse(section).as_json() == section
    stored = checkpoint.tensors(WHITENING)
    for key, sizes in (("in48", (6, 8)), ("in80", (8, 10))):
        left, right = made.rotation(key)
        assert (len(left), len(right)) == sizes
        assert math.prod(sizes) == int(key.removeprefix("in"))
        assert torch.equal(left, stored[f"{key}.left"])
        assert torch.equal(right, stored[f"{key}.right"])
        text = section["rotations"][key]["left"]
        assert base64.b64decode(text) == stored[f"{key}.left"].numpy().astype("<f4").tobytes()


def test_missing_rotation_is_named(learned: Path) -> None:
    checkpoint = Checkpoint(learned)
    rotations = checkpoint.tensors(WHITENING)
    del rotations["in80.right"]
    with pytest.raises(LiftError, match="no transform in80"):
        ServingConfig.from_manifest(checkpoint.manifest, rotations)


def test_tuned_checkpoint_says_the_same(learned: Path, tiny_llama: Path, tmp_path: Path) -> None:
    original = AutoModelForCausalLM.from_pretrained(tiny_llama)
    folder = tmp_path / "tuned"
    tuned = tune_checkpoint(Checkpoint(learned), original, WINDOWS, folder, Tuning(1, rate=0.05))
    made = ServingConfig.from_manifest(tuned.manifest, tuned.tensors(WHITENING))
    assert section_of(folder) == section_of(learned) == made.as_json()
    assert indexed(folder).keys() == indexed(learned).keys()
    name = f"{NAME}.scales"
    assert not torch.equal(indexed(folder)[name], indexed(learned)[name])


Change = Callable[[dict[str, Any]], object]
DAMAGES: list[tuple[Change, str]] = [
    (lambda c: c.update(quant_method="awq"), "quant_method 'awq' is not liftquant's"),
    (lambda c: c.pop("quant_method"), "quant_method None is not"),
    (lambda c: c.update(version=2), "version 2 is newer than the 1 .*; pip install -U liftquant"),
    (lambda c: c.update(version=0), "version: Input should be 1; fetch"),
    (lambda c: c.update(version="1"), "version: Input should be 1"),
    (lambda c: c.update(digits=3), "digits: Input should be 1 or 2"),
    (lambda c: c.update(more=1), "more: Extra inputs are not permitted"),
    (lambda c: c.update(layers={}), "layers: Dictionary should have at least 1 item"),
    (lambda c: c["layers"][NAME].update(shape=[80]), f"layers.{NAME}.shape"),
    (lambda c: c["layers"][NAME].update(shape=[0, 48]), f"layers.{NAME}.shape.0: .*greater than 0"),
    (lambda c: c["layers"][NAME].update(axis="up"), f"layers.{NAME}.axis: Input should be 'in'"),
    (lambda c: c["layers"][NAME].update(code="LQ-7/7"), f"{NAME} names code LQ-7/7, which"),
    (lambda c: c["layers"][NAME].update(whitening="in7"), f"{NAME} names rotation in7, which"),
    (lambda c: c["layers"][NAME].update(pre="a.b"), f"{NAME} names input scales of layer a.b"),
    (lambda c: c["layers"][NAME].update(turns="a.b"), f"{NAME} names turns of layer a.b"),
    (lambda c: c["layers"][NAME].update(whitening="in80"), f"in80 is for 80 inputs, layer {NAME}"),
    (lambda c: c["layers"][NAME].update(shape=[80, 47]), f"in48 is for 48 inputs, layer {NAME}"),
    (lambda c: c["layers"][NAME].update(shape=[1, 48]), f"layer {NAME} .1x48."),
    (lambda c: c["codes"]["LQ-16/8"]["taps"][0].reverse(), "code LQ-16/8: .* was altered"),
    (lambda c: c["codes"]["LQ-16/8"].pop("group"), "code LQ-16/8: field 'group' is missing"),
    (lambda c: c["rotations"]["in48"].update(left="%%%%"), "in48, left: not the base64 of 6x6"),
    (lambda c: c["rotations"]["in48"].update(right="AAAA"), "in48, right: not the base64 of 8x8"),
    (lambda c: c["rotations"]["in48"].update(sizes=[8, 6]), "in48, left: not the base64 of 8x8"),
    (lambda c: c["rotations"]["in48"].pop("sizes"), "rotations.in48.sizes: Field required"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), DAMAGES, ids=[m for _, m in DAMAGES])
def test_damaged_section_is_refused(learned: Path, change: Change, message: str) -> None:
    section = copy.deepcopy(section_of(learned))
    change(section)
    with pytest.raises(LiftError, match=f"^here[:,] .*{message}"):
        ServingConfig.parse(section, "here")


def test_layer_s_tensors_must_be_there_and_fit(learned: Path) -> None:
    config, tensors = ServingConfig.parse(section_of(learned)), indexed(learned)
    for key in config.stored(NAME):
        lacking = {name: tensor for name, tensor in tensors.items() if name != key}
        with pytest.raises(LiftError, match=f"layer {NAME}: tensor {key} is missing; copy the"):
            layer_parts(config, NAME, lacking)
    leader = config.layers[NAME].pre
    for key, changed, message in (
        (f"{NAME}.weight", tensors[f"{NAME}.weight"].view(torch.int32), "are torch.int32, not"),
        (f"{NAME}.weight", tensors[f"{NAME}.weight"][:-1], "packed words are uint32 of shape"),
        (f"{NAME}.scales", tensors[f"{NAME}.scales"].float(), "scales are torch.float32"),
        (f"{leader}.pre", -tensors[f"{leader}.pre"], "an input scale is not between"),
        (f"{leader}.turn_left", tensors[f"{leader}.turn_left"][1:], "a turn of shape"),
    ):
        with pytest.raises(LiftError, match=f"layer {NAME}: .*{message}.*; copy the checkpoint"):
            layer_parts(config, NAME, {**tensors, key: changed})
    with pytest.raises(LiftError, match="lists no layer lm_head"):
        layer_parts(config, "lm_head", tensors)


def test_checkpoints_and_copies_of_them_are_no_originals(learned: Path, tmp_path: Path) -> None:
    with pytest.raises(LiftError, match="is a liftquant checkpoint already; give the original"):
        open_source(str(learned))
    saved = Path(shutil.copytree(learned, tmp_path / "copy"))
    (saved / "liftquant.json").unlink()
    with pytest.raises(LiftError, match="copy holds a copy of a liftquant checkpoint; give the"):
        open_source(str(saved))
    with pytest.raises(LiftError, match="copy is a copy that transformers saved, without liftq"):
        Checkpoint(saved)
    config = json.loads((saved / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq"}
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(LiftError, match="copy holds quantised weights; give the original"):
        open_source(str(saved))
    with pytest.raises(LiftError, match=r"holds no liftquant.json: not a checkpoint"):
        Checkpoint(saved)
