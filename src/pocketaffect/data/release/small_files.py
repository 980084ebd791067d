"""Many small files of a data folder, loose or archived, read in a few microseconds each."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from pocketaffect.data.faces.images import ImageProblemError
from pocketaffect.data.release.places import Place, check_header, check_inside, measure_header, read_place
from pocketaffect.names import find_on_disk

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

    from pocketaffect.data.release.folder import DataFolder

MAX_BYTES: Final = 1 << 16
"""A larger annotation file is none: the landmarks take about a kilobyte."""


class FileReader:
    """Reads files by their position in a list, in the order in which they lie on the disk.

    Uncompressed members are read straight from their archive, loose files without following links; all others go
    through `read_place`, which takes ten times as long.

    Args:
        folder: The data folder.
        paths: The files' paths there.
        places: What `folder.locate(paths)` says of them.
    """

    def __init__(self, folder: DataFolder, paths: pa.StringArray, places: pd.DataFrame) -> None:
        import numpy as np

        self._root, self._paths = folder.root, paths
        self._offset = places["offset"].to_numpy(dtype=np.int64)
        self._length = places["length"].to_numpy(dtype=np.int64)
        self._deflated = places["deflated"].to_numpy(dtype=bool)
        codes, archives = places["archive"].factorize()
        self._archive = codes.astype(np.int64)
        self._archives = [str(name) for name in archives]
        self._descriptors: dict[int, int] = {}  # by the archive's code
        self._trusted: dict[str, bool] = {}

    def __enter__(self) -> FileReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def read(self, chosen: npt.NDArray[np.int64]) -> list[Any]:
        """The bytes of the chosen files, or a text that says why there are none."""
        import numpy as np

        contents: list[Any] = [None] * len(chosen)
        order = np.lexsort((self._offset[chosen], self._archive[chosen]))
        files = chosen[order]
        paths = self._paths.take(files).to_pylist()
        rows = zip(
            order.tolist(),
            paths,
            self._archive[files].tolist(),
            self._offset[files].tolist(),
            self._length[files].tolist(),
            self._deflated[files].tolist(),
            strict=True,
        )
        for target, path, archive, offset, length, deflated in rows:
            place, content = Place(path, self._archives[archive], offset, length, deflated), None
            if place.is_loose:
                content = self._read_loose(place.archive + path)
            elif offset > 0 and length <= MAX_BYTES and not deflated:
                content = self._read_member(archive, place)
            contents[target] = content or self._read_strictly(place)
        return contents

    def _read_strictly(self, place: Place) -> bytes | str:
        try:
            return read_place(self._root, place, limit=MAX_BYTES)
        except ImageProblemError as error:
            return str(error)

    def _read_member(self, archive: int, place: Place) -> bytes | None:
        """None for what is not the member that was listed."""
        room = measure_header(place)
        try:
            content = os.pread(self._open(archive), room + place.length, place.offset - room)
            checksum = check_header(content[:room], place)
        except ImageProblemError:
            return None
        except OSError as error:
            _raise_shortage(error)
            return None
        data = content[room:]
        if len(data) < place.length or checksum not in (None, zlib.crc32(data)):
            return None
        return data

    def _open(self, archive: int) -> int:
        if archive not in self._descriptors:
            self._descriptors[archive] = os.open(check_inside(self._root, self._archives[archive]), os.O_RDONLY)
        return self._descriptors[archive]

    def _read_loose(self, path: str) -> bytes | None:
        """None for what is no plain file in a folder that is inside the data folder."""
        parent = path.rpartition("/")[0]
        if parent not in self._trusted:
            try:
                check_inside(self._root, f"{parent}/any")
                self._trusted[parent] = True
            except ImageProblemError:
                self._trusted[parent] = False
        if not self._trusted[parent]:
            return None
        try:
            file = os.open(find_on_disk(self._root, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            _raise_shortage(error)
            return None
        try:
            content = os.read(file, MAX_BYTES + 1)
            plain = len(content) > 0 or stat.S_ISREG(os.fstat(file).st_mode)
            return content if plain and len(content) <= MAX_BYTES else None
        except OSError:
            return None
        finally:
            os.close(file)


def _raise_shortage(error: OSError) -> None:
    """Too many open files say nothing about this one."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise error
