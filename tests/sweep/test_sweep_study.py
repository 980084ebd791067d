from __future__ import annotations

import re

import optuna
import pytest
from sqlalchemy.engine import make_url
from sweep_parts import begin, make_params, make_root

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.errors import PocketAffectError
from pocketaffect.sweep.run import look_at_sweep, prepare_sweep, run_sweep
from pocketaffect.sweep.storage import JOURNAL_FILE, open_storage, read_address
from pocketaffect.sweep.study import ask_question, describe_changes, open_study, require_consistent
from pocketaffect.sweep.worker import run_worker


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path)


def open_one(root, *, new=False, **sweep):
    params = make_params(**sweep)
    storage = open_storage(params.sweep.storage, root / paths.SWEEP)
    return open_study(storage, ask_question(params, root), params, new=new)


def test_the_same_question_has_the_same_study_whoever_works_on_it(root):
    name = open_one(root).study_name
    assert open_one(root, trials=99, workers=7).study_name == name
    assert re.fullmatch(r"pocketaffect-[0-9a-f]{12}", name)


@pytest.mark.parametrize(
    ("sweep", "line"),
    [
        ({"budget_bytes": 90_000}, "sweep.budget_bytes: 2000000 -> 90000"),
        ({"space": {"model.width": [0.1, 0.2]}}, "sweep.space.model.architecture: ['mobilenet', 'alexnet'] -> nothing"),
        ({"seed": 2}, "sweep.seed: 1 -> 2"),
        ({"epochs": 4}, "sweep.epochs: 3 -> 4"),
    ],
)
def test_a_changed_question_is_refused_with_the_difference_unless_another_study_is_wanted(root, sweep, line):
    first = open_one(root)
    first.ask()
    with pytest.raises(PocketAffectError, match=re.escape(line)) as caught:
        open_one(root, **sweep)
    assert "--new" in str(caught.value)
    second = open_one(root, new=True, **sweep)
    assert second.study_name != first.study_name
    assert not second.trials
    assert open_one(root).study_name == first.study_name  # both are there, and do not mix
    assert open_one(root, **sweep).study_name == second.study_name


def test_other_data_and_other_code_are_other_questions(root, monkeypatch):
    open_one(root).ask()
    (root / paths.MANIFEST_TABLE).write_text("other faces")
    with pytest.raises(PocketAffectError, match="data: "):
        open_one(root)
    make_root(root)
    monkeypatch.setattr("pocketaffect.sweep.study.hash_code", lambda *_: "f" * 64)
    with pytest.raises(PocketAffectError, match=r"code: [0-9a-f]{16} -> f{16}"):
        open_one(root)


def test_a_study_without_trials_stands_in_nobodys_way(root):
    first = open_one(root)
    other = open_one(root, seed=2)
    assert other.study_name != first.study_name
    assert not first.trials


def test_the_same_question_can_be_asked_afresh(root):
    first = open_one(root)
    first.ask()
    again = open_one(root, new=True)
    assert again.study_name == f"{first.study_name}-2"
    assert open_one(root).study_name == again.study_name
    name = first.study_name
    optuna.delete_study(study_name=name, storage=first._storage)
    assert open_one(root, new=True).study_name == f"{name}-3"


def test_adopting_a_trial_leaves_the_question_as_it_was(root):
    params = make_params()
    content = params.model_dump(by_alias=True)
    content["model"] |= {"architecture": "alexnet", "width": 0.2}
    content["train"] |= {"epochs": 3, "learning_rate": 0.02}
    content["export"]["budget_bytes"] = 2_000_000
    assert ask_question(type(params).model_validate(content), root) == ask_question(params, root)
    content["train"]["va_weight"] = 1.5
    assert ask_question(type(params).model_validate(content), root) != ask_question(params, root)


def test_a_sweep_needs_validated_data(tmp_path):
    with pytest.raises(PocketAffectError, match="dvc repro preprocess"):
        begin(tmp_path)


def test_pruning_by_two_objectives_is_refused():
    with pytest.raises(PocketAffectError, match=r"sweep\.pruner: none"):
        require_consistent(make_params(objectives="score-and-bytes", pruner="asha"))


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("sqlite:///sweep.db", "SQLite and others lose trials"),
        ("journl", "journal, or postgresql"),
        ("postgresql+psycopg://me:${NO_SUCH_SECRET}@host/db", r"names \$\{NO_SUCH_SECRET\}"),
    ],
)
def test_a_storage_that_cannot_be_is_refused(tmp_path, address, problem):
    with pytest.raises(PocketAffectError, match=problem):
        open_storage(address, tmp_path)


