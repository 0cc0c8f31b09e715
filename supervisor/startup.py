"""From settings to a running tree, and back to nothing: what is made in which order, and given back in reverse.

Rules: everything that can fail for a reason the operator can mend does so before the first process is started, with a
StartError that says what to do. The lock comes first: what is found behind it is debris and may be removed.
"""

import os
import resource
import time
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import metadata
from typing import Final

from setproctitle import setproctitle

from config.paths import Paths
from config.schema import Settings
from config.schema import Supervisor as Limits
from config.topology import Service
from monitoring.block import Block, BlockError
from supervisor import systemd
from supervisor.announcement import announcement, fingerprint
from supervisor.blocks import Blocks
from supervisor.child import SECOND, ChildSpec
from supervisor.control import ControlServer
from supervisor.deaths import DeathLog
from supervisor.descriptors import Descriptors
from supervisor.directories import Lock, prepare
from supervisor.errors import StartError
from supervisor.lifecycle import Policy
from supervisor.log import Log
from supervisor.loop import Supervisor, Surroundings
from supervisor.output import Output
from supervisor.process import ForkServer
from supervisor.restart import Limits as RestartLimits
from supervisor.secrets import close_secrets, read_secrets
from supervisor.sockets import close_listeners, open_listeners
from supervisor.tree import ReplacePolicy, Tree, grow
from supervisor.vacancies import Vacancies
from supervisor.workers import Belongings, Workers

DESCRIPTORS: Final = 65_536
"""Open files that a process of the tree may have, if the hard limit is not lower."""

LAST_WORDS_SECONDS: Final = 1.0
"""How long a full pipe behind standard error may keep the supervisor from ending."""


def run(settings: Settings, services: Sequence[Service], options: str = "") -> int:
    """Run the tree until it is told to stop; return the exit code. Raises StartError if it cannot be started.

    `options` are shown in the commands that a person is told to try.
    """
    os.umask(0o077)
    setproctitle("trustchain: supervisor")
    _raise_descriptor_limit()
    with ExitStack() as stack:
        output = Output()
        stack.callback(output.close)
        stack.callback(_flush, output)
        log = Log(output, settings.log.format, settings.log.level)
        belongings = _take_possession(settings.paths, services, log, stack)
        around = _surroundings(settings, services, options, output, log, stack)
        fork_server = ForkServer([f"{service.module}.__main__" for service in services], settings.server.runtime_dir)
        # In this order: the block's end is told to the resource tracker, which ends together with the fork server.
        stack.callback(fork_server.close)
        stack.callback(around.blocks.close)
        supervisor = Supervisor(grown_tree(child_specs(services), settings.supervisor), around)
        workers = Workers(settings, belongings, fork_server, around.descriptors, output, log, supervisor.tell)
        control = _control(settings.paths, around.descriptors, supervisor)
        stack.callback(control.close)
        supervisor.attach(workers, Vacancies(belongings.sockets, around.descriptors), control.reply, control.expire)
        log.info("the supervisor starts", version=around.version, mode=settings.mode, data_dir=settings.server.data_dir)
        code = _supervise(supervisor, workers, around)
        log.info("the supervisor ends", exit_code=code)
        return code


def _take_possession(paths: Paths, services: Sequence[Service], log: Log, stack: ExitStack) -> Belongings:
    """Take what only one supervisor can have: directories, locks, listening sockets, and the services' secrets."""
    prepare(paths)
    stack.callback(Lock(paths).release)
    sockets = open_listeners(services, log.warning)
    stack.callback(close_listeners, sockets)
    secrets = read_secrets(services)
    stack.callback(close_secrets, secrets)
    return Belongings(sockets, secrets)


