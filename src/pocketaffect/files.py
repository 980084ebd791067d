"""Files and folders that appear whole or not at all."""

import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final

from pocketaffect.errors import PocketAffectError

DECIMALS: Final = 6
"""Digits after the point that are written: more would differ with the order of sums, fewer would hide small steps."""

_FULL: Final = re.compile(
    r"No space left on device|Disk quota exceeded|disk is full|\d+ requested and \d+ written|unexpected pos \d+ vs"
)
_TOO_LARGE: Final = re.compile("File too large|disk I/O error")
"""Texts of writers that pass no error number on: those in Rust, SQLite, NumPy, PyTorch."""

_NO_PLACE: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


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
    except Exception as error:
        if refused := explain_failed_write(error, target):
            raise refused from error
        if isinstance(error, OSError) and error.errno in _NO_PLACE:
            raise PocketAffectError(f"{target}: cannot be written", found=error) from error
        raise
    finally:
        if old.exists() and not target.exists():
            old.replace(target)
        _remove(draft)
        _remove(old)


def explain_failed_write(error: BaseException, place: Path) -> PocketAffectError | None:
    """Says that the disk is full or a file may not grow, where that is what an error or one behind it comes from.

    `place` is the file to be written, or a folder on the same disk.
    """
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    numbers, texts = {getattr(one, "errno", None) for one in chain}, " ".join(map(str, chain))
    most = _file_limit()
    if errno.EFBIG in numbers or (most and (_TOO_LARGE.search(texts) or _FULL.search(texts))):
        return PocketAffectError(
            f"{place}: the system lets no file grow that far",
            found=" ".join(str(error).split())[:200],
            allowed=f"files of up to {most:,} bytes (`ulimit -f`)" if most else "what the file system allows",
            todo="`ulimit -f unlimited`, or write to another file system; then repeat the command",
        )
    if numbers & {errno.ENOSPC, errno.EDQUOT} or _FULL.search(texts):
        return PocketAffectError(
            f"{place}: disk full",
            found=f"{shutil.disk_usage(_existing(place)).free:,} bytes free",
            todo="free some space (`dvc gc --workspace` removes old cached outputs), then repeat the command",
        )
    return None


def _file_limit() -> int | None:
    """Reads how many bytes a file of this process may have; None for any number."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if most == resource.RLIM_INFINITY else most


def _remove_abandoned(target: Path) -> None:
    """Removes drafts left by killed processes, or by an earlier process with our PID."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*"):
        pid, _, kind = left.name.removeprefix(f".{target.name}.").partition(".")
        if kind not in ("draft", "old") or not pid.isdecimal():
            continue
        if int(pid) == os.getpid() or not _is_running(int(pid)):
            if kind == "old" and not target.exists():
                left.replace(target)  # killed between two moves: this is the last good one
            _remove(left)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def write_json(target: Path, content: Any) -> None:
    """Writes `content` as JSON with a fixed form (keys sorted, two spaces), so that equal content is equal bytes.

    Raises:
        ValueError: A number is NaN or infinite, which JSON has no form for.
    """
    text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    with write_atomically(target) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


def to_plain(value: Any, *, significant: int | None = None) -> Any:
    """Turns dataclasses, mappings, sequences and arrays into JSON's types, whose files are the same bytes again.

    A number keeps so many significant digits, by default `DECIMALS` after the point. -0.0 becomes 0.0; NaN and
    infinity, for which JSON has no form, become None.
    """
    if isinstance(value, float):
        digits = round(value, DECIMALS) if significant is None else float(f"{value:.{significant}g}")
        return digits + 0.0 if math.isfinite(value) else None
    if hasattr(value, "tolist"):
        value = value.tolist()
    if is_dataclass(value):
        value = {part.name: getattr(value, part.name) for part in fields(value)}
    if isinstance(value, Mapping):
        return {name: to_plain(part, significant=significant) for name, part in value.items()}
    return [to_plain(part, significant=significant) for part in value] if isinstance(value, list | tuple) else value


def hash_file(file: Path, algorithm: str = "sha256") -> str:
    """Computes the hexadecimal digest of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def hash_folder(files: Mapping[str, Path]) -> str:
    """Computes DVC's hash of a folder with these files, by their places in it."""
    listing = [{"md5": hash_file(file, "md5"), "relpath": name} for name, file in sorted(files.items())]
    text = json.dumps(listing, sort_keys=True)
    return f"{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}.dir"


def hash_json(content: Any) -> str:
    """Computes the SHA-256 of JSON content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hash_text(file: Path) -> str:
    """Computes the SHA-256 of a text file, the same whether its lines end in LF or in CRLF."""
    return hashlib.sha256(file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a mapping from a YAML 1.2 file as DVC does: 1e-3 is a number, a repeated key is an error.

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
