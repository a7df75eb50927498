"""Files' own values between the look at their range and what is made of them, so that no file is decoded twice."""

import math
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np

from kdad.images.files.decoding import RawImage, decode_raw

_MOST = 0.5  # of the room for temporary files; a file whose values take more is decoded again


class RawValues:
    """Values of files, in a temporary file without a name (in TMPDIR), which is gone with the process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._end = 0
        self._kept: dict[Path, tuple[int, tuple[int, ...], np.dtype, str]] = {}

    @cached_property
    def _file(self) -> IO[bytes]:
        return tempfile.TemporaryFile(prefix="kdad-")

    @cached_property
    def _room(self) -> float:
        return _MOST * shutil.disk_usage(tempfile.gettempdir()).free

    def decode(self, path: Path) -> RawImage:
        """Decode a file and keep its values; raises `InputError` as `decode_raw`."""
        raw = decode_raw(path)
        with self._lock:
            if self._end + raw.pixels.nbytes <= self._room:
                self._file.seek(self._end)
                self._file.write(np.ascontiguousarray(raw.pixels).data)
                self._kept[path] = (self._end, raw.pixels.shape, raw.pixels.dtype, raw.mode)
                self._end += raw.pixels.nbytes
        return raw

    def take(self, path: Path) -> RawImage:
        """Return the values that were kept, or decode the file; raises `InputError` as `decode_raw`."""
        if path not in self._kept:
            return decode_raw(path)
        start, shape, dtype, mode = self._kept[path]
        with self._lock:
            self._file.seek(start)
            content = self._file.read(math.prod(shape) * dtype.itemsize)
        return RawImage(np.frombuffer(content, dtype).reshape(shape), mode)
