"""Converts the network to Core ML, executes the file against PyTorch, and writes it if every check holds."""

import own_sources  # noqa: F401

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.config import Params
from pocketaffect.stage import run_stage


def main(params: Params) -> None:
    """out/model/ and out/shards/ to out/export/: the .mlpackage, its other forms, their verification."""
    pin_arithmetic(threads=1, instructions="avx2")
    from pocketaffect.data.shards.split import open_choosing, open_split
    from pocketaffect.export.export import export_network
    from pocketaffect.models.network import load_network
    from pocketaffect.provenance.origin import describe_origin

    export_network(
        load_network(paths.MODEL),
        open_split(paths.SHARDS, "train"),
        open_choosing(paths.SHARDS),
        open_split(paths.SHARDS, "validation"),
        export=params.export,
        train=params.train,
        margin=params.preprocess.margin,
        lineage=describe_origin(params),
        target=paths.EXPORT,
        rejects=paths.WORK / "export",
    )


if __name__ == "__main__":
    run_stage("export", main)
