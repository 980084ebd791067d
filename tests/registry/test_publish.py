"""From a real export of a small network to a version that others load, serve, trace and promote: `-m slow`."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pocketaffect import paths
from pocketaffect.checkout import ask_git
from pocketaffect.config import load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.evaluation.prediction_table import read_predictions
from pocketaffect.files import hash_file
from pocketaffect.labels import SOFT_COLUMNS
from pocketaffect.provenance.origin import describe_origin
from pocketaffect.registry.lineage.trace import trace
from pocketaffect.registry.promotion.policy import find_gaps, gather_evidence
from pocketaffect.registry.store.publish import publish
from pocketaffect.registry.store.store import open_store
from pocketaffect.registry.store.versions import get_version, package_path

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
FACES = 64
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org")


def write_shards(folder: Path, size: int) -> None:
    folder.mkdir(parents=True)
    draw = np.random.default_rng(3)
    np.save(folder / "validation-00000.npy", draw.integers(0, 256, (FACES, size, size, 3), dtype=np.uint8))
    columns = {
        "split": ["validation"] * FACES,
        "shard": ["validation-00000.npy"] * FACES,
        "row": list(range(FACES)),
        "path": [f"face-{number}.png" for number in range(FACES)],
        "expression": np.arange(FACES) % 8,
        "valence": draw.uniform(-1, 1, FACES).astype(np.float32),
        "arousal": draw.uniform(-1, 1, FACES).astype(np.float32),
    }
    columns |= {name: np.full(FACES, np.nan, np.float32) for name in SOFT_COLUMNS}
    pq.write_table(pa.table(columns), folder / "index.parquet")
    summary = {"images": {"train": 0, "validation": FACES}, "size": size, "sha256": {"validation-00000.npy": "f" * 64}}
    (folder / "shards.json").write_text(json.dumps(summary))


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A committed repository whose stages have run: a small network with random weights, really exported."""
    from pocketaffect.data.shards.split import open_split
    from pocketaffect.export.export import export_network
    from pocketaffect.models.network import AffectNetwork, NetworkSpec

    root = tmp_path_factory.mktemp("published") / "repository"
    root.mkdir()
    for name in ("params.yaml", "requirements.lock", ".gitignore"):
        shutil.copy(REPOSITORY / name, root / name)
    shutil.copytree(REPOSITORY / paths.PIPELINES, root / paths.PIPELINES)
    md5 = "1" * 32 + ".dir"
    (root / "data.dvc").write_text(f"deps:\n- path: sample\nouts:\n- path: data\n  md5: {md5}\n")
    (root / "dvc.lock").write_text(f"stages:\n  validate:\n    deps:\n    - {{path: data, md5: {md5}}}\n")
    params = load_params(root / "params.yaml")
    write_shards(root / paths.SHARDS, 32)
    torch.manual_seed(0)
    network = AffectNetwork(NetworkSpec(architecture="alexnet", width=0.1, size=32, head="prototype", dropout=0.0))
    lax = {"max_mean_probability_difference": 0.5, "min_agreement": 0.0, "max_accuracy_drop": 1.0, "max_rmse_rise": 9.0}
    faces = open_split(root / paths.SHARDS, "validation")
    export_network(
        network.eval(),
        faces,
        faces,
        faces,
        export=params.export.model_copy(update=lax),
        train=params.train,
        margin=0.0,
        lineage=describe_origin(params, root),
        target=root / paths.EXPORT,
        rejects=root / ".work",
    )
    scores = {"accuracy": 0.1, "ccc_valence": 0.1, "ccc_arousal": 0.1}
    contract = {"rows": FACES, "kept": FACES, "quarantined": 0, "dropped": 0, "near_duplicates": 0}
    files = {
        paths.EVALUATION / "metrics.json": json.dumps(scores),
        paths.BEHAVIOUR: "change,classes_changed,survived\nmirrored,0.05,True\ngrey,0.125,False\n",
        paths.MODEL / "history.csv": "epoch,loss\n1,2.0\n2,1.0\n",
        paths.CONTRACT_REPORT: json.dumps(contract),
        paths.QUARANTINE_TABLE: "",
        paths.DATA_PROFILE: "{}",
        paths.DATA_REPORT / "contract.html": "",
        paths.FACES_REPORT / "faces.txt": "",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "all")):
        subprocess.run([*GIT, *arguments], cwd=root, check=True)
    return root


@pytest.fixture(scope="module")
def published(repository):
    return register(repository)


def register(root: Path, *, allow_dirty: bool = True, **changes):
    """Publishes what lies in a repository, with other settings than its own where `changes` has some."""
    params = load_params(root / "params.yaml").model_copy(update=changes)
    return publish(root, params.register_.model_copy(update={"allow_dirty": allow_dirty}), params)


