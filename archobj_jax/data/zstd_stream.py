"""Reading zstd files of several frames to their end, which must be where the last frame ends.

The readers at hand (zstandard's `stream_reader`, fsspec's "zstd") stop after the first frame, or
take a file that was cut short for a whole one.
"""

import io
from typing import BinaryIO

import zstandard

_CHUNK = 1 << 20


class ZstdStream(io.RawIOBase):
    """The decompressed bytes of `source`; wrap it in `io.BufferedReader` to read lines.

    Reading raises an OSError if the bytes are damaged, an EOFError if a frame is cut short.
    """

    def __init__(self, source: BinaryIO):
        self._source = source
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False  # whether `_frame` has been fed anything
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]  # typeshed's WriteableBuffer
        """Fills `buffer` with up to its length; returns 0 at the end of the last frame."""
        while not self._ready:
            compressed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame, self._begun = zstandard.ZstdDecompressor().decompressobj(), False
            compressed = compressed or self._source.read(_CHUNK)
            if not compressed:
                if self._begun:
                    raise EOFError("its last zstd frame is cut short")
                return 0
            self._begun = True
            try:
                self._ready = memoryview(self._frame.decompress(compressed))
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from error
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def close(self) -> None:
        """Closes `source` too."""
        self._source.close()
        super().close()
