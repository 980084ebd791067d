"""Small facial-affect models for phones, from data to a verified Core ML file."""

__version__ = "0.1.0"
