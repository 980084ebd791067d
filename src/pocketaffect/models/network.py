"""One network, two heads: eight expression logits, and valence with arousal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

import torch
from pydantic import Field, Strict, StrictBool, TypeAdapter, ValidationError
from torch import nn

from pocketaffect.config import Architecture, Dropout, Head, ModelParams, Width
from pocketaffect.designs import SMALLEST_SIZE, find_design
from pocketaffect.errors import PocketAffectError
from pocketaffect.files import write_atomically, write_json
from pocketaffect.labels import CLASS_MEAN_VA, EXPRESSIONS, VALENCE_AROUSAL
from pocketaffect.models.paper import BACKBONES, Backbone
from pocketaffect.models.residual import build_resnet10

if TYPE_CHECKING:
    from pocketaffect.models.phone import PhoneBackbone

WEIGHTS_FILE: Final = "model.safetensors"
SPEC_FILE: Final = "model.json"

OWN_BACKBONES: Final = {**BACKBONES, "resnet10": build_resnet10}
"""The designs that are built without timm."""

Colour: TypeAlias = Literal["rgb", "grey"]

LUMA: Final = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in luma (ITU-R BT.601), which Pillow and OpenCV turn pictures grey by."""

READS_LUMA: Final = "luma alone, formed in the first layer of an RGB picture; trained on grey faces"


@dataclass(frozen=True)
class NetworkSpec:
    """What is needed to build a network; its weights are the rest.

    Attributes:
        architecture: A key of `designs.CATALOGUE`.
        width: Multiplies every layer's channels, as `dropout` the architecture's rates.
        size: Pixels a side of the input.
        head: "prototype" or "plain", see `AffectNetwork`.
        full_resolution_stem: No stride in the first layer, see `build_backbone`.
        colour: "rgb", or "grey": the first layer reads luma, see `AffectNetwork.read_luma`.
    """

    architecture: Architecture
    width: Width
    size: Annotated[int, Strict(), Field(ge=SMALLEST_SIZE, le=512)]
    head: Head
    dropout: Dropout = 1.0
    full_resolution_stem: StrictBool = False
    colour: Colour = "rgb"

    @classmethod
    def from_params(cls, model: ModelParams, size: int, colour: Colour = "rgb") -> NetworkSpec:
        """Describes the network that the settings of `model` name, for images of `size` pixels a side."""
        return cls(**model.model_dump(exclude={"pretrained"}), size=size, colour=colour)


_LIMITS: Final = TypeAdapter(NetworkSpec)
"""The fields' limits, those of params.yaml: a spec is held to them when its network is built, not before."""


class AffectNetwork(nn.Module):
    """Faces to expression logits and valence-arousal.

    VA is nearly a function of the expression on AffectNet, so the "prototype" head expects the classes' mean VA
    under the predicted probabilities and learns a residual; "plain" is the paper's linear output. Both are held
    within [-1, 1].

    Attributes:
        reparameterized: Whether this is the form to export, made by `export.layers.reparameterize`.
        temperature: Divides the logits that come out, not those that the prototype head reads: valence and arousal do
            not depend on it. 1 but for `export.calibrate`, and no part of a checkpoint.

    Args:
        spec: The architecture.
        mean: Channel means of training pixels in [0, 1]; inside the network, so that no caller can forget them.
        deviation: Channel standard deviations likewise.
        prototypes: float [8, 2], mean VA of each expression in the training data.

    Raises:
        PocketAffectError: An unknown architecture, or a width or size that it cannot have.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    prototypes: torch.Tensor

    def __init__(
        self,
        spec: NetworkSpec,
        *,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        deviation: Sequence[float] = (0.25, 0.25, 0.25),
        prototypes: Sequence[Sequence[float]] = CLASS_MEAN_VA,
    ) -> None:
        super().__init__()
        _refuse_impossible(spec)
        self.spec = spec
        self.reparameterized = False
        self.temperature = 1.0
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("prototypes", torch.tensor(prototypes, dtype=torch.float32))
        self.backbone = build_backbone(
            spec.architecture, spec.width, spec.size, spec.dropout, full_resolution_stem=spec.full_resolution_stem
        )
        self.expression = nn.Linear(self.backbone.feature_dimension, len(EXPRESSIONS))
        self.valence_arousal = nn.Linear(self.backbone.feature_dimension, len(VALENCE_AROUSAL))
        if spec.head == "prototype":  # starts as the class lookup, learns away from it
            nn.init.zeros_(self.valence_arousal.weight)
            nn.init.zeros_(self.valence_arousal.bias)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predicts logits [n, 8] and valence-arousal [n, 2] from float [n, 3, size, size], RGB in [0, 1]."""
        features = self.backbone((images - self.mean) / self.deviation)
        logits = self.expression(features)
        valence_arousal = self.valence_arousal(features)
        if self.spec.head == "prototype":
            valence_arousal = valence_arousal + logits.softmax(dim=1) @ self.prototypes
        if self.temperature != 1:
            logits = logits / self.temperature
        if self.training and self.spec.head == "plain":
            # The paper's output is linear: a bound in training would leave rows beyond it without a gradient.
            return logits, valence_arousal
        return logits, valence_arousal.clamp(-1.0, 1.0)

    @torch.no_grad()
    def read_luma(self) -> None:
        """Lets the first layer read luma: each kernel's sum over the channels, spread over them by `LUMA`.

        Answers to grey faces stay what they are, since only the sum matters where the three channels are equal, and so
        are their means and deviations. Without it, colour excites differences between the channels that grey training
        faces never touched: a skin-like tint took accuracy from .67 to .51.
        """
        for layer in self.backbone.modules():
            if isinstance(layer, nn.Conv2d) and layer.in_channels == len(LUMA):  # each branch of the first layer
                shares = layer.weight.new_tensor(LUMA).view(3, 1, 1)
                layer.weight.copy_(layer.weight.sum(dim=1, keepdim=True) * shares)