def encode_png(face: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(face).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def pictures(repository) -> list[bytes]:
    return [encode_png(face) for face in np.load(repository / paths.SHARDS / "validation-00000.npy")[:8]]


def test_the_version_holds_every_form_its_answers_card_and_reports(repository, published):
    store = open_store(repository)
    client = store.client()
    kept = {file.path for file in client.list_artifacts(published.run_id)}
    assert {"model_card.md", "model_card.html", "shipped.json", "predictions.parquet", "verification.json"} <= kept
    assert {"contract.json", "params.yaml", "dvc.lock", "contents.json"} <= kept
    model = {Path(file.path).name for file in client.list_artifacts(published.run_id, "model")}
    assert {paths.PACKAGE.name, paths.CLASSIFIER.name, paths.TWIN.name, "MLmodel"} <= model
    assert published.tags["git.dirty"] == "false"
    card = (package_path(store, published).parent.parent / "model_card.md").read_text()
    for heading in ("How well", "Data", "Limits", "Meant for", "Not meant for", "Not measured", "Origin"):
        assert f"## {heading}" in card
    assert published.digest in card
    assert "leaves the expression: grey." in card
    assert "An answer of less than" in card
    evidence = gather_evidence(store, published, None, repository, load_params(repository / "params.yaml"))
    assert evidence.metrics["class_changes"].value == 0.125
    assert register(repository).version == published.version


@pytest.mark.parametrize("form", ["twin", "package"])
def test_pyfunc_loads_it_and_answers_as_the_shipped_file_did(repository, published, pictures, tmp_path, form):
    import mlflow.pyfunc
    import pandas as pd

    folder = Path(shutil.copytree(package_path(open_store(repository), published).parent, tmp_path / "model"))
    if form == "package":
        from pocketaffect.registry.store.runs import write_flavor

        for name in ("MLmodel", "code", "requirements.txt", "python_env.yaml", "served.json"):
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / name).unlink(missing_ok=True)
        write_flavor(folder, served_file=paths.PACKAGE.name, forms={paths.PACKAGE.name: published.digest})
    answers = mlflow.pyfunc.load_model(str(folder)).predict(pd.DataFrame({"image": pictures}))
    expected = read_predictions(repository / paths.SHIPPED_PREDICTIONS).predictions
    given = answers[[name for name in answers if name.startswith("p_")]].to_numpy()
    np.testing.assert_allclose(given, expected.probabilities[:8], atol=0.01 if form == "twin" else 1e-6)
    np.testing.assert_allclose(answers[["valence", "arousal"]], expected.valence_arousal[:8], atol=0.01)


@pytest.mark.parametrize("changed", [paths.TWIN.name, f"{paths.PACKAGE.name}/Manifest.json"])
def test_a_changed_form_of_the_model_is_refused_by_pyfunc_also_where_another_one_answers(
    repository, published, tmp_path, changed
):
    import mlflow.pyfunc

    folder = Path(shutil.copytree(package_path(open_store(repository), published).parent, tmp_path / "model"))
    with (folder / changed).open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(ValueError, match="not the file that was registered"):
        mlflow.pyfunc.load_model(str(folder))


