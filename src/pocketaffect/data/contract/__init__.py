"""The rules that every row is held to, and what becomes of those that break one."""
