from __future__ import annotations

import math

import numpy as np

from learner import files, tables
from learner.tables import Table


def test_rows_read_back_exactly(tmp_path):
    table = Table(tmp_path / "t.csv", ("step", "value"))
    values = [0.1, 1e-300, math.pi, -0.0, float(np.float32(0.1))]
    table.append(*({"step": i, "value": value} for i, value in enumerate(values)))
    found = tables.read(tmp_path / "t.csv")
    assert found["step"] == ["0", "1", "2", "3", "4"]
    assert [float(text) for text in found["value"]] == values


def test_a_table_has_its_header_before_any_row(tmp_path):
    Table(tmp_path / "t.csv", ("a", "b"))
    assert (tmp_path / "t.csv").read_text() == "a,b\n"
    assert tables.read(tmp_path / "t.csv") == {"a": [], "b": []}


def test_a_new_column_is_empty_in_earlier_rows_and_what_a_row_lacks_is_empty(tmp_path):
    table = Table(tmp_path / "t.csv", ("a",))
    table.append({"a": 1, "b": None})
    table.append({"a": 2, "c": "x, y"})
    table.append({"c": 'a "quoted" text'})
    assert tables.read(tmp_path / "t.csv") == {
        "a": ["1", "2", ""],
        "b": ["", "", ""],
        "c": ["", "x, y", 'a "quoted" text'],
    }


def test_a_table_that_is_there_already_is_replaced(tmp_path):
    Table(tmp_path / "t.csv", ("a",)).append({"a": 1})
    assert tables.read(tmp_path / "t.csv")["a"] == ["1"]
    Table(tmp_path / "t.csv", ("a",))
    assert tables.read(tmp_path / "t.csv")["a"] == []


def test_rows_that_a_full_disk_refused_are_written_later(tmp_path, monkeypatch):
    table = Table(tmp_path / "t.csv", ("a",))
    table.append({"a": 1})

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Table, "_extend", full)
        patch.setattr(files, "replace", full)
        table.append({"a": 2})
        table.append({"a": 3, "b": 4})
    table.append({"a": 5})
    assert tables.read(tmp_path / "t.csv") == {"a": ["1", "2", "3", "5"], "b": ["", "", "4", ""]}


def test_the_part_of_a_row_that_an_error_left_is_no_row(tmp_path):
    table = Table(tmp_path / "t.csv", ("a", "b"))
    table.append({"a": 1, "b": 2})
    with (tmp_path / "t.csv").open("a") as file:
        file.write("3,")
    table.append({"a": 5, "b": 6})
    assert (tmp_path / "t.csv").read_text() == "a,b\n1,2\n5,6\n"


def test_a_resumed_table_goes_on_without_the_row_that_a_crash_tore(tmp_path):
    table = Table(tmp_path / "t.csv", ("a",))
    table.append({"a": 1, "b": "x"})
    with (tmp_path / "t.csv").open("a") as file:
        file.write("2,to")
    resumed = Table(tmp_path / "t.csv", ("a",), resumed=True)
    assert (tmp_path / "t.csv").read_text() == "a,b\n1,x\n"
    resumed.append({"a": 3, "c": "y"})
    assert tables.read(tmp_path / "t.csv") == {"a": ["1", "3"], "b": ["x", ""], "c": ["", "y"]}


def test_a_table_to_resume_that_is_not_there_or_empty_begins_anew(tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "torn.csv").write_text("a,")
    for name in ("missing.csv", "empty.csv", "torn.csv"):
        Table(tmp_path / name, ("a", "b"), resumed=True).append({"a": 1, "b": 2})
        assert (tmp_path / name).read_text() == "a,b\n1,2\n"
