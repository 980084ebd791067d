"""What is wrong with a checkout, found in a second, or three where a store needs MLflow to say its schema."""

import configparser
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pocketaffect import paths
from pocketaffect.checkout import LOCK, USE_OWN, ask_git, compare_lock, find_foreign_sources
from pocketaffect.config import PARAMS_FILE, find_defaults, find_removed, load_params
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import read_yaml
from pocketaffect.paths import CHECKPOINTS, DATA_FILE
from pocketaffect.registry.store.database import DATABASE, STORE, find_problem
from pocketaffect.sweep.space import read_space
from pocketaffect.telemetry import TELEMETRY_OFF

Status = Literal["ok", "warning", "problem"]

GIGABYTE: Final = 10**9
DISK_WARNING: Final = 10 * GIGABYTE
DISK_PROBLEM: Final = 1 * GIGABYTE
CHECKPOINT_WARNING: Final = 1 * GIGABYTE
PYTHONS: Final = ((3, 11), (3, 14))
"""First supported version and first one that is not, as in pyproject.toml."""

SHOWN: Final = 4

_ALIKE: Final = {value: same for same in ({"1", "true"}, {"0", "false"}) for value in same}
"""Spellings of yes and of no. MLflow knows only "true" for DO_NOT_TRACK, but has its own switch beside it."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    status: Status
    detail: str
    todo: str = ""
    """What to do; empty where all is well."""


def _judge(name: str, detail: str, todo: str, *, problem: bool = False, warning: bool = False) -> Finding:
    """Makes a finding that is a problem, else a warning, else ok and without anything to do."""
    status: Status = "problem" if problem else "warning" if warning else "ok"
    return Finding(name, status, detail, "" if status == "ok" else todo)


def examine(root: Path) -> list[Finding]:
    """Looks at the repository at `root` and this environment; changes nothing and never raises."""
    checks: tuple[tuple[str, Callable[[Path], Iterator[Finding]]], ...] = (
        ("python", _examine_python),
        ("sources", _examine_sources),
        ("packages", _examine_packages),
        ("programs", _examine_programs),
        ("params.yaml", _examine_params),
        ("pipeline", _examine_pipeline),
        ("data", _examine_data),
        ("store", _examine_store),
        ("disk", _examine_disk),
        ("telemetry", _examine_telemetry),
        ("checkpoints", _examine_checkpoints),
    )
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings.extend(check(root))
        except Exception as error:  # a doctor that dies of what it finds helps nobody
            todo = "fix what the message names, then run pocketaffect doctor again"
            findings.append(Finding(name, "problem", f"{type(error).__name__}: {error}", todo))
    return findings


def _examine_python(_root: Path) -> Iterator[Finding]:
    first, end = PYTHONS
    fits = first <= sys.version_info[:2] < end
    wanted = "" if fits else f"; needs {first[0]}.{first[1]} to {end[0]}.{end[1] - 1}"
    running = f"{platform.python_version()} at {sys.executable}{wanted}"
    yield _judge("python", running, "install one of these, delete .venv, make setup", problem=not fits)
    called = shutil.which("python")
    if called is None or Path(called).parent.resolve() != Path(sys.executable).parent.resolve():
        found = "not on PATH" if called is None else f"{called}, of another environment"
        detail = f"`python`, which dvc repro runs the stages with, is {found}"
        yield Finding("python", "warning", detail, ". .venv/bin/activate, then dvc repro; or make repro")


def _examine_sources(root: Path) -> Iterator[Finding]:
    foreign = find_foreign_sources(root)
    detail = f"{foreign}; stages run this checkout's" if foreign else f"those in {Path(__file__).parent} run"
    yield _judge("sources", detail, USE_OWN, warning=foreign is not None)


def _examine_packages(root: Path) -> Iterator[Finding]:
    lock = root / LOCK
    if not lock.is_file():
        yield Finding("packages", "warning", f"{lock}: no such file", f"git checkout {LOCK}")
        return
    compared = list(compare_lock(lock))
    missing = [one.name for one, here in compared if here == "none"]
    different = [
        f"{one.name} {here} (lock: {one.specifier})"
        for one, here in compared
        if here != "none" and not one.specifier.contains(here, prereleases=True)
    ]
    if missing:
        yield Finding("packages", "problem", f"not installed: {_listed(missing)}", "make setup")
    if different:
        detail = f"other versions than requirements.lock: {_listed(different)}"
        yield Finding("packages", "warning", detail, "make setup (results may differ until then)")
    if not missing and not different:
        yield Finding("packages", "ok", f"all {len(compared)} as in requirements.lock")


def _examine_programs(root: Path) -> Iterator[Finding]:
    if shutil.which("git") is None:
        yield Finding("git", "problem", "not found on PATH", "install git: dvc and the lineage of runs need it")
    elif ask_git(root, "rev-parse", "--git-dir") is None:
        todo = "clone the repository, or git init && git add . && git commit"
        yield Finding("git", "warning", "not a git repository: runs will carry no commit", todo)
    else:
        yield Finding("git", "ok", str(shutil.which("git")))
    dvc = shutil.which("dvc") or shutil.which("dvc", path=Path(sys.executable).parent)
    if dvc is None:
        yield Finding("dvc", "problem", "not found on PATH or beside Python", "make setup, then use .venv/bin/dvc")
    elif not (root / ".dvc").is_dir():
        yield Finding("dvc", "problem", f"{root / '.dvc'}: no such folder", "run from the repository's root")
    else:
        yield Finding("dvc", "ok", dvc)


def _examine_params(root: Path) -> Iterator[Finding]:
    try:
        params = load_params(root / PARAMS_FILE, advise=False)
        read_space(params)
    except PocketAffectError as error:
        yield Finding("params.yaml", "problem", str(error), "correct params.yaml, or git checkout params.yaml")
        return
    removed = find_removed(read_yaml(root / PARAMS_FILE))
    if not removed:
        yield Finding("params.yaml", "ok", "every key known, every value allowed")
    for key, advice in removed.items():
        yield Finding("params.yaml", "warning", key, advice)
    for key, value in find_defaults(params).items():
        detail = f"{key} is not set, so its default holds: {value}"
        yield Finding("params.yaml", "warning", detail, "add the key where it is to be seen (docs/updating.md)")


def _examine_pipeline(root: Path) -> Iterator[Finding]:
    """Reads dvc.yaml and dvc.lock itself: what DVC says of an empty or half-merged one names no remedy."""
    pipeline, lock = root / paths.PIPELINE_FILE, root / paths.LOCK_FILE
    yield _examine_stages(pipeline, f"git checkout {pipeline.name}")
    if lock.is_file():
        yield _examine_stages(lock, f"rm {lock.name}, then dvc repro: its cache answers for what has not changed")
    else:
        yield Finding(lock.name, "ok", "none yet; the first dvc repro writes it")


def _examine_stages(file: Path, back: str) -> Finding:
    try:
        text = file.read_text(encoding="utf-8")
        if re.search("^(<{7}|={7}|>{7})", text, re.MULTILINE):
            todo = f"git checkout --ours {file.name} (or --theirs), then dvc repro"
            return Finding(file.name, "problem", f"{file}: holds both sides of a merge", todo)
        stages = read_yaml(file).get("stages") if text.strip() else "nothing"
    except (OSError, PocketAffectError) as error:
        return Finding(file.name, "problem", str(error), back)
    if isinstance(stages, dict) and stages:
        return Finding(file.name, "ok", f"{len(stages)} stages")
    return Finding(file.name, "problem", f"{file}: no stages; found: {stages}", back)


def _examine_data(root: Path) -> Iterator[Finding]:
    data_file = read_yaml(root / DATA_FILE)
    back = "pocketaffect data sample, or pocketaffect data use PATH"
    if not data_file.get("outs"):
        yield Finding("data", "problem", f"{root / DATA_FILE}: missing or without an output", back)
        return
    out = data_file["outs"][0]
    dep = (data_file.get("deps") or [{}])[0]
    if "path" not in dep:
        detail = f"{DATA_FILE} was written by dvc add: it no longer says where the data comes from"
        yield Finding("data", "warning", detail, back)
        return
    yield _examine_source(root, str(dep["path"]), produced="md5" not in dep or dep["path"] == "sample")
    if data_file.get("frozen"):
        detail = f"{DATA_FILE} is frozen: dvc repro does not follow changes of {dep['path']}"
        yield Finding("data", "warning", detail, "dvc unfreeze data.dvc")
    if "md5" in dep and "md5" in out and dep["md5"] != out["md5"]:
        detail = (
            f"the data folder was replaced with dvc add, but {DATA_FILE} still imports {dep['path']}: "
            "the next dvc repro would put that back"
        )
        yield Finding("data", "problem", detail, "pocketaffect data use PATH, with the folder you added")


def _examine_source(root: Path, source: str, *, produced: bool) -> Finding:
    """Looks at the folder that data.dvc imports; the pipeline makes the sample's, which may not exist yet."""
    what = "the generated sample" if source == "sample" else source
    if "://" in source:
        return Finding("data", "ok", f"{source} (remote, not looked at)")
    place = root / source
    if place.is_dir() and not any(place.iterdir()):
        return Finding("data", "problem", f"{place}: empty", "fill it, or pocketaffect data use PATH")
    if place.exists():
        return Finding("data", "ok", f"imports {what}")
    if produced and source == "sample":
        pipeline = root / paths.PIPELINE_FILE
        text = pipeline.read_text(encoding="utf-8", errors="replace") if pipeline.is_file() else ""
        if re.search("^#   sample:", text, re.MULTILINE):  # `data use` made it a comment
            detail = f"{DATA_FILE} imports {what}, and the stage that draws it is off in {paths.PIPELINE_FILE}"
            return Finding("data", "problem", detail, "pocketaffect data sample")
        return Finding("data", "ok", f"imports {what}; dvc repro makes it")
    return Finding("data", "problem", f"{place}: no such file or folder", "pocketaffect data use PATH")


