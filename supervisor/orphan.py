"""Nothing outlives the supervisor: its child, the fork server, dies with it, and the workers die with the fork server.

Rules:
- The kernel does it (PR_SET_PDEATHSIG), because a stopped or looping process cannot watch anybody. Polling the parent's
  pid, or waiting for end of file on a pipe as the fork server does by itself, fails for exactly these; and the fork
  server's pipe is kept open by its workers.
- The signal is armed by the child, so the parent may be dead already: whoever arms it looks at its parent afterwards.
- The kernel watches the thread that forked. The supervisor and the fork server have only one.
"""

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with(parent: int) -> None:
    """Arm SIGKILL for when the process `parent` dies, and leave at once (exit code 1) if it is not our parent any more.

    Raises OSError if the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl(PR_SET_PDEATHSIG): {os.strerror(error)}")
    if os.getppid() != parent:
        os._exit(1)
