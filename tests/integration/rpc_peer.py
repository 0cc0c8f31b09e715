"""A process that answers calls on an inherited listening socket: `-m tests.integration.rpc_peer FD MARKS [CALLS]`.

Each call that is begun is marked in the file MARKS, one line each, before anything else; CALLS bounds those in flight.
"""

import asyncio
import os
import socket
import sys
from dataclasses import dataclass

import msgspec
import uvloop

from services.errors import Refused
from services.rpc_server import IN_ALL, Call, Server


class Task(msgspec.Struct):
    """`seconds` of work, then `octets` of reply."""

    name: str
    seconds: float = 0.0
    octets: int = 0


class Done(msgspec.Struct):
    name: str
    pid: int
    filling: str = ""


@dataclass
class Work:
    marks: int

    async def do(self, task: Task, _call: Call) -> Done:
        self._mark(f"begun {task.name}")
        try:
            await asyncio.sleep(task.seconds)
        except asyncio.CancelledError:
            self._mark(f"cancelled {task.name}")
            raise
        return Done(task.name, os.getpid(), "x" * task.octets)

    async def refuse(self, task: Task, _call: Call) -> None:
        raise Refused("bad-name", "name", f"not {task.name}")

    async def die(self, task: Task, _call: Call) -> None:
        self._mark(f"begun {task.name}")
        os._exit(9)

    def _mark(self, line: str) -> None:
        os.write(self.marks, f"{line}\n".encode())


async def serve(descriptor: int, marks: str, in_all: int) -> None:
    work = Work(os.open(marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    methods = {"do": (Task, work.do), "refuse": (Task, work.refuse), "die": (Task, work.die)}
    Server((socket.socket(fileno=descriptor),), methods, in_all=in_all, unread_seconds=0.5).start()
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else IN_ALL))
