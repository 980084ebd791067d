"""Proves a registered version again: from its commit, its data and its settings, in another place."""
