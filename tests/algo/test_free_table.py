import numpy as np
import pytest

from algo.decode import decode_bits
from algo.free_table import table_mse, train_table, window_indices
from algo.learn import measure
from algo.viterbi import window_values
from tests.conftest import CODES, random_bits, random_code


@pytest.mark.parametrize("name", ["LQ-2/1+3", "LQ-12/5+9", "LQ-2/1+6^3"])
def test_table_at_the_window_is_the_decoder(name: str) -> None:
    code = CODES[name]
    bits = random_bits(4, 8 * code.lifted, 3)
    indices = window_indices(bits, code)
    rows = np.arange(indices.shape[1]) % code.group
    looked_up = window_values(code)[rows, indices]
    assert np.array_equal(looked_up, decode_bits(bits, code) * 2.0**-code.exponent)


def test_a_codes_own_table_has_the_codes_error() -> None:
    code = random_code(5, 2, 8, seed=2)
    value, error = table_mse(code, window_values(code), 20_000, 1)
    stated, other = measure(code, 20_000, 2)
    assert abs(value - stated) < 5 * (error**2 + other**2) ** 0.5


def test_lloyd_steps_lower_the_error_of_any_table() -> None:
    code = random_code(2, 1, 6, seed=4)
    noise = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    seen: list[int] = []
    trained = train_table(code, noise, 12, 20_000, 1, seen.append)
    assert seen == list(range(1, 13))
    assert table_mse(code, trained, 20_000, 2)[0] < 0.8 * table_mse(code, noise, 20_000, 2)[0]
