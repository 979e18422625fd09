"""Finds out whether a folder lies on a network file system, where SQLite loses data.

    refuse_network_disk(Path("runs/tickets"), "the run directory", "Give a folder on a local disk.")

SQLite's write-ahead log shares memory between processes of one machine and trusts the file system's locks; network file
systems give neither (https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from stepsynth.errors import RunError

__all__ = ["network_disk", "refuse_network_disk"]

_MOUNTS = Path("/proc/self/mountinfo")
# Set to "allow" by those who know that the file system is mounted on one machine only.
_OVERRIDE = "STEPSYNTH_NETWORK_DISK"
# fmt: off
_NETWORK = frozenset(
    {
        "9p", "afpfs", "afs", "beegfs", "beegfs_nodev", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs2", "glusterfs",
        "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb2", "smb3", "smbfs",
        "vboxsf", "vmhgfs", "wekafs"
    }
)
# fmt: on
# The part after "fuse."; a driver in user space may also serve a local disk (ntfs-3g, mergerfs).
_FUSE = re.compile(
    r"fuse\.(afp|beegfs|blobfuse|ceph|cvmfs|davfs|dbfs|gcsfuse|geesefs|gluster|goofys|gpfs|grpcfuse|hdfs|juicefs|lustre|mfs|"
    r"moosefs|mountpoint|nfs|osxfs|rclone|s3|seaweedfs|smb|sshfs|vmhgfs|weed|weka)"
)


def network_disk(path: Path, mounts: Path = _MOUNTS) -> str:
    """Return the network file system that a path lies on, as the kernel names it; empty for a local disk, or if unknown.

    Args:
        path: a file or folder, which need not exist yet.
        mounts: the kernel's list of mounts; systems other than Linux have none.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        real = os.path.realpath(path)
    except (OSError, ValueError):
        return ""
    found, longest = "", -1
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()[:1]
        if len(fields) < 5 or not kind:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        # Of several mounts on one folder, the last one counts.
        if len(point) >= longest and (real + "/").startswith(point.rstrip("/") + "/"):
            found, longest = kind[0], len(point)
    # Some sandboxes present their own disk as 9p.
    if found == "9p" and longest == 1:
        return ""
    return found if found in _NETWORK or _FUSE.match(found) else ""


def refuse_network_disk(path: Path, what: str, hint: str) -> None:
    """Refuse to write a database onto a network file system, unless ``$STEPSYNTH_NETWORK_DISK`` is ``allow``.

    Args:
        path: where it is to be written.
        what: its name in the message.
        hint: where it may be instead.

    Raises:
        RunError: the path lies on a network file system.
    """
    if os.environ.get(_OVERRIDE) != "allow" and (kind := network_disk(path)):
        raise RunError(
            f"{what} {str(path)!r} lies on a network file system ({kind}), where SQLite can lose data.",
            hint=f"{hint} If only this machine writes there and its locks work, set {_OVERRIDE}=allow.",
        )
