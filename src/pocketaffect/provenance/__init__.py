"""What a result was made from: which code decides it, and the digests that name code, settings and data."""
