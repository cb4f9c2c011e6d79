"""Makes what travels unreadable for the scheduler, its dashboard and its logs, all of which see it pass."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES = 12  # of AES-GCM (NIST SP 800-38D): random, for fewer than 2**32 messages
PUBLIC_BYTES = 32  # of X25519 (RFC 7748)


class AesCipher:
    """AES-GCM with a key that only client and workers have.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def encrypt(self, content: bytes) -> bytes:
        """See :class:`Cipher`."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, None)

    def decrypt(self, sealed: bytes) -> bytes:
        """See :class:`Cipher`."""
        return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)


def new_key() -> bytes:
    """A key for one executor."""
    return AESGCM.generate_key(256)


class KeyBox:
    """Takes a key through others who can read what passes: only the one that made the box can open what is put in.

    It holds against those who read, as logs do, and not against a scheduler that puts its own box in the place of
    this one: that is what TLS is for, and a scheduler can run code on its workers anyway.
    """

    def __init__(self) -> None:
        self._private = X25519PrivateKey.generate()
        self.public = self._private.public_key().public_bytes_raw()

    def opened(self, sealed_key: bytes) -> bytes:
        """The key that :func:`sealed_for` has put in."""
        other, sealed = sealed_key[:PUBLIC_BYTES], sealed_key[PUBLIC_BYTES:]
        return _agreed(self._private, other, other + self.public).decrypt(sealed)


def sealed_for(public: bytes, key: bytes) -> bytes:
    """The key as bytes that show nothing of it, but to the :class:`KeyBox` with this public part."""
    private = X25519PrivateKey.generate()
    own = private.public_key().public_bytes_raw()
    return own + _agreed(private, public, own + public).encrypt(key)


def _agreed(private: X25519PrivateKey, public: bytes, parties: bytes) -> AesCipher:
    shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    return AesCipher(HKDF(SHA256(), 32, None, b"isolated_magic key" + parties).derive(shared))
