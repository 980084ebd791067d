"""Small facial-affect models for phones, from data to a verified Core ML file."""

from typing import Any

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Imports `AffectReader` when it is first asked for: `pocketaffect --help`, stages and workers do without."""
    if name != "AffectReader":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module(".predict.reader", __name__).AffectReader
