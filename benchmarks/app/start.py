"""How long until the page can be used: seconds and processor seconds, for a first visit and for a later one.

    python benchmarks/app/start.py --model out/export/PocketAffect.onnx --visits 5

"camera": the camera can be started, or a photo chosen. "networks": both networks have loaded, so that faces are read.
Processor seconds are those of all the browser's processes: other work on the machine changes them little, and a machine
at rest needs about as long, or less. The later visit is answered by the service worker. Medians over the visits.
"""

from __future__ import annotations

import argparse
import statistics
import time

import psutil
from app_server import browsing, serving
from playwright.sync_api import Browser, BrowserContext, Page, Request

Times = dict[str, list[float]]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="out/export/PocketAffect.onnx")
    parser.add_argument("--visits", type=int, default=5)
    arguments = parser.parse_args()
    first: Times = {}
    later: Times = {}
    with serving(arguments.model) as address, browsing(None) as browser:
        _visit_twice(browser, address, {}, {})  # the browser's own first start
        for _ in range(arguments.visits):
            _visit_twice(browser, address, first, later)
    print(f"{'medians, seconds':<18}{'camera':>9}{'networks':>10}{'processor':>11}{'MB received':>13}")
    for name, times in (("first visit", first), ("later visit", later)):
        camera, networks, processor, received = (
            statistics.median(times[key]) for key in ("camera", "networks", "processor", "received")
        )
        print(f"{name:<18}{camera:>9.2f}{networks:>10.2f}{processor:>11.2f}{received:>13.2f}")
    print(f"load {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} cores")


def _visit_twice(browser: Browser, address: str, first: Times, later: Times) -> None:
    context = browser.new_context()
    page = _visit(context, address, first)
    page.evaluate("navigator.serviceWorker.ready.then(() => null)")
    page.close()
    _visit(context, address, later)
    context.close()


def _visit(context: BrowserContext, address: str, times: Times) -> Page:
    page = context.new_page()
    answers: list[Request] = []
    context.on("requestfinished", lambda answer: answers.append(answer))
    start, processor = time.perf_counter(), _processor_seconds()
    page.goto(address, wait_until="commit")
    page.wait_for_selector("#start:not([disabled])")
    camera = time.perf_counter() - start
    page.wait_for_selector("html[data-ready]", state="attached")
    networks = time.perf_counter() - start
    for key, value in (("camera", camera), ("networks", networks), ("processor", _processor_seconds() - processor)):
        times.setdefault(key, []).append(value)
    received = sum(max(0, each.sizes()["responseBodySize"]) for each in answers)  # -1 of the service worker
    times.setdefault("received", []).append(received / 1e6)
    return page


def _processor_seconds() -> float:
    """Of Chromium's processes, without the server's and playwright's own."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if "chrom" in process.name():
                spent = process.cpu_times()
                total += spent.user + spent.system
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    main()
