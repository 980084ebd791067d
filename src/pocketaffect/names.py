r"""Names of files as text: Unix allows any bytes in them, JSON, Parquet, DVC and most readers only UTF-8.

Python keeps bytes that are not UTF-8 as surrogates, which cannot be written. In all that is written such a byte
stands as `\xe9`; tables of paths hold names in this form, and `restore_name` finds the file again.
"""

import os
import re
from typing import Final

SYSTEM_FILE: Final = r"(?i)(?:^|/)(?:\.[^/]*|thumbs\.db|desktop\.ini|__macosx)(/|$)"
"""Files that systems leave in folders, and hidden ones: nobody's data."""


def show_name(name: object) -> str:
    r"""Writes a name as text, with `\xe9` for a byte that is not UTF-8."""
    return re.sub("[\ud800-\udfff]", lambda found: _escape(ord(found[0])), str(name))


def _escape(code: int) -> str:
    return rf"\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else rf"\u{code:04x}"


def restore_name(shown: str) -> str:
    """Gives the name back that `show_name` wrote, for the system's functions."""
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda found: os.fsdecode(bytes.fromhex(found[1])), shown)


def find_on_disk(root: object, shown: str) -> str:
    """Finds the file below `root` that a table calls `shown`: the one that is spelt so, else the one that was meant."""
    plain = f"{root}/{shown}"
    if "\\x" not in shown or os.path.lexists(plain):
        return plain
    return f"{root}/{restore_name(shown)}"
