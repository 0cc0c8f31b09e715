"""The data directory: made, checked and locked."""

import os
from pathlib import Path

import pytest

from config.paths import Paths
from supervisor.directories import Lock, prepare
from supervisor.errors import StartError


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A tree's paths, nothing made yet."""
    return Paths(tmp_path / "x" / "data", tmp_path / "x" / "data" / "run")


def test_directories_are_made_for_the_owner_alone(paths: Paths) -> None:
    prepare(paths)
    prepare(paths)
    for directory in (paths.data_dir, paths.runtime_dir, paths.deaths.parent):
        assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_may_write_to_is_refused(paths: Paths, mode: int) -> None:
    prepare(paths)
    paths.data_dir.chmod(mode)
    with pytest.raises(StartError, match=rf"chmod 700 {paths.data_dir}"):
        prepare(paths)


def test_a_directory_of_somebody_else_is_refused(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(paths)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(StartError, match=f"belongs to user {owner}, and this is user {owner + 1}"):
        prepare(paths)


def test_a_file_in_the_way_is_refused(paths: Paths) -> None:
    paths.data_dir.parent.mkdir()
    paths.data_dir.write_text("")
    with pytest.raises(StartError, match="is not a directory"):
        prepare(paths)


def test_a_second_lock_is_refused_and_names_who_holds_it(paths: Paths) -> None:
    prepare(paths)
    lock = Lock(paths)
    with pytest.raises(StartError, match=rf"process {os.getpid()}\) already runs on {paths.data_dir}"):
        Lock(paths)
    lock.release()
    Lock(paths).release()


def test_a_shared_runtime_directory_is_refused(paths: Paths, tmp_path: Path) -> None:
    other = Paths(tmp_path / "other", paths.runtime_dir)
    prepare(paths)
    prepare(other)
    lock = Lock(paths)
    with pytest.raises(StartError, match="another supervisor uses the runtime directory"):
        Lock(other)
    lock.release()


def test_what_a_killed_supervisor_left_behind_is_removed(paths: Paths) -> None:
    prepare(paths)
    (paths.runtime_dir / "pymp-abc").mkdir()
    (paths.runtime_dir / "pymp-abc" / "listener-x").write_text("")
    Lock(paths).release()
    assert list(paths.runtime_dir.iterdir()) == []
    assert paths.lock.stat().st_mode & 0o777 == 0o600
