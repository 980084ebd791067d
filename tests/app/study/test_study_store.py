import csv
import multiprocessing
import signal
import sqlite3
import struct
import subprocess
import sys
import threading
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from study_parts import add_run, make_row

from pocketaffect.app.affect import Affect
from pocketaffect.app.study.protocol import CONSENT_VERSION, PROMPTS, STATEMENTS, check_consent
from pocketaffect.app.study.store import EXPORT_COLUMNS, StudyStore, UnknownRunError
from pocketaffect.errors import PocketAffectError


@pytest.fixture
def store(tmp_path):
    opened = StudyStore(tmp_path / "study" / "study.db")
    yield opened
    opened.close()


def bytes_on_disk(folder: Path) -> bytes:
    """The database and its log; the -shm file is an index without rows."""
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()) if not file.name.endswith("-shm"))


def test_the_prompts_are_the_paper_s_in_its_order():
    names = "neutral delighted happy miserable sad surprised angry afraid disgusted contemptuous"
    assert [each.id for each in PROMPTS] == names.split()
    assert [each.expression for each in PROMPTS] == [0, 1, 1, 2, 2, 3, 6, 4, 5, 7]
    assert [each.number for each in PROMPTS] == list(range(1, 11))
    assert [each.id for each in PROMPTS if not each.in_class_metrics] == ["happy", "sad"]


def test_a_row_is_exported_as_it_was_given(store, tmp_path):
    token = add_run(store, seed=1)
    assert store.export(tmp_path / "rows.csv") == 10
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert tuple(found[0]) == EXPORT_COLUMNS
    for number, values in enumerate(found, start=1):
        row = make_row(number, seed=1)
        assert values["run"] == token.partition(".")[0]
        assert [float(values[name]) for name in EXPORT_COLUMNS[1:]] == list(row.values())


def test_neutral_is_annotated_as_zero(store):
    assert make_row(1, annotated_valence=0.5, annotated_arousal=-3).values()[-2:] == (0.0, 0.0)


def test_repeating_a_row_changes_nothing_and_a_new_answer_replaces_the_old(store):
    token = store.begin(CONSENT_VERSION).token
    for rating in (2, 2, 4):
        store.add(token, make_row(3, rating=rating))
    (row,) = store.rows()
    assert row[EXPORT_COLUMNS.index("rating")] == 4


def test_progress_says_what_comes_next(store):
    token = store.begin(CONSENT_VERSION).token
    assert (store.progress(token).done, store.progress(token).next) == ((), 1)
    for number in (1, 2, 4):
        store.add(token, make_row(number))
    assert (store.progress(token).done, store.progress(token).next) == ((1, 2, 4), 3)
    assert store.progress(add_run(store, 0)).next is None


def test_a_token_opens_its_own_run_only_and_is_not_stored(store, tmp_path):
    mine, other = add_run(store, 1, 2), add_run(store, 2, 3)
    assert len(store.progress(mine).done) == 2
    secret = mine.partition(".")[2].encode()
    assert secret not in bytes_on_disk(tmp_path / "study")
    mixed = f"{mine.partition('.')[0]}.{other.partition('.')[2]}"
    for token in (mixed, mine[:-1], mine + "x", mine.partition(".")[0], "", "."):
        for ask in (store.progress, store.withdraw, lambda token: store.add(token, make_row(1))):
            with pytest.raises(UnknownRunError):
                ask(token)
    assert len(store.rows()) == 5


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(token=st.text(st.characters(codec=None), max_size=40))
def test_no_text_is_a_token_by_chance(store, token):
    with pytest.raises(UnknownRunError):
        store.progress(token)


def test_withdrawing_leaves_no_byte_of_the_run_in_the_files(store, tmp_path):
    affect = Affect((0.123456789, 0.876543211, 0, 0, 0, 0, 0, 0), 0.1357924680, 0.2)
    token = store.begin(CONSENT_VERSION).token
    for number in range(1, 11):
        store.add(token, make_row(number, affect=affect))
    kept = add_run(store, 5)
    traces = (token.partition(".")[0].encode(), struct.pack(">d", 0.123456789), struct.pack(">d", 0.1357924680))
    assert all(trace in bytes_on_disk(tmp_path / "study") for trace in traces)
    assert store.withdraw(token) == 10
    assert not any(trace in bytes_on_disk(tmp_path / "study") for trace in traces)
    with pytest.raises(UnknownRunError):
        store.add(token, make_row(1))
    assert len(store.progress(kept).done) == 10


