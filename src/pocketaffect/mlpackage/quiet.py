"""coremltools without what it prints on every run: import-time warnings and progress bars."""

import functools
import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final

_KNOWN_NOTICES: Final = (
    # Conversions with this torch are what the interpreter verifies, so the version notice says nothing new.
    "Torch version",
    "scikit-learn version",
    "XGBoost version",
    # Apple's runtime is absent on every system but macOS.
    "Failed to load _ML",
    # The two outputs of every network here.
    "Tuple detected at graph output",
)


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_KNOWN_NOTICES)


def import_coremltools(module: str = "coremltools") -> ModuleType:
    """Imports coremltools (or a module of it), which takes seconds, with its known notices filtered out."""
    logger = logging.getLogger("coremltools")
    if _is_news not in logger.filters:
        logger.addFilter(_is_news)
    return importlib.import_module(module)


@contextmanager
def quiet_conversion() -> Iterator[None]:
    """Hides coremltools' progress bars and deprecation notices of what it needs of torch while it lasts."""
    from tqdm import tqdm

    shown = tqdm.__init__
    tqdm.__init__ = functools.partialmethod(shown, disable=True)
    try:
        with warnings.catch_warnings():
            # Traced programs are smaller than exported ones (evidence-coreml, 1).
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=FutureWarning)
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
            # torch.ao's fake quantisation, which coremltools is built on.
            warnings.filterwarnings("ignore", message=r"torch\.quantize_per_tensor", category=UserWarning)
            # A dead channel has scale 0; its weights decode to 0, as verification sees.
            warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"coremltools\.optimize\._utils")
            yield
    finally:
        tqdm.__init__ = shown
