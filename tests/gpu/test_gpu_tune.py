"""Tuning with candidates and a clock made up, on the CPU."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.shipped import load_code
from gpu.dispatch import load_table, plan
from gpu.interpret import interpreter
from gpu.paths import PathLayer
from gpu.random_layer import random_matrix
from gpu.timing import copy_bandwidth, measure
from gpu.tune import COLUMNS, MARGIN, best, exactly_equal, partial_path, tune
from gpu.tuning_table import PATHS, Choice, LayerClass, Machine, Timed, read_table, table_path
from gpu.workload import LayerWorkload

MACHINE = Machine(gpu="Made up", capability="1.0", driver="1", torch="2", triton="3")
SMALL, LARGE = (LayerClass(rows=n, inner=n, bits=2.0) for n in (16, 4096))


class Clock:
    """Time passes only where a call says so."""

    def __init__(self):
        self.now = 0.0
        self.flushes = 0

    def flush(self):
        self.flushes += 1
        self.now += 1000.0

    def stamp(self):
        return self.now

    def milliseconds(self, start, end):
        return end - start


class Work:
    """Candidates that each take the time they are given, in microseconds."""

    def __init__(self, clock, times, wrong=(), broken=()):
        self.clock, self.times, self.wrong, self.broken = clock, times, wrong, broken
        self.calls = []

    @property
    def candidates(self):
        return list(self.times)

    def run(self, choice):
        self.calls.append(choice)
        if choice in self.broken:
            raise RuntimeError("out of resources: shared memory\nmore lines")
        self.clock.now += self.times[choice] / 1000
        return self.expected() + (choice in self.wrong)

    def expected(self):
        return torch.arange(6).reshape(2, 3)


FUSED, SPLIT, DOT, DENSE = (
    Choice(path="fused", tile="a"), Choice(path="bitmm", tile="b", split=4),
    Choice(path="decode-dot"), Choice(path="dense"),
)  # fmt: skip


def run(tmp_path, times, layers=(SMALL,), columns=(1, 8), **options):
    """Tune where every class and number of columns has the same times; the workloads made."""
    clock, made = Clock(), []
    broken_after = options.pop("stop_after", None)

    def make(layer, count):
        if broken_after is not None and len(made) == broken_after:
            raise KeyboardInterrupt
        made.append((layer, count, Work(clock, times(layer, count), **options)))
        return made[-1][2]

    progress = []
    tuned = tune(
        layers, columns, MACHINE, make, lambda call: measure(call, clock), tmp_path / "t.json",
        on_progress=lambda amount, note: progress.append((amount, note)),
    )  # fmt: skip
    return tuned, made, progress


def same(times):
    return lambda layer, count: times


def test_the_fastest_is_chosen_per_columns(tmp_path):
    def times(layer, count):
        one_bit = 10.0 * count
        return {FUSED: one_bit, SPLIT: one_bit * 0.5 + 3, DOT: 30.0, DENSE: 90.0 + count}

    tuned, _, _ = run(tmp_path, times, columns=COLUMNS)
    steps = {s.columns: s for s in tuned.table.entries[0].steps}
    # expected by hand: 8 / 10 / 30; 13 / 20; 23 / 40; 43 against 30
    assert [steps[n].choice for n in (1, 2, 4, 8, 512)] == [SPLIT, SPLIT, SPLIT, DOT, DOT]
    assert steps[4].microseconds.median == pytest.approx(23.0)
    assert tuned.dropped == ()
    assert read_table(tmp_path / "t.json") == tuned.table
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


def test_dispatch_takes_what_was_tuned(tmp_path):
    path, clock = table_path(tmp_path, MACHINE), Clock()
    tune(
        [SMALL], [1, 8], MACHINE, lambda layer, count: Work(clock, {SPLIT: 1.0, DENSE: 2.0}),
        lambda call: measure(call, clock), path,
    )  # fmt: skip
    assert plan(SMALL, load_table(MACHINE, tmp_path)).choose(3) == SPLIT


@given(st.lists(st.floats(1, 100), min_size=4, max_size=4), st.permutations(range(4)))
def test_best_is_within_the_margin_and_nothing_simpler_is(medians, order):
    every = [
        (c, Timed(median=m, p20=m, p80=m))
        for c, m in zip([FUSED, SPLIT, DOT, DENSE], medians, strict=True)
    ]
    choice, time = best([every[i] for i in order])
    limit = min(medians) * MARGIN
    assert time.median <= limit
    simpler = [c for c, t in every if t.median <= limit]
    assert PATHS.index(choice.path) == min(PATHS.index(c.path) for c in simpler)


@pytest.mark.parametrize(("slower", "taken"), [(1.019, FUSED), (1.021, SPLIT)])
def test_a_simpler_path_wins_within_two_percent(tmp_path, slower, taken):
    tuned, _, _ = run(tmp_path, same({SPLIT: 100.0, FUSED: 100.0 * slower}))
    assert {s.choice for s in tuned.table.entries[0].steps} == {taken}


def test_less_splitting_wins_within_two_percent():
    splits = [Choice(path="bitmm", split=n) for n in (1, 2, 4)]
    timed = [
        (c, Timed(median=m, p20=m, p80=m)) for c, m in zip(splits, (103, 101, 100), strict=True)
    ]
    assert best(timed)[0].split == 2


def test_a_wrong_candidate_is_caught_and_not_chosen(tmp_path):
    tuned, made, _ = run(tmp_path, same({FUSED: 1.0, DOT: 5.0}), wrong=(FUSED,))
    assert {s.choice for s in tuned.table.entries[0].steps} == {DOT}
    assert [(d.choice, d.columns) for d in tuned.wrong] == [(FUSED, 1), (FUSED, 8)]
    assert "fused a: differs from the reference" in str(tuned.wrong[0])
    assert all(work.calls.count(FUSED) == 1 for _, _, work in made)  # wrong: never timed


def test_what_cannot_run_is_told_and_is_not_wrong(tmp_path):
    tuned, _, _ = run(tmp_path, same({FUSED: 1.0, DOT: 5.0}), broken=(FUSED,))
    assert {s.choice for s in tuned.table.entries[0].steps} == {DOT}
    assert tuned.wrong == ()
    assert tuned.dropped[0].reason == "RuntimeError: out of resources: shared memory"


def test_no_right_candidate_leaves_no_table(tmp_path):
    tuned, _, _ = run(tmp_path, same({FUSED: 1.0}), wrong=(FUSED,))
    assert tuned.table is None
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_stopped_goes_on(tmp_path):
    times = same({FUSED: 1.0, DOT: 5.0})
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, times, layers=(SMALL, LARGE), stop_after=3, wrong=(DOT,))
    assert [p.name for p in tmp_path.iterdir()] == ["t.json.partial"]
    tuned, made, progress = run(tmp_path, times, layers=(SMALL, LARGE))
    assert [(layer, count) for layer, count, _ in made] == [(LARGE, 1), (LARGE, 8)]
    assert [e.layer for e in tuned.table.entries] == [SMALL, LARGE]
    assert [d.layer for d in tuned.wrong] == [SMALL, SMALL]  # found before it was stopped
    assert sum(amount for amount, _ in progress) == pytest.approx(2)
    assert "done before" in progress[0][1]
    assert not partial_path(tmp_path / "t.json").exists()


def test_a_part_of_other_settings_is_not_taken_up(tmp_path):
    times = same({FUSED: 1.0})
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, times, layers=(SMALL, LARGE), stop_after=3)
    _, made, _ = run(tmp_path, times, layers=(SMALL, LARGE), columns=(1, 16))
    assert len(made) == 4


def test_a_corrupt_part_is_refused(tmp_path):
    partial_path(tmp_path / "t.json").write_text("{")
    with pytest.raises(LiftError, match=r"t.json.partial is no tuning table.*delete it"):
        run(tmp_path, same({FUSED: 1.0}))


def test_classes_measured_before_stay_on_the_same_machine(tmp_path):
    run(tmp_path, same({FUSED: 1.0}), layers=(SMALL,))
    tuned, _, _ = run(tmp_path, same({DOT: 1.0}), layers=(LARGE,))
    assert [e.layer for e in tuned.table.entries] == [SMALL, LARGE]
    tuned, _, _ = run(tmp_path, same({DENSE: 1.0}), layers=(LARGE,))
    assert [e.steps[0].choice for e in tuned.table.entries] == [FUSED, DENSE]
    other = MACHINE.model_copy(update={"triton": "4"})
    clock = Clock()
    tuned = tune(
        [SMALL], [1], other, lambda layer, count: Work(clock, {DOT: 1.0}),
        lambda call: measure(call, clock), tmp_path / "t.json",
    )  # fmt: skip
    assert [(e.layer, e.steps[0].choice) for e in tuned.table.entries] == [(SMALL, DOT)]


def test_progress_adds_up_to_the_classes(tmp_path):
    _, _, progress = run(
        tmp_path, same({FUSED: 1.0, DOT: 5.0, DENSE: 2.0}), layers=(SMALL, LARGE), wrong=(DOT,)
    )
    assert sum(amount for amount, _ in progress) == pytest.approx(2)
    assert len(progress) == 2 * 2 * 3
    assert "4096x4096 at 2 bits" in progress[-1][1]
    assert "8 columns" in progress[-1][1]


@pytest.mark.parametrize(
    ("layers", "columns", "message"),
    [
        ((), (1,), "nothing to measure"), ((SMALL,), (), "nothing to measure"),
        ((SMALL,), (8, 1), "ascend"), ((SMALL,), (0, 1), "positive"), ((SMALL,), (1, 1), "ascend"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(tmp_path, layers, columns, message):
    with pytest.raises(LiftError, match=message):
        run(tmp_path, same({FUSED: 1.0}), layers=layers, columns=columns)


def test_an_unwritable_place_is_an_error_before_measuring(tmp_path):
    (tmp_path / "file").write_text("")

    def never(layer, count):
        raise AssertionError("measured")

    with pytest.raises(OSError, match="file"):
        run(tmp_path / "file", never)


def test_equality_is_exact():
    a = torch.tensor([1.0, 2.0])
    assert exactly_equal(a, a.clone())
    for b in (a.double(), a[:1], torch.tensor([1.0, 2.0000002]), a[None]):
        assert not exactly_equal(a, b)
    nan = torch.tensor([float("nan")])
    assert not exactly_equal(nan, nan)


def test_the_kernels_themselves_are_tuned_under_the_interpreter(tmp_path):
    matrix = random_matrix((17, 40), load_code("LQ-12/5+9"), "out")
    with interpreter(checked=False) as run_kernel:
        paths = PathLayer(matrix, 1, torch.device("cpu"), run_kernel)
        launched = []

        def timer(call):
            call()
            launched.append(call)
            return Timed(median=100.0 - len(launched), p20=1.0, p80=100.0)

        tuned = tune(
            [paths.layer], [2], MACHINE, lambda layer, count: LayerWorkload(paths, count),
            timer, tmp_path / "t.json",
        )  # fmt: skip
        work = LayerWorkload(paths, 2)
        assert tuned.dropped == ()
        assert len(launched) == len(work.candidates)
        # the last was the fastest, and none within two percent of it is simpler
        taken = plan(paths.layer, tuned.table).choose(2)
        assert taken in work.candidates[-2:]
        assert torch.equal(work.run(taken), work.expected())


# ---- timing


def test_medians_and_percentiles_of_cold_calls():
    clock, calls = Clock(), itertools.count()

    def call():
        n = next(calls)
        clock.now += 0.5 if n < 3 else (n - 3) * 0.001  # warming up is slow

    timed = measure(call, clock, repetitions=21, warm_up=3)
    # 0 to 20 microseconds, in order
    assert (timed.p20, timed.median, timed.p80) == pytest.approx((4.0, 10.0, 16.0))
    assert clock.flushes == 21
    assert next(calls) == 24


def test_too_few_repetitions_and_a_clock_that_stands_still():
    with pytest.raises(LiftError, match="19 repetitions are too few"):
        measure(lambda: None, Clock(), repetitions=19)
    with pytest.raises(LiftError, match="stands still"):
        measure(lambda: None, Clock())


def test_bandwidth_counts_what_is_read_and_what_is_written():
    def timer(call):
        call()
        return Timed(median=2.0, p20=1.0, p80=3.0)

    assert copy_bandwidth(timer, torch.device("cpu"), 1000) == pytest.approx(1000e6)
