"""Reads the annotation lists, looks at every image, and holds all rows to the data contract."""

import logging

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.stage import run_stage


def main(params: Params) -> None:
    """data/ to out/manifest/: usable rows, quarantined rows, and the count of every rule."""
    from pocketaffect.data.contract import check_contract, enforce_limits
    from pocketaffect.data.layouts import read_annotations
    from pocketaffect.data.probe import probe_images
    from pocketaffect.data.source import check_source
    from pocketaffect.files import write_atomically, write_json

    log = logging.getLogger("validate")
    log.info("source: %s", check_source())
    rows, unsplit = read_annotations(paths.DATA)
    probes = probe_images(paths.DATA, list(rows["path"]), workers=params.preprocess.workers)
    result = check_contract(rows, unsplit, probes)
    log.info("%d rows: %d kept, %d quarantined", result.rows, len(result.kept), len(result.quarantine))
    with write_atomically(paths.WORK / "validate" / "quarantine.csv") as draft:  # stays when the limits refuse
        result.quarantine.to_csv(draft, index=False)
    enforce_limits(
        result,
        max_quarantine_fraction=params.validate_.max_quarantine_fraction,
        min_validation_per_class=params.validate_.min_validation_per_class,
    )
    with write_atomically(paths.MANIFEST) as draft:
        draft.mkdir()
        result.kept.to_parquet(draft / paths.MANIFEST_TABLE.name, index=False)
        result.quarantine.to_parquet(draft / paths.QUARANTINE_TABLE.name, index=False)
        write_json(draft / paths.CONTRACT_REPORT.name, result.to_dict())


if __name__ == "__main__":
    run_stage("validate", main)
