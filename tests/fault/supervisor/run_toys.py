"""Supervises toys: `python -m tests.fault.supervisor.run_toys DATA_DIR SERVICES [--set KEY=VALUE ...]`.

SERVICES: `name`, `name:port` or `name:port:dependency+dependency`, separated by commas; port 0 is none. `name@module`
runs another module than the toy. `name!fd=5` has a secret from that source. The setting "poison" puts a bug into the
supervisor.
"""

import sys
from pathlib import Path

from config.loader import load
from config.topology import Listener, Secret, Service
from supervisor import startup, workers
from supervisor.capture import as_log_line
from supervisor.errors import StartError


def service(text: str) -> Service:
    """Read one service."""
    name, port, depends_on = (*text.split(":"), "", "")[:3]
    name, _, source = name.partition("!")
    name, _, module = name.partition("@")
    listeners: tuple[Listener, ...] = ()
    if port and int(port):
        listeners = (Listener(name="tcp", kind="tcp", address="127.0.0.1", port=int(port)),)
    return Service(
        name=name,
        module=module or "tests.fault.supervisor.toy",
        depends_on=tuple(filter(None, depends_on.split("+"))),
        listeners=listeners,
        secrets=(Secret(name="word", setting=f"{name}.word", source=source.replace("=", ":")),) if source else (),
    )


def poisoned(name: str, line: bytes, log_format: str) -> bytes:
    """Stand in for `as_log_line`, with a bug."""
    if b"poison" in line:
        raise ZeroDivisionError(name)
    return as_log_line(name, line, log_format)


if __name__ == "__main__":
    data_dir, services, *overrides = sys.argv[1:]
    if "poison" in overrides:
        overrides.remove("poison")
        setattr(workers, "as_log_line", poisoned)  # noqa: B010 - the name is imported there, not exported
    loaded = load(None, None, Path(data_dir), overrides, {})
    try:
        sys.exit(startup.run(loaded.settings, [service(text) for text in services.split(",")]))
    except StartError as error:
        sys.stderr.write(f"refused: {error}\n")
        sys.exit(error.exit_code)
