"""What a start of the authority spends on its keys and certificates: reading them, and checking them when they changed.

Each figure is the first load of a process that was forked, as every worker is, from one that has the modules and the
library ready. `unchanged`: the files are those that were checked last; `checked`: keys and signatures are verified.

    .venv/bin/python -m tests.bench.bench_hierarchy [REPEATS]
"""

import gc
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from config.schema import Ca, KeyType
from services.ca.hierarchy import ceremony
from services.ca.hierarchy.files import HierarchyFiles
from services.ca.hierarchy.hierarchy import Hierarchy
from services.ca.hierarchy.keyring import Keyring, warm_up
from services.ca.installation import new_hierarchy

_PASSPHRASE = b"correct horse battery staple"


def main(repeats: int = 40) -> None:
    """Prints the table."""
    warm_up()  # as in the fork server
    now = int(time.time())
    classical = partial(_made, now)
    gc.collect()
    gc.freeze()
    for title, make, keyring in (
        ("p256", partial(classical, "p256"), Keyring()),
        ("p256, encrypted", partial(classical, "p256"), Keyring(_PASSPHRASE)),
        ("ed25519", partial(classical, "ed25519"), Keyring()),
        ("rsa3072", partial(classical, "rsa3072"), Keyring()),
        ("p256 and ml-dsa-65", partial(_both, now), Keyring()),
    ):
        with tempfile.TemporaryDirectory(prefix="tc-bench-") as directory:
            _measure(title, make(), HierarchyFiles(Path(directory), Path(directory) / "root.pem", keyring), repeats)


def _made(now: int, key_type: KeyType) -> Hierarchy:
    return new_hierarchy(Ca(key_type=key_type), now)


def _both(now: int) -> Hierarchy:
    return ceremony.joined(_made(now, "p256"), new_hierarchy(Ca(), now, "post-quantum"))


def _measure(title: str, made: Hierarchy, files: HierarchyFiles, repeats: int) -> None:
    files.commit(made)
    unchanged = [_in_a_fork(files.load) for _ in range(repeats)]
    document = files.document.read_bytes()
    checked = []
    for _ in range(repeats):
        files.document.write_bytes(_unverified(document))
        checked.append(_in_a_fork(files.load))
    sys.stdout.write(
        f"{title:<20}  unchanged {statistics.median(unchanged) * 1e3:6.2f} ms   "
        f"checked {statistics.median(checked) * 1e3:6.2f} ms\n"
    )


def _unverified(document: bytes) -> bytes:
    """The document as if nothing had been checked."""
    lines = (line if b'"verified"' not in line else b'      "verified": ""' for line in document.split(b"\n"))
    return b"\n".join(lines)


def _in_a_fork(run: Callable[[], object]) -> float:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        began = time.perf_counter()
        run()
        os.write(writing, struct.pack("d", time.perf_counter() - began))
        os._exit(0)
    os.waitpid(child, 0)
    (took,) = struct.unpack("d", os.read(reading, 8))
    os.close(reading)
    os.close(writing)
    return float(took)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
