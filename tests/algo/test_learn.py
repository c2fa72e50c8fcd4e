from pathlib import Path

import numpy as np
import pytest

from algo.decode import decode_bits
from algo.errors import LiftError
from algo.learn import Geometry, Schedule, code_from_taps, learn, measure, refit, window_signs
from tests.conftest import CODES

QUICK = Schedule(seed=3, starts=3, bred=3, weights=512, steps=6)


def test_stopped_run_goes_on_to_the_same_code(tmp_path: Path) -> None:
    geometry = Geometry(2, 1, 6)
    whole = learn(geometry, QUICK)
    state = tmp_path / "state.json"

    def stop_half_way(fraction: float, _: str) -> None:
        if fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(geometry, QUICK, state, stop_half_way)
    fractions: list[float] = []
    resumed = learn(geometry, QUICK, state, lambda fraction, _: fractions.append(fraction))
    assert resumed == whole
    assert len(fractions) == 2  # four of six candidates were finished before


def test_state_of_other_settings_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    learn(Geometry(2, 1, 5), QUICK, state)
    with pytest.raises(LiftError, match="begun with other settings"):
        learn(Geometry(2, 1, 6), QUICK, state)


def test_learning_lowers_the_error() -> None:
    geometry = Geometry(2, 1, 6)
    raw = learn(geometry, Schedule(seed=1, starts=1, bred=0, weights=512, steps=0))
    trained = learn(geometry, Schedule(seed=1, starts=2, bred=2, weights=4096, steps=20))
    assert measure(trained, 50_000, 1)[0] < 0.9 * measure(raw, 50_000, 1)[0]


def test_block_codes_are_learned_by_the_same_function() -> None:
    code = learn(Geometry(8, 4), Schedule(seed=1, starts=2, bred=1, weights=4096, steps=20))
    assert code.name == "LQ-8/4"
    # a scalar 2-bit quantiser has .1175 (Max, 1960); a lifted one of the same rate must beat it
    assert measure(code, 50_000, 1)[0] < 0.1175


@pytest.mark.parametrize("name", ["LQ-12/5+9", "LQ-2/1+6^3", "LQ-16/8"])
def test_signs_times_taps_are_the_decoder(name: str) -> None:
    code = CODES[name]
    bits = np.random.default_rng(1).integers(0, 2, (3, 6 * code.lifted), np.uint8)
    products = (window_signs(bits, code) * code.window_taps).sum(-1)
    assert np.array_equal(products.reshape(3, -1), decode_bits(bits, code))


def test_refit_recovers_the_taps_that_made_the_targets() -> None:
    code = CODES["LQ-12/5+9"]
    bits = np.random.default_rng(2).integers(0, 2, (8, 1200), np.uint8)
    targets = (decode_bits(bits, code) * 2.0**-code.exponent).astype(np.float32)
    fitted = refit(targets, bits, code)
    assert (
        code_from_taps(fitted, Geometry(12, 5, 12)).window_taps.tolist()
        == (
            code_from_taps(code.window_taps * 2.0**-code.exponent, Geometry(12, 5, 12))
        ).window_taps.tolist()
    )


def test_taps_use_the_finest_exponent_that_fits() -> None:
    code = code_from_taps(np.array([[0.99, -0.5, 0.1]]), Geometry(3, 1))
    assert (code.exponent, code.taps.tolist()) == (7, [[127, -64, 13]])
    wide = code_from_taps(np.array([[1.2] * 20]), Geometry(20, 1))
    assert wide.exponent == 6  # row sums of 1540; at 7 a tap would not fit
    with pytest.raises(LiftError, match="do not fit in 8 bits"):
        code_from_taps(np.array([[300.0, 1.0]]), Geometry(2, 1))


def test_impossible_geometry_is_refused_before_learning() -> None:
    with pytest.raises(LiftError, match="window of 2 bits does not reach past"):
        Geometry(2, 1, 2).check()
    with pytest.raises(LiftError, match="over the limit of 16"):
        Geometry(2, 1, 20).check()
