import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from algo.errors import LiftError
from liftquant.zero_shot import require_lm_eval, zero_shot


class Harness(ModuleType):
    """A stand-in for lm-eval that records what it was asked."""

    def __init__(self) -> None:
        super().__init__("lm_eval")
        self.__path__: list[str] = []
        self.asked: list[object] = []
        self.models = ModuleType("lm_eval.models")
        self.models.__path__ = []
        self.huggingface = ModuleType("lm_eval.models.huggingface")
        self.huggingface.HFLM = dict  # type: ignore[attr-defined]

    def simple_evaluate(self, model: dict[str, object], tasks: list[object], **_: object) -> object:
        self.asked = tasks
        if "unknown" in tasks:
            raise ValueError("no such task")
        return {
            "results": {
                "piqa": {"alias": "piqa", "acc,none": 0.5, "acc_stderr,none": 0.1, "sample_len": 9}
            }
        }


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    made = Harness()
    monkeypatch.setitem(sys.modules, "lm_eval", made)
    monkeypatch.setitem(sys.modules, "lm_eval.models", made.models)
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", made.huggingface)
    monkeypatch.setattr("liftquant.zero_shot.find_spec", lambda _: True)
    return made


def test_metrics_are_picked_out(harness: Harness) -> None:
    found = zero_shot(nn.Identity(), None, ["piqa"], 4)
    assert found == {"piqa": {"acc": 0.5, "acc_stderr": 0.1}}


def test_task_file_is_read(harness: Harness, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: mine\noutput_type: multiple_choice\n")
    zero_shot(nn.Identity(), None, ["piqa", f" {tmp_path / 'mine.yaml'}"], 4)
    assert harness.asked == ["piqa", {"task": "mine", "output_type": "multiple_choice"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read as YAML"), ("[", "cannot be read as YAML"), ("a: 1", "defines no lm")],
)
def test_bad_task_file_is_named(
    harness: Harness, tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(LiftError, match=message):
        zero_shot(nn.Identity(), None, [str(tmp_path / "t.yaml")], 4)


def test_task_that_fails_is_named(harness: Harness) -> None:
    with pytest.raises(LiftError, match=r"could not run unknown \(ValueError: no such task\)"):
        zero_shot(nn.Identity(), None, ["unknown"], 4)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("liftquant.zero_shot.find_spec", lambda _: None)
    with pytest.raises(LiftError, match=r"--tasks needs the package lm-eval: pip install"):
        require_lm_eval()


@pytest.mark.filterwarnings("ignore")  # of packages that this project does not pin
def test_real_harness_runs_a_task_of_ones_own(reading_llama: Path, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="an optional package")
    from algo.model import load_original

    rows = [{"q": f"Is {i} even?", "label": i % 2} for i in range(6)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "even.yaml").write_text(
        "task: even\ndataset_path: json\ndataset_kwargs:\n  data_files:\n"
        f"    test: {tmp_path / 'rows.jsonl'}\ntest_split: test\noutput_type: multiple_choice\n"
        'doc_to_text: "{{q}}"\ndoc_to_target: label\ndoc_to_choice: [" yes", " no"]\n'
        "metric_list:\n  - metric: acc\n    aggregation: mean\n    higher_is_better: true\n"
    )
    model, tokenizer = load_original(str(reading_llama))
    found = zero_shot(model, tokenizer, [str(tmp_path / "even.yaml")], 2)
    assert found["even"]["acc"] in {i / 6 for i in range(7)}