def test_mlflow_serves_it(repository, published, pictures, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-p", str(port)]
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": binaries, "MLFLOW_TRACKING_URI": f"sqlite:///{repository}/mlruns/mlflow.db"}
    log = (tmp_path / "log").open("wb")
    server = subprocess.Popen(
        [*command, "-m", f"models:/pocketaffect/{published.version}"],
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        rows = [[base64.b64encode(picture).decode()] for picture in pictures]
        body = json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        answer = None
        for _ in range(600):
            assert server.poll() is None, (tmp_path / "log").read_text()
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                answer = json.load(urllib.request.urlopen(request, timeout=300))
                break
            time.sleep(0.5)
        assert answer is not None, (tmp_path / "log").read_text()
        expected = read_predictions(repository / paths.SHIPPED_PREDICTIONS).predictions
        valence = [row["valence"] for row in answer["predictions"]]
        np.testing.assert_allclose(valence, expected.valence_arousal[:8, 0], atol=0.01)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(300)
        log.close()


def test_every_form_leads_to_its_version(repository, published):
    store = open_store(repository)
    for form in (paths.PACKAGE, paths.CLASSIFIER, paths.TWIN):
        (found,) = trace(store, "pocketaffect", str(repository / form))
        assert found.version.version == published.version
        assert found.disagreements == ()


def test_a_champion_of_other_data_is_executed_on_the_faces_that_lie_here(repository, published):
    store = open_store(repository)
    params = load_params(repository / "params.yaml")
    elsewhere = get_version(store, "pocketaffect", published.version)
    tags = dict(elsewhere.tags) | {"validation.sha256": "0" * 64}
    champion = type(elsewhere)(**{**vars(elsewhere), "tags": tags, "version": 99})
    found = gather_evidence(store, published, champion, repository, params)
    assert "version 99 measured anew" in found.remark
    for comparison in found.comparisons.values():  # the same file: executed again it answers the same
        assert comparison.difference == pytest.approx(0, abs=1e-6)


def test_uncommitted_changes_are_refused_or_marked_and_cleared_by_a_commit(repository, published, tmp_path):
    copy = Path(shutil.copytree(repository, tmp_path / "copy"))
    shutil.rmtree(copy / "mlruns")
    (copy / "notes.txt").write_text("x")
    with pytest.raises(PocketAffectError, match="uncommitted changes") as refused:
        register(copy, allow_dirty=False)
    assert "notes.txt" in str(refused.value)
    marked = register(copy, allow_dirty=True)
    assert (marked.tags["git.dirty"], marked.tags["git.dirty_paths"]) == ("true", "notes.txt")
    for arguments in (("add", "-A"), ("commit", "-q", "-m", "notes")):
        subprocess.run([*GIT, *arguments], cwd=copy, check=True)
    cleared = register(copy, allow_dirty=False)
    assert (cleared.version, cleared.created) == (marked.version, False)
    assert (cleared.tags["git.dirty"], cleared.tags["git.dirty_paths"]) == ("false", "")
    assert cleared.tags["git.first_commit"].startswith(marked.tags["git.commit"])


def test_a_version_whose_commit_was_amended_away_is_taken_over_by_the_commit_that_holds_the_same(
    repository, published, tmp_path
):
    copy = Path(shutil.copytree(repository, tmp_path / "copy"))
    shutil.rmtree(copy / "mlruns")
    first = register(copy, allow_dirty=False)
    for message in ("once", "twice"):
        subprocess.run([*GIT, "commit", "-q", "--amend", "-m", message], cwd=copy, check=True)
        gaps = list(find_gaps(get_version(open_store(copy), "pocketaffect", 1), copy / paths.PACKAGE, copy))
        assert len(gaps) == 1
        assert "on no branch or tag" in gaps[0]
        again = register(copy, allow_dirty=False)
        assert (again.version, again.created) == (first.version, False)
        assert again.tags["git.commit"] == ask_git(copy, "rev-parse", "HEAD") != first.tags["git.commit"]
        assert again.tags["git.first_commit"] == first.tags["git.commit"]
        assert list(find_gaps(again, copy / paths.PACKAGE, copy)) == []
    subprocess.run([*GIT, "commit", "-q", "--allow-empty", "-m", "later"], cwd=copy, check=True)
    assert register(copy, allow_dirty=False).tags["git.commit"] == again.tags["git.commit"]  # a branch holds it


@pytest.mark.parametrize("content", [None, "{half of it"])
@pytest.mark.parametrize(
    "name", [paths.VERIFICATION, paths.CONTRACT_REPORT, paths.EVALUATION / "metrics.json", paths.SHARDS / "shards.json"]
)
def test_a_missing_or_damaged_output_is_named(repository, tmp_path, name, content):
    copy = Path(shutil.copytree(repository, tmp_path / "copy", ignore=shutil.ignore_patterns("mlruns")))
    (copy / name).unlink()
    if content is not None:
        (copy / name).write_text(content)
    with pytest.raises(PocketAffectError, match=f"{name.name}: (no such file|damaged)|no shards"):
        register(copy)


def test_the_run_lasts_as_long_as_the_training_of_these_weights(repository, tmp_path):
    copy = Path(shutil.copytree(repository, tmp_path / "copy", ignore=shutil.ignore_patterns("mlruns")))
    weights = copy / paths.MODEL / "model.safetensors"
    weights.write_bytes(b"weights")
    noted = {"weights_sha256": hash_file(weights), "began": 1_700_000_000.0, "ended": 1_700_000_090.0}
    (copy / paths.TRAINING_TIME).parent.mkdir(parents=True)
    (copy / paths.TRAINING_TIME).write_text(json.dumps(noted))
    run = open_store(copy).client().get_run(register(copy).run_id)
    assert run.info.end_time - run.info.start_time == 90_000


def test_without_a_history_nothing_is_registered_and_the_file_is_named(repository, tmp_path):
    copy = Path(shutil.copytree(repository, tmp_path / "copy", ignore=shutil.ignore_patterns("mlruns")))
    (copy / paths.MODEL / "history.csv").unlink()
    with pytest.raises(PocketAffectError, match=r"history\.csv: no such file"):
        register(copy)


def test_a_package_of_other_settings_than_stand_here_is_refused(repository, published, tmp_path):
    params = load_params(repository / "params.yaml")
    with pytest.raises(PocketAffectError, match="not made from what stands here"):
        register(repository, train=params.train.model_copy(update={"seed": 99}))
