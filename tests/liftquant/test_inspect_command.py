from liftquant.inspect_command import Kind, Summary, summary_table


def _cells(kinds: list[Kind]) -> list[list[str]]:
    summary = Summary("out", "model", 3, 300, 2.5, 2.6, {"words": 1}, 1, {}, kinds)
    columns = [list(column.cells) for column in summary_table(summary).columns]
    return [[str(cell) for cell in row] for row in zip(*columns, strict=True)]


def test_one_code_for_a_shape_is_named_with_its_bits() -> None:
    rows = _cells([Kind((4, 8), "out", "LQ-2/1+6", 3, 2.25, ["a", "b", "c"])])
    assert rows[0] == ["4x8", "out", "LQ-2/1+6", "3", "2.250"]
    assert rows[-1] == ["all", "", "", "3", "2.600"]


def test_mixed_codes_of_a_shape_are_one_row_with_the_mean_over_layers() -> None:
    few = Kind((4, 8), "out", "LQ-2/1+6", 1, 2.0, ["a"])
    many = Kind((4, 8), "out", "LQ-3/1+5", 2, 3.5, ["b", "c"])
    rows = _cells([few, many])
    assert rows[0] == ["4x8", "out", "2 codes", "3", "2.000 to 3.500, mean 3.000"]
    assert len(rows) == 2
