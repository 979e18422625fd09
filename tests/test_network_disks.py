"""A run's folder and the shared answers on a network file system: found, refused in one line, allowed on request."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import stepsynth
from stepsynth.errors import RunError
from stepsynth.run.answers import open_answers
from stepsynth.runtime import network_disks
from stepsynth.runtime.network_disks import network_disk
from world import World, build_world

LOCAL = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build_world(tmp_path_factory.mktemp("world"))


def mounts(folder: Path, *lines: str) -> Path:
    path = folder / "mountinfo"
    path.write_text("\n".join([LOCAL, *lines]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        *((name, True) for name in ("nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "ceph", "9p", "beegfs", "vboxsf")),
        *((f"fuse.{name}", True) for name in ("sshfs", "s3fs", "glusterfs", "ceph-fuse", "rclone", "gcsfuse", "juicefs")),
        *((name, False) for name in ("ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "fuse.mergerfs", "virtiofs")),
    ],
)
def test_network_file_systems_are_told_from_local_ones(tmp_path: Path, kind: str, found: bool) -> None:
    point = tmp_path / "share"
    point.mkdir()
    listed = mounts(tmp_path, f"40 27 0:50 / {point} rw - {kind} server:/export rw")
    assert network_disk(point / "runs" / "new", listed) == (kind if found else "")
    assert network_disk(tmp_path / "share2", listed) == ""


def test_the_innermost_and_last_mount_counts_and_links_are_followed(tmp_path: Path) -> None:
    outer, inner = tmp_path / "a share", tmp_path / "a share" / "scratch"
    inner.mkdir(parents=True)
    (tmp_path / "link").symlink_to(outer)
    spelled = str(outer).replace(" ", "\\040")
    lines = [f"40 27 0:50 / {spelled} rw - nfs4 server:/a rw", f"41 40 0:51 / {spelled}/scratch rw - ext4 /dev/vdb rw"]
    assert network_disk(tmp_path / "link" / "runs", mounts(tmp_path, *lines)) == "nfs4"
    assert network_disk(inner / "runs", mounts(tmp_path, *lines)) == ""
    assert network_disk(inner, mounts(tmp_path, *lines, f"42 41 0:52 / {spelled}/scratch rw - cifs //server/b rw")) == "cifs"


def test_a_sandbox_on_9p_and_a_system_without_the_list_are_let_be(tmp_path: Path) -> None:
    listed = tmp_path / "mountinfo"
    listed.write_text("27 1 0:5 / / rw - 9p none rw\n", encoding="utf-8")
    assert network_disk(tmp_path, listed) == ""
    assert network_disk(tmp_path, tmp_path / "missing") == ""


@pytest.fixture
def shared_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the kernel says is on NFS."""
    folder = tmp_path / "share"
    folder.mkdir()
    listed = mounts(tmp_path, f"40 27 0:50 / {folder} rw - nfs4 server:/export rw")
    monkeypatch.setattr(network_disks, "network_disk", lambda path: network_disk(path, listed))
    return folder


@pytest.mark.parametrize("command", ["run", "compare"])
def test_a_run_there_is_refused_in_one_line_and_touches_nothing(
    world: World, shared_disk: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = stepsynth(capsys, command, world.config_path, "--out", shared_disk / "out", "-q")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "lies on a network file system (nfs4)" in outcome.err
    assert "--out" in outcome.err
    assert "STEPSYNTH_NETWORK_DISK=allow" in outcome.err
    assert list(shared_disk.iterdir()) == []


@pytest.mark.parametrize("command", ["run", "compare"])
def test_shared_answers_there_are_refused_before_anything_is_written(
    world: World,
    shared_disk: Path,
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STEPSYNTH_ANSWERS", str(shared_disk / "answers.db"))
    outcome = stepsynth(capsys, command, world.config_path, "--out", tmp_path / "out", "--set", "cache=user", "-q")
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)
    assert "the file of shared answers" in outcome.err
    assert (list(shared_disk.iterdir()), (tmp_path / "out").exists()) == ([], False)


def test_shared_answers_there_are_refused(world: World, shared_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"file of shared answers .*nfs4.*STEPSYNTH_ANSWERS=FILE"):
        open_answers(shared_disk / "answers.db", world.config().teacher, print)
    assert list(shared_disk.iterdir()) == []


def test_those_who_know_may_allow_it(world: World, shared_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPSYNTH_NETWORK_DISK", "allow")
    answers = open_answers(shared_disk / "answers.db", world.config().teacher, print)
    assert answers is not None
    answers.close()
