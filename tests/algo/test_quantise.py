"""Source, quantisation, checkpoint and model, on a tiny random Llama."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from algo import checkpoint, quantise
from algo.checkpoint import Checkpoint, file_entry
from algo.errors import LiftError
from algo.matrix import AXES, Axis, PackedMatrix, quantise_matrix
from algo.model import load_any, load_quantised
from algo.quantise import Recipe, quantise_model
from algo.source import open_source
from algo.whitening import random_whitening
from tests.conftest import CODES, write_tiny_llama

RECIPE = Recipe(CODES["LQ-12/5+9"], "out", seed=4)


@pytest.fixture(scope="module")
def finished(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "out"
    quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["LQ-24/10", "LQ-2/1+10", "LQ-2/1+6^3"])
def test_checkpoint_is_bit_identical_to_what_was_encoded(
    tiny_llama: Path, tmp_path: Path, name: str, axis: Axis
) -> None:
    source = open_source(str(tiny_llama))
    made = quantise_model(source, Recipe(CODES[name], axis, 7), tmp_path / "out")
    assert list(made.manifest.layers) == source.linears
    for layer in source.linears[:3]:
        weight = source.tensor(f"{layer}.weight")
        whitened = random_whitening(weight.shape[1], 7).apply(weight)
        direct = quantise_matrix(whitened, CODES[name], axis)
        stored = made.matrix(layer)
        assert np.array_equal(stored.words, direct.words)
        assert torch.equal(stored.scales, direct.scales)
        assert stored.code == direct.code


def test_linear_layers_of_all_blocks_and_nothing_else(finished: Path, tiny_llama: Path) -> None:
    checkpoint = Checkpoint(finished)
    kinds = {name.split(".")[-1] for name in checkpoint.manifest.layers}
    assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(checkpoint.manifest.layers) == 14
    original = load_file(tiny_llama / "model.safetensors")
    carried = checkpoint.tensors("carried.safetensors")
    assert set(original) == set(carried) | {f"{n}.weight" for n in checkpoint.manifest.layers}
    assert all(torch.equal(tensor, original[name]) for name, tensor in carried.items())
    assert all(tensor.dtype == original[name].dtype for name, tensor in carried.items())


def test_size_on_disk_is_what_the_bits_say(finished: Path) -> None:
    checkpoint = Checkpoint(finished)
    sizes = checkpoint.payload_bytes()
    packed = sum(checkpoint.matrix(n).payload_bits for n in checkpoint.manifest.layers)
    assert sizes["words"] + sizes["scales"] == packed // 8
    on_disk = sum(path.stat().st_size for path in finished.glob("*.safetensors"))
    assert sum(sizes.values()) == on_disk
    assert sizes["headers"] < 120 * len(checkpoint.manifest.layers) * 2 + 2000
    by_hand = 0
    for file in finished.glob("block-*.safetensors"):
        with safe_open(file, framework="pt") as stored:
            by_hand += sum(stored.get_tensor(name).nbytes for name in stored.keys())  # noqa: SIM118
    assert by_hand == packed // 8


def test_nothing_unfinished_is_left(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "block-000.safetensors", "block-001.safetensors", "carried.safetensors", "config.json",
        "generation_config.json", "liftquant.json", "whitening.safetensors",
    }  # fmt: skip


def test_stopped_run_keeps_finished_blocks_and_resumes(
    tiny_llama: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    calls: list[str] = []

    def quantise_until(stop: int) -> None:
        def counted(*args: object, **kwargs: object) -> PackedMatrix:
            if len(calls) == stop:
                raise KeyboardInterrupt
            calls.append("layer")
            return quantise_matrix(*args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(quantise, "quantise_matrix", counted)

    quantise_until(10)  # in the second block
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    assert (folder / "block-000.safetensors").exists()
    assert not (folder / "block-001.safetensors").exists()
    with pytest.raises(LiftError, match=r"unfinished one .* again to complete it"):
        Checkpoint(folder)
    with pytest.raises(LiftError, match="unfinished run with other settings"):
        quantise_model(open_source(str(tiny_llama)), Recipe(CODES["LQ-16/8"]), folder)
    calls.clear()
    quantise_until(-1)
    quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    assert len(calls) == 7  # the second block only
    for name in ("block-000", "block-001", "whitening", "carried"):
        file = f"{name}.safetensors"
        assert (folder / file).read_bytes() == (finished / file).read_bytes()


def stop_after(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make quantisation stop as by Ctrl-C after so many layers."""
    done: list[int] = []

    def counted(*args: object, **kwargs: object) -> PackedMatrix:
        if len(done) == layers:
            raise KeyboardInterrupt
        done.append(1)
        return quantise_matrix(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(quantise, "quantise_matrix", counted)


def test_damage_to_an_unfinished_run_is_made_good(
    tiny_llama: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    stop_after(10, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    (folder / "block-000.safetensors").write_bytes(b"")
    (folder / ".block-001.safetensors.x3k").write_bytes(b"half a file")
    stop_after(-1, monkeypatch)
    quantise_model(open_source(str(tiny_llama)), RECIPE, folder)
    assert {p.name for p in folder.iterdir()} == {p.name for p in finished.iterdir()}
    for file in finished.iterdir():
        if file.name != "liftquant.json":  # that one names the source as it was typed
            assert (folder / file.name).read_bytes() == file.read_bytes()


def test_another_model_does_not_resume_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, folder = write_tiny_llama(tmp_path / "m", seed=1), tmp_path / "out"
    stop_after(10, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(model)), RECIPE, folder)
    write_tiny_llama(model, seed=2)
    with pytest.raises(LiftError, match="unfinished run with other settings or another model"):
        quantise_model(open_source(str(model)), RECIPE, folder)


def test_blocks_of_two_stacks_get_files_of_their_own() -> None:
    names = ["enc.0.q", "enc.1.q", "dec.0.q", "dec.0.k", "enc.0.k"]
    files = quantise._block_files(names)
    assert list(files.values()) == [["enc.0.q", "enc.0.k"], ["enc.1.q"], ["dec.0.q", "dec.0.k"]]


def test_interrupted_write_leaves_no_block(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(tensors: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(tiny_llama)), RECIPE, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["unfinished.json"]


def test_manifest_is_written_last(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    def note(folder: Path, *rest: object) -> None:
        seen.append({p.name for p in folder.iterdir()})
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_manifest", note)
    with pytest.raises(KeyboardInterrupt):
        quantise_model(open_source(str(tiny_llama)), RECIPE, tmp_path / "out")
    assert {"config.json", "carried.safetensors", "block-001.safetensors"} <= seen[0]


def test_folder_that_holds_something_is_left_alone(tiny_llama: Path, finished: Path) -> None:
    source = open_source(str(tiny_llama))
    with pytest.raises(LiftError, match="holds a finished checkpoint"):
        quantise_model(source, RECIPE, finished)
    with pytest.raises(LiftError, match="exists and is not empty"):
        quantise_model(source, RECIPE, tiny_llama)


def damaged_llama(folder: Path, name: str, value: float) -> Path:
    write_tiny_llama(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors[name][3, 5] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    layer = "model.layers.1.mlp.up_proj"
    model = damaged_llama(tmp_path / "model", f"{layer}.weight", value)
    with pytest.raises(LiftError, match=rf"layer {layer}: weight \(3, 5\) is (nan|-inf)"):
        quantise_model(open_source(str(model)), RECIPE, tmp_path / "out")
    assert not (tmp_path / "out" / "liftquant.json").exists()


def test_narrow_layer_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = write_tiny_llama(tmp_path / "model", hidden_size=8, num_key_value_heads=1)
    with pytest.raises(
        LiftError, match=r"layer .*k_proj \(2x8\): a stream of 2 weights is too narrow"
    ):
        quantise_model(open_source(str(model)), Recipe(CODES["LQ-12/5+9"], "out"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_model_of_a_checkpoint_is_the_original_with_decoded_weights(
    finished: Path, tiny_llama: Path
) -> None:
    checkpoint = Checkpoint(finished)
    quantised = load_quantised(checkpoint)
    assert not quantised.training
    original, _ = load_original_model(tiny_llama)
    whitenings = checkpoint.whitenings()
    for name, entry in checkpoint.manifest.layers.items():
        dense = whitenings[entry.whitening].undo(checkpoint.matrix(name).dequantise())
        original.get_submodule(name).weight.data = dense
    tokens = torch.arange(40)[None] % 96
    with torch.inference_mode():
        torch.testing.assert_close(
            quantised(tokens).logits, original(tokens).logits, rtol=1e-4, atol=1e-4
        )


def load_original_model(folder: Path) -> tuple[torch.nn.Module, None]:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder).eval(), None


def test_integer_model_is_close_to_the_real_one(finished: Path) -> None:
    tokens = torch.arange(40)[None] % 96
    with torch.inference_mode():
        real = load_quantised(Checkpoint(finished))(tokens).logits
        integer = load_quantised(Checkpoint(finished), digits=2)(tokens).logits
    torch.testing.assert_close(integer, real, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("untied", [True, False])
def test_biases_and_heads_survive(tmp_path: Path, untied: bool) -> None:
    model = write_tiny_llama(
        tmp_path / "model", attention_bias=True, tie_word_embeddings=not untied
    )
    tensors = load_file(model / "model.safetensors")
    for name in [n for n in tensors if n.endswith("bias")]:
        tensors[name] = torch.randn_like(tensors[name])
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    checkpoint = quantise_model(open_source(str(model)), RECIPE, tmp_path / "out")
    loaded = load_quantised(checkpoint)
    layer = loaded.get_submodule("model.layers.0.self_attn.q_proj")
    assert torch.equal(layer.bias, tensors["model.layers.0.self_attn.q_proj.bias"])
    assert ("lm_head.weight" in checkpoint.tensors("carried.safetensors")) == untied
    tied = loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert tied != untied


def test_original_loads_without_a_tokenizer_only_with_an_error(tiny_llama: Path) -> None:
    with pytest.raises(LiftError, match="no tokenizer can be loaded"):
        load_any(str(tiny_llama))


# what is wrong with a checkpoint, and what is said of it


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
        ({"format": 99}, "format 99; this version reads format 1"),
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
    tensors[f"{name}.words"] = tensors[f"{name}.words"].to(torch.int64).to(dtype)
    save_file(tensors, copy / file)
    files = json.loads((copy / "liftquant.json").read_text())["files"]
    edit(copy, files={**files, file: file_entry(copy / file).model_dump()})
    with pytest.raises(LiftError, match=f"layer {name}: packed words are {dtype}, not uint32"):
        Checkpoint(copy).matrix(name)


def test_tensors_of_another_shape_are_refused(copy: Path) -> None:
    path = copy / "block-000.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.self_attn.q_proj"
    tensors[f"{name}.words"] = tensors[f"{name}.words"][:, :-1].contiguous()
    save_file(tensors, path)
    files = json.loads((copy / "liftquant.json").read_text())["files"]
    files[path.name] = file_entry(path).model_dump()
    edit(copy, files=files)
    with pytest.raises(LiftError, match=rf"layer {name}: packed words are uint32 of shape"):
        Checkpoint(copy).matrix(name)


def test_unknown_layer_is_named(finished: Path) -> None:
    with pytest.raises(LiftError, match="no quantised layer 'lm_head'"):
        Checkpoint(finished).matrix("lm_head")


# where models come from


def test_sources_that_are_none_are_named(tmp_path: Path, finished: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF and no more")
    (tmp_path / "empty").mkdir()
    for model, message in [
        ("no/such/thing/at/all", "does not exist"),
        (str(tmp_path / "none.gguf"), "does not exist"),
        (str(tmp_path / "weights.bin"), "neither a .gguf file nor a model directory"),
        (str(tmp_path / "broken.gguf"), "cannot be read as GGUF"),
        (str(tmp_path / "empty"), "holds no config.json"),
        (str(finished), "is a liftquant checkpoint already"),
        ("nobody/nothing", "the hub did not deliver it"),
    ]:
        with pytest.raises(LiftError, match=message):
            open_source(model)


def test_truncated_safetensors_is_named(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(LiftError, match=r"model.safetensors cannot be read"):
        open_source(str(folder))


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LiftError, match=r"hold no tensor model.layers.1.mlp.up_proj.weight"):
        open_source(str(folder))


def test_weights_that_do_not_fit_the_config_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    for wrong in (tensors[name][:-1].contiguous(), tensors[name].to(torch.int8)):
        save_file({**tensors, name: wrong}, folder / "model.safetensors")
        with pytest.raises(LiftError, match=f"tensor {name} is .* the model needs floating point"):
            open_source(str(folder))


def test_tensors_the_model_does_not_know_are_left_out(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    save_file(tensors, folder / "model.safetensors")
    made = quantise_model(open_source(str(folder)), RECIPE, tmp_path / "out")
    assert load_quantised(made)


@pytest.mark.parametrize("config", ['{"model_type": "zork"}', "{", None])
def test_config_that_is_none_is_refused(tmp_path: Path, config: str | None) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(config)
    with pytest.raises(LiftError, match=r"config\.json"):
        open_source(str(folder))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(LiftError, match="pickles are not read"):
        open_source(str(folder))


def test_real_gguf_is_read(real_gguf: Path) -> None:
    source = open_source(str(real_gguf))
    assert len(source.linears) == 210
    shapes = {tuple(weight.shape) for _, weight in source.linear_weights()}
    assert shapes == {(576, 576), (192, 576), (1536, 576), (576, 1536)}
    assert "lm_head.weight" not in source.carried_names()
    assert len(source.carried_names()) == 62
