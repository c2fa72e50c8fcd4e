import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from algo.errors import LiftError
from algo.text import evaluation_text
from liftquant.corpora import calibration_corpus, evaluation_corpus


def test_built_in_text_is_the_default() -> None:
    corpus = evaluation_corpus(None, None)
    assert (corpus.name, corpus.text) == ("python help topics", evaluation_text())


def test_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("grüß dich", encoding="utf-8")
    assert evaluation_corpus(tmp_path / "t.txt", None).text == "grüß dich"


def test_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"gr\xfc\xdf")
    with pytest.raises(LiftError, match=r"--text .*t\.txt cannot be read as UTF-8 text"):
        evaluation_corpus(tmp_path / "t.txt", None)


def test_two_texts_are_refused() -> None:
    with pytest.raises(LiftError, match="--text and --dataset are two texts"):
        evaluation_corpus(Path("x"), "c4")


def test_unknown_corpus_is_refused() -> None:
    with pytest.raises(LiftError, match="--dataset ptb is none of wikitext2, c4"):
        evaluation_corpus(None, "ptb")


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LiftError, match=r"needs the package datasets: pip install 'liftquant\[ev"):
        evaluation_corpus(None, "wikitext2")


@pytest.mark.parametrize("name", ["wikitext2", "c4"])
def test_corpus_out_of_reach_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(LiftError, match=r"cannot be fetched \(ConnectionError\); it needs the"):
        evaluation_corpus(None, name)


@pytest.mark.parametrize(
    ("name", "asked"),
    [("wikitext2", ("Salesforce/wikitext", "test")), ("c4", ("allenai/c4", "validation"))],
)
def test_rows_are_joined_by_blank_lines(
    monkeypatch: pytest.MonkeyPatch, name: str, asked: tuple[str, str]
) -> None:
    seen = []

    def load_dataset(path: str, *_: object, split: str, **__: object) -> dict[str, list[str]]:
        seen.append((path, split))
        return {"text": ["one", "", "two"]}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert evaluation_corpus(None, name).text == "one\n\n\n\ntwo"
    assert calibration_corpus("--calib", name).text == "one\n\n\n\ntwo"
    assert seen == [asked, (asked[0], "train")]  # never what is evaluated on