@pytest.mark.parametrize("password", ["pa$word", "p@ss/word", "p:a%41?b#word", "@/word@", "${HOME}word", "pässword"])
def test_a_password_of_any_characters_is_taken_as_it_is_and_not_shown(password, tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEP_PASSWORD", password)
    url = make_url(read_address("postgresql+psycopg://me:$SWEEP_PASSWORD@127.0.0.1:1/db"))
    assert (url.username, url.password, url.host, url.port, url.database) == ("me", password, "127.0.0.1", 1, "db")
    with pytest.raises(PocketAffectError, match="cannot be used") as caught:
        open_storage("postgresql+psycopg://me:${SWEEP_PASSWORD}@127.0.0.1:1/db", tmp_path)
    assert "word" not in str(caught.value).replace("password", "")
    assert "127.0.0.1:1/db" in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:p@ssword@host/db",
        "postgresql://me:p@ss/word@host/db",
        "postgresql://me:word@host:port/db",
        "postgresql://me:word@${NO_SUCH_HOST}/db",
        "postgresql://me:p?ssw@word@host/db",
        "mysql://me:word@host/db?password=word",
        "postgresql://me@host@/db?password=word",
        "me:word@host/db",
        "host=x password=word",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_without_any_part_of_its_password(address, tmp_path):
    with pytest.raises(PocketAffectError, match=r"params.yaml: sweep.storage") as caught:
        open_storage(address, tmp_path)
    assert "word" not in re.sub("(?i)password", "", str(caught.value))


def test_an_address_may_stand_in_one_variable(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:p%40ss@host:5/db?sslmode=require")
    assert read_address("${DATABASE_URL}") == "postgresql://me:p%40ss@host:5/db?sslmode=require"
    monkeypatch.setenv("PLACE", "host:5/db")
    assert read_address("postgresql://me:p%40ss@$PLACE") == "postgresql://me:p%40ss@host:5/db"


def test_a_sweep_of_no_trials_is_none():
    with pytest.raises(ValueError, match=r"sweep\.trials\s+Input should be greater than or equal to 1"):
        make_params(trials=0)


def test_a_database_that_is_not_there_is_told_without_its_password(tmp_path):
    with pytest.raises(PocketAffectError, match="cannot be used") as caught:
        open_storage("postgresql+psycopg://me:s3cret@127.0.0.1:1/db", tmp_path)
    assert "s3cret" not in str(caught.value)


def test_what_the_winner_could_not_be_exported_in_is_refused_before_any_training(root):
    params = make_params()
    for export, problem in (
        ({"precision": "palette4-grouped"}, "needs iOS18"),
        ({"finetune": "dkm", "precision": "int8"}, "export.finetune"),
        ({"precision": "auto"}, "not known before training"),
    ):
        changed = params.model_copy(update={"export": params.export.model_copy(update=export)})
        with pytest.raises(PocketAffectError, match=problem):
            prepare_sweep(changed, root)


def test_a_journal_that_cannot_be_read_or_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PocketAffectError, match="cannot be opened"):
        open_storage("journal", tmp_path / "file" / "below")
    (tmp_path / JOURNAL_FILE).write_text("no JSON\nat all\n")
    with pytest.raises(PocketAffectError, match="damaged"):
        open_storage("journal", tmp_path)


def test_half_a_line_that_a_killed_writer_left_costs_that_line_alone(root):
    study = open_one(root)
    trial = study.ask()
    journal = root / paths.SWEEP / JOURNAL_FILE
    with journal.open("ab") as stream:
        stream.write(b'{"op_code":4,"worker_id":"dead","study')
    storage = open_storage("journal", root / paths.SWEEP)  # a reader is not troubled
    again = optuna.load_study(study_name=study.study_name, storage=storage)
    again.tell(trial.number, 0.5)
    third = optuna.load_study(study_name=study.study_name, storage=open_storage("journal", root / paths.SWEEP))
    assert [one.value for one in third.trials] == [0.5]
    assert b'"worker_id":"dead"' not in journal.read_bytes()


def test_a_dashboard_finds_the_objectives_names_also_in_a_study_of_before(root):
    study = open_one(root)
    assert study.metric_names == ["score"]
    study._storage.set_study_system_attr(study._study_id, "study:metric_names", None)
    assert open_one(root).metric_names == ["score"]
    storage = open_storage("journal", root / "both")
    both = make_params(objectives="score-and-bytes", pruner="none")
    assert open_study(storage, ask_question(both, root), both).metric_names == ["score", "bytes"]


def test_looking_at_a_sweep_touches_nothing(root):
    with pytest.raises(PocketAffectError, match="no sweep yet"):
        look_at_sweep(make_params(), root)
    assert not (root / paths.SWEEP).exists()
    sweep = begin(root, trials=2)
    run_worker(sweep.plan)
    before = (root / paths.SWEEP / JOURNAL_FILE).read_bytes()
    seen = look_at_sweep(make_params(seed=5), root)
    assert len(seen.rows) == 2
    assert seen.changes == ["sweep.seed: 1 -> 5"]
    assert seen.asked["sweep.epochs"] == 3
    assert (root / paths.SWEEP / JOURNAL_FILE).read_bytes() == before


def test_a_second_command_on_the_same_study_is_refused(root):
    from filelock import FileLock

    folder = begin(root).plan.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "driver.pid").write_text("4711\n")
    with FileLock(folder / "driver.lock"), pytest.raises(PocketAffectError, match="process 4711"):
        run_sweep(make_params(), root)
    assert not (root / "mlruns").exists()  # it has not touched what the other logs


def test_another_teacher_at_the_same_place_asks_another_question(root):
    content = make_params().model_dump(by_alias=True)
    content["train"]["distill"]["teacher"] = "teachers/wide"
    params = Params.model_validate(content)
    missing = ask_question(params, root)
    weights = root / "teachers" / "wide" / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"one")
    first = ask_question(params, root)
    assert first == ask_question(params, root)
    weights.write_bytes(b"two")
    second = ask_question(params, root)
    assert len({missing.name, first.name, second.name, ask_question(make_params(), root).name}) == 4
    assert [line.split(":")[0] for line in describe_changes(first.settings, second.settings)] == [
        "content of teachers/wide"
    ]


def test_networks_that_a_space_names_count_and_the_hub_does_not(root):
    space = {"model.pretrained": ["hub", "weights.pt"], "model.width": [0.1, 0.2]}
    question = ask_question(make_params(space=space), root)
    assert [name for name in question.settings if name.startswith("content")] == ["content of weights.pt"]
