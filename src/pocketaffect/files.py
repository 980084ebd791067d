"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import glob
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pocketaffect.errors import PocketAffectError


@contextmanager
def write_atomically(target: Path) -> Iterator[Path]:
    """Gives a temporary path beside `target` to write to, and moves it into place when the block ends well.

    The path may become a file or a folder. When the block fails, what it wrote is removed and `target` stays as
    it was.

    Raises:
        PocketAffectError: The disk is full, or the place cannot be written to.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        yield draft
        if target.exists() and (target.is_dir() or draft.is_dir()):
            # Only a file can replace a file in one step; the rest is moved aside, which takes no time, then removed.
            _remove(old)
            target.replace(old)
        draft.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PocketAffectError(
                f"{target}: disk full",
                found=f"{shutil.disk_usage(_existing(target)).free:,} bytes free",
                todo="free some space (`dvc gc --workspace` removes old cached outputs), then repeat the command",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG):
            raise PocketAffectError(f"{target}: cannot be written", found=error) from error
        raise
    finally:
        if old.exists() and not target.exists():
            old.replace(target)
        _remove(draft)
        _remove(old)


def _remove_abandoned(target: Path) -> None:
    """Clears up after processes that were killed, and after one that had our number."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*"):
        number, _, kind = left.name.removeprefix(f".{target.name}.").partition(".")
        if kind not in ("draft", "old") or not number.isdecimal():
            continue
        if int(number) == os.getpid() or not _is_running(int(number)):
            if kind == "old" and not target.exists():
                left.replace(target)  # killed between two moves: this is the last good one
            _remove(left)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_json(target: Path, content: Any) -> None:
    """Writes `content` as JSON with a fixed form (keys sorted, two spaces), so that equal content is equal bytes.

    Raises:
        ValueError: A number is NaN or infinite, which JSON has no form for.
    """
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with write_atomically(target) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML 1.2 file, as DVC reads it: 1e-3 is a number, a repeated key is an error.

    An empty mapping where the file is missing.

    Raises:
        PocketAffectError: The file is not readable as YAML, or holds no mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PocketAffectError(f"{path}: not readable", found=error.strerror) from None
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a date like 2018-99-99
        found = " ".join(str(error).replace(' in "<unicode string>"', "").split())
        raise PocketAffectError(f"{path}: not readable as YAML", found=found) from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise PocketAffectError(f"{path}: no settings", found=found, allowed="keys with values")
    return content
