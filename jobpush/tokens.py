"""
Connection tokens: a JWT that signs a connection in as a user, made here or by any other backend.

Claims: ``sub`` (the user's id, text), ``exp`` (required, at most 24 hours ahead), and optionally ``iat``, ``nbf``,
``aud`` (the application's key), ``channels`` (names, or prefixes that end in ``*``), ``tasks`` (ids), ``info``
(``user_info`` of presence channels) and ``watch`` (user ids). The algorithms are pinned by the configuration: HMAC
with the secrets, all others with ``JOBPUSH_JWT_PUBLIC_KEY``. The header of a token chooses nothing.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from .channels import (
    PRIVATE_TASK,
    PRIVATE_USER,
    SERVER_TO_USER,
    checked_user_id,
    escape_id,
    escape_user_id,
    validate_channel,
)
from .config import Config
from .errors import ConfigurationError, EventError, InvalidData, JobPushError
from .events import encode

#: Seconds that the clock of an issuer may be off.
LEEWAY = 10
#: Seconds that a token may be valid at most; a revocation is kept as long.
MAX_TTL = 86_400
#: Characters of a token. Identity providers stay well below it.
MAX_SIZE = 8_192

_HMAC = ("HS256", "HS384", "HS512")
_PUBLIC_KEY = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_DEFAULT_PUBLIC_KEY = ("RS256", "ES256", "EdDSA")
#: The claims are checked here, against the time that the caller gives.
_SIGNATURE_ONLY: Any = dict.fromkeys(
    (f"verify_{name}" for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")), False
)
#: ``{"alg":"HS256","typ":"JWT"}`` as nearly all libraries encode it.
_USUAL_HEADER = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"
#: Channels that no claim covers: they are their owner's alone.
_OWNED = (SERVER_TO_USER, PRIVATE_USER, PRIVATE_TASK)


class TokenError(JobPushError):
    """A connection token is refused; the message never contains the token."""

    code: ClassVar[str] = "token_invalid"


class TokenInvalid(TokenError):
    """The signature, the form or a claim is wrong."""


class TokenExpired(TokenError):
    """``exp`` has passed."""

    code = "token_expired"


class TokenNotYetValid(TokenError):
    """``nbf`` or ``iat`` lies in the future."""

    code = "token_not_yet_valid"


class TokenAudience(TokenError):
    """``aud`` names another application, or is missing where it is required."""

    code = "token_audience"


class TokenRevoked(TokenError):
    """The user was signed out or disconnected after the token was issued."""

    code = "token_revoked"


class TokenOtherUser(TokenError):
    """A refresh names another user than the connection has."""

    code = "token_other_user"


@dataclass(frozen=True, slots=True)
class ConnectionToken:
    """
    The claims of a valid token.

    Args:
        user_id: Escaped, as in channel names; see :func:`jobpush.channels.escape_user_id`.
        expires_at: Unix seconds.
        issued_at: Unix seconds; ``None`` if the token has no ``iat``.
        channels: Names, or prefixes that end in ``*``.
        tasks: Escaped ids of tasks that the connection may watch.
        user_info: JSON text of an object, for presence channels.
        watchlist: Escaped user ids.
    """

    user_id: str
    expires_at: float
    issued_at: float | None = None
    channels: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    user_info: str = "{}"
    watchlist: tuple[str, ...] = ()

    def covers(self, channel: str) -> bool:
        """Return whether the token allows a private or presence channel."""
        if channel.startswith(PRIVATE_TASK):
            return channel[len(PRIVATE_TASK) :] in self.tasks
        return not channel.startswith(_OWNED) and any(_matches(pattern, channel) for pattern in self.channels)

    def ensure_not_revoked(self, revoked_at: float | None) -> None:
        """
        Check the token against the time at which its user's tokens were revoked.

        Args:
            revoked_at: Unix seconds; ``None`` if they were not.

        Raises:
            TokenRevoked: If the token was issued before that, or has no ``iat``.
        """
        if revoked_at is not None and (self.issued_at is None or self.issued_at <= revoked_at):
            raise TokenRevoked("the token was revoked: its user was signed out or disconnected after it was issued")


def make_token(
    config: Config,
    user: object,
    *,
    ttl: float = 900,
    channels: Iterable[str] = (),
    tasks: Iterable[str] = (),
    user_info: Mapping[str, Any] | None = None,
    watch: Iterable[object] = (),
) -> str:
    """
    Make a token, signed with the secret (HS256).

    ``config`` has the key, the secret and the limits. For the other arguments and the errors, see
    :meth:`jobpush.JobPush.token`.
    """
    if not 0 < ttl <= MAX_TTL:
        raise ConfigurationError(f"ttl must be more than 0 and at most {MAX_TTL} seconds, not {ttl!r}")
    now = time.time()
    claims: dict[str, Any] = {"sub": checked_user_id(user), "iat": now, "exp": now + ttl, "aud": config.key}
    optional = {
        "channels": [_checked_pattern(channel) for channel in channels],
        "tasks": [str(task_id) for task_id in tasks],
        "info": user_info,
        "watch": [str(one) for one in watch],
    }
    claims.update({name: value for name, value in optional.items() if value})
    _read_claims(config, claims)
    import jwt  # here, because the protocol, which imports this module, needs no sockets

    text = jwt.encode(claims, _hmac_key(config.secret), algorithm="HS256")
    if len(text) > MAX_SIZE:
        raise InvalidData(f"the token has {len(text)} characters; {MAX_SIZE} are allowed")
    return text


def read_token(config: Config, text: str, now: float) -> ConnectionToken:
    """
    Check a token and return its claims. Revocation and a change of user are for the caller to check.

    Args:
        config: Key, secrets, public key and algorithms.
        text: The token.
        now: Unix seconds.

    Raises:
        TokenError: If the token is refused, with the code in ``code``.
    """
    if len(text) > MAX_SIZE:
        raise TokenInvalid(f"the token has {len(text)} characters; {MAX_SIZE} are allowed")
    claims = _verified_claims(config, text)
    _ensure_audience(config, claims)
    issued_at, expires_at = _time(claims, "iat"), _time(claims, "exp")
    if expires_at is None:
        raise TokenInvalid("exp is missing")
    if expires_at <= now - LEEWAY:
        raise TokenExpired("the token has expired")
    if max(issued_at or 0.0, _time(claims, "nbf") or 0.0) > now + LEEWAY:
        raise TokenNotYetValid("the token is not valid yet")
    if expires_at > now + MAX_TTL + LEEWAY:
        raise TokenInvalid("exp is more than 24 hours ahead")
    try:
        return _read_claims(config, claims)
    except EventError as exc:
        raise TokenInvalid(str(exc)) from exc


def ensure_token_settings(config: Config) -> None:
    """
    Check ``JOBPUSH_JWT_ALGORITHMS`` and ``JOBPUSH_JWT_PUBLIC_KEY``.

    Raises:
        ConfigurationError: If an algorithm is unknown or has no key, or the public key is not one.
    """
    for name in config.jwt_algorithms:
        if name not in _HMAC + _PUBLIC_KEY:
            known = ", ".join(_HMAC + _PUBLIC_KEY)
            raise ConfigurationError(f"JOBPUSH_JWT_ALGORITHMS has the unknown algorithm {name!r}; known are: {known}")
        if name in _PUBLIC_KEY and not config.jwt_public_key:
            raise ConfigurationError(f"JOBPUSH_JWT_ALGORITHMS has {name}, which needs JOBPUSH_JWT_PUBLIC_KEY")
    if config.jwt_public_key:
        _load_public_key(config.jwt_public_key)


def _verified_claims(config: Config, text: str) -> dict[str, Any]:
    claims: dict[str, Any] | None = _usual_claims(config, text)
    if claims is not None:
        return claims
    import jwt

    of_secret = [name for name in config.jwt_algorithms or ("HS256",) if name in _HMAC]
    candidates: list[tuple[Any, list[str]]] = [(_hmac_key(secret), of_secret) for secret in config.secrets if secret]
    if config.jwt_public_key:
        algorithms = [name for name in config.jwt_algorithms or _DEFAULT_PUBLIC_KEY if name in _PUBLIC_KEY]
        candidates.append((_load_public_key(config.jwt_public_key), algorithms))
    for key, algorithms in candidates:
        try:
            claims = jwt.decode(text, key, algorithms=algorithms, options=_SIGNATURE_ONLY)
            return claims
        except Exception:  # noqa: S112 - PyJWT raises TypeError and others for a key of another kind, too
            continue
    raise TokenInvalid("the token is not a JWT that one of the configured keys has signed")


def _usual_claims(config: Config, text: str) -> dict[str, Any] | None:
    """
    Return the claims of a valid token with the most usual header; ``None`` leaves the token to PyJWT.

    PyJWT takes about as long as a third of a handshake; this takes a twentieth of that.
    """
    signed, _, signature = text.rpartition(".")
    header, _, payload = signed.partition(".")
    if header != _USUAL_HEADER or "HS256" not in (config.jwt_algorithms or ("HS256",)) or not text.isascii():
        return None
    for secret in filter(None, config.secrets):
        digest = hmac.digest(secret.encode(), signed.encode(), "sha256")
        if hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"="), signature.encode()):
            try:
                claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            except (ValueError, RecursionError):
                return None
            return claims if isinstance(claims, dict) else None
    return None


def _hmac_key(secret: str) -> bytes:
    """Return the key of a secret, padded as HMAC does by itself: PyJWT would warn about a short one for each token."""
    return secret.encode().ljust(64, b"\0")


@lru_cache(maxsize=8)
def _load_public_key(setting: str) -> Any:
    """Return the key of the setting: PEM text, also with ``\\n`` for its line ends, or the path of a PEM file."""
    try:
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise ConfigurationError(
            "JOBPUSH_JWT_PUBLIC_KEY needs the package cryptography: pip install PyJWT[crypto]"
        ) from None
    try:
        text = setting.replace("\\n", "\n") if "-----BEGIN" in setting else Path(setting).read_text(encoding="ascii")
        return load_pem_public_key(text.encode())
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"JOBPUSH_JWT_PUBLIC_KEY must be a public key in PEM form, or its file: {exc}"
        ) from exc


def _ensure_audience(config: Config, claims: Mapping[str, Any]) -> None:
    audience = claims.get("aud")
    if audience is None:
        if config.jwt_public_key:  # an identity provider issues tokens for many applications
            raise TokenAudience("aud is missing; with JOBPUSH_JWT_PUBLIC_KEY it is required")
        return
    if config.key not in (audience if isinstance(audience, list) else [audience]):
        raise TokenAudience("the token is for another application")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise TokenInvalid(f"{name} must be Unix seconds")
    return float(value)


def _read_claims(config: Config, claims: Mapping[str, Any]) -> ConnectionToken:
    """
    Return the claims in the form that the gateway uses.

    Raises:
        EventError: If one of them is invalid.
    """
    user_id = claims.get("sub")
    if not isinstance(user_id, str):
        raise InvalidData("sub must be the user's id, as text")
    info = claims.get("info") or {}
    if not isinstance(info, dict):
        raise InvalidData("info must be an object")
    user_info = encode(info) if info else "{}"
    if len(user_info.encode()) > config.max_user_info:
        raise InvalidData(f"info has {len(user_info.encode())} bytes; {config.max_user_info} are allowed")
    watchlist = tuple(dict.fromkeys(map(escape_user_id, _texts(claims, "watch"))))
    if len(watchlist) > config.max_watchlist:
        raise InvalidData(f"watch has {len(watchlist)} users; {config.max_watchlist} are allowed")
    return ConnectionToken(
        user_id=escape_user_id(user_id),
        expires_at=float(claims["exp"]),
        issued_at=_time(claims, "iat"),
        channels=tuple(map(_checked_pattern, _texts(claims, "channels"))),
        tasks=tuple(map(escape_id, _texts(claims, "tasks"))),
        user_info=user_info,
        watchlist=watchlist,
    )


def _texts(claims: Mapping[str, Any], name: str) -> list[str]:
    value = claims.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidData(f"{name} must be a list of texts")
    return value


def _checked_pattern(pattern: str) -> str:
    if pattern != "*":
        validate_channel(pattern.removesuffix("*"))
    return pattern


def _matches(pattern: str, channel: str) -> bool:
    return channel.startswith(pattern[:-1]) if pattern.endswith("*") else channel == pattern
