"""``liftquant quantize`` with calibration, on a tiny model that reads text."""

import json
from pathlib import Path

import pytest

from algo.checkpoint import Checkpoint
from algo.manifest import SENSITIVITIES
from algo.shipped import best_code
from liftquant.cli import run
from tests.conftest import write_tiny_llama
from tests.liftquant.conftest import add_tokenizer

TEXT = "the quick brown fox jumps over the lazy dog, again and again; " * 40
SHORT = ["--calib-tokens", "256", "--calib-context", "32"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "words.txt"
    file.write_text(TEXT)
    return file


def quantize(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = run(["quantize", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_rates_go_by_sensitivity_within_the_average(
    reading_llama: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    status, out, err = quantize(
        capsys, reading_llama, folder, "--bits", 2.4, "--window", 8, "--calib", text, *SHORT,
        "--json",
    )  # fmt: skip
    assert status == 0, err
    summary = json.loads(out)
    assert summary["layers"] == 14
    assert len(summary["codes"]) > 1
    assert summary["code_bits_per_weight"] == pytest.approx(2.4, abs=0.15)
    made = Checkpoint(folder)
    made.verify()
    assert {code.window for code in made.codes.values()} == {8}
    groups: dict[str, set[str]] = {}
    for entry in made.manifest.layers.values():
        assert entry.axis == "out"
        assert 0 < (entry.proxy_error or 0) < 1
        groups.setdefault(entry.pre or "", set()).add(entry.code)
    assert all(len(codes) == 1 for codes in groups.values())
    assert "choosing codes" in err
    assert "quantising" in err


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--bits", "3", "--window", "8", "--uniform"], best_code(3, 8, True).name),
        (["--bits", "3", "--window", "8", "--uniform", "--no-parities"], best_code(3, 8).name),
        (["--code", "LQ-16/8", "--axis", "in"], "LQ-16/8"),
        (["--code", "LQ-16/8", "--correct"], "LQ-16/8"),
        (["--code", "LQ-16/8", "--correct", "--signs"], "LQ-16/8"),
        (["--code", "LQ-16/8", "--learn-whitening"], "LQ-16/8"),
    ],
)  # fmt: skip
def test_options_reach_the_checkpoint(
    reading_llama: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: list[str], name: str,
) -> None:  # fmt: skip
    folder = tmp_path / "out"
    status, out, err = quantize(capsys, reading_llama, folder, "--calib", text, *SHORT, *options)
    assert status == 0, err
    assert name in out
    layers = Checkpoint(folder).manifest.layers.values()
    assert {entry.code for entry in layers} == {name}
    assert {entry.axis for entry in layers} == {"in" if "in" in options else "out"}
    assert {entry.turns is None for entry in layers} == {"--learn-whitening" not in options}
    plain = tmp_path / "plain"
    base = [o for o in options if o not in ("--correct", "--signs", "--learn-whitening")]
    quantize(capsys, reading_llama, plain, "--calib", text, *SHORT, *base)
    first = "block-000.safetensors"
    same = (plain / first).read_bytes() == (folder / first).read_bytes()
    assert same == (base == options)


def test_rate_follows_from_the_memory_there_is(
    reading_llama: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--window", 8, "--calib", text, *SHORT, "--context", 64]
    status, _, err = quantize(capsys, reading_llama, tmp_path / "a", "--fit", "24GiB", *options)
    assert status == 0, err
    assert "4 bits per weight fit 24GiB with a context of 64" in err
    assert {code.rate for code in Checkpoint(tmp_path / "a").codes.values()} == {4.0}
    status, _, err = quantize(capsys, reading_llama, tmp_path / "b", "--fit", "1MiB", *options)
    assert (status, "at 1.5 bits the model takes" in err) == (2, True)
    assert not (tmp_path / "b").exists()


def test_builtin_text_is_the_default(
    reading_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, extra in zip(folders, ([], ["--calib", "builtin"]), strict=True):
        status, _, err = quantize(
            capsys, reading_llama, folder, "--code", "LQ-16/8", *SHORT, *extra
        )
        assert status == 0, err
    for file in sorted(path.name for path in folders[0].iterdir()):
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--bits", "2", "--code", "LQ-16/8"], "--bits, --fit and --code exclude each other"),
        (["--bits", "2", "--fit", "1GiB"], "--bits, --fit and --code exclude each other"),
        (["--fit", "1GiB", "--code", "LQ-16/8"], "--bits, --fit and --code exclude each other"),
        (["--correct", "--calib", "none"], "need a text; drop --calib none"),
        (["--learn-whitening", "--calib", "none"], "need a text; drop --calib none"),
        (["--signs"], "--signs is part of --correct; give both"),
        (["--bits", "9"], "9 bits per weight are outside what the shipped codes of window 12"),
        (["--bits", "0.5"], "0.5 bits per weight are outside"),
        (["--bits", "2.55", "--calib", "none"], "no shipped code has 2.55 bits per weight"),
        (["--bits", "2.55", "--uniform"], "no shipped code has 2.55 bits per weight"),
        (["--window", "9"], "no shipped code has a window of 9 bits"),
        (["--axis", "up"], "--axis up is none of in, out"),
        (["--calib-tokens", "1"], "Invalid value for '--calib-tokens'"),
        (["--calib-context", "1"], "Invalid value for '--calib-context'"),
    ],
)  # fmt: skip
def test_options_that_contradict_are_refused_before_the_model_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    options: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    status, _, err = quantize(capsys, "no-model", "out", *options)
    assert status == 2
    assert message in err
    assert "no-model" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("calib", "content", "message"),
    [
        ("none.txt", None, "--calib none.txt cannot be read as UTF-8 text"),
        ("binary.txt", b"\xff\xfe", "--calib binary.txt cannot be read as UTF-8 text"),
        ("short.txt", b"too short", "fewer than one window of 32"),
        ("empty.txt", b"", "fewer than one window of 32"),
    ],
)  # fmt: skip
def test_text_that_cannot_be_used_is_named(
    reading_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, calib: str, content: bytes | None, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(calib).write_bytes(content)
    status, _, err = quantize(capsys, reading_llama, "out", "--calib", calib, *SHORT)
    assert status == 2
    assert message in err
    assert not Path("out").exists()


def test_model_without_a_tokenizer_needs_no_text(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = quantize(capsys, tiny_llama, tmp_path / "a", "--code", "LQ-16/8")
    assert (status, "no tokenizer can be loaded" in err) == (2, True)
    status, _, _ = quantize(
        capsys, tiny_llama, tmp_path / "a", "--code", "LQ-16/8", "--calib", "none"
    )
    assert status == 0


def test_narrow_layers_are_named_with_status_2(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_llama(tmp_path / "m", hidden_size=8, num_key_value_heads=1)
    add_tokenizer(model)
    for options in (["--uniform"], []):
        status, _, err = quantize(
            capsys, model, tmp_path / "o", "--bits", 2.4, "--calib", text, *SHORT, *options
        )
        assert status == 2
        assert "layer model.layers.0.self_attn." in err
        assert "weights is too narrow for LQ-" in err
        assert {file.name for file in (tmp_path / "o").glob("*")} <= {SENSITIVITIES}


def test_stopped_command_is_resumed_by_the_same_one(
    reading_llama: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from algo.calibrated import CalibratedBlocks

    folder, arguments = tmp_path / "out", ["--bits", "2", "--window", "8", "--calib", text, *SHORT]
    real = CalibratedBlocks.quantise

    def once(self: CalibratedBlocks, name: str, *rest: object) -> object:
        if name.endswith("1"):
            raise KeyboardInterrupt
        return real(self, name, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(CalibratedBlocks, "quantise", once)
        status, _, err = quantize(capsys, reading_llama, folder, *arguments)
    assert (status, "the same command goes on from there" in err) == (130, True)
    status, _, err = quantize(capsys, reading_llama, folder, *arguments, "--seed", 1)
    assert (status, "unfinished run with other settings" in err) == (2, True)
    status, _, err = quantize(capsys, reading_llama, folder, *arguments)
    assert status == 0, err
    Checkpoint(folder).verify()
