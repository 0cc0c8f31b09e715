"""Private keys that stay in a token (PKCS #11), as keys that the cryptographic library signs with.

Rules:
- The library asks a key only to sign and for its public key; both are answered here, so that certificates, requests,
  revocation lists and OCSP answers are made with a token as with a key in memory. Nothing else of a key can be had.
- A token has one session, which one thread at a time uses. A session that was lost (a token that was taken out) is
  opened again once; if that does not help, the signature is Unavailable and may be tried later.
- A wrong PIN is never tried twice: tokens lock themselves after a few.
- The Python package is optional: without it, a configuration that needs it says how to install it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from typing import Any, Final, NoReturn, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from config.schema import KeyType
from services.ca.keys.pkcs11_uri import BadKeyUri, KeyUri, parsed
from services.ca.keys.signing_keys import SigningKey, TokenKey
from services.ca.policy.public_keys import RSA_EXPONENT
from services.errors import ConfigurationError, Unavailable

T = TypeVar("T")

KEY_ID_OCTETS: Final = 16
RSA_BITS: Final = 3072


class Pkcs11Token:
    """The token with this label, reached through a module. `pin`: of its user. Opened when it is first needed."""

    def __init__(self, module: str, label: str, pin: bytes | None) -> None:
        self._module = module
        self._label = label
        self._pin = pin
        self._session: Any = None
        self._one_at_a_time = threading.RLock()

    def key(self, uri: str) -> SigningKey:
        """The key at a URI. Raises ConfigurationError."""
        try:
            place = parsed(uri)
        except BadKeyUri as error:
            raise ConfigurationError(f"{uri!r} names no key in a token: {error}") from error
        public_key = self._configured(lambda session: _public_key(session, place.id))
        self._configured(lambda session: _private_key(session, place.id))
        return _signing_key(self, place, public_key)

    def generate(self, key_type: KeyType, label: str) -> SigningKey:
        """A new key that cannot be taken out. Raises ConfigurationError."""
        if key_type == "ed25519":
            raise ConfigurationError(
                "keys of the type ed25519 are not made in tokens: set ca.key_type to p256 or rsa3072"
            )
        key_id = os.urandom(KEY_ID_OCTETS)
        self._configured(lambda session: _generate(session, key_type, key_id, f"TrustChain {label}"))
        token = self._configured(lambda session: str(session.token.label))
        return self.key(str(KeyUri(token, key_id, f"TrustChain {label}")))

    def sign(self, key_id: bytes, data: bytes, mechanism: str) -> bytes:
        """A signature as the token makes it. Raises Unavailable."""
        package = _package()

        def signed(session: Any) -> bytes:
            made: bytes = _private_key(session, key_id).sign(data, mechanism=package.Mechanism[mechanism])
            return made

        with self._one_at_a_time:
            try:
                return self._with_session(signed)
            except (package.PKCS11Error, ConfigurationError) as error:
                raise Unavailable(f"the token does not sign: {_words(error)}") from error

    def _with_session(self, work: Callable[[Any], T]) -> T:
        """Do it; if the session was lost, once more in a new one."""
        exceptions = _package().exceptions
        lost = (
            *(exceptions.SessionHandleInvalid, exceptions.SessionClosed, exceptions.DeviceRemoved),
            *(exceptions.UserNotLoggedIn, exceptions.KeyHandleInvalid, exceptions.ObjectHandleInvalid),
        )
        if self._session is None:
            self._session = self._opened()
        try:
            return work(self._session)
        except lost:
            self._session = None
            self._session = self._opened()
            return work(self._session)

    def _configured(self, work: Callable[[Any], T]) -> T:
        package = _package()
        with self._one_at_a_time:
            try:
                return self._with_session(work)
            except package.exceptions.NoSuchKey as error:
                raise ConfigurationError(
                    f"the token {self._label!r} does not hold the key: {error}: restore it, or use the right token "
                    "(ca.pkcs11_token)"
                ) from error
            except package.PKCS11Error as error:
                raise ConfigurationError(f"the token {self._label!r} cannot be used: {_words(error)}") from error

    def _opened(self) -> Any:
        """A session of the token's user. Raises ConfigurationError, and PKCS11Error."""
        package = _package()
        exceptions = package.exceptions
        pin = None if self._pin is None else self._pin.decode("utf-8", "surrogateescape")
        try:
            library = package.lib(self._module)
            wanted = {"token_label": self._label} if self._label else {}
            token = library.get_token(token_flags=package.TokenFlag.TOKEN_INITIALIZED, **wanted)
            try:
                return token.open(rw=True, user_pin=pin)
            except exceptions.UserAlreadyLoggedIn:  # this process, in a session before: a login is for all of them
                return token.open(rw=True)
        except (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange) as error:
            raise ConfigurationError(
                "the token does not take the PIN: correct ca.pkcs11_pin before it locks"
            ) from error
        except exceptions.PinLocked as error:
            raise ConfigurationError("the token has locked its PIN: have its security officer unlock it") from error
        except (exceptions.NoSuchToken, exceptions.MultipleTokensReturned, exceptions.TokenNotPresent) as error:
            raise ConfigurationError(
                f"ca.pkcs11_token = {self._label!r} is not exactly one token of {self._module}: {error}"
            ) from error
        except package.PKCS11Error as error:
            if isinstance(error, exceptions.DeviceError | exceptions.DeviceRemoved | exceptions.GeneralError):
                raise
            raise ConfigurationError(f"ca.pkcs11_module = {self._module!r} cannot be used: {_words(error)}") from error


