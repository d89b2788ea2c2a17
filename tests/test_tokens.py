"""Connection tokens: what is accepted, and the code of everything that is not."""

from __future__ import annotations

import base64
import hmac
import math
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from jobpush import JobPush
from jobpush.config import Config
from jobpush.errors import ConfigurationError, EventError, JobPushError
from jobpush.tokens import TokenError, ensure_token_settings, make_token, read_token

SECRET = "a" * 64
CONFIG = Config(key="key", secret=SECRET)
NOW = time.time()
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem_of(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signed(secret: Any = SECRET, algorithm: str = "HS256", headers: Any = None, **claims: Any) -> str:
    """A token of the given claims; ``None`` leaves a default claim out."""
    every = {"sub": "42", "exp": NOW + 20_000, "iat": NOW, **claims}
    given = {name: value for name, value in every.items() if value is not None}
    return jwt.encode(given, secret, algorithm=algorithm, headers=headers)


def code_of(text: str, config: Config = CONFIG) -> str:
    with pytest.raises(TokenError) as refused:
        read_token(config, text, NOW)
    assert text not in str(refused.value)
    return refused.value.code


def test_all_claims_of_a_jobpush_token_are_read() -> None:
    jobpush = JobPush(key="key", secret=SECRET)
    text = jobpush.token(
        "a b", ttl=60, channels=["private-team", "presence-x-*"], tasks=["t:1"], user_info={"name": "Ada"}, watch=["7"]
    )

    token = read_token(CONFIG, text, time.time())

    assert token.user_id == "=u=a=20b"
    assert token.channels == ("private-team", "presence-x-*")
    assert token.tasks == ("=u=t=3A1",)
    assert token.user_info == '{"name":"Ada"}'
    assert token.watchlist == ("7",)
    assert token.issued_at is not None
    assert token.expires_at == pytest.approx(token.issued_at + 60)


def test_token_made_in_another_program_is_read() -> None:
    token = read_token(CONFIG, signed(iat=None), NOW)

    assert (token.user_id, token.issued_at, token.channels, token.user_info) == ("42", None, (), "{}")


def test_short_secret_is_the_key_other_programs_use(recwarn: pytest.WarningsRecorder) -> None:
    config = Config(key="key", secret="short")
    text = make_token(config, "42")
    assert read_token(config, text, time.time()).user_id == "42"
    assert not recwarn.list

    signed_part, _, signature = text.rpartition(".")
    digest = hmac.new(b"short", signed_part.encode(), "sha256").digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == signature


def test_token_signed_with_the_previous_secret_is_read() -> None:
    rotated = Config(key="key", secret="b" * 32, previous_secret=SECRET)

    assert read_token(rotated, signed(), NOW).user_id == "42"


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": NOW - 11}, "token_expired"),
        ({"exp": None}, "token_invalid"),
        ({"exp": "tomorrow"}, "token_invalid"),
        ({"exp": True}, "token_invalid"),
        ({"exp": math.inf}, "token_invalid"),
        ({"exp": math.nan}, "token_invalid"),
        ({"exp": NOW + 90_000}, "token_invalid"),
        ({"nbf": NOW + 11}, "token_not_yet_valid"),
        ({"iat": NOW + 11}, "token_not_yet_valid"),
        ({"iat": "now"}, "token_invalid"),
        ({"aud": "another"}, "token_audience"),
        ({"aud": ["one", "another"]}, "token_audience"),
        ({"aud": 7}, "token_audience"),
        ({"sub": None}, "token_invalid"),
        ({"sub": ""}, "token_invalid"),
        ({"sub": "x" * 129}, "token_invalid"),
        ({"channels": "private-x"}, "token_invalid"),
        ({"channels": [7]}, "token_invalid"),
        ({"channels": ["private x"]}, "token_invalid"),
        ({"tasks": {"a": 1}}, "token_invalid"),
        ({"info": "text"}, "token_invalid"),
        ({"info": ["list"]}, "token_invalid"),
        ({"info": {"name": "x" * 1_024}}, "token_invalid"),
        ({"watch": [""]}, "token_invalid"),
        ({"watch": [str(number) for number in range(101)]}, "token_invalid"),
        ({"claim": "x" * 8_192}, "token_invalid"),
    ],
)
def test_invalid_claim_is_refused_with_its_code(claims: dict[str, Any], code: str) -> None:
    assert code_of(signed(**claims)) == code


def test_clock_difference_within_the_leeway_is_accepted() -> None:
    for claims in ({"exp": NOW - 9}, {"nbf": NOW + 9}, {"iat": NOW + 9}, {"aud": "key"}, {"aud": ["x", "key"]}):
        assert read_token(CONFIG, signed(**claims), NOW).user_id == "42"


def test_subject_other_than_text_is_refused() -> None:
    for subject in (42, ["42"], {"id": "42"}, True):
        text = jwt.api_jws.encode(
            f'{{"sub":{str(subject).lower().replace(chr(39), chr(34))},"exp":{NOW + 60}}}'.encode(), SECRET
        )
        assert code_of(text) == "token_invalid"


