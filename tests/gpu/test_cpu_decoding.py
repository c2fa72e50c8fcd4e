"""Weights decoded to int8 planes on the CPU, and torch's product of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algo.layer import ReferenceLinear
from algo.whitening import no_whitening, random_whitening
from gpu.cpu import decoded_product
from gpu.cpu.decoded_product import _parts, decoded_outputs
from gpu.cpu.layer import cpu_layer
from gpu.cpu.prepare import Activations
from gpu.whiten import whitening_tensors
from tests.conftest import CODES
from tests.gpu.cases import MATRICES, random_code
from tests.gpu.layers import layer


@given(MATRICES, st.sampled_from([1, 20000, 1 << 24]))
def test_planes_are_the_oracles_integers(matrix, part):
    rows, columns = matrix.shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoded_product, "PART", part)  # one part, or several
        seen, wanted = 0, torch.from_numpy(np.ascontiguousarray(matrix.accumulators()))
        for one in _parts(cpu_layer(matrix), decoded_product._inner(cpu_layer(matrix))):
            assert one.first == seen
            low, high = (plane[:columns, : one.rows].T.int() for plane in (one.low, one.high))
            assert low.abs().max() <= 64
            assert high.abs().max() <= 16
            assert torch.equal(low + 128 * high, wanted[seen : seen + one.rows].int())
            seen += one.rows
    assert seen == rows


@pytest.mark.parametrize("axis", ["in", "out"])
@pytest.mark.parametrize("bit", [0, 1])
def test_the_largest_sums_are_exact(axis, bit):
    """Every tap, bit and digit of one sign: sums as large as the bounds say."""
    rng = np.random.default_rng(7)
    code = random_code(rng, 2, 1, 10, 10)
    matrix = layer(rng, code, axis, (576, 4097) if axis == "out" else (130, 576), bit)
    n = matrix.shape[1]
    for digits in (1, 2):
        x = torch.ones(17, n) * torch.tensor([1.0, -1.0]).repeat(9)[:17, None]
        given_x = Activations(x, *whitening_tensors(no_whitening(n)))
        out = decoded_outputs(given_x, [cpu_layer(matrix)], digits, torch.float32)
        assert torch.equal(out, ReferenceLinear(matrix, no_whitening(n), digits=digits)(x))


@pytest.mark.parametrize("tokens", [1, 3, 17])
@pytest.mark.parametrize("inner", [64, 192, 576, 4160])
def test_torchs_product_is_exact_at_the_extremes(tokens, inner):
    """Activations of all of int8 by weights of at most 64: nothing saturates on the way."""
    rng = np.random.default_rng(3)
    for rows in (1, 3, 17, 576):
        for a, b in ((-128, -64), (127, 64), (-128, 63), (0, 0)):
            first = np.full((tokens, inner), a) if a else rng.integers(-128, 128, (tokens, inner))
            second = np.full((rows, inner), b) if b else rng.integers(-64, 65, (rows, inner))
            wanted = torch.from_numpy(first @ second.T)
            out = torch._int_mm(
                torch.from_numpy(first).to(torch.int8), torch.from_numpy(second).to(torch.int8).T
            )
            assert torch.equal(out.long(), wanted)
            across = torch.from_numpy(second.T.copy()).to(torch.int8)
            assert torch.equal(
                torch._int_mm(torch.from_numpy(first).to(torch.int8), across).long(), wanted
            )


def test_layers_of_several_codes_on_axis_in_share_their_digits():
    rng = np.random.default_rng(8)
    matrices = [layer(rng, CODES[c], "in", (40, 77)) for c in ("LQ-2/1+6^3", "LQ-24/10")]
    whitening = random_whitening(77, 1)
    x = torch.from_numpy(rng.standard_normal((5, 77))).float()
    given_x = Activations(x, *whitening_tensors(whitening))
    out = decoded_outputs(given_x, [cpu_layer(m) for m in matrices], 1, torch.float32)
    wanted = [ReferenceLinear(m, whitening, digits=1)(x) for m in matrices]
    assert torch.equal(out, torch.cat(wanted, dim=1))