def _surroundings(
    settings: Settings, services: Sequence[Service], options: str, output: Output, log: Log, stack: ExitStack
) -> Surroundings:
    paths = settings.paths
    notifier = _notifier()
    stack.callback(notifier.close)
    descriptors = Descriptors()
    stack.callback(descriptors.close)

    def announce() -> None:
        _say(announcement(settings, services, options, fingerprint(paths.root_certificate)))

    return Surroundings(
        settings=settings,
        version=version(),
        descriptors=descriptors,
        output=output,
        log=log,
        blocks=_blocks(paths, child_specs(services), log),
        deaths=DeathLog(paths.deaths, settings.supervisor.death_records, log.warning),
        notifier=notifier,
        announce=announce,
    )


def _supervise(supervisor: Supervisor, workers: Workers, around: Surroundings) -> int:
    try:
        return supervisor.run()
    except BaseException as error:  # noqa: BLE001 - logged whole, and the process ends
        # Nobody knows what state this is. The workers die, systemd starts everything anew.
        around.log.failure("the supervisor fails", error)
        workers.kill_all()
        around.blocks.close()
        _flush(around.output)
        os._exit(1)


def _flush(output: Output) -> None:
    deadline = time.monotonic() + LAST_WORDS_SECONDS
    while output.waiting and time.monotonic() < deadline:
        output.flush()
        time.sleep(0.01)


def child_specs(services: Sequence[Service]) -> tuple[ChildSpec, ...]:
    """Return what the tree has to know of each service; their order gives them their slots in the block."""
    return tuple(
        ChildSpec(
            name=service.name,
            slot=slot,
            module=service.module,
            depends_on=service.depends_on,
            restart=service.restart,
            required=service.required,
        )
        for slot, service in enumerate(services)
    )


def grown_tree(specs: tuple[ChildSpec, ...], limits: Limits) -> Tree:
    """Return the tree of these children under the operator's limits, in which nothing runs yet."""
    restart = RestartLimits(
        stable_ns=_ns(limits.stable_seconds),
        backoff_initial_ns=_ns(limits.backoff_initial),
        backoff_max_ns=_ns(limits.backoff_max),
        backoff_jitter=limits.backoff_jitter,
        intensity=limits.intensity,
        period_ns=_ns(limits.period),
        failed_retry_ns=_ns(limits.failed_retry),
    )
    policy = Policy(
        restart=restart,
        heartbeat_timeout_ns=_ns(limits.heartbeat_timeout),
        ready_timeout_ns=_ns(limits.ready_timeout),
        drain_timeout_ns=_ns(limits.drain_timeout),
        abort_grace_ns=_ns(limits.abort_grace),
    )
    verdicts = ReplacePolicy(cooldown_ns=_ns(limits.replace_cooldown), verdict_max_age_ns=_ns(limits.verdict_max_age))
    return grow(specs, policy, verdicts)


def version() -> str:
    """Return the version of the installed distribution."""
    try:
        return metadata.version("trustchain")
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def _raise_descriptor_limit() -> None:
    """Take what the system allows: the usual soft limit of 1024 is less than the connections that are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _ns(seconds: float) -> int:
    return int(seconds * SECOND)


def _notifier() -> systemd.Notifier:
    try:
        return systemd.from_process_environment()
    except OSError as error:
        raise StartError(f"NOTIFY_SOCKET names a socket that cannot be used: {error.strerror}") from error


def _blocks(paths: Paths, specs: tuple[ChildSpec, ...], log: Log) -> Blocks:
    try:
        return Blocks(lambda: Block.create(paths.block_name), specs, log)
    except BlockError as error:
        raise StartError(str(error)) from error


def _control(paths: Paths, descriptors: Descriptors, supervisor: Supervisor) -> ControlServer:
    try:
        return ControlServer(paths.control_socket, descriptors, time.monotonic_ns, supervisor.answer)
    except OSError as error:
        raise StartError(f"cannot listen on {paths.control_socket}: {error.strerror}") from error


def _say(lines: list[str]) -> None:
    """Print for a person; a standard output that nobody reads must not hold the tree up."""
    try:
        output = Output(1)
    except OSError:
        return
    for line in lines:
        output.write(f"{line}\n".encode())
    output.close()
