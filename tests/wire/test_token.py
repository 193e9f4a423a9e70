import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.token import PUBLIC_SECRET, make_token, verify_token

VECTORS = [
    (PUBLIC_SECRET, 0, "AAAAAAAAAACqz9M/Y+RSK025B9VTU6zfV0NjlrQCzjf4shf0daNFvQ"),
    (b"sec123", 1700000000000, "AAABi8/laADqAx7zedtTcFUXU4ayoaUQBX8KzYhIwGyEScfM3PUNxA"),
    (b"rtun-e2e-secret", 1771402780123, "AAABnG/VXdttgCGSL7xVJwrHc8l6OW8GqVqunVlwbm+vcmemuuiJ6A"),
    (b"", 123, "AAAAAAAAAHunNCRAY/OE1UWKF64WccKVizxrc+1vZ/Xh4GoyrpqpFA"),
]
GOOD = VECTORS[1][2]


@pytest.mark.parametrize(("secret", "nonce", "token"), VECTORS)
def test_vectors(secret: bytes, nonce: int, token: str) -> None:
    assert make_token(secret, nonce) == token
    assert verify_token(secret, token) == nonce


@given(st.binary(max_size=64), st.integers(min_value=0, max_value=2**64 - 1))
def test_round_trip(secret: bytes, nonce: int) -> None:
    token = make_token(secret, nonce)
    assert len(token) == 54
    assert verify_token(secret, token) == nonce


@pytest.mark.parametrize("nonce", [-1, 2**64])
def test_a_nonce_has_64_bits(nonce: int) -> None:
    with pytest.raises(OverflowError):
        make_token(b"s", nonce)


@pytest.mark.parametrize("size", range(8))
def test_too_short(size: int) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^token too short$") as caught:
        verify_token(b"sec123", base64.b64encode(bytes(size)).rstrip(b"=").decode())
    assert caught.value.reason == "token"


def shortened_mac() -> str:
    raw = base64.b64decode(GOOD + "==")
    return base64.b64encode(raw[:39]).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "token",
    [
        GOOD[:-1] + "B",  # bits beyond the last byte
        GOOD[:-2] + "yA",  # another mac
        "B" + GOOD[1:],  # another nonce
        GOOD + "==",
        GOOD + "AA",
        GOOD + "\n",
        GOOD.replace("/", "_"),
        GOOD[:53],  # a length no bytes have
        shortened_mac(),
        base64.b64encode(bytes(8)).rstrip(b"=").decode(),  # no mac at all
        "A" * 1_000_000,
        "AAAAA",
        "\ud800",
    ],
)
def test_invalid(token: str) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^invalid token$") as caught:
        verify_token(b"sec123", token)
    assert caught.value.reason == "token"


def test_another_secret() -> None:
    with pytest.raises(RemoteProtocolError, match="invalid token"):
        verify_token(b"sec124", GOOD)


def test_a_longer_mac_is_invalid() -> None:
    nonce = bytes(8)
    mac = hmac.new(b"sec123", nonce, hashlib.sha256).digest()
    with pytest.raises(RemoteProtocolError):
        verify_token(b"sec123", base64.b64encode(nonce + mac + b"x").rstrip(b"=").decode())


@given(st.text() | st.from_regex(r"[A-Za-z0-9+/=]{0,60}", fullmatch=True))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(RemoteProtocolError):
        verify_token(b"sec123", text)
