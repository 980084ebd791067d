"""A copy of the store that can be taken while others use it, and its way back."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically
from pocketaffect.registry.store.database import ARTIFACTS, DATABASE, STORE, find_problem
from pocketaffect.registry.store.store import Store, open_store


def back_up(store: Store, target: Path) -> Path:
    """Copies database and artifacts to `target`, whole or not at all; a store that cannot be written is enough.

    The database by SQLite's online backup, which gives the state of one moment whoever writes; the artifacts after
    it, since a run's files are there before its version is. Registrations and `gc` on this machine wait meanwhile.

    Raises:
        PocketAffectError: The store is on a server; `target` exists; the disk is full.
    """
    if store.artifact_root is None:
        raise PocketAffectError(
            "the store is on a server", found="MLFLOW_TRACKING_URI", todo="back up the server's database and artifacts"
        )
    if target.exists():
        raise PocketAffectError(f"{target}: exists already", allowed="a new folder for each backup")
    source = store.artifact_root.parent
    # A lock is a file beside the database: without leave to write there, nobody here registers or removes, either.
    waiting = store.locked() if os.access(source, os.W_OK) else contextlib.nullcontext()
    with waiting, write_atomically(target) as draft:
        draft.mkdir()
        with (
            contextlib.closing(sqlite3.connect(f"{(source / DATABASE).as_uri()}?mode=ro", uri=True)) as live,
            contextlib.closing(sqlite3.connect(draft / DATABASE)) as copy,
        ):
            live.backup(copy)
        shutil.copytree(store.artifact_root, draft / ARTIFACTS)
    return target


def restore(root: Path, backup: Path) -> Store:
    """Puts a backup in the place of a store that is gone; locations in it are made to point here.

    Raises:
        PocketAffectError: `backup` is none, or the repository at `root` still has a store.
    """
    if not (backup / DATABASE).is_file() or not (backup / ARTIFACTS).is_dir():
        raise PocketAffectError(
            f"{backup}: no backup of a store",
            allowed=f"a folder with {DATABASE} and {ARTIFACTS}, from `registry backup`",
        )
    folder = root / STORE
    if (folder / DATABASE).exists() or any((folder / ARTIFACTS).glob("*")):
        raise PocketAffectError(f"{folder}: there is a store already", todo=f"mv {folder} {folder}.old, then repeat")
    with write_atomically(folder / ARTIFACTS) as draft:
        shutil.copytree(backup / ARTIFACTS, draft)
        for place in (draft, *draft.rglob("*")):  # a backup of a read-only store is no read-only store
            place.chmod(place.stat().st_mode | 0o200)
    with write_atomically(folder / DATABASE) as draft:  # last: a store without its files must not look like one
        shutil.copyfile(backup / DATABASE, draft)
    if problem := find_problem(root, to_write=True):
        raise problem
    return open_store(root)
