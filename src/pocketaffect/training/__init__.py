"""Losses, the Lightning module, and the fit that survives a kill."""
