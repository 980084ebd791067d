"""Converts the network to Core ML, executes the file against PyTorch, and writes it if every check holds."""

from pocketaffect import paths
from pocketaffect.arithmetic import pin_arithmetic
from pocketaffect.config import Params
from pocketaffect.stage import run_stage


def main(params: Params) -> None:
    """out/model/ and out/shards/ to out/export/: the .mlpackage and its verification."""
    pin_arithmetic(threads=1, instructions="avx2")
    from pocketaffect.coreml.export import export_network
    from pocketaffect.data.shards.split import open_split
    from pocketaffect.files import write_atomically, write_json
    from pocketaffect.models.network import load_network
    from pocketaffect.provenance import describe_origin

    network = load_network(paths.MODEL)
    with write_atomically(paths.EXPORT) as draft:
        draft.mkdir()
        verification = export_network(
            network,
            open_split(paths.SHARDS, "validation"),
            params.export,
            margin=params.preprocess.margin,
            deployment_target=params.export.deployment_target,
            lineage=describe_origin(params),
            target=draft / paths.PACKAGE.name,
            rejects=paths.WORK / "export",
        )
        write_json(draft / paths.VERIFICATION.name, verification.to_dict())


if __name__ == "__main__":
    run_stage("export", main)
