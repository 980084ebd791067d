"""Draws the embedded sample: faces in AffectNet's CSV layout, the same bytes everywhere."""

from pocketaffect import paths
from pocketaffect.config import Params
from pocketaffect.stage import run_stage


def main(params: Params) -> None:
    """sample/ from `sample` in params.yaml."""
    from pocketaffect.data.sample.generate import generate_sample

    generate_sample(paths.SAMPLE, params.sample)


if __name__ == "__main__":
    run_stage("sample", main)
