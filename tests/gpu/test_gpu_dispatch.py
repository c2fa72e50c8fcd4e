"""Choosing between the paths, by tables of one's own and by the one that ships."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.errors import LiftError
from algo.shipped import load_code, shipped_codes
from gpu.dispatch import Plan, layer_class, load_table, plan
from gpu.tuning_table import (
    DEFAULT,
    ONE_BIT,
    PATHS,
    Choice,
    Entry,
    LayerClass,
    Machine,
    Step,
    Timed,
    TuningTable,
    default_table,
    distance,
    read_table,
    table_path,
    tuning_folder,
    write_table,
)

H100 = Machine(gpu="NVIDIA H100 80GB HBM3", capability="9.0", driver="550.1", torch="2.13.0",
               triton="3.9.0")  # fmt: skip
TIME = Timed(median=2.0, p20=1.5, p80=2.5)

sizes = st.integers(1, 40000)
classes = st.builds(
    LayerClass, rows=sizes, inner=sizes, bits=st.sampled_from([1.0, 1.5, 2.0, 2.4, 3.0, 4.0]),
    axis=st.sampled_from(["in", "out"]), digits=st.sampled_from([1, 2, 4]), parities=st.booleans(),
)  # fmt: skip


def layer(rows=4096, inner=4096, bits=2.0, **fields):
    return LayerClass(rows=rows, inner=inner, bits=bits, **fields)


def entry(of, *steps):
    """Steps are (columns, path) or (columns, path, tile, split)."""
    return Entry(
        layer=of,
        steps=tuple(
            Step(
                columns=columns,
                choice=Choice(path=path, tile=(*rest, None)[0], split=(*rest, 1, 1)[1]),
                microseconds=TIME,
            )
            for columns, path, *rest in steps
        ),
    )


def table(*entries, machine=H100):
    return TuningTable(format=1, kind="measured", machine=machine, date="2026-11-01",
                       source="a test", entries=entries)  # fmt: skip


def test_crossovers_that_ship_are_those_of_the_instruction_counts():
    shipped = default_table()
    assert shipped.kind == "estimated"
    assert shipped.machine is None
    linear, parities = plan(layer(), shipped), plan(layer(parities=True), shipped)
    for columns, path in (
        (1, "fused"), (300, "fused"), (301, "dense"), (100_000, "dense"),
    ):  # fmt: skip
        assert linear.choose(columns).path == path
    assert [parities.choose(n).path for n in (1, 40, 250, 251)] == [
        "decode-dot", "decode-dot", "decode-dot", "dense",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["LQ-2/1+10^12", "LQ-3/1+13^16", "LQ-4/1+12^16"])
def test_codes_with_parities_never_take_the_one_bit_product(name):
    code = load_code(name)
    own = table(entry(layer(), (512, "fused")))  # holds nothing for parities: the default does
    for source in (default_table(), own):
        chosen = plan(layer_class(576, 1536, code, "out", 2), source)
        assert not {chosen.choose(n).path for n in range(1, 600)} & set(ONE_BIT)


def test_every_shipped_code_has_a_class():
    for shipped in shipped_codes().values():
        of = layer_class(4099, 17, shipped.code, "in", 4)
        assert of.bits == shipped.code.rate
        assert of.parities == (not shipped.linear)
        assert plan(of, default_table()).choose(1).path in PATHS


@given(classes, st.integers(1, 5000))
def test_a_choice_is_the_same_every_time(of, columns):
    own = table(
        entry(layer(bits=2.0), (8, "fused", "a", 4), (64, "bitmm", "b", 2)),
        entry(layer(bits=3.0, rows=8), (32, "decode-dot")),
    )
    first = plan(of, own).choose(columns)
    reread = TuningTable.model_validate_json(own.model_dump_json())
    assert plan(of, reread).choose(columns) == first
    turned = own.model_copy(update={"entries": own.entries[::-1]})
    assert plan(of, turned).choose(columns) == first  # nor does the order in the file matter


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=12, unique=True),
    st.integers(1, 4000),
)
def test_the_least_limit_that_is_enough_is_taken(limits, columns):
    limits = sorted(limits)
    chosen = plan(layer(), table(entry(layer(), *((n, "fused", str(n)) for n in limits))))
    enough = [n for n in limits if n >= columns]
    assert chosen.choose(columns).tile == str(enough[0] if enough else limits[-1])


def test_the_nearest_shape_is_by_logarithm_and_bits_come_first():
    own = table(
        entry(layer(1000, 1000, bits=2.0), (1, "fused", "small")),
        entry(layer(4000, 1000, bits=2.0), (1, "fused", "tall")),
        entry(layer(4000, 1000, bits=3.0), (1, "fused", "tall-3")),
        entry(layer(4000, 1000, bits=2.0, axis="in"), (1, "fused", "other-axis")),
        entry(layer(4000, 1000, bits=2.0, digits=2), (1, "fused", "two")),
    )
    for wanted, tile in (
        (layer(1999, 1000), "small"), (layer(2001, 1000), "tall"),
        (layer(1000, 1000, bits=2.6), "tall-3"), (layer(1, 1, bits=9.0), "tall-3"),
        (layer(1, 1, axis="in", bits=3.0), "other-axis"), (layer(1, 1, digits=2), "two"),
        (layer(2000, 2000, bits=2.4), "small"),
    ):  # fmt: skip
        assert plan(wanted, own).choose(1).tile == tile, wanted


@given(classes, classes)
def test_distance_is_zero_only_to_itself(a, b):
    of = ("axis", "digits", "bits", "rows", "inner")
    same = all(getattr(a, f) == getattr(b, f) for f in of)
    assert (distance(a, b)[:4] == (0, 0, 0, 0)) == same


def test_no_column_is_refused():
    for columns in (0, -3):
        with pytest.raises(LiftError, match="at least one token"):
            Plan((1,), (Choice(path="dense"),)).choose(columns)


def test_choosing_reads_no_file(monkeypatch):
    chosen = plan(layer(), default_table())

    def refused(*_, **__):
        raise AssertionError("a file was opened")

    monkeypatch.setattr(Path, "read_text", refused)
    monkeypatch.setattr("builtins.open", refused)
    assert chosen.choose(7).path == "fused"
    plan(layer(3, 5), default_table())


# ---- files


def test_a_table_comes_back_as_it_was_written(tmp_path):
    own = table(entry(layer(), (8, "fused", "64x16", 4), (16, "dense")))
    path = table_path(tmp_path, H100)
    assert path.name == "nvidia-h100-80gb-hbm3-9.0.json"
    write_table(path, own)
    assert read_table(path) == own
    assert max(map(len, path.read_text().splitlines())) < 100  # for people, too
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_table(H100, tmp_path) == own
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_other_gpus_and_no_gpu_get_the_estimates(tmp_path, monkeypatch):
    write_table(table_path(tmp_path, H100), table(entry(layer(), (8, "dense"))))
    other = H100.model_copy(update={"gpu": "NVIDIA A100-SXM4-80GB", "capability": "8.0"})
    assert load_table(other, tmp_path) is default_table()
    assert load_table(None, tmp_path) is default_table()
    monkeypatch.setenv("LIFTQUANT_TUNING", str(tmp_path / "nothing"))
    assert load_table(H100) is default_table()
    with pytest.raises(LiftError, match=r"nothing does not exist; .* makes tables"):
        load_table(H100, tmp_path / "nothing")


@pytest.mark.parametrize("changed", ["triton", "torch", "driver"])
def test_a_table_of_other_versions_is_used_with_a_warning(tmp_path, changed):
    own = table(entry(layer(), (8, "dense")))
    path = table_path(tmp_path, H100)
    write_table(path, own)
    now = H100.model_copy(update={changed: "99"})
    with pytest.warns(UserWarning, match=rf"json was measured with {changed} .*, now 99"):
        assert load_table(now, tmp_path) == own


def test_a_table_of_another_gpu_is_refused(tmp_path):
    path = table_path(tmp_path, H100)
    other = H100.model_copy(update={"gpu": "NVIDIA L4"})
    write_table(path, table(entry(layer(), (8, "dense")), machine=other))
    with pytest.raises(LiftError, match=r"hbm3-9.0.json was measured on NVIDIA L4 .* delete it"):
        load_table(H100, tmp_path)


def edited(**changes):
    fields = json.loads(table(entry(layer(), (8, "fused"), (16, "dense"))).model_dump_json())
    for place, value in changes.items():
        *inner, last = place.split("__")
        at = fields
        for key in inner:
            at = at[int(key) if key.isdigit() else key]
        at[int(last) if last.isdigit() else last] = value
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the whole: Invalid JSON"),
        (edited()[:-40], "the whole: Invalid JSON"),
        ("[1]", "the whole"),
        (edited(format=2), "format: Input should be 1"),
        (edited(kind="guessed"), "kind"),
        (edited(kind="estimated"), "names its machine"),
        (edited(machine=None), "names its machine"),
        (edited(date="yesterday"), "date"),
        (edited(entries=[]), "entries"),
        (edited(speed=3), "speed: Extra inputs"),
        (edited(entries__0__layer__rows=0), "entries.0.layer.rows"),
        (edited(entries__0__layer__rows=5.5), "entries.0.layer.rows"),
        (edited(entries__0__layer__rows="5"), "entries.0.layer.rows"),
        (edited(entries__0__layer__axis="up"), "entries.0.layer.axis"),
        (edited(entries__0__layer__digits=3), "entries.0.layer.digits"),
        (edited(entries__0__layer__bits=-2.0), "entries.0.layer.bits"),
        (edited(entries__0__layer__parities=True), "fused is chosen for a code with parities"),
        (edited(entries__0__steps__0__choice__path="magic"), "entries.0.steps.0.choice.path"),
        (edited(entries__0__steps__0__choice__split=0), "entries.0.steps.0.choice.split"),
        (edited(entries__0__steps__0__columns=16), "do not ascend"),
        (edited(entries__0__steps__1__columns=-1), "entries.0.steps.1.columns"),
        (edited(entries__0__steps__0__microseconds=None), "microseconds for every step"),
        (edited(entries__0__steps__0__microseconds__median=0.0), "median"),
        (edited().replace("1.5", "NaN"), "p20"),
        (
            edited(entries=[json.loads(edited())["entries"][0]] * 2),
            "two entries are for the same class",
        ),
    ],
)  # fmt: skip
def test_corrupt_tables_are_refused_with_file_and_remedy(tmp_path, text, problem):
    path = table_path(tmp_path, H100)
    path.write_text(text)
    with pytest.raises(LiftError) as refused:
        load_table(H100, tmp_path)
    message = str(refused.value)
    assert str(path) in message
    assert problem in message
    assert "delete it, or measure again with `liftquant kernels tune`" in message
    assert "\n" not in message


def test_what_is_no_text_or_no_folder_is_refused(tmp_path):
    path = table_path(tmp_path, H100)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LiftError, match="not UTF-8"):
        load_table(H100, tmp_path)
    with pytest.raises(LiftError, match="is a file; give a directory"):
        load_table(H100, path)
    with pytest.raises(LiftError, match="does not exist"):
        read_table(tmp_path / "none.json")


def test_the_folder_is_the_options_the_variables_or_the_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("LIFTQUANT_TUNING", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert tuning_folder(Path("given")) == Path("given")
    assert tuning_folder() == tmp_path / "named"
    monkeypatch.delenv("LIFTQUANT_TUNING")
    assert tuning_folder() == tmp_path / "cache" / "liftquant" / "tuning"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert tuning_folder() == tmp_path / "home" / ".cache" / "liftquant" / "tuning"


def test_the_default_lies_where_it_is_packaged():
    assert DEFAULT.parent.name == "tuning"
    assert DEFAULT.is_file()


def test_choosing_imports_no_triton_and_asks_no_device():
    script = (
        "import sys, torch\n"
        "torch.cuda.is_available = torch.cuda.init = lambda: 1/0\n"
        "from gpu.dispatch import LayerClass, load_table, plan\n"
        "import gpu.machine, gpu.timing, gpu.tune\n"
        "plan(LayerClass(rows=3, inner=4, bits=2.0), load_table(None)).choose(1)\n"
        "assert 'triton' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
