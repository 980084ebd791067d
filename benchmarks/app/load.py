"""The server under load: songs at 25,000 tracks, 1,000 study submissions at once, and a kill -9 among them.

    python benchmarks/app/load.py --model out/export/PocketAffect.onnx

Clients and server share the machine. The rate limit is the server's own, so that songs are asked for by a client of the
application that lifts it (`create_app(rate=…)`), in a process of its own, on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import signal
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

TRACKS, CLIENTS, REQUESTS, SUBMISSIONS = 25_000, 16, 3_000, 1_000
AFFECT = {"probabilities": [0.1, 0.6, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05], "valence": 0.6, "arousal": 0.2}


def main() -> None:
    """Prints all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="out/export/PocketAffect.onnx")
    model = parser.parse_args().model
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        port, server = _start(model, folder)
        asyncio.run(_measure_songs(port))
        asyncio.run(_submit_all(port, folder))
        asyncio.run(_kill_among_submissions(port, server, folder))


def _start(model: str, folder: Path) -> tuple[int, multiprocessing.Process]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(model, folder, port), daemon=True)
    process.start()
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return port, process


def _serve(model: str, folder: Path, port: int) -> None:
    import uvicorn

    from pocketaffect import paths
    from pocketaffect.app.music.catalogue import PAPER_GENRES, Catalogue, Track
    from pocketaffect.app.music.listeners import Listeners
    from pocketaffect.app.music.recommend import Recommender
    from pocketaffect.app.server.api import Services
    from pocketaffect.app.server.model import find_model
    from pocketaffect.app.server.server import create_app
    from pocketaffect.app.study.store import StudyStore

    draw = random.Random(0)
    genres = list(PAPER_GENRES)
    tracks = [
        Track(
            f"t{n}",
            f"Song {n}",
            f"Artist {n % 6000}",
            (draw.choice(genres),),
            draw.random(),
            draw.random(),
            n % 2,
            2000,
            False,
        )
        for n in range(TRACKS)
    ]
    listeners, study = Listeners(folder / "listeners.db"), StudyStore(folder / "study.db")
    catalogue = Catalogue(tracks)
    services = Services(find_model(model), Recommender(catalogue, listeners), catalogue, listeners, study, 30)
    app = create_app(services, paths.WEB, rate=1e9, burst=10**9)
    uvicorn.run(app, port=port, log_level="error", backlog=4096)


async def _ask(port: int, method: str, path: str, body: Any, token: str = "") -> tuple[int, Any]:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    content = json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", "Content-Type: application/json",
             f"Content-Length: {len(content)}", *([f"Authorization: Bearer {token}"] if token else [])]  # fmt: skip
    writer.write("\r\n".join([*lines, "", ""]).encode() + content)
    answer = await reader.read()
    writer.close()
    if not answer:
        raise ConnectionError("no answer")
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(rest) if rest else None


async def _measure_songs(port: int) -> None:
    times: list[float] = []
    left = iter(range(REQUESTS))

    async def client() -> None:
        for number in left:
            start = time.perf_counter()
            status, answer = await _ask(port, "POST", "/api/songs", {"affect": AFFECT, "recent": [f"t{number}"]})
            times.append(time.perf_counter() - start)
            assert status == 200
            assert len(answer["songs"]) == 5

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    seconds = time.perf_counter() - start
    median, p99 = statistics.median(times) * 1000, statistics.quantiles(times, n=100)[98] * 1000
    print(
        f"songs, {TRACKS:,} tracks, {CLIENTS} clients: {REQUESTS / seconds:,.0f}/s, "
        f"median {median:.1f} ms, p99 {p99:.1f} ms"
    )


async def _submit(port: int, acknowledged: list[str] | None = None) -> str:
    _, study = await _ask(port, "GET", "/api/study", None)
    _, run = await _ask(port, "POST", "/api/study/runs", {"version": study["consent"]["version"]})
    row = {"prompt": 2, "affect": AFFECT, "rating": 4, "annotated_valence": 0.5, "annotated_arousal": 0.1}
    status, _ = await _ask(port, "PUT", "/api/study/run/rows", row, run["token"])
    assert status == 204
    if acknowledged is not None:
        acknowledged.append(run["token"].partition(".")[0])
    return str(run["token"])


async def _submit_all(port: int, folder: Path) -> None:
    start = time.perf_counter()
    tokens = await asyncio.gather(*(_submit(port) for _ in range(SUBMISSIONS)))
    seconds = time.perf_counter() - start
    stored = _stored(folder)
    lost = {token.partition(".")[0] for token in tokens} - stored
    print(f"{SUBMISSIONS:,} concurrent submissions: {len(lost)} lost, {seconds:.1f} s")


async def _kill_among_submissions(port: int, server: multiprocessing.Process, folder: Path) -> None:
    acknowledged: list[str] = []
    before = _stored(folder)
    running = [asyncio.ensure_future(_submit(port, acknowledged)) for _ in range(SUBMISSIONS)]
    while len(acknowledged) < SUBMISSIONS // 4:
        await asyncio.sleep(0.005)
    os.kill(server.pid, signal.SIGKILL)
    await asyncio.gather(*running, return_exceptions=True)
    server.join()
    lost = set(acknowledged) - _stored(folder)
    new = len(_stored(folder) - before)
    print(f"kill -9 after {len(acknowledged)} acknowledged rows: {len(lost)} of them lost, {new} stored")


def _stored(folder: Path) -> set[str]:
    from contextlib import closing

    from pocketaffect.app.study.store import StudyStore

    with closing(StudyStore(folder / "study.db")) as store:
        return {str(row[0]) for row in store.rows()}


if __name__ == "__main__":
    main()
