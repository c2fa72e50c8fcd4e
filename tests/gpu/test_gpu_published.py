"""Published speeds: every one has its source, and the file's form is strict."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from algo.errors import LiftError
from gpu.llama_models import MODELS
from gpu.published import FILE, not_found, published, read_published
from gpu.speed_checks import all_gpus


@pytest.mark.parametrize("figure", published(), ids=lambda f: f.id)
def test_every_figure_has_its_source(figure: Any) -> None:
    assert re.fullmatch(r"https://[\w.]+/\S+", figure.url)
    assert figure.where
    assert figure.stated
    assert figure.model is None or figure.model in MODELS
    assert figure.gpu is None or figure.gpu in all_gpus()


@pytest.mark.parametrize("figure", published(), ids=lambda f: f.id)
def test_the_number_is_the_one_that_stands_there(figure: Any) -> None:
    stated = [float(n.replace(",", "")) for n in re.findall(r"\d+(?:\.\d+)?", figure.stated)]
    if "ms per token" in figure.stated:
        assert figure.tokens_per_second == pytest.approx(1e3 / stated[0], rel=1e-4)
    else:
        assert figure.tokens_per_second in stated


def test_stored_bits_are_not_below_those_of_the_name() -> None:
    for figure in published():
        assert figure.stored_bits is None or figure.bits <= figure.stored_bits <= 1.26 * figure.bits


def test_methods_asked_for_are_found_or_said_not_to_be() -> None:
    sought = {"QTIP", "EXL3", "LiftQuant", "AWQ"}
    assert sought <= {f.method for f in published()} | {m.method for m in not_found()}
    for method in sought - {f.method for f in published()}:
        assert any(m.method == method for m in not_found())


def changed(tmp_path: Path, change: Any) -> Path:
    content = json.loads(FILE.read_text())
    change(content)
    file = tmp_path / "published.json"
    file.write_text(json.dumps(content))
    return file


def test_the_file_as_it_is_can_be_read(tmp_path: Path) -> None:
    figures, missing = read_published(changed(tmp_path, lambda content: None))
    assert figures == published()
    assert missing == not_found()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["figures"][0].pop("url"), "must have exactly the fields"),
        (lambda c: c["figures"][0].update(extra=1), "must have exactly the fields"),
        (lambda c: c["figures"][0].update(url=""), "url is empty"),
        (lambda c: c["figures"][0].update(url="a friend"), "is no address: 'a friend'"),
        (lambda c: c["figures"][0].update(url=None), "url is None, which is no str"),
        (lambda c: c["figures"][0].update(batch=True), "batch is True, which is no int"),
        (lambda c: c["figures"][0].update(bits="4"), "bits is '4', which is no float"),
        (lambda c: c["figures"][0].update(tokens_per_second=0), "must be positive, not 0"),
        (lambda c: c["figures"][0].update(tokens_per_second=float("nan")), "must be positive"),
        (lambda c: c["figures"].append(c["figures"][0]), "is there twice"),
        (lambda c: c.update(figures={}), "a list was expected"),
        (lambda c: c.update(not_found=None), "a list was expected"),
        (lambda c: c["not_found"][0].update(looked=""), "looked is empty"),
        (lambda c: c.update(more=1), "must hold about, figures and not_found"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(LiftError, match=message):
        read_published(changed(tmp_path, change))
