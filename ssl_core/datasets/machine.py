"""The machine: its cores and its memory, as far as this process may use them; locks; files written whole; digests."""

import errno
import hashlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

SYSTEM = Path("/")  # below which /proc and /sys lie
# What `flock` answers where a file system has no locks: NFS without its lock daemon, Lustre without `-o flock`, some of FUSE.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ENOTTY}
_told: set[Path] = set()  # the folders without locks that the user has been told of


# --- cores and memory


def cores(system: Path = SYSTEM) -> int:
    """The number of processor cores that this process may use, at least 1: by its affinity and the quotas of its container.

    A quota of 1.5 cores counts as 2, for two runs can use it up and one cannot.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has no affinity
    for group in control_groups("cpu", system):
        quota, period = [*_words(group / "cpu.max"), "", ""][:2]
        quota = quota or " ".join(_words(group / "cpu.cfs_quota_us"))  # version 1; −1 is no limit
        period = period or " ".join(_words(group / "cpu.cfs_period_us"))
        if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
            count = min(count, math.ceil(int(quota) / int(period)))
    return count


def memory(system: Path = SYSTEM) -> int:
    """The memory in bytes that this process and its children may still take: what is free, within the limits of its container.

    Cached files count as free: the kernel drops them before a limit is reached.
    """
    free = psutil.virtual_memory().available
    for group in control_groups("memory", system):
        limits = [_bytes(group / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        used = _bytes(group / "memory.current") or _bytes(group / "memory.usage_in_bytes") or 0
        stat = _words(group / "memory.stat")
        table = dict(zip(stat[::2], stat[1::2], strict=False))
        for name in ("inactive_file", "active_file"):  # version 1 counts those of groups below under another name
            used -= int(table.get(f"total_{name}", table.get(name, 0)))
        free = min([free, *(limit - max(0, used) for limit in limits if limit is not None)])
    return max(0, free)


def control_groups(controller: str, system: Path = SYSTEM) -> list[Path]:
    """The folders of the control groups of this process with `controller`, each followed by those around it.

    Version 2 has one tree for all controllers, version 1 one for each; a machine can have both. None outside Linux.
    """
    folders: list[Path] = []
    inside = {}
    for line in _lines(system / "proc/self/cgroup"):  # number:controllers:path
        _, controllers, place = [*line.split(":", 2), "", ""][:3]
        inside.update(dict.fromkeys(controllers.split(","), place))
    for line in _lines(system / "proc/self/mountinfo"):  # … root mount-point … - type device options
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), [*after.split(), "", "", ""][:3]
        of = "" if kind == "cgroup2" else controller  # the name of version 2 in /proc/self/cgroup is empty
        if kind not in ("cgroup", "cgroup2") or of not in inside or (of and of not in options.split(",")):
            continue
        root, point = (field.replace(r"\040", " ") for field in fields[3:5])
        top = system / point.lstrip("/")
        with suppress(ValueError):  # outside what is mounted: then the mount shows the groups around us
            below = Path(inside[of]).relative_to(root)
            folders += [top / part for part in (below, *below.parents) if ".." not in part.parts and part != Path()]
        folders.append(top)
    return folders


def _lines(file: Path) -> list[str]:
    """The lines of a file of the kernel; none if it is not there or may not be read."""
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _bytes(file: Path) -> int | None:
    """The number in a file of the kernel; None without one: `max` is no limit."""
    words = _words(file)
    return int(words[0]) if words and words[0].isdecimal() else None


# --- locks and files


@contextmanager
def lock(path: Path, timeout: float = -1) -> Iterator[None]:
    """Holds the lock `path` against other processes; waits for `timeout` seconds, or for ever if it is negative.

    On a file system without locks it goes on without one, and says so once. Raises filelock.Timeout if another process holds
    it, and OSError, in one line, if the file cannot be written.
    """
    held = FileLock(path, timeout=timeout, fallback_to_soft=False)  # a soft lock outlives a killed process
    try:
        held.acquire()
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS or error.filename is not None:  # a file name: it could not even be opened
            raise OSError(f"{path}: must be a file that can be written to ({error.strerror}{_owner(path)})") from None
        if path.parent not in _told:
            _told.add(path.parent)
            told = f"{path.parent}: this file system has no locks ({error.strerror}); let no two programs write there at once"
            print(told, file=sys.stderr, flush=True)
    try:
        yield
    finally:
        with suppress(OSError):  # a network drive that went away: what was done under the lock is done
            held.release()


def _owner(path: Path) -> str:
    """`; it belongs to NAME`, of the file or else its folder, if that is another user."""
    with suppress(OSError, KeyError, NotImplementedError):  # KeyError: a user without a name
        there = path if path.exists() else path.parent
        if there.stat().st_uid != os.geteuid():
            return f"; {there.name} belongs to {there.owner()}"
    return ""


def writable(parameter: str, folder: Path) -> Path:
    """`folder`, made if it is not there; raises ValueError, naming `parameter`, unless files can be written to it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")  # a full disk takes an empty file
            file.flush()
        return folder
    except (OSError, ValueError) as error:
        raise ValueError(f"{parameter}={str(folder)!r}: must be a folder that can be written to ({_reason(error)})") from None


def _reason(error: OSError | ValueError) -> str:
    """Why a path cannot be used, in words."""
    if isinstance(error, FileExistsError) and Path(error.filename).is_symlink():
        return "a link to what is not there"
    if isinstance(error, FileExistsError):
        return "it is a file"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces the file in one step: a reader, or a crash, sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def digest(value: object) -> str:
    """SHA-256, in hexadecimal digits, of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
