"""Makes chunks unreadable for the scheduler, its dashboard and its logs, all of which see them pass."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12  # of AES-GCM (NIST SP 800-38D): random, for fewer than 2**32 messages


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
