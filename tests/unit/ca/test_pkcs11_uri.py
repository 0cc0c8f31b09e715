"""URIs of keys in tokens (RFC 7512)."""

import pytest

from services.ca.keys.pkcs11_uri import BadKeyUri, KeyUri, parsed


def test_what_is_written_is_read() -> None:
    uri = KeyUri("trust; store 1", b"\x00\xff;", "TrustChain root 0a%")
    text = "pkcs11:token=trust%3B%20store%201;object=TrustChain%20root%200a%25;id=%00%ff%3b;type=private"
    assert str(uri) == text
    assert parsed(text) == uri


def test_attributes_may_come_in_any_order_and_unescaped_where_that_is_possible() -> None:
    assert parsed("pkcs11:id=key-1;token=trust") == KeyUri("trust", b"key-1")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin with"),
        ("file:///key", "does not begin with"),
        ("pkcs11:token=t;id=%01" + "0" * 1024, "more than 1024"),
        ("pkcs11:token=t;id=%01?pin-value=1234", "the PIN comes from ca.pkcs11_pin"),
        ("pkcs11:token=t;id=%01;serial=7", "not understood"),
        ("pkcs11:token=t;token=u;id=%01", "not understood"),
        ("pkcs11:token=t;id=%1", "not understood"),
        ("pkcs11:token=t;id=a b", "not understood"),
        ("pkcs11:token=t;id=%01;type=public", "something else than a private key"),
        ("pkcs11:token=t", "1 to 64 octets"),
        ("pkcs11:token=t;id=" + "a" * 65, "1 to 64 octets"),
        ("pkcs11:id=%01", "1 to 255 characters"),
        ("pkcs11:token=%ff;id=%01", "not UTF-8"),
    ],
)
def test_what_names_no_private_key_is_told(text: str, why: str) -> None:
    with pytest.raises(BadKeyUri, match=why.replace("?", r"\?")):
        parsed(text)
