import numpy as np
import pytest

from algo.uniform import midrise_mse, uniform_mse


@pytest.mark.parametrize(("bits", "mse"), [(1, 0.3634), (2, 0.1188), (3, 0.03744), (4, 0.01154)])
def test_least_error_is_the_published_one(bits: int, mse: float) -> None:
    """Max, IRE Trans. IT-6 (1960), table II."""
    assert uniform_mse(bits) == pytest.approx(mse, rel=1e-3)


@pytest.mark.parametrize("step", [0.2, 0.6, 1.5])
def test_error_of_a_step_is_that_of_rounding_to_it(step: float) -> None:
    samples = np.random.default_rng(1).standard_normal(1_000_000)
    levels = np.clip(np.floor(samples / step), -4, 3) + 0.5
    errors = np.square(samples - levels * step)
    spread = errors.std() / 1000
    assert abs(errors.mean() - midrise_mse(3, step)) < 5 * spread
