import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluation_examples import draw_rows

from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.prediction_table import (
    PredictionTable,
    match_rows,
    read_predictions,
    write_predictions,
)
from pocketaffect.evaluation.tables import Labels, Predictions
from pocketaffect.labels import EXPRESSIONS

ROWS = 40


@pytest.fixture
def table():
    return PredictionTable(tuple(f"faces/{index}.png" for index in range(ROWS)), *draw_rows(ROWS, unlabelled=0.3))


def reordered(table, order):
    order = np.array(order)
    return PredictionTable(
        tuple(table.paths[row] for row in order),
        Predictions(table.predictions.probabilities[order], table.predictions.valence_arousal[order]),
        Labels(table.labels.expression[order], table.labels.valence_arousal[order]),
    )


def assert_same(ours, theirs):
    assert ours.paths == theirs.paths
    np.testing.assert_array_equal(ours.predictions.probabilities, theirs.predictions.probabilities)
    np.testing.assert_array_equal(ours.predictions.valence_arousal, theirs.predictions.valence_arousal)
    np.testing.assert_array_equal(ours.labels.expression, theirs.labels.expression)
    np.testing.assert_array_equal(ours.labels.valence_arousal, theirs.labels.valence_arousal)


def test_what_is_written_is_read_back_exactly_and_written_again_in_the_same_bytes(table, tmp_path):
    write_predictions(tmp_path / "a.parquet", table)
    found = read_predictions(tmp_path / "a.parquet")
    assert_same(found, table)
    write_predictions(tmp_path / "b.parquet", found)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_other_programs_find_names_and_nulls_in_the_file(table, tmp_path):
    write_predictions(tmp_path / "a.parquet", table)
    found = pq.read_table(tmp_path / "a.parquet")
    expected = [EXPRESSIONS[index] if index >= 0 else None for index in table.labels.expression]
    assert found["expression"].to_pylist() == expected
    assert found["predicted_expression"].to_pylist() == [EXPRESSIONS[index] for index in table.predictions.expression]
    assert found["valence"].null_count == int(np.isnan(table.labels.valence_arousal[:, 0]).sum())


def test_names_for_other_faces_are_refused(table):
    with pytest.raises(PocketAffectError, match="1 for 40 rows"):
        PredictionTable(("only one",), table.predictions, table.labels)


def spoil(change):
    def write(file, table):
        write_predictions(file, table)
        rows = pq.read_table(file)
        pq.write_table(change(rows), file)

    return write


def with_column(rows, name, values):
    return rows.set_column(rows.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda *_: None, "not readable"),
        (lambda file, _: file.write_bytes(b"PAR1 and then nothing"), "not readable"),
        (spoil(lambda rows: rows.drop_columns(["p_fear", "path"])), "no column path, p_fear"),
        (spoil(lambda rows: with_column(rows, "expression", ["joy"] * ROWS)), "unknown expressions\n.*joy"),
        (spoil(lambda rows: with_column(rows, "p_fear", ["much"] * ROWS)), "no numbers"),
        (spoil(lambda rows: with_column(rows, "p_fear", [5.0] * ROWS)), r"a\.parquet: probabilities: impossible"),
        (spoil(lambda rows: with_column(rows, "valence", [None] * 39 + [0.2])), "both NaN"),
        (spoil(lambda rows: with_column(rows, "predicted_arousal", [None] * ROWS)), "impossible value"),
    ],
)
def test_a_file_that_holds_no_predictions_is_refused_by_name(table, tmp_path, write, message):
    file = tmp_path / "a.parquet"
    write(file, table)
    with pytest.raises(PocketAffectError, match=message) as raised:
        read_predictions(file)
    assert str(raised.value).startswith(str(file))


def test_tables_in_other_orders_are_matched_by_path(table):
    order = np.random.default_rng(0).permutation(ROWS)
    first, second = match_rows({"a": table, "b": reordered(table, order)})
    assert first is table
    assert_same(second, table)


def test_other_faces_are_refused_with_a_count_and_an_example(table):
    fewer = reordered(table, range(38))
    with pytest.raises(PocketAffectError, match=r"2 only in a \(such as faces/38\.png\)\n"):
        match_rows({"a": table, "b": fewer})
    with pytest.raises(PocketAffectError, match=r"2 only in a \(such as faces/38\.png\)\n"):
        match_rows({"b": fewer, "a": table})


def test_other_labels_are_refused_with_a_count_and_an_example(table):
    expression = table.labels.expression.copy()
    expression[[3, 5]] = (expression[[3, 5]] + 1) % 8
    other = PredictionTable(table.paths, table.predictions, Labels(expression, table.labels.valence_arousal))
    with pytest.raises(PocketAffectError, match=r"different labels\n.*2 face\(s\), such as faces/3\.png"):
        match_rows({"a": table, "b": other})


def test_a_face_listed_twice_cannot_be_matched(table):
    twice = reordered(table, [*range(ROWS), 0])
    with pytest.raises(PocketAffectError, match="listed twice"):
        match_rows({"a": table, "b": twice})