def test_token_header_does_not_choose_the_algorithm() -> None:
    with_public_key = Config(key="key", secret=SECRET, jwt_public_key=pem_of(RSA_KEY))

    assert code_of(signed("", "none")) == "token_invalid"
    assert code_of(signed(RSA_KEY, "RS256")) == "token_invalid"
    assert code_of(signed(SECRET, "HS512")) == "token_invalid"
    assert code_of(signed("b" * 32)) == "token_invalid"
    # HS256 with the public key as the secret: made by hand, since PyJWT refuses to.
    forged = jwt.encode({"sub": "42", "exp": NOW + 60, "aud": "key"}, b"x" * 32, algorithm="HS256").rpartition(".")[0]
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        forged.encode(), pem_of(RSA_KEY).encode()
    )
    assert code_of(f"{forged}.{jwt.utils.base64url_encode(signature).decode()}", with_public_key) == "token_invalid"


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "....", "é.é.é", "x" * 9_000, "\ud800.a.b"])
def test_malformed_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError) as refused:
        read_token(CONFIG, text, NOW)
    assert refused.value.code == "token_invalid"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSA_KEY, "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
def test_tokens_of_an_identity_provider_need_the_audience(key: Any, algorithm: str) -> None:
    config = Config(key="key", secret=SECRET, jwt_public_key=pem_of(key))
    ensure_token_settings(config)

    assert read_token(config, signed(key, algorithm, aud="key"), NOW).user_id == "42"
    assert read_token(config, signed(aud="key"), NOW).user_id == "42"  # our own secret stays valid
    assert code_of(signed(key, algorithm), config) == "token_audience"


def test_only_configured_algorithms_are_accepted() -> None:
    config = Config(key="key", secret=SECRET, jwt_public_key=pem_of(RSA_KEY), jwt_algorithms=("RS512",))

    assert read_token(config, signed(RSA_KEY, "RS512", aud="key"), NOW).user_id == "42"
    assert code_of(signed(RSA_KEY, "RS256", aud="key"), config) == "token_invalid"
    assert code_of(signed(aud="key"), config) == "token_invalid"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jwt_algorithms": ("none",)}, "unknown algorithm 'none'"),
        ({"jwt_algorithms": ("RS256",)}, "needs JOBPUSH_JWT_PUBLIC_KEY"),
        ({"jwt_public_key": "/nowhere"}, "JOBPUSH_JWT_PUBLIC_KEY must be"),
        ({"jwt_public_key": "-----BEGIN PUBLIC KEY-----\nx"}, "JOBPUSH_JWT_PUBLIC_KEY must be"),
    ],
)
def test_invalid_token_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ensure_token_settings(Config(key="key", secret=SECRET, **settings))


def test_public_key_may_be_a_file_or_one_line(tmp_path: Any) -> None:
    path = tmp_path / "key.pem"
    path.write_text(pem_of(RSA_KEY))

    for setting in (str(path), pem_of(RSA_KEY).replace("\n", "\\n")):
        config = Config(key="key", secret=SECRET, jwt_public_key=setting)
        assert read_token(config, signed(RSA_KEY, "RS256", aud="key"), NOW).user_id == "42"


def test_claims_cover_channels_by_name_or_prefix_but_never_owned_channels() -> None:
    text = make_token(CONFIG, "42", channels=["private-team", "presence-x-*"], tasks=["t1"])
    token = read_token(CONFIG, text, time.time())
    everything = read_token(CONFIG, make_token(CONFIG, "42", channels=["*"]), time.time())

    assert [token.covers(name) for name in ("private-team", "presence-x-1", "private-task-t1")] == [True] * 3
    assert not any(map(token.covers, ("private-team-2", "presence-y", "private-task-t2", "private-user-7")))
    assert everything.covers("private-anything")
    assert not any(map(everything.covers, ("private-user-7", "private-task-t1", "#server-to-user-7")))


def test_revoked_token_is_refused_unless_it_was_issued_later() -> None:
    token, without_iat = read_token(CONFIG, signed(), NOW), read_token(CONFIG, signed(iat=None), NOW)

    token.ensure_not_revoked(None)
    without_iat.ensure_not_revoked(None)
    token.ensure_not_revoked(NOW - 1)
    for revoked in (token, without_iat):
        with pytest.raises(TokenError) as refused:
            revoked.ensure_not_revoked(NOW)
        assert refused.value.code == "token_revoked"


@pytest.mark.parametrize(
    "arguments",
    [
        {"ttl": 0},
        {"ttl": 86_401},
        {"channels": ["private x"]},
        {"user_info": "text"},
        {"watch": [str(number) for number in range(101)]},
        {"tasks": [str(number) * 10 for number in range(1_000)]},
    ],
)
def test_token_that_no_gateway_accepts_is_not_made(arguments: dict[str, Any]) -> None:
    with pytest.raises((ConfigurationError, EventError)):
        make_token(CONFIG, "42", **arguments)
    with pytest.raises(JobPushError):
        make_token(CONFIG, "")


def test_ordinary_tokens_are_read_as_in_pyjwt(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        make_token(CONFIG, "42", tasks=["é"]),
        signed(),
        signed("b" * 64),
        signed()[:-1],
        signed() + "A",
        signed() + "=",
        signed().replace(".", "..", 1),
        signed(headers={"typ": "at+jwt"}),
        jwt.api_jws.encode(b"[]", SECRET),
        jwt.api_jws.encode(b"no JSON", SECRET),
        jwt.api_jws.encode(b"\xff", SECRET),
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9..",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
    ]

    def outcomes() -> list[object]:
        return [outcome_of(text) for text in texts]

    usual = outcomes()
    monkeypatch.setattr("jobpush.tokens._USUAL_HEADER", None)

    assert usual == outcomes()
    assert [type(outcome).__name__ for outcome in usual[:3]] == ["ConnectionToken", "ConnectionToken", "str"]


def outcome_of(text: str) -> object:
    try:
        return read_token(CONFIG, text, time.time())
    except TokenError as exc:
        return exc.code
