import dataclasses

import numpy as np
import pytest
import torch

from algo.code import LiftCode
from algo.errors import LiftError
from algo.matrix import AXES, Axis, PackedMatrix, quantise_matrix
from tests.conftest import CODES


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    scales = np.exp(np.random.default_rng(seed).normal(size=(rows, 1)))
    values = scales * np.random.default_rng(seed + 1).standard_normal((rows, columns))
    return torch.from_numpy(values.astype(np.float32))


@pytest.mark.parametrize("axis", AXES)
def test_every_code_quantises_on_either_axis(code: LiftCode, axis: Axis) -> None:
    weights = gaussian(33, 47)
    matrix = quantise_matrix(weights, code, axis)
    streams, length = (33, 47) if axis == "in" else (47, 33)
    assert matrix.words.shape[0] == streams
    assert matrix.groups == -(-length // code.group)
    assert matrix.accumulators().shape == (33, 47)
    error = (matrix.dequantise() - weights).square().sum(1) / weights.square().sum(1)
    assert (error < 1).all()  # the row scale is a least-squares fit: never worse than zeros


def test_axes_are_transposes_of_each_other() -> None:
    code = CODES["LQ-12/5+9"]
    unit = torch.from_numpy(np.random.default_rng(3).choice([-1.0, 1.0], (30, 30)).astype("f"))
    by_rows, by_columns = quantise_matrix(unit, code, "in"), quantise_matrix(unit.T, code, "out")
    assert np.array_equal(by_rows.words, by_columns.words)
    assert np.array_equal(by_rows.accumulators(), by_columns.accumulators().T)


@pytest.mark.parametrize("axis", AXES)
def test_real_weights_are_exact_in_float32(axis: Axis) -> None:
    matrix = quantise_matrix(gaussian(24, 40), CODES["LQ-24/10"], axis)
    exact = (
        matrix.accumulators().astype(np.float64)
        * matrix.scales.double().numpy()[:, None]
        * 2.0**-matrix.code.exponent
    )
    assert np.array_equal(matrix.dequantise().double().numpy(), exact)


def test_row_scale_is_the_least_squares_fit() -> None:
    weights = gaussian(9, 200)
    matrix = quantise_matrix(weights, CODES["LQ-2/1+10"], "in")
    error = (matrix.dequantise() - weights).square().sum(1)
    for factor in (0.98, 1.02):
        scaled = (matrix.dequantise() * factor - weights).square().sum(1)
        assert (error < scaled).all()


def test_scale_of_the_input_scales_the_output() -> None:
    weights = gaussian(8, 60)
    one = quantise_matrix(weights, CODES["LQ-16/8"], "out")
    many = quantise_matrix(weights * 1024, CODES["LQ-16/8"], "out")
    assert np.array_equal(one.words, many.words)
    assert torch.equal(one.scales * 1024, many.scales)


def test_zero_rows_stay_zero() -> None:
    weights = gaussian(20, 30)
    weights[7] = 0
    decoded = quantise_matrix(weights, CODES["LQ-12/5+9"], "out").dequantise()
    assert not decoded[7].any()
    assert torch.isfinite(decoded).all()


def test_bits_per_weight_count_words_and_scales() -> None:
    matrix = quantise_matrix(gaussian(192, 576), CODES["LQ-24/10"], "in")
    # 58 groups of 24 bits fill 43.5 words; each row has one bfloat16 scale
    assert matrix.words.size == 192 * 44
    assert matrix.bits_per_weight == (44 * 32 + 16) / 576


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(bad: float) -> None:
    weights = gaussian(10, 20)
    weights[4, 5] = bad
    with pytest.raises(LiftError, match=r"weight \(4, 5\) is (nan|inf)"):
        quantise_matrix(weights, CODES["LQ-16/8"], "in")


@pytest.mark.parametrize("size", [1e-24, 1e20])
def test_rows_of_any_size_are_quantised_alike(size: float) -> None:
    weights = gaussian(8, 60)
    matrix = quantise_matrix(weights * size, CODES["LQ-16/8"], "in")
    assert np.array_equal(matrix.words, quantise_matrix(weights, CODES["LQ-16/8"], "in").words)


def test_matrix_without_weights_is_refused() -> None:
    with pytest.raises(LiftError, match=r"shape \(0, 20\) holds no weights"):
        quantise_matrix(torch.zeros(0, 20), CODES["LQ-16/8"], "in")


def test_narrow_matrix_is_refused() -> None:
    with pytest.raises(LiftError, match="3 weights is too narrow for LQ-12/5"):
        quantise_matrix(gaussian(3, 50), CODES["LQ-12/5+9"], "out")


def test_parts_that_do_not_fit_are_refused() -> None:
    matrix = quantise_matrix(gaussian(10, 20), CODES["LQ-16/8"], "in")
    with pytest.raises(LiftError, match=r"needs uint32 of shape \(10, 2\)"):
        dataclasses.replace(matrix, words=matrix.words[:, :1])
    with pytest.raises(LiftError, match=r"need bfloat16 of shape \(10,\)"):
        dataclasses.replace(matrix, scales=matrix.scales.float())
    with pytest.raises(LiftError, match="axis 'up' is none of in, out"):
        dataclasses.replace(matrix, axis="up")
    with pytest.raises(LiftError, match=r"a row scale is not below 1e\+30"):
        dataclasses.replace(matrix, scales=matrix.scales * torch.nan)


def test_matrix_cannot_be_reassigned() -> None:
    matrix = quantise_matrix(gaussian(10, 20), CODES["LQ-16/8"], "in")
    assert isinstance(matrix, PackedMatrix)
    with pytest.raises(dataclasses.FrozenInstanceError):
        matrix.axis = "out"  # type: ignore[misc]
