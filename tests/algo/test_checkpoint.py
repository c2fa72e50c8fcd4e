"""What is wrong with a checkpoint, and what is said of it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from algo.checkpoint import Checkpoint
from algo.errors import LiftError
from algo.layer_tensors import read_whitening, save_tensors, whitening_tensors
from algo.manifest import LayerEntry, file_entry
from algo.whitening import random_whitening


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(LiftError, match="does not exist; `liftquant quantize` writes"):
        Checkpoint(tmp_path / "none")


def test_truncated_file_is_named(copy: Path) -> None:
    path = copy / "block-001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LiftError, match=r"block-001.safetensors has .* truncated or altered"):
        Checkpoint(copy)


def test_missing_file_is_named(copy: Path) -> None:
    (copy / "whitening.safetensors").unlink()
    with pytest.raises(LiftError, match=r"whitening.safetensors is missing"):
        Checkpoint(copy)


def test_altered_byte_is_found_by_its_hash(copy: Path) -> None:
    path = copy / "block-000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(LiftError, match=r"block-000.safetensors hashes to .* it was altered"):
        Checkpoint(copy).verify()


def edit(copy: Path, **changes: object) -> None:
    fields = json.loads((copy / "liftquant.json").read_text())
    fields.update(changes)
    (copy / "liftquant.json").write_text(json.dumps(fields))


def test_altered_code_is_found_by_its_hash(copy: Path) -> None:
    fields = json.loads((copy / "liftquant.json").read_text())["codes"]
    fields["LQ-12/5+9"]["taps"][0][0] += 1
    edit(copy, codes=fields)
    with pytest.raises(LiftError, match=r"code LQ-12/5\+9: the definition .* the file was altered"):
        Checkpoint(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99; this version reads format 3"),
        ({"seed": "x"}, "seed: Input should be a valid integer"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"codes": {}}, "names code .* of which one is not listed"),
        ({"layers": {}}, "layers: Dictionary should have at least 1 item"),
        ({"files": {}}, "whitening.safetensors is not among the files"),
    ],
)  # fmt: skip
def test_altered_manifest_is_refused(copy: Path, changes: dict[str, object], message: str) -> None:
    edit(copy, **changes)
    with pytest.raises(LiftError, match=message):
        Checkpoint(copy)


def test_files_outside_the_folder_are_refused(copy: Path) -> None:
    files = json.loads((copy / "liftquant.json").read_text())["files"]
    edit(copy, files={**files, "../../etc/passwd": {"bytes": 1, "sha256": "0"}})
    with pytest.raises(LiftError, match="lies outside the checkpoint"):
        Checkpoint(copy)


def test_code_under_another_name_is_refused(copy: Path) -> None:
    codes = json.loads((copy / "liftquant.json").read_text())["codes"]
    edit(copy, codes={"LQ-1/1": codes["LQ-12/5+9"]})
    with pytest.raises(LiftError, match=r"code LQ-1/1 is defined as LQ-12/5\+9"):
        Checkpoint(copy)


def test_unknown_transform_is_named(copy: Path) -> None:
    layers = json.loads((copy / "liftquant.json").read_text())["layers"]
    layers["model.layers.0.mlp.up_proj"]["whitening"] = "in99"
    edit(copy, layers=layers)
    with pytest.raises(LiftError, match="no transform in99"):
        Checkpoint(copy).verify()
    layers["model.layers.0.mlp.up_proj"]["whitening"] = "in80"
    edit(copy, layers=layers)
    with pytest.raises(LiftError, match=r"transform in80 is for 80 inputs, layer .*up_proj has 48"):
        Checkpoint(copy).verify()


def test_config_is_hashed_with_the_rest(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(LiftError, match=r"config.json has .* truncated or altered"):
        Checkpoint(copy)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32])
def test_words_of_another_type_are_refused(copy: Path, dtype: torch.dtype) -> None:
    name, file = "model.layers.0.self_attn.q_proj", "block-000.safetensors"
    tensors = load_file(copy / file)
    tensors[f"{name}.weight"] = tensors[f"{name}.weight"].to(torch.int64).to(dtype)
    save_file(tensors, copy / file)
    files = json.loads((copy / "liftquant.json").read_text())["files"]
    edit(copy, files={**files, file: file_entry(copy / file).model_dump()})
    with pytest.raises(LiftError, match=f"layer {name}: packed words are {dtype}, not uint32"):
        Checkpoint(copy).matrix(name)


def test_tensors_of_another_shape_are_refused(copy: Path) -> None:
    path = copy / "block-000.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.self_attn.q_proj"
    tensors[f"{name}.weight"] = tensors[f"{name}.weight"][:, :-1].contiguous()
    save_file(tensors, path)
    files = json.loads((copy / "liftquant.json").read_text())["files"]
    files[path.name] = file_entry(path).model_dump()
    edit(copy, files=files)
    with pytest.raises(LiftError, match=rf"layer {name}: packed words are uint32 of shape"):
        Checkpoint(copy).matrix(name)


def test_unknown_layer_is_named(finished: Path) -> None:
    with pytest.raises(LiftError, match="no quantised layer 'lm_head'"):
        Checkpoint(finished).matrix("lm_head")


def entry(**changes: object) -> LayerEntry:
    fields = {"shape": (8, 12), "axis": "in", "code": "LQ-1/1", "whitening": "in12", "file": "f"}
    return LayerEntry.model_validate({**fields, **changes})


def test_transforms_are_read_as_they_were_stored(tmp_path: Path) -> None:
    plain, path = random_whitening(12, 1), tmp_path / "b.safetensors"
    scales = torch.linspace(0.5, 2, 12).to(torch.bfloat16)
    turns = (torch.full((3,), 0.1).to(torch.bfloat16), torch.full((6,), -0.2).to(torch.bfloat16))
    whole = plain.with_turns(turns, scales)
    save_tensors(path, {**whitening_tensors("a.q", whole), **whitening_tensors("a.o", plain)})
    read = read_whitening(path, entry(pre="a.q", turns="a.q"), plain.left, plain.right)
    assert torch.equal(read.left, whole.left)
    assert torch.equal(read.right, whole.right)
    assert torch.equal(read.pre, scales)
    bare = read_whitening(path, entry(), plain.left, plain.right)
    assert bare.pre is None
    assert torch.equal(bare.left, plain.left)
    scaled = read_whitening(path, entry(pre="a.q"), plain.left, plain.right)
    assert torch.equal(scaled.pre, scales)
    assert torch.equal(scaled.left, plain.left)


def test_transforms_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    plain, path = random_whitening(12, 1), tmp_path / "b.safetensors"
    save_tensors(path, {
        "a.q.pre": torch.ones(11, dtype=torch.bfloat16),
        "a.k.pre": torch.zeros(12, dtype=torch.bfloat16),
        "a.o.turn_left": torch.zeros(4), "a.o.turn_right": torch.zeros(6),
    })  # fmt: skip
    for changes, message in (
        ({"pre": "a.v"}, r"b.safetensors: .*a\.v\.pre"),
        ({"pre": "a.q"}, r"b.safetensors, a.q: .* 12 inputs need bfloat16"),
        ({"pre": "a.k"}, r"b.safetensors, a.k: .* the scales are corrupt"),
        ({"turns": "a.o"}, r"b.safetensors, a.o: .* a factor of 3: 3 finite entries"),
    ):
        with pytest.raises(LiftError, match=message):
            read_whitening(path, entry(**changes), plain.left, plain.right)


def test_missing_input_scales_are_found_by_verify(copy: Path) -> None:
    layers = json.loads((copy / "liftquant.json").read_text())["layers"]
    layers["model.layers.0.mlp.up_proj"]["pre"] = "model.layers.0.mlp.gate_proj"
    edit(copy, layers=layers)
    with pytest.raises(LiftError, match=r"block-000.safetensors: .*gate_proj.pre"):
        Checkpoint(copy).verify()
