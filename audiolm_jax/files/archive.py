"""Members of zip archives that other people wrote, read without trusting what the archive announces."""

import zipfile
from pathlib import Path
from types import TracebackType

# What is unpacked of one archive together: arrays of numbers compress to a half, seldom to a fiftieth.
_LEAST_LIMIT_BYTES, _LARGEST_RATIO = 1 << 24, 50
# How NumPy and PyTorch write. The decoder of LZMA takes as much memory as its data asks for.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Archive:
    """An open archive; to be used in a `with` statement.

    Attributes:
        names: of the members.
    """

    def __init__(self, path: Path):
        """Opens it; OSError as `open` gives it, ValueError for what is no zip archive, or a damaged one."""
        self._left_bytes = max(_LEAST_LIMIT_BYTES, _LARGEST_RATIO * Path(path).stat().st_size)
        try:
            self._file = zipfile.ZipFile(path)
        except OSError:
            raise
        except Exception as error:  # whatever zipfile makes of a damaged directory
            raise ValueError(f"no zip archive ({error})") from error
        self.names = self._file.namelist()

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def read(self, name: str) -> bytes:
        """The bytes of a member; ValueError if it is missing, damaged, or far larger than the archive can well hold."""
        try:
            info = self._file.getinfo(name)
            self._left_bytes -= info.file_size
            if self._left_bytes < 0 or info.compress_type not in _COMPRESSIONS:
                raise ValueError("it is compressed as no array is")
            return self._file.read(info)
        except Exception as error:  # whatever zipfile and zlib make of a damaged member
            raise ValueError(f"{name} is missing or damaged ({error})") from error
