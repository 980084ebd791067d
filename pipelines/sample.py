"""Draws the embedded sample: faces in AffectNet's CSV layout, the same bytes everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import own_sources  # noqa: F401

from pocketaffect import paths
from pocketaffect.stage import run_stage

if TYPE_CHECKING:
    from pocketaffect.config import Params  # worker processes import this file, too, and pydantic is half their start


def main(params: Params) -> None:
    """sample/ from `sample` in params.yaml."""
    from pocketaffect.data.sample.generate import generate_sample

    generate_sample(paths.SAMPLE, params.sample)


if __name__ == "__main__":
    run_stage("sample", main)
