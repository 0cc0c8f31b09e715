"""Serial numbers and their text: what certificates are named by. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.ca.messages import Refusal

SERIAL_OCTETS: Final = 16
MAX_SERIAL_OCTETS: Final = 20


def new_serial(random_octets: Callable[[int], bytes]) -> int:
    """A serial number from a cryptographic random source. Its first octet is not zero: all have the same length."""
    while True:
        octets = random_octets(SERIAL_OCTETS)
        if octets[0]:
            return int.from_bytes(octets, "big")


def serial_text(serial: int) -> str:
    """Lower-case hexadecimal, two digits for each octet."""
    return serial.to_bytes(max(1, -(-serial.bit_length() // 8)), "big").hex()


def parse_serial(text: str) -> int:
    """Read hexadecimal of either case, with or without leading zeros and colons. Raises Refusal("malformed")."""
    digits = text.replace(":", "")
    if not 0 < len(digits) <= 2 * MAX_SERIAL_OCTETS or not set(digits) <= set("0123456789abcdefABCDEF"):
        raise Refusal("malformed", "serial", f"{text[:64]!r} is not a serial number: 1 to 40 hexadecimal digits are")
    return int(digits, 16)