class _Kept(TokenKey):
    """What the two types of keys have in common: they give away nothing."""

    def __init__(self, token: Pkcs11Token, place: KeyUri) -> None:
        self._token = token
        self._place = place

    @property
    def uri(self) -> str:
        """Where the key is."""
        return str(self._place)

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        """It stays in the token."""
        raise UnsupportedAlgorithm("a key in a token cannot be taken out")

    def private_numbers(self) -> NoReturn:
        """It stays in the token."""
        raise UnsupportedAlgorithm("a key in a token cannot be taken out")

    def __copy__(self) -> Any:
        """The same key."""
        return self

    def __deepcopy__(self, _memo: dict[Any, Any]) -> Any:
        """The same key."""
        return self


class TokenEcKey(_Kept, ec.EllipticCurvePrivateKey):
    """A key on an elliptic curve."""

    def __init__(self, token: Pkcs11Token, place: KeyUri, public_key: ec.EllipticCurvePublicKey) -> None:
        super().__init__(token, place)
        self._public_key = public_key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Its public key."""
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        """Its curve."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """Bits of its curve."""
        return self._public_key.key_size

    def exchange(self, _algorithm: ec.ECDH, _peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """An authority's key only signs."""
        raise UnsupportedAlgorithm("an authority's key only signs")

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA, DER (RFC 3279, section 2.2.3). Raises Unavailable."""
        digest = _digest(signature_algorithm.algorithm, data)
        raw = self._token.sign(self._place.id, digest, "ECDSA")
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))


class TokenRsaKey(_Kept, rsa.RSAPrivateKey):
    """An RSA key."""

    def __init__(self, token: Pkcs11Token, place: KeyUri, public_key: rsa.RSAPublicKey) -> None:
        super().__init__(token, place)
        self._public_key = public_key

    def public_key(self) -> rsa.RSAPublicKey:
        """Its public key."""
        return self._public_key

    @property
    def key_size(self) -> int:
        """Bits of its modulus."""
        return self._public_key.key_size

    def decrypt(self, _ciphertext: bytes, _padding: object) -> NoReturn:
        """An authority's key only signs."""
        raise UnsupportedAlgorithm("an authority's key only signs")

    def sign(self, data: Any, padding: object, algorithm: object) -> bytes:
        """PKCS #1 v1.5 with SHA-256. Raises Unavailable."""
        if not isinstance(padding, _PKCS1) or not isinstance(algorithm, hashes.SHA256):
            raise UnsupportedAlgorithm("an authority's RSA key signs with PKCS #1 v1.5 and SHA-256 only")
        return self._token.sign(self._place.id, bytes(data), "SHA256_RSA_PKCS")


_PKCS1: Final = padding.PKCS1v15


def _signing_key(
    token: Pkcs11Token, place: KeyUri, public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey
) -> SigningKey:
    if isinstance(public_key, rsa.RSAPublicKey):
        return TokenRsaKey(token, place, public_key)
    return TokenEcKey(token, place, public_key)


def _digest(algorithm: object, data: Any) -> bytes:
    if not isinstance(algorithm, hashes.HashAlgorithm):
        raise UnsupportedAlgorithm("an authority's key signs what it has hashed itself")
    return hashlib.new(algorithm.name, data).digest()


def _generate(session: Any, key_type: KeyType, key_id: bytes, label: str) -> None:
    package = _package()
    attribute = package.Attribute
    template: dict[str, Any] = {
        "store": True,
        "label": label,
        "id": key_id,
        "capabilities": package.MechanismFlag.SIGN | package.MechanismFlag.VERIFY,
        "private_template": {attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
    }
    if key_type == "rsa3072":
        public = {attribute.PUBLIC_EXPONENT: RSA_EXPONENT.to_bytes(3, "big")}
        session.generate_keypair(package.KeyType.RSA, RSA_BITS, public_template=public, **template)
        return
    curve = package.util.ec.encode_named_curve_parameters("secp256r1")
    parameters = session.create_domain_parameters(package.KeyType.EC, {attribute.EC_PARAMS: curve}, local=True)
    parameters.generate_keypair(**template)


def _private_key(session: Any, key_id: bytes) -> Any:
    return session.get_key(object_class=_package().ObjectClass.PRIVATE_KEY, id=key_id)


def _public_key(session: Any, key_id: bytes) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    package = _package()
    found = session.get_key(object_class=package.ObjectClass.PUBLIC_KEY, id=key_id)
    if found.key_type is package.KeyType.RSA:
        modulus, exponent = (
            int.from_bytes(found[each], "big")
            for each in (package.Attribute.MODULUS, package.Attribute.PUBLIC_EXPONENT)
        )
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    key = serialization.load_der_public_key(package.util.ec.encode_ec_public_key(found))
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigurationError("the token holds a key of a type that an authority cannot have")
    return key


def _package() -> Any:
    """The Python package, loaded when it is needed. Raises ConfigurationError."""
    try:
        import pkcs11  # noqa: PLC0415 - optional
        import pkcs11.util.ec  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ConfigurationError(
            "ca.pkcs11_module needs the Python package python-pkcs11: `pip install 'trustchain[pkcs11]'`"
        ) from error
    return pkcs11


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
