"""Predicted sizes against files that were really written."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from algo.calibrated import Calibration
from algo.checkpoint import Checkpoint
from algo.code import LiftCode
from algo.errors import LiftError
from algo.footprint import (
    Layout,
    TensorShape,
    checkpoint_footprint,
    data_bytes,
    header_bytes,
    input_groups,
)
from algo.matrix import AXES, Axis
from algo.quantise import Recipe, quantise_model
from algo.shapes import read_shapes
from algo.source import open_source
from tests.conftest import CODES, ROOT, write_tiny_llama

_DTYPES = [
    torch.uint32, torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint64,
]  # fmt: skip
_SMALL_SHAPES = st.lists(st.integers(0, 11), max_size=3).map(tuple)
# one name is taken by the format, and half a surrogate pair is no text
_NAMES = st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda n: n != "__metadata__")


@given(st.dictionaries(_NAMES, st.tuples(_SMALL_SHAPES, st.sampled_from(_DTYPES)), max_size=8))
def test_header_is_as_long_as_safetensors_writes_it(
    tensors: dict[str, tuple[tuple[int, ...], torch.dtype]],
) -> None:
    real = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in tensors.items()}
    told = {name: TensorShape(shape, dtype) for name, (shape, dtype) in tensors.items()}
    assert header_bytes(told) + data_bytes(told) == len(save(real))


def test_offsets_of_many_digits_make_the_header_longer() -> None:
    """Long offsets come first or last by dtype and name, which the length depends on."""
    tensors = {f"t{i}.weight": torch.zeros(1000 * i, dtype=torch.uint32) for i in range(9)}
    tensors |= {f"t{i}.scales": torch.zeros(9, dtype=torch.bfloat16) for i in range(9)}
    told = {name: TensorShape(tuple(t.shape), t.dtype) for name, t in tensors.items()}
    assert header_bytes(told) + data_bytes(told) == len(save(tensors))


def test_dtype_that_no_checkpoint_holds_is_named() -> None:
    with pytest.raises(LiftError, match=r"tensor x is torch\.complex64"):
        header_bytes({"x": TensorShape((1,), torch.complex64)})


PLAIN = Layout(input_scales=False)  # as without calibration
_MODELS: dict[str, dict[str, object]] = {
    "tied float32": {},
    "untied float16": {"tie_word_embeddings": False, "dtype": torch.float16},
    "bfloat16, biases, odd head": {
        "dtype": torch.bfloat16, "attention_bias": True, "mlp_bias": True, "head_dim": 10,
    },
}  # fmt: skip


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("tied float32", "LQ-12/5+9"), ("tied float32", "LQ-2/1+3"), ("tied float32", "LQ-16/8"),
        ("untied float16", "LQ-5/2+4"), ("bfloat16, biases, odd head", "LQ-3/2"),
    ],
)  # fmt: skip
def test_prediction_equals_the_files(tmp_path: Path, model: str, name: str, axis: Axis) -> None:
    folder = write_tiny_llama(tmp_path / "model", **_MODELS[model])
    made = quantise_model(open_source(str(folder)), Recipe(CODES[name], axis), tmp_path / "out")
    shapes = read_shapes(str(folder))
    told = checkpoint_footprint(
        shapes.linears,
        shapes.carried,
        dict.fromkeys(shapes.linears, CODES[name]),
        Layout(axis, False),
    )
    written = {p.name: p.stat().st_size for p in (tmp_path / "out").glob("*.safetensors")}
    assert dict(told.files) == written
    assert told.total == sum(written.values())
    kinds = made.payload_bytes()
    assert {kind: getattr(told, kind) for kind in kinds} == kinds


@pytest.mark.parametrize("axis", AXES)
def test_mixed_codes_and_input_scales_equal_the_files(tmp_path: Path, axis: Axis) -> None:
    model = write_tiny_llama(tmp_path / "model")
    shapes = read_shapes(str(model))
    cycle = [CODES[name] for name in ("LQ-12/5+9", "LQ-24/10", "LQ-3/1+5", "LQ-16/8", "LQ-5/2+4")]
    codes = {name: cycle[i % len(cycle)] for i, name in enumerate(shapes.linears)}
    windows = torch.randint(0, 96, (4, 16), generator=torch.Generator().manual_seed(1))
    recipe = Recipe(cycle[0], axis, calibration=Calibration(windows), layer_codes=codes)
    made = quantise_model(open_source(str(model)), recipe, tmp_path / "out")
    told = checkpoint_footprint(shapes.linears, shapes.carried, codes, Layout(axis))
    written = {p.name: p.stat().st_size for p in (tmp_path / "out").glob("*.safetensors")}
    assert dict(told.files) == written
    kinds = made.payload_bytes()
    assert {kind: getattr(told, kind) for kind in kinds} == kinds


def test_tied_head_that_is_stored_is_counted(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = write_tiny_llama(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    code = CODES["LQ-2/1+3"]
    made = quantise_model(open_source(str(folder)), Recipe(code), tmp_path / "out")
    shapes = read_shapes(str(folder))
    codes = dict.fromkeys(shapes.linears, code)
    told = checkpoint_footprint(shapes.linears, shapes.carried, codes, PLAIN)
    assert told.total == sum(made.payload_bytes().values())


def test_real_model_is_as_large_as_it_was_written(real_gguf: Path) -> None:
    """What `quantize` wrote for it with LQ-2/1+6: measured, all 32 files."""
    code = CODES["LQ-2/1+10"]  # the same D/d: the same bytes
    for model, dtype in [
        (str(real_gguf), None),
        (str(ROOT / "tests" / "configs" / "smollm2-135m.json"), torch.float32),
    ]:
        shapes = read_shapes(model, dtype)
        told = checkpoint_footprint(
            shapes.linears, shapes.carried, dict.fromkeys(shapes.linears, code), PLAIN
        )
        kinds = (told.words, told.scales, told.whitening, told.carried, told.headers)
        assert kinds == (26542080, 311040, 17920, 113386752, 50824)
        assert (told.total, len(told.files)) == (140308616, 32)


def test_finished_checkpoint_of_other_tests_is_predicted(finished: Path, tiny_llama: Path) -> None:
    shapes = read_shapes(str(tiny_llama))
    codes: dict[str, LiftCode] = dict.fromkeys(shapes.linears, CODES["LQ-12/5+9"])
    told = checkpoint_footprint(shapes.linears, shapes.carried, codes, PLAIN)
    sizes = {n: f.bytes for n, f in Checkpoint(finished).manifest.files.items()}
    assert dict(told.files) == {n: s for n, s in sizes.items() if n.endswith(".safetensors")}


def test_layer_too_narrow_for_its_code_is_named() -> None:
    linears = {"model.layers.0.wide": (64, 64), "model.layers.0.narrow": (4, 64)}
    message = re.escape("layer model.layers.0.narrow (4x64): a stream of 4 weights is too narrow")
    with pytest.raises(LiftError, match=message):
        checkpoint_footprint(linears, {}, dict.fromkeys(linears, CODES["LQ-2/1+10"]))


def test_layers_that_share_their_input_are_grouped() -> None:
    block = [f"m.{i}.{n}" for i in (0, 1) for n in (
        "attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.o_proj",
        "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
    )]  # fmt: skip
    groups = input_groups(dict.fromkeys([*block, "m.1.expert.up_proj", "m.1.dense"], (8, 8)))
    assert groups == {
        "m.0.attn.q_proj": block[0:3], "m.0.attn.o_proj": block[3:4],
        "m.0.mlp.gate_proj": block[4:6], "m.0.mlp.down_proj": block[6:7],
        "m.1.attn.q_proj": block[7:10], "m.1.attn.o_proj": block[10:11],
        "m.1.mlp.gate_proj": block[11:13], "m.1.mlp.down_proj": block[13:14],
        "m.1.expert.up_proj": ["m.1.expert.up_proj"], "m.1.dense": ["m.1.dense"],
    }  # fmt: skip
