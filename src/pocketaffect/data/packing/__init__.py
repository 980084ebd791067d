"""A data set as a few deterministic tars."""
