"""Writing a file so that a reader, or a run cut off, sees the old one or the whole new one."""

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Writes `content` to `path` by way of a file beside it; an OSError leaves neither."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