def _examine_store(root: Path) -> Iterator[Finding]:
    address = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if address:
        yield Finding("store", "ok", "MLFLOW_TRACKING_URI is set and wins over mlruns/")
        return
    problem = find_problem(root, to_write=False)
    database = root / STORE / DATABASE
    if problem is not None:
        yield Finding("store", "problem", problem.in_one_line().partition("; do: ")[0], problem.todo or "")
    elif database.exists():
        yield Finding("store", "ok", f"{STORE / DATABASE}, {database.stat().st_size / 1e6:.1f} MB")
    else:
        yield Finding("store", "ok", "none yet; the first registration makes it")


def _examine_disk(root: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(root).free
    todo = "free space: dvc gc --workspace, delete .work, empty pip's and uv's caches"
    small = {"problem": free < DISK_PROBLEM, "warning": free < DISK_WARNING}
    yield _judge("disk", f"{free / GIGABYTE:.1f} GB free", todo, **small)


def _examine_telemetry(root: Path) -> Iterator[Finding]:
    on = [name for name, value in TELEMETRY_OFF.items() if os.environ.get(name, "").lower() not in _ALIKE[value]]
    config = _dvc_config(root)
    sends = [key for key in ("analytics", "check_update") if config.get(key, "true").lower() not in ("false", "0")]
    if on:
        settings = " ".join(f"{name}={TELEMETRY_OFF[name]}" for name in on)
        yield Finding("telemetry", "warning", f"not switched off: {_listed(on)}", f"export {settings}")
    if sends:
        todo = "; ".join(f"dvc config core.{key} false" for key in sends)
        keys = ", ".join(f"core.{key}" for key in sends)
        yield Finding("telemetry", "warning", f".dvc/config leaves {keys} on, for dvc called by hand", todo)
    if not on and not sends:
        yield Finding("telemetry", "ok", "off in every package, and in .dvc/config")


def _examine_checkpoints(root: Path) -> Iterator[Finding]:
    files = [file.stat() for file in (root / CHECKPOINTS).glob("*/**/*") if file.is_file()]
    if not files:
        yield Finding("checkpoints", "ok", "no interrupted training")
        return
    size = sum(file.st_size for file in files)
    days = (time.time() - max(file.st_mtime for file in files)) / 86400
    detail = f"{size / 1e6:.1f} MB of an interrupted training, {max(days, 0):.1f} days old; dvc repro goes on with it"
    todo = f"rm -r {CHECKPOINTS} when it is not to go on"
    yield _judge("checkpoints", detail, todo, warning=size > CHECKPOINT_WARNING)


def _dvc_config(root: Path) -> dict[str, str]:
    """Reads DVC's [core] settings; the local file wins over the committed one."""
    settings: dict[str, str] = {}
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            text = (root / ".dvc" / name).read_text(encoding="utf-8")
            parser.read_string(re.sub(r"^\s+", "", text, flags=re.MULTILINE))  # indented lines would go on the last
        except (OSError, configparser.Error):
            continue
        if parser.has_section("core"):
            settings.update(parser["core"])
    return settings


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
