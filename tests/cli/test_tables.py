"""Tables for people."""

from bloomery.cli.tables import show_table


def test_a_row_is_one_line_where_the_output_is_no_terminal(capsys):
    cells = [f"a cell of some words, number {n}" for n in range(12)]

    show_table([f"column {n}" for n in range(12)], [cells, cells])

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(cell in lines[1] for cell in cells)
