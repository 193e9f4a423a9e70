"""The models speak as the vectors of the wire spec do, so what they accept and refuse means something."""

import pytest

from tests.interop import original_wire as wire

ID = bytes.fromhex("0102030405060708090a0b0c")
CHECK = {
    "username": "Zz00Zz00:AbCdEfGh",
    "key": "76543210",
    "tie_breaker": 0x1122334455667788,
    "role": wire.CONTROLLING,
    "priority": 2130706175,
}


@pytest.mark.parametrize(
    ("secret", "nonce", "expected"),
    [
        ("tKwC83s8", 0, "AAAAAAAAAACqz9M/Y+RSK025B9VTU6zfV0NjlrQCzjf4shf0daNFvQ"),
        ("sec123", 1700000000000, "AAABi8/laADqAx7zedtTcFUXU4ayoaUQBX8KzYhIwGyEScfM3PUNxA"),
    ],
)
def test_tokens(secret, nonce, expected):
    assert wire.token(secret, nonce) == expected
    assert not wire.token_fault(secret, expected)
    assert wire.token_fault("other", expected) == "invalid token"


@pytest.mark.parametrize(
    ("form", "seed", "nonce", "flow", "seq", "payload", "expected"),
    [
        (wire.OBFS_V2, 0x12345678, 0x00, 0, None, b"", "0094107ac2021f39479e"),
        (wire.OBFS_V2, 0x12345678, 0x5A, 1, None, b"hello", "5a4748b512858596b8bd68656c6c6f"),
        (wire.OBFS_V2, 0x4D2, 0x10, 7, 300, b"hello", "10bd2e0d5efe5a606656ac0268656c6c6f"),
        (wire.OBFS_V2, 0xDEADBEEF, 0x80, 0x01020304, 0, b"", "800424840b55af86c4b500"),
        (wire.LEGACY, 0, 0, 12345, None, b"hello", "000000003039000568656c6c6f"),
        (wire.OBFS_V1, 0x12345678, 0x5A, 1, None, b"hello", "5a4748b5138581943668656c6c6f"),
        (wire.OBFS_V1, 1, 0xFF, 0xFFFFFFFF, None, b"\0\1\2", "ffba09e83bd4f466dd000102"),
        (wire.TAGGED_9, 0x75BCD15, 7, 12345, None, b"hello", "07ccedbeb196553d6468656c6c6f"),
    ],
)
def test_relay_frames(form, seed, nonce, flow, seq, payload, expected):
    frame = bytes.fromhex(expected)
    assert wire.encode_frame(form, seed, flow, payload, nonce, seq) == frame
    assert wire.decode_frame(form, seed, frame) == (flow, payload)
    with pytest.raises(wire.Undecodable):
        wire.decode_frame(form, seed, frame[: wire.HEADER_SIZE[form] - 1])


@pytest.mark.parametrize(
    ("nominate", "expected"),
    [
        (
            False,
            "0001004c2112a4420102030405060708090a0b0c802200047274756e000600115a7a30305a7a30303a4162"
            "436445664768000000802a00081122334455667788002400047efffeff0008001432143b2298550c4e20f9"
            "23acdfc85362fa692a53",
        ),
        (
            True,
            "000100502112a4420102030405060708090a0b0c802200047274756e000600115a7a30305a7a30303a4162"
            "436445664768000000802a0008112233445566778800250000002400047efffeff0008001441f6fcc77b69"
            "c38b4860736b80d8700c607f9e80",
        ),
    ],
)
def test_connectivity_checks(nominate, expected):
    data = wire.check_request(ID, nominate=nominate, **CHECK)
    assert data.hex() == expected
    message = wire.read_stun(data)
    assert message.signed_with("76543210")
    assert not message.signed_with("01234567")
    assert message.nominates is nominate


def test_answers_to_checks():
    data = wire.check_success(ID, ("192.0.2.10", 40000), "76543210")
    assert data.hex() == (
        "0101002c2112a4420102030405060708090a0b0c002000080001bd52e112a64800080014a267d7958cad78"
        "3abc11b3a5974b94bceae34c65802800049a269996"
    )
    assert wire.read_stun(data).signed_with("76543210")


def test_packets():
    assert wire.packet(300, b"abc").hex() == "08ac021203616263"
    assert wire.packet(0, b"") == b""
    assert wire.packet(5, b"").hex() == "0805"
    assert wire.read_packet(bytes.fromhex("08ac021203616263")) == (300, b"abc")
    assert wire.framed(wire.packet(5, b"")).hex() == "000000020805"