def test_a_withdrawn_run_leaves_the_log_as_soon_as_other_readers_let_it(store, tmp_path, monkeypatch):
    monkeypatch.setattr("pocketaffect.app.database.SCRUB_SECONDS", 0.05)
    token = add_run(store, 1)
    trace = token.partition(".")[0].encode()
    reader = sqlite3.connect(tmp_path / "study" / "study.db", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM rows").fetchone() == (10,)
    store.withdraw(token)
    assert store.rows() == []
    reader.execute("COMMIT")
    reader.close()
    add_run(store, 2, 1)
    assert trace not in bytes_on_disk(tmp_path / "study")


def test_expired_runs_are_deleted(tmp_path):
    today = date(2026, 1, 1)
    store = StudyStore(tmp_path / "s.db", today=lambda: today)
    short, long = store.begin(CONSENT_VERSION, 1), store.begin(CONSENT_VERSION, 10)
    for run in (short, long):
        store.add(run.token, make_row(1))
    assert short.expires == date(2026, 1, 2)
    today += timedelta(days=1)
    with pytest.raises(UnknownRunError):
        store.progress(short.token)
    assert [row[0] for row in store.rows()] == [long.run_id]
    assert short.run_id.encode() not in bytes_on_disk(tmp_path)
    store.close()
    reopened = StudyStore(tmp_path / "s.db", today=lambda: today + timedelta(days=9))
    assert reopened.rows() == []
    reopened.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"rating": 0},
        {"rating": 6},
        {"rating": True},
        {"rating": 2.5},
        {"annotated_valence": 1.01},
        {"annotated_arousal": float("nan")},
        {"prompt": 0},
        {"prompt": 11},
    ],
)
def test_impossible_rows_are_refused(changes):
    with pytest.raises(PocketAffectError, match="study row: impossible"):
        make_row(**({"number": 2} | changes)) if "prompt" not in changes else make_row(2, **changes)


@pytest.mark.parametrize("days", [0, 366])
def test_impossible_retention_is_refused(days):
    with pytest.raises(PocketAffectError, match="impossible retention"):
        check_consent(CONSENT_VERSION, days)


def test_consent_to_other_texts_is_refused():
    with pytest.raises(PocketAffectError, match="other texts"):
        check_consent("0" * 12, 30)
    assert "{days}" in STATEMENTS["retention"]


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {parts!r})
from study_parts import CONSENT_VERSION, make_row
from pocketaffect.app.study.store import StudyStore
store = StudyStore(Path({file!r}))
for seed in range(10_000):
    run = store.begin(CONSENT_VERSION)
    for number in range(1, 11):
        store.add(run.token, make_row(number, seed))
        print(run.run_id, number, flush=True)
"""


def test_kill_9_loses_no_acknowledged_row(tmp_path):
    file = tmp_path / "s.db"
    code = WRITER.format(parts=str(Path(__file__).parent), file=str(file))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
        acknowledged = [writer.stdout.readline().split() for _ in range(57)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [line.split() for line in writer.stdout if line.endswith("\n")]
    store = StudyStore(file)
    found = {(row[0], row[1]) for row in store.rows()}
    store.close()
    assert len(acknowledged) >= 57
    assert {(run, int(number)) for run, number in acknowledged} <= found
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def submit(file: Path, first: int, runs: int) -> None:
    """Whole runs, in a process of its own."""
    store = StudyStore(file)
    for seed in range(first, first + runs):
        add_run(store, seed)
    store.close()


def test_threads_lose_no_row(store):
    threads = [threading.Thread(target=add_run, args=(store, seed)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.rows()) == 120


@pytest.mark.slow
def test_processes_that_open_one_new_file_together_lose_none_of_1000_rows(tmp_path):
    file = tmp_path / "new" / "s.db"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=submit, args=(file, 100 * number, 25)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    store = StudyStore(file)
    assert len(store.rows()) == 1000
    store.close()
