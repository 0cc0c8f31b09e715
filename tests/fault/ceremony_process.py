"""Changes of the hierarchy that end by SIGKILL before a call that touches the disk: `-m tests.fault.ceremony_process`.

CHANGE DIRECTORY    makes an authority, then for N = 1, 2, ... in a fork each: the change, which dies before the Nth
                    such call; then the next start, which must find the hierarchy as before or as after, whole,
                    and the same change must succeed; prints `N before` or `N after`, then `done N`
"""

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from services.ca.hierarchy import hierarchy
from services.ca.hierarchy.files import HierarchyFiles
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.hierarchy.keyring import Keyring
from services.ca.hierarchy.old_layout import take_over
from services.ca.keys.key_files import is_encrypted
from tests.fault.ca_process import die_at_call, in_a_fork
from tests.unit.ca.authorities import NOW, hierarchy_of, rotated
from tests.unit.ca.test_old_layout import old_layout

PASSPHRASE = b"correct horse"


def files_in(ca_dir: Path, keyring: Keyring | None = None) -> HierarchyFiles:
    return HierarchyFiles(ca_dir, ca_dir / "root.pem", keyring)


def made(ca_dir: Path) -> None:
    files = files_in(ca_dir)
    files.commit(hierarchy_of())
    files.publish(files.load())


def rotate_root(ca_dir: Path) -> None:
    files = files_in(ca_dir)
    before = files.load()
    files.publish(before)
    if len(before.roots) == 1:
        files.commit(rotated(before, "root"))
    files.publish(files.load())


def remove_root_key(ca_dir: Path) -> None:
    files = files_in(ca_dir)
    before = files.load()
    files.commit(before.without_root_key(before.active_root().id))


def encrypt(ca_dir: Path) -> None:
    files = files_in(ca_dir, Keyring(PASSPHRASE))
    files.encrypt_keys(files.load())


def take(ca_dir: Path) -> None:
    files = files_in(ca_dir)
    take_over(ca_dir, files, lambda: NOW)
    files.publish(files.load())


def old(ca_dir: Path) -> None:
    old_layout(ca_dir)


# How it is made, how it is changed, and whether the change has happened.
CHANGES: dict[str, tuple[Callable[[Path], None], Callable[[Path], None], Callable[[Path], bool]]] = {
    "rotate-root": (made, rotate_root, lambda ca_dir: len(loaded(ca_dir).roots) == 2),
    "remove-root-key": (made, remove_root_key, lambda ca_dir: loaded(ca_dir).active_root().private_key is None),
    "encrypt": (made, encrypt, lambda ca_dir: all(map(is_encrypted, keys(ca_dir)))),
    "take-over": (old, take, lambda ca_dir: not (ca_dir / "hierarchy").exists()),
}


def loaded(ca_dir: Path) -> Hierarchy:
    """What the next start finds: whole, and able to sign."""
    found = files_in(ca_dir, Keyring(PASSPHRASE)).load()
    hierarchy.verify(found)
    for issuer in found.issuers.values():
        hierarchy.prove(issuer)
    return found


def keys(ca_dir: Path) -> list[bytes]:
    return [path.read_bytes() for path in ca_dir.glob("authorities/*/key.pem")]


def start(ca_dir: Path, change: str) -> None:
    """The next start, and the change, which has to succeed now."""
    _, act, happened = CHANGES[change]
    if change != "take-over":
        loaded(ca_dir)
    act(ca_dir)
    if not happened(ca_dir):
        sys.exit(f"{change} did not happen")
    left = [path for path in ca_dir.rglob(".*") if path.is_file()]
    if left:
        sys.exit(f"{left} are left")


def main(change: str, directory: str) -> None:
    prepare, act, happened = CHANGES[change]
    ca_dir, prepared = Path(directory) / "ca", Path(directory) / "prepared"
    prepared.mkdir(parents=True)
    prepare(prepared)
    number, died = 0, True
    while died:
        number += 1
        shutil.rmtree(ca_dir, ignore_errors=True)
        shutil.copytree(prepared, ca_dir)
        died = in_a_fork(partial(_dying, partial(act, ca_dir), number)) == -signal.SIGKILL
        shutil.copytree(ca_dir, judged := Path(directory) / "judged")
        state = "after" if (change != "take-over" or files_in(judged).exist()) and happened(judged) else "before"
        shutil.rmtree(judged)
        if in_a_fork(partial(start, ca_dir, change)):
            sys.exit(f"the start after death {number} failed")
        os.write(1, f"{number} {state}\n".encode())
    os.write(1, f"done {number - 1}\n".encode())


def _dying(act: Callable[[], None], number: int) -> None:
    die_at_call(number)
    act()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    main(*sys.argv[1:])
