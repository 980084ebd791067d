"""The sweep's page and pictures: one HTML file that needs nothing beside it, and each figure as PNG."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from optuna import Study

from pocketaffect.export.latency import time_twins
from pocketaffect.figures import inline_svg, page_template, render_png, render_svg
from pocketaffect.files import hash_json, write_atomically, write_json
from pocketaffect.models.network import NetworkSpec
from pocketaffect.sweep.lessons import correlate_parts, describe_lessons, list_comparable, measure_importance
from pocketaffect.sweep.objective import Plan, prepare_params
from pocketaffect.sweep.plots import draw_fronts, draw_history, draw_importance, draw_parallel
from pocketaffect.sweep.references import Reference
from pocketaffect.sweep.results import FINISHED, TrialRow, best_first, count_epochs, find_front
from pocketaffect.sweep.table import describe_settings
from pocketaffect.sweep.winner import Winner

REPORT_FILE: Final = "report.html"
TIMES_FILE: Final = "milliseconds.json"


def write_sweep_report(
    plan: Plan,
    study: Study,
    rows: list[TrialRow],
    winner: Winner | None,
    unfit: Mapping[int, str],
    references: Sequence[Reference],
    target: Path,
) -> None:
    """Writes the page and its figures into folder `target`, which is replaced.

    `unfit` names better trials whose packages were not fit to ship, and why; there may be no winner.

    Raises:
        PocketAffectError: The folder cannot be written.
    """
    fronts = {row.number: row for cost in ("bytes", "macs") for row in find_front(rows, cost) if row.macs}
    fronts |= {row.number: row for row in rows if winner is not None and row.number == winner.trial}
    specs = {number: _read_spec(plan, row) for number, row in fronts.items()}
    times = recall_times([*specs.values(), *(one.spec for one in references)], plan.folder / TIMES_FILE)
    comparable = list_comparable(study)
    importance = measure_importance(comparable)
    pairs, correlations = correlate_parts(rows)
    figures = {
        "history": draw_history(rows),
        "pareto_front": draw_fronts(rows, plan.params.sweep, plan.params.model.architecture, references),
        "importance": draw_importance(importance),
        "parallel_coordinates": draw_parallel(rows, plan.space),
    }
    filters = {
        "number": lambda value: "" if value is None else f"{value:.4f}",
        "bytes": lambda value: "" if value is None else f"{value:,}",
        "millions": lambda value: "" if value is None else f"{value / 1e6:.2f}",
    }
    page = page_template("sweep/report.html.jinja", filters).render(
        study=plan.study_name,
        sweep=plan.params.sweep,
        space={name: describe_dimension(raw) for name, raw in plan.params.sweep.space.items()},
        rows=sorted(rows, key=lambda row: row.number),
        fronts=sorted(fronts.values(), key=lambda row: row.bytes or 0),
        references=references,
        milliseconds={number: times[spec] for number, spec in specs.items()},
        times=times,
        best=[*best_first(rows, unfit), *best_first(rows)][0],
        winner=winner,
        unfit=unfit,
        lessons=describe_lessons(importance, comparable),
        pairs=pairs,
        correlations=correlations,
        epochs=count_epochs(rows),
        counts={outcome: sum(row.outcome == outcome for row in rows) for outcome in FINISHED},
        describe=describe_settings,
        figures={name: inline_svg(render_svg(figure), name) for name, figure in figures.items()},
    )
    with write_atomically(target) as draft:
        draft.mkdir()
        (draft / REPORT_FILE).write_text(page, encoding="utf-8")
        for name, figure in figures.items():
            (draft / f"{name}.png").write_bytes(render_png(figure))


def _read_spec(plan: Plan, row: TrialRow) -> NetworkSpec:
    params = prepare_params(plan.params, dict(row.settings))
    return NetworkSpec.from_params(params.model, params.preprocess.image_size)


def recall_times(specs: Sequence[NetworkSpec], file: Path) -> dict[NetworkSpec, float]:
    """Reads the milliseconds of the specs' twins from a file, or times them all anew: only one run's are comparable."""
    keys = {spec: hash_json(asdict(spec)) for spec in specs}
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if not known.keys() >= set(keys.values()):
        known = {keys[spec]: milliseconds for spec, milliseconds in time_twins(specs).items()}
        write_json(file, known)
    return {spec: known[key] for spec, key in keys.items()}


def describe_dimension(raw: object) -> str:
    """Describes a dimension of the space in words."""
    if isinstance(raw, Mapping):
        further = ", logarithmic" if raw.get("log") else f" by {raw['step']}" if "step" in raw else ""
        return f"{raw['low']} to {raw['high']}{further}"
    return ", ".join(str(value) for value in raw) if isinstance(raw, list) else str(raw)
