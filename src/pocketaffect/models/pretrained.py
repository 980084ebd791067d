"""timm's ImageNet weights for a backbone: only when asked for, never executed, always with their origin."""

import pickle
from pathlib import Path
from typing import Final

import torch

from pocketaffect.designs import CATALOGUE, HUB, find_design
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import hash_file
from pocketaffect.models.network import AffectNetwork, PretrainedWeights
from pocketaffect.models.phone import PhoneBackbone

HUB_FILE: Final = "model.safetensors"
CLASSIFIERS: Final = ("classifier.", "head.")
"""Attributes in which timm's networks keep the layer for ImageNet's thousand classes, which is left behind."""


def load_pretrained(network: AffectNetwork, source: str | Path) -> PretrainedWeights:
    """Puts pretrained weights into the backbone of a network of width 1.0; the two heads stay as they are.

    The pixels' mean and deviation stay the training data's: both standardise, and the difference is small beside what
    fine-tuning changes. `source` is "hub" (downloads, or takes what an earlier download left in Hugging Face's cache),
    or a local `.safetensors` or `.pth` file in timm's naming, which may hold `state_dict` or EMA weights within.

    Raises:
        PocketAffectError: The design or width has no weights, the hub cannot be reached, or the file is missing,
            damaged, holds code, or holds another network's weights. The network is then unchanged.
        ValueError: A reparameterised network.
    """
    if network.reparameterized:
        raise ValueError("load pretrained weights before the network is reparameterised")
    name = _weights_name(network)
    file, origin, licence = _fetch(name) if str(source) == HUB else (Path(source), Path(source).name, None)
    given = _read(file)
    backbone = network.backbone
    assert isinstance(backbone, PhoneBackbone)
    expected: dict[str, torch.Tensor] = backbone.model.state_dict()
    kept = {key: tensor for key, tensor in given.items() if not key.startswith(CLASSIFIERS)}
    _refuse_other_network(file, kept, expected, network.spec.architecture)
    backbone.model.load_state_dict({**expected, **kept})  # older files lack the batch counters, which stay as they are
    digest = hash_file(file)
    return PretrainedWeights(origin, digest, licence, matched=len(kept), dropped=len(given) - len(kept))


def _weights_name(network: AffectNetwork) -> str:
    spec = network.spec
    design = find_design(spec.architecture)
    if design.weights is None:
        raise PocketAffectError(
            f"params.yaml: model.pretrained: {spec.architecture} has no pretrained weights",
            allowed=", ".join(name for name, design in CATALOGUE.items() if design.weights),
            todo="choose one of these as model.architecture, or train from random weights",
        )
    if spec.width != 1.0:
        raise PocketAffectError(
            "params.yaml: model.pretrained: there are pretrained weights for width 1.0 only",
            found=f"model.width {spec.width:g}",
            todo="set model.width to 1.0, for example for a teacher (train.distill.teacher) of a narrower network",
        )
    return design.weights


def _fetch(name: str) -> tuple[Path, str, str | None]:
    """Finds file, origin and licence of `name` on the hub; a file in the cache is not loaded again."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError
    from timm.models import get_pretrained_cfg

    repository = f"timm/{name}"
    try:
        file = Path(hf_hub_download(repository, HUB_FILE))
    except (OSError, HfHubHTTPError) as error:
        raise PocketAffectError(
            f"params.yaml: model.pretrained: {repository} cannot be had from the Hugging Face hub",
            found=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
            todo=f"connect to the internet, or download https://huggingface.co/{repository}/resolve/main/{HUB_FILE} "
            "elsewhere and give its path as model.pretrained",
        ) from None
    return file, f"{repository}@{file.parent.name}", get_pretrained_cfg(name).license


def _read(file: Path) -> dict[str, torch.Tensor]:
    """Reads a state dictionary by name, with the wrappers of training loops taken off."""
    from safetensors import SafetensorError
    from timm.models import load_state_dict

    if not file.is_file():
        raise PocketAffectError(f"params.yaml: model.pretrained: {file}: no such file", allowed=f"{HUB!r} or a file")
    try:
        state = load_state_dict(str(file), weights_only=True)
        foreign = [key for key, value in state.items() if not isinstance(value, torch.Tensor)]
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, KeyError) as error:
        raise _unreadable(file, error) from None
    except (EOFError, TypeError, AttributeError, OSError) as error:
        raise _unreadable(file, error) from None
    if foreign or not state:
        raise _unreadable(file, f"no tensor under {foreign[0]!r}" if foreign else "no tensors")
    return dict(state)


def _unreadable(file: Path, found: object) -> PocketAffectError:
    text = " ".join(str(found).split()) or type(found).__name__
    return PocketAffectError(
        f"params.yaml: model.pretrained: {file}: not readable as weights",
        found=f"{text[:200]}…" if len(text) > 200 else text,
        allowed="a .safetensors file, or a .pth file that holds tensors alone",
    )


def _refuse_other_network(
    file: Path, given: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], architecture: str
) -> None:
    missing = [key for key in expected if key not in given and not key.endswith("num_batches_tracked")]
    unknown = [key for key in given if key not in expected]
    other = [key for key in given if key in expected and given[key].shape != expected[key].shape]
    broken = [key for key, tensor in given.items() if not bool(torch.isfinite(tensor).all())]
    problems = (("missing", missing), ("unknown", unknown), ("of another shape", other), ("not finite", broken))
    found = [f"{len(keys)} {problem} ({keys[0]})" for problem, keys in problems if keys]
    if not found:
        return
    matched = len(set(given) & set(expected)) - len(other)
    raise PocketAffectError(
        f"params.yaml: model.pretrained: {file}: not the weights of {architecture}",
        found=f"{matched} of {len(expected)} tensors match; {', '.join(found)}",
        allowed=f"timm's {CATALOGUE[architecture].weights} or a file with the same tensors",
    )
