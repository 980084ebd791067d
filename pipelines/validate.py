"""Reads the annotation lists, looks at every image, and holds all rows to the data contract."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

import own_sources  # noqa: F401

from pocketaffect import paths
from pocketaffect.stage import run_stage

if TYPE_CHECKING:
    from pocketaffect.config import Params  # worker processes import this file, too, and pydantic is half their start


def main(params: Params) -> None:
    """data/ to out/manifest/ (kept, quarantined and dropped rows, the count of every rule) and reports/data/."""
    from pocketaffect.data.contract.check import check_contract, enforce_limits, write_result
    from pocketaffect.data.contract.profile import choose_profile
    from pocketaffect.data.faces.probe import probe_images
    from pocketaffect.data.progress import show_progress
    from pocketaffect.data.release.folder import DataFolder
    from pocketaffect.data.release.layouts import CSV, NPY8, read_annotations
    from pocketaffect.data.report.page import report_contract
    from pocketaffect.data.source import check_source, read_source
    from pocketaffect.files import write_atomically

    log = logging.getLogger("validate")
    settings = params.validate_
    log.info("source: %s", check_source())
    annotations = read_annotations(DataFolder.open(paths.DATA))
    is_affectnet = annotations.layout in (CSV, NPY8)
    profile = choose_profile(settings.profile, is_sample=read_source().is_sample, is_affectnet=is_affectnet)
    with show_progress("images", len(annotations.rows)) as progress:
        probes = probe_images(paths.DATA, annotations.rows, workers=params.preprocess.workers, progress=progress)
    result = check_contract(annotations, probes, settings, profile)
    log.info(result.describe())
    # Written before the limits are enforced: whoever has to fix the data needs it most.
    report_contract(result, paths.DATA, paths.REFUSED_DATA, limit=settings.max_quarantine_fraction)
    enforce_limits(result, settings)
    write_result(result, paths.MANIFEST, choosing_share=settings.choosing_share)
    with write_atomically(paths.DATA_REPORT) as draft:
        shutil.move(paths.REFUSED_DATA, draft)


if __name__ == "__main__":
    run_stage("validate", main)
