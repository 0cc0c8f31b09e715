"""A worker without any service. What it does is read at each start from `DATA_DIR/SERVICE.toy`, one word or two:

steady              serves: answers every TCP connection with its pid and generation, beats, ends on SIGTERM
slow SECONDS        the same, but ready only after so long
crash               exits with 1 before it is ready
crash-ready         exits with 1 as soon as it is ready
exit CODE           exits with that code before it is ready
exit-ready CODE     exits with that code once it has been ready for a fifth of a second
deaf                serves, but ignores SIGTERM
speak WORDS         writes to standard error without an end of line, and is killed by SIGKILL
never               is never ready
say WORDS           serves, and writes the words to standard error
secrets             serves, and writes the digest of each of its secrets to standard error
noisy               serves, and writes a long line to standard error with every heartbeat
SIGUSR1 at any time stops the heartbeats in a busy loop.
"""

import os
import selectors
import signal
import socket
import sys
import time
from hashlib import sha256
from pathlib import Path

from config.inheritance import READY, Inheritance
from monitoring.block import SlotWriter


def main(inheritance: Inheritance) -> None:
    """Do what the file says."""
    word, _, rest = _told(inheritance).partition(" ")
    if word == "crash":
        sys.exit(1)
    if word == "exit":
        sys.exit(int(rest))
    if word == "slow":
        time.sleep(float(rest))
    if word == "never":
        time.sleep(3600)
    if word == "speak":
        os.write(2, b"a whole line before\n" + rest.encode())
        os.kill(os.getpid(), signal.SIGKILL)
    _serve(inheritance, word, rest)


def _told(inheritance: Inheritance) -> str:
    path = Path(inheritance.settings.server.data_dir) / f"{inheritance.service}.toy"
    return path.read_text().strip() if path.exists() else "steady"


def _busy(*_: object) -> None:
    while True:
        pass


def _serve(inheritance: Inheritance, word: str, rest: str) -> None:
    selector = selectors.DefaultSelector()
    ended, end = os.pipe()
    signal.signal(signal.SIGTERM, lambda *_: None if word == "deaf" else os.write(end, b"x"))
    signal.signal(signal.SIGUSR1, _busy)
    selector.register(ended, selectors.EVENT_READ)
    selector.register(inheritance.leash, selectors.EVENT_READ)
    for listener in (each for several in inheritance.sockets.values() for each in several):
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ)
    writer = SlotWriter.attach(inheritance.block, inheritance.slot, inheritance.generation)
    writer.beat(time.monotonic_ns())
    inheritance.leash.send(READY)
    if word == "say":
        os.write(2, rest.encode() + b"\n")
    _tell_secrets(inheritance, word)
    if word == "crash-ready":
        sys.exit(1)
    if word == "exit-ready":
        time.sleep(0.2)
        sys.exit(int(rest))
    while True:
        for key, _ in selector.select(inheritance.settings.supervisor.heartbeat_interval):
            if key.fileobj is inheritance.leash:
                os._exit(1)
            if key.fileobj == ended:
                return
            _answer(key.fileobj, inheritance)
        writer.beat(time.monotonic_ns())
        if word == "noisy":
            os.write(2, b"x" * 15_000 + b"\n")


def _tell_secrets(inheritance: Inheritance, word: str) -> None:
    if word == "secrets":
        told = {name: sha256(secret.read()).hexdigest() for name, secret in inheritance.secrets.items()}
        os.write(2, f"secrets {told}\n".encode())


def _answer(listener: object, inheritance: Inheritance) -> None:
    assert isinstance(listener, socket.socket)
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        return
    with connection:
        connection.sendall(f"{os.getpid()} {inheritance.generation}\n".encode())
