"""The policy that a version is held to, the alias `champion`, and the log of its moves."""
