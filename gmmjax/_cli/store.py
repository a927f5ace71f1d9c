"""Files that may vanish, be cut short or be written by several processes at once."""

import hashlib
import os
import secrets
import time
from pathlib import Path
from typing import NamedTuple

MOST_BYTES = 256 << 20
ABANDONED = 3600.0  # seconds after which what a killed process was writing is removed


class Store(NamedTuple):
    """A folder of bytes by name, of which nothing is ever missed but time."""

    folder: Path

    def read(self, name: str) -> bytes | None:
        """What was written under a name; None where it is not there, or not as it was written."""
        path = self._path(name)
        try:
            written = path.read_bytes()
            os.utime(path)  # the oldest are removed first
        except OSError:
            return None
        digest, content = written[:32], written[32:]
        if digest == _digest(name, content):
            return content
        _remove(path)
        return None

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all; a folder that refuses is left as it is."""
        temporary = self.folder / f"{secrets.token_hex(8)}.tmp"
        try:
            temporary.write_bytes(_digest(name, content) + content)
            os.replace(temporary, self._path(name))
        except OSError:
            _remove(temporary)

    def trim(self, most: int = MOST_BYTES) -> None:
        """Remove what has not been read for longest, until no more than `most` bytes are left."""
        files = sorted(_ages(self.folder), reverse=True)
        kept = 0
        for last_use, size, path in files:
            kept += size
            abandoned = path.suffix == ".tmp" and last_use < time.time() - ABANDONED
            if kept > most or abandoned:
                _remove(path)

    def _path(self, name):
        return self.folder / f"{hashlib.sha256(name.encode()).hexdigest()[:40]}.program"


def _digest(name, content):
    """Of the name too: a file under another's name is not taken for it."""
    return hashlib.sha256(name.encode() + b"\0" + content).digest()


def _ages(folder):
    """When each file was last used, its size, and its path."""
    for path in folder.glob("*.*"):
        try:
            state = path.stat()
        except OSError:  # another process was faster
            continue
        yield state.st_mtime, state.st_size, path


def _remove(path):
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass
