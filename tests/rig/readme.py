"""The commands that README promises, taken from README itself.

Rules: under the heading "Set up" stand exactly two blocks marked `sh`, each of one line: the first makes the virtual
environment, installs and starts the tree; the second installs the test extra and passes the tests.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_SECTION = re.compile(r"^## Set up\n(?P<text>.*?)(?=^## )", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```sh\n(?P<lines>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class SetUp:
    """The two lines as a user types them in the repository's folder."""

    start: str
    test: str


def set_up(readme: Path) -> SetUp:
    """Reads them; AssertionError where README does not keep to the rules above."""
    section = _SECTION.search(readme.read_text())
    assert section is not None, f"{readme} has no section 'Set up'"
    blocks = [found["lines"].strip() for found in _BLOCK.finditer(section["text"])]
    assert len(blocks) == 2, f"{readme}: {len(blocks)} blocks marked sh under 'Set up', not two"
    assert not any("\n" in block for block in blocks), f"{readme}: a set-up command is longer than one line"
    return SetUp(*blocks)


def main() -> None:
    """Prints the test command, for .ci/run."""
    print(set_up(Path(__file__).resolve().parents[2] / "README.md").test)  # noqa: T201 - this is its output


if __name__ == "__main__":
    main()
