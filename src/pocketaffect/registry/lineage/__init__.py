"""Where a run, version or model file comes from."""
