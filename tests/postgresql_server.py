"""A real PostgreSQL server of the tests' own, on a Unix socket, with a database for each test."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SETTINGS = "listen_addresses = ''\nfsync = off\nmax_connections = 40\nshared_buffers = 16MB\n"


def find_programs() -> Path | None:
    """The folder of initdb and pg_ctl: on PATH, or where Debian's and Red Hat's packages put them."""
    on_path = shutil.which("pg_ctl")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), Path("/usr/pgsql/bin")]
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


def find_user() -> tuple[list[str], str | None]:
    """A prefix that runs a command as somebody whom initdb accepts (it refuses root), and that user's name."""
    if os.getuid() != 0:
        return [], pwd.getpwuid(os.getuid()).pw_name
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        return [], None
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"], "postgres"


@contextmanager
def run_server() -> Iterator[Callable[[str], str]]:
    """Yields a function that makes an empty database and gives its address.

    Skips the test that asks for it where there are no server programs.
    """
    programs = find_programs()
    prefix, user = find_user()
    if programs is None:
        pytest.skip("no PostgreSQL server programs (initdb, pg_ctl) here: apt-get install postgresql")
    if user is None:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has 100 bytes

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*prefix, programs / program, *arguments],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"

    numbers = itertools.count()

    def make_database(name: str = "test") -> str:
        database = f"{name}{next(numbers)}"
        run("createdb", "-h", str(folder), database)
        return f"postgresql://{user}@/{database}?host={folder}"

    try:
        if prefix:
            shutil.chown(folder, user)
        data = folder / "data"
        run("initdb", "-D", str(data), "--auth=trust", "--no-sync", "-E", "UTF8", "--no-locale")
        with (data / "postgresql.conf").open("a") as stream:
            stream.write(f"{SETTINGS}unix_socket_directories = '{folder}'\n")
        run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "-t", "240", "start")
        try:
            yield make_database
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
