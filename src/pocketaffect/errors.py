"""The one error a user meets: what is wrong, what was found, what is allowed, what to do."""

from pocketaffect.names import show_name


class PocketAffectError(Exception):
    """A problem that the user can fix; stages and the command line print it without a traceback.

    Args:
        problem: The wrong file, row or params.yaml key, and how it is wrong.
        found: The value found there.
        allowed: The values that would have been accepted.
        todo: The next thing for the user to do.
    """

    def __init__(
        self, problem: str, *, found: object | None = None, allowed: object | None = None, todo: str | None = None
    ) -> None:
        self.problem = show_name(problem)
        self.todo = todo
        lines = [self.problem]
        for name, value in (("found", found), ("allowed", allowed), ("do", todo)):
            if value is not None:
                lines.append(f"  {name + ':':<9}{show_name(value)}")
        super().__init__("\n".join(lines))

    def in_one_line(self) -> str:
        """Writes the same in one line, for a row of a table."""
        return "; ".join(" ".join(line.split()) for line in str(self).splitlines())


class UnfitError(PocketAffectError):
    """A network whose package is over the budget, or fails a check of `export`; another network may still do."""
