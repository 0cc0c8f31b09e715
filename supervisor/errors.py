"""Why something did not start: the text tells the operator what to do."""

from typing import Final

CONFIGURATION_ERROR: Final = 78
"""Exit code for what is wrong with settings or files (EX_CONFIG of sysexits.h): starting again would not help."""


class StartError(Exception):
    """The tree cannot be started; `exit_code` is that of the command."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code
