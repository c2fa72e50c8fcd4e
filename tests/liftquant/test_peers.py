"""Every peer whose package is installed, on a small model; the others are skipped."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from algo.model import load_original
from algo.source import Source, open_source
from liftquant.comparing import PEERS
from liftquant.peer import Job, Outcome, Peer, Setting
from liftquant.peer_process import run_peer
from liftquant.peer_rtn import round_groups
from tests.liftquant.conftest import add_tokenizer

IMPORTED = {"hqq": "hqq", "gptq": "gptqmodel", "autoround": "auto_round", "gguf": "llama_cpp"}

TOKENS = torch.randint(95, (8, 64), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Rows of 64 and 256 inputs: whole groups, and one kind of whole super-blocks."""
    from tests.conftest import write_tiny_llama

    folder = tmp_path_factory.mktemp("peers") / "model"
    write_tiny_llama(folder, hidden_size=64, intermediate_size=256)
    add_tokenizer(folder)
    return open_source(str(folder))


def _setting(name: str, source: Source, label: str) -> tuple[Setting, int]:
    peer: Peer = import_module(PEERS[name])
    shapes = {n: (w.shape[0], w.shape[1]) for n, w in source.linear_weights()}
    (setting,) = [s for s in peer.settings(shapes) if s.label == label]
    return setting, sum(rows * columns for rows, columns in shapes.values())


def _run(name: str, source: Source, setting: Setting, scratch: Path) -> Outcome:
    package = IMPORTED.get(name)
    if package is not None and find_spec(package) is None:
        pytest.skip(f"{package} is an optional package")
    job = Job(Path(source.name), source.linears, TOKENS, scratch)
    return run_peer(PEERS[name], job, setting.options, scratch / "log")


def _worst(source: Source, outcome: Outcome) -> float:
    """The greatest relative squared error of a layer."""
    return max(
        ((outcome.weights[name] - weight).square().sum() / weight.square().sum()).item()
        for name, weight in source.linear_weights()
    )


@pytest.mark.parametrize(
    ("name", "label", "error"),
    [
        ("rtn", "INT4 group 64", 0.02),
        ("hqq", "4 bits, group 64", 0.02),
        ("hqq", "3 bits, group 64", 0.1),
        ("gptq", "4 bits, group 64", 0.04),
        ("autoround", "4 bits, group 128", 0.04),
    ],
)
def test_weights_come_back_and_bits_are_as_expected(
    source: Source, tmp_path: Path, name: str, label: str, error: float
) -> None:
    setting, weights = _setting(name, source, label)
    outcome = _run(name, source, setting, tmp_path)
    assert _worst(source, outcome) < error
    # rows of 64 inputs hold half a group of 128, and packing rounds up
    assert setting.bits - 0.01 <= outcome.stored_bytes * 8 / weights < setting.bits + 0.3


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_gptq_does_better_than_rounding_on_its_calibration(
    source: Source, tmp_path: Path, bits: int
) -> None:
    """On the first layer, whose inputs no earlier layer changes."""
    setting, _ = _setting("gptq", source, f"{bits} bits, group 64")
    outcome = _run("gptq", source, setting, tmp_path)
    model, _ = load_original(source.name)
    name = "model.layers.0.self_attn.q_proj"
    weight = model.get_submodule(name).weight
    with torch.inference_mode():
        x = model.model.layers[0].input_layernorm(model.model.embed_tokens(TOKENS))
        rounded, _ = round_groups(weight, bits, 64)
        gptq, plain = (
            (x @ (made - weight).T).square().mean() for made in (outcome.weights[name], rounded)
        )
    assert gptq < 0.9 * plain


@pytest.mark.parametrize(
    ("label", "bits", "error", "types"),
    [
        # rows of 64 inputs fall back to types of 4.5 bits
        ("Q2_K", (4.0, 4.5), 0.1, {"Q4_0", "Q3_K", "Q2_K"}),
        ("Q2_K padded", (2.6, 3.5), 0.3, {"Q3_K", "Q2_K", "Q4_K"}),
        ("IQ2_XXS padded", (2.06, 2.7), 0.4, {"IQ2_XXS", "Q2_K"}),
        ("Q4_0", (4.5, 4.5), 0.02, {"Q4_0"}),
    ],
)
def test_llama_cpp_falls_back_where_rows_are_short(
    source: Source, tmp_path: Path, label: str, bits: tuple[float, float], error: float,
    types: set[str],
) -> None:  # fmt: skip
    setting, weights = _setting("gguf", source, label)
    outcome = _run("gguf", source, setting, tmp_path)
    assert _worst(source, outcome) < error
    assert bits[0] <= outcome.stored_bytes * 8 / weights <= bits[1]
    assert {word for word in outcome.note.replace(",", "").split() if "Q" in word} <= types
