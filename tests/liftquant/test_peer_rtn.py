import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from liftquant.peer_rtn import round_groups, settings


@given(
    bits=st.integers(2, 4),
    group=st.integers(1, 40),
    columns=st.integers(1, 70),
    seed=st.integers(0, 2**60),
)
def test_rounding_is_to_the_nearest_of_the_grid(
    bits: int, group: int, columns: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, columns, generator=generator)
    rounded, stored = round_groups(weight, bits, group)
    groups = -(-columns // group)
    assert stored == 3 * (columns * bits + groups * (16 + bits))
    for part, made in zip(weight.split(group, 1), rounded.split(group, 1), strict=True):
        spread = part.amax(1).clamp(min=0) - part.amin(1).clamp(max=0)
        # half a step; the zero point is rounded too, and the scale to float16
        bound = (1.01 * spread / (2**bits - 1))[:, None]
        assert bool(((made - part).abs() <= bound + 1e-6).all())
        assert all(len(row.unique()) <= 2**bits for row in made)


def test_grid_values_are_kept_exactly() -> None:
    weight = torch.tensor([[-0.5, 0.0, 0.5, 1.0], [0.0, 0.0, 0.0, 0.0]])
    rounded, _ = round_groups(weight, 2, 4)
    assert torch.equal(rounded, weight)


def test_expected_bits_are_those_counted() -> None:
    for setting in settings({"layer": (8, 256)}):
        bits, group = setting.options["bits"], setting.options["group"]
        _, stored = round_groups(torch.randn(8, 256), bits, group)
        assert stored / (8 * 256) == pytest.approx(setting.bits)
