"""Every death of a worker, on record: in memory for `trustchain status --deaths`, and in a file that outlives us.

Rules: the file holds one JSON object a line and is rotated once when it is full. A disk that cannot take a record costs
that record's line, never the supervisor: it is told once, and the record stays in memory.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from supervisor.child import Death
from supervisor.messages import DeathRecord

FILE_BYTES: Final = 1024 * 1024
"""The file is rotated at this size; one older file is kept."""


class DeathLog:
    """The last deaths, the latest last."""

    def __init__(self, path: Path, keep: int, warn: Callable[[str], None], file_bytes: int = FILE_BYTES) -> None:
        """`keep` records stay in memory, beginning with those that an earlier supervisor wrote."""
        self._path = path
        self._warn = warn
        self._file_bytes = file_bytes
        self._failing = False
        self._records: deque[DeathRecord] = deque(self._read(keep), maxlen=keep)

    @property
    def records(self) -> tuple[DeathRecord, ...]:
        """What is kept, oldest first."""
        return tuple(self._records)

    def add(self, death: Death, pid: int, log_tail: str) -> DeathRecord:
        """Keep a death that happened now."""
        age = death.heartbeat_age_ns
        record = DeathRecord(
            time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            service=death.service,
            index=death.index,
            pid=pid,
            generation=death.generation,
            exit_code=death.exit.code,
            signal=death.exit.signal_name,
            reason=f"drain timeout ({death.cause})" if death.drain_timed_out else str(death.cause),
            detail=death.detail,
            heartbeat_age_ms=None if age is None else round(age / 1e6, 1),
            uptime_seconds=round(death.uptime_ns / 1e9, 3),
            log_tail=log_tail,
        )
        self._records.append(record)
        self._write(record)
        return record

    def _write(self, record: DeathRecord) -> None:
        try:
            with suppress(FileNotFoundError):
                if self._path.stat().st_size >= self._file_bytes:
                    self._path.replace(self._path.with_name(self._path.name + ".1"))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, msgspec.json.encode(record) + b"\n")
            finally:
                os.close(descriptor)
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._warn(f"deaths are not written to {self._path}: {error.strerror}")
            self._failing = True

    def _read(self, keep: int) -> list[DeathRecord]:
        try:
            with self._path.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 2 * self._file_bytes))
                lines = file.read().splitlines()
        except OSError:
            return []
        found = []
        for line in lines[-keep:]:
            # A line may be cut (rotation, a full disk, a crash): it is one death less to show.
            with suppress(msgspec.DecodeError):
                found.append(msgspec.json.decode(line, type=DeathRecord))
        return found
