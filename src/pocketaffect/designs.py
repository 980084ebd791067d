"""The designs that a network can be built on: where each comes from, what it may be used for, what it can take.

The one home of the names that `model.architecture` may have.
"""

from dataclasses import dataclass
from typing import Final

from pocketaffect.errors import PocketAffectError

HUB: Final = "hub"
"""Value of `model.pretrained` for timm's weights on the Hugging Face hub."""

SMALLEST_SIZE: Final = 32
"""Every design halves its input five times: below this, the last feature map is made of padding alone."""


@dataclass(frozen=True)
class Design:
    """An architecture, apart from its width: its name (timm's own where timm builds it), and the paper.

    Attributes:
        source: Address of the code that defines the layers, and of its licence.
        dropout: Rate after pooling that its authors train with; `model.dropout` multiplies it.
        stem: The module that holds the first, strided convolutions; None when the input's resolution is kept.
        reparameterised: Trains with more branches than it ships: `reparameterize` makes them one.
        weights: timm's name of its ImageNet weights at width 1; None where there are none.
        licence: Licence of that code (SPDX).
        smallest_size: Pixels a side of the smallest input.
    """

    name: str
    citation: str
    source: str
    dropout: float
    stem: str | None
    reparameterised: bool = False
    weights: str | None = None
    licence: str = "Apache-2.0"
    smallest_size: int = SMALLEST_SIZE


_PAPER: Final = "Hewitt & Gunes 2018, arXiv 1807.08775"
_PAPER_SOURCE: Final = "pocketaffect, written from the paper's tables"


def _timm_source(origin: str) -> str:
    return f"timm, https://github.com/huggingface/pytorch-image-models; after {origin}"


CATALOGUE: Final[dict[str, Design]] = {
    design.name: design
    for design in (
        Design("alexnet", _PAPER, _PAPER_SOURCE, dropout=0.5, stem=None),
        Design("vgg", _PAPER, _PAPER_SOURCE, dropout=0.5, stem=None),
        Design("mobilenet", _PAPER, _PAPER_SOURCE, dropout=0.3, stem="stem"),
        Design(
            "resnet10",
            "He et al. 2016, arXiv 1512.03385; one basic block a stage, for small faces",
            "pocketaffect, written from the paper's tables",
            dropout=0.2,
            stem="stem",
        ),
        Design(
            "mobilenetv3_small",
            "Howard et al. 2019, arXiv 1905.02244",
            _timm_source("https://github.com/tensorflow/models (Apache-2.0)"),
            dropout=0.2,
            stem="model.conv_stem",
            weights="mobilenetv3_small_100.lamb_in1k",
        ),
        Design(
            "mobilenetv3_large",
            "Howard et al. 2019, arXiv 1905.02244",
            _timm_source("https://github.com/tensorflow/models (Apache-2.0)"),
            dropout=0.2,
            stem="model.conv_stem",
            weights="mobilenetv3_large_100.ra_in1k",
        ),
        Design(
            "mobilenetv4_conv_small",
            "Qin et al. 2024, arXiv 2404.10518",
            _timm_source("https://github.com/tensorflow/models (Apache-2.0)"),
            dropout=0.3,
            stem="model.conv_stem",
            weights="mobilenetv4_conv_small.e2400_r224_in1k",
        ),
        Design(
            "efficientnet_lite0",
            "Tan & Le 2019, arXiv 1905.11946; lite: without squeeze-and-excitation, ReLU6",
            _timm_source("https://github.com/tensorflow/tpu (Apache-2.0)"),
            dropout=0.2,
            stem="model.conv_stem",
            weights="efficientnet_lite0.ra_in1k",
        ),
        Design(
            "repvgg_face",
            "Ding et al. 2021, arXiv 2101.03697; seven layers, for faces of 48 and 64 pixels",
            _timm_source("https://github.com/DingXiaoH/RepVGG (MIT)"),
            dropout=0.2,
            stem="model.stem",
            reparameterised=True,
        ),
        Design(
            "repvit_m0_9",
            "Wang et al. 2023, arXiv 2307.09283",
            _timm_source("https://github.com/THU-MIG/RepViT (Apache-2.0)"),
            dropout=0.0,
            stem="model.stem.conv1",
            reparameterised=True,
            weights="repvit_m0_9.dist_450e_in1k",
        ),
        Design(
            "mobileone_s0",
            "Vasu et al. 2022, arXiv 2206.04040",
            _timm_source("https://github.com/apple/ml-mobileone (Apple's own terms, no patent licence)"),
            dropout=0.0,
            stem="model.stem",
            reparameterised=True,
            weights="mobileone_s0.apple_in1k",
        ),
    )
}
"""Name to design. The licences are those of the code; pretrained weights have their own (`models.pretrained`)."""


def find_design(name: str) -> Design:
    """Finds the design called `name`.

    Raises:
        PocketAffectError: There is none.
    """
    if name not in CATALOGUE:
        raise PocketAffectError("params.yaml: model.architecture", found=name, allowed=", ".join(CATALOGUE))
    return CATALOGUE[name]


def known_design(name: str) -> str:
    """Returns `name` itself, for validators of settings.

    Raises:
        ValueError: No design is called that.
    """
    if name not in CATALOGUE:
        raise ValueError(f"no such architecture; there are {', '.join(CATALOGUE)}")
    return name
