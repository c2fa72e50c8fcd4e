# amaranth: UnusedElaboratable=no
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from hw.architecture import Architecture, parse_architecture
from hw.decoder import Decoder
from tests.architectures import ARCHITECTURES
from tests.cases import random_code

architectures = st.one_of(
    st.builds(
        Architecture,
        st.just("tables"),
        st.integers(2, 6),
        levels=st.integers(1, 9),
        flow=st.sampled_from(["chain", "credit"]),
    ),
    st.builds(Architecture, st.just("tree"), st.just(1), levels=st.integers(1, 9)),
    st.builds(
        Architecture,
        st.just("shared"),
        st.integers(1, 6),
        st.integers(2, 32),
        st.integers(1, 9),
        st.sampled_from(["chain", "credit"]),
    ),
)


@given(architectures)
def test_text_reads_back(architecture):
    assert parse_architecture(str(architecture)) == architecture


def test_texts_by_hand():
    assert parse_architecture("tables") == Architecture()
    assert parse_architecture("shared:5") == Architecture("shared", 2, 5)
    assert parse_architecture("tree,flow=credit") == Architecture("tree", 1, flow="credit")
    assert parse_architecture("shared:3,inputs=1,levels=4") == Architecture("shared", 1, 3, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "architecture '' is unknown; write tables:K, tree or shared:C"),
        ("rom:4", "architecture 'rom:4' is unknown; write tables:K"),
        ("tree:2", "architecture 'tree:2' is unknown"),
        ("shared", "architecture 'shared' is unknown; .* shared:C"),
        ("tables:x", "architecture 'tables:x': 'x' is not a number"),
        ("tables:²", "'²' is not a number"),
        ("tables:4,cycles=2", "'cycles=2' is unknown"),
        ("tables:4,levels", "'levels' is unknown"),
        ("tables:4,levels=", "'' is not a number"),
        ("tables:1", r"inputs=1: a table of architecture tables takes 2\.\.6 features"),
        ("tables:7", "inputs=7: a table of architecture tables takes 2"),
        ("tree,inputs=2", r"inputs=2: a table of architecture tree takes 1\.\.1"),
        ("shared:3,inputs=0", r"inputs=0: a table of architecture shared takes 1\.\.6"),
        ("shared:1", r"cycles=1: architecture shared takes 2\.\.32 cycles per beat"),
        ("shared:33", "cycles=33"),
        ("tree,levels=0", "levels=0: registers are at least one adder level apart"),
        ("tree,flow=hope", "flow='hope' is unknown; use one of chain, credit"),
    ],
)
def test_what_cannot_be_built_is_named(text, message):
    with pytest.raises(LiftError, match=message):
        parse_architecture(text)
    with pytest.raises(LiftError, match=message):
        Decoder(random_code(2, 1), 4, architecture=text)


def test_fields_are_checked_too():
    with pytest.raises(LiftError, match="architecture 'rom' is unknown"):
        Architecture("rom")
    with pytest.raises(
        LiftError, match=r"cycles=2: .* takes 1\.\.1 .*; to share adders, use shared"
    ):
        Architecture("tables", cycles=2)


def test_the_default_is_tables_of_four():
    code = random_code(2, 1, 6)
    assert Decoder(code, 9).geometry == Decoder(code, 9, 1, "tables:4").geometry
    assert Decoder(code, 9, 1, "tables:4").geometry.architecture in ARCHITECTURES
