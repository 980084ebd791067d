"""A server and a browser for the benchmarks, each a process of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright


@contextmanager
def serving(model: str, *arguments: str) -> Iterator[str]:
    """`pocketaffect serve` on a free port with stores of its own; its address."""
    with tempfile.TemporaryDirectory() as scratch, started(model, Path(scratch), *arguments) as (address, _):
        yield address


@contextmanager
def started(model: str, stores: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The same with given stores, and its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).with_name("pocketaffect")), "serve", "--model", model, "--port", str(port)]
    command += ["--study", str(stores / "study.db"), "--listeners", str(stores / "listeners.db"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _await(port, process)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("the server did not start")


@contextmanager
def browsing(camera: Path | None) -> Iterator[Browser]:
    """Headless Chromium with a clip as its camera, or without one."""
    arguments = ["--no-sandbox", "--use-fake-ui-for-media-stream"]
    if camera is not None:
        clip = camera.resolve()
        arguments += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={clip}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        try:
            yield browser
        finally:
            browser.close()
