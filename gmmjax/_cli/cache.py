"""Where the command line keeps compiled programs between commands, and for which machine."""

import functools
import hashlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from gmmjax._cli.store import Store

_in_use: list[Store] = []  # none until the process is one of this command's own
OFF = ("", "0", "off", "no", "none", "false")


def open_store(environment=os.environ) -> Store | None:
    """The user's own folder of programs, or None where there is none to be had."""
    folder = _folder(environment)
    if folder is None:
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except OSError:
        return None
    # Programs are run as they are found: nobody else may be able to put one there.
    is_own = not hasattr(os, "getuid") or state.st_uid == os.getuid()
    is_private = os.name == "nt" or not state.st_mode & 0o022
    return Store(folder) if is_own and is_private and os.access(folder, os.W_OK) else None


def _folder(environment):
    """`GMMJAX_CACHE` where it is set, else as the XDG rules have it."""
    asked = environment.get("GMMJAX_CACHE")
    if asked is not None:
        return None if asked.strip().lower() in OFF else Path(asked).expanduser()
    base = Path(environment.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".cache"
        except RuntimeError:  # no home
            return None
    return base / "gmmjax"


@functools.cache
def surroundings() -> str:
    """All that a compiled program depends on beside what it computes, in one word."""
    parts = [sys.version, platform.machine(), _processor(), os.environ.get("XLA_FLAGS", "")]
    parts += [metadata.version(name) for name in ("jax", "jaxlib", "numpy")]
    digest = hashlib.sha256("\0".join(parts).encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _processor():
    """The processor and what it can do: programs are made for one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def use(store: Store) -> None:
    """Keep programs in a store for the rest of this process."""
    _in_use[:] = [store]


def in_use() -> Store | None:
    """Where this process keeps programs, if anywhere."""
    return _in_use[0] if _in_use else None