def count_parameters(module: nn.Module) -> int:
    """Counts numbers that a model file stores: weights, and batch normalisation's means and variances."""
    state = module.state_dict()
    return sum(tensor.numel() for name, tensor in state.items() if not name.endswith("num_batches_tracked"))


def count_macs(module: nn.Module, size: int) -> int:
    """Counts multiply-accumulates of the convolutions and dense layers for one image of `size` pixels a side.

    A network that trains with parallel branches ships without them: give it to `reparameterize` first.
    """
    total = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += output[0].numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            total += output[0].numel() * layer.in_features

    hooks = [layer.register_forward_hook(count) for layer in module.modules()]
    was_training = module.training
    try:
        with torch.inference_mode():
            module.eval()(torch.zeros(1, 3, size, size))
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    return total


@dataclass(frozen=True)
class PretrainedWeights:
    """Where a backbone's first weights came from: tensors taken over, and those of ImageNet's classifier left behind.

    Attributes:
        source: "timm/NAME@REVISION" on the Hugging Face hub, or the local file's name.
        licence: The weights', as timm states it; None for a local file, which does not say. timm adds that ImageNet
            itself was released for non-commercial research, and that the meaning for weights is not settled.
    """

    source: str
    sha256: str
    licence: str | None
    matched: int
    dropped: int


def save_network(network: AffectNetwork, folder: Path, *, pretrained: PretrainedWeights | None = None) -> None:
    """Writes `model.safetensors` and `model.json`; the same weights always give the same bytes.

    `pretrained` is the origin of the backbone's first weights, to be recorded.

    Raises:
        ValueError: A reparameterised network: its layers are not those that `load_network` builds.
    """
    from safetensors.torch import save

    if network.reparameterized:
        raise ValueError("save the trained network; its reparameterised copy is for export alone")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(network.state_dict().items())}
    spec = asdict(network.spec)
    if network.spec.colour == "rgb":
        del spec["colour"]  # files of colour networks stay what they were before there were others
    with write_atomically(folder / WEIGHTS_FILE) as draft:
        draft.write_bytes(save(state))
    write_json(
        folder / SPEC_FILE,
        {
            **spec,
            "parameters": count_parameters(network),
            "macs": count_macs(network, network.spec.size),
            **({} if pretrained is None else {"pretrained": asdict(pretrained)}),
        },
    )


def _refuse_impossible(spec: NetworkSpec) -> None:
    smallest = find_design(spec.architecture).smallest_size
    if spec.size < smallest:
        raise PocketAffectError(
            f"params.yaml: preprocess.image_size is too small for {spec.architecture}, which halves it five times",
            found=spec.size,
            allowed=f"{smallest} and more",
        )
    try:
        _LIMITS.validate_python(asdict(spec))
    except ValidationError as error:
        raise PocketAffectError(
            f"params.yaml: model: no {spec.architecture} of this kind can be built", found=_describe(error)
        ) from None


def _describe(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
        f" ({problem['input']!r:.60})"
        for problem in error.errors()
    )


def load_network(folder: Path) -> AffectNetwork:
    """Reads what `save_network` wrote, in evaluation mode. Weights only: nothing in the files is executed.

    Raises:
        PocketAffectError: A file is missing or damaged, or the weights are another network's.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        content = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
        spec = _LIMITS.validate_python(
            {field.name: content[field.name] for field in fields(NetworkSpec) if field.name in content}
        )
        state = load_file(folder / WEIGHTS_FILE)
    except FileNotFoundError as error:
        raise PocketAffectError(f"{folder}: no trained model", found=str(error), todo="`dvc repro train`") from None
    except ValidationError as error:
        raise _damaged(folder, f"in {SPEC_FILE}, {_describe(error)}") from None
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _damaged(folder, f"{type(error).__name__}: {error}") from None
    broken = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise _damaged(folder, f"numbers that are not finite in {', '.join(broken)}")
    network = AffectNetwork(spec)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).splitlines()[1:2]).strip()  # line 0 only says that there are differences
        raise PocketAffectError(
            f"{folder}: the weights are not of {spec}",
            found=f"{first[:200]}…" if len(first) > 200 else first,
            todo="`dvc repro --force train`",
        ) from None
    return network.eval()


def _damaged(folder: Path, found: str) -> PocketAffectError:
    return PocketAffectError(f"{folder}: damaged model", found=found, todo="`dvc repro --force train`")


def build_backbone(
    name: str, width: float, size: int, dropout: float = 1.0, *, full_resolution_stem: bool = False
) -> Backbone | PhoneBackbone:
    """Builds a network from float [n, 3, size, size] to features [n, feature_dimension], with random weights.

    Only the paper's pooled networks have layers that depend on the size. With `full_resolution_stem` the first
    convolution takes every pixel and not every second: total stride 16 in place of 32, the same weights, about four
    times the multiplications. It is for faces of 64 pixels and less, of which stride 32 leaves 2 x 2 places; designs
    that start at full resolution stay as they are.
    """
    design = find_design(name)
    if name in OWN_BACKBONES:
        backbone: Backbone | PhoneBackbone = OWN_BACKBONES[name](width, size, dropout)
    else:
        from pocketaffect.models.phone import build_phone  # timm takes two seconds to import

        backbone = build_phone(name, width, dropout)
    if full_resolution_stem and design.stem is not None:
        for layer in backbone.get_submodule(design.stem).modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
    return backbone
