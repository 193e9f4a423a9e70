"""STUN messages of the ICE dialect."""

import struct
from binascii import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.address import Address
from rtun_core.wire.stun import (
    StunMessage,
    binding_request,
    binding_success,
    is_stun,
    parse_stun,
    plain_binding_request,
    verify_integrity,
)

ID = bytes.fromhex("0102030405060708090a0b0c")
TIE_BREAKER = 0x1122334455667788
KEY = "76543210"
CHECK = bytes.fromhex(
    "0001004c2112a4420102030405060708090a0b0c802200047274756e000600115a7a30305a7a30303a4162"
    "436445664768000000802a00081122334455667788002400047efffeff0008001432143b2298550c4e20f9"
    "23acdfc85362fa692a53"
)
NOMINATION = bytes.fromhex(
    "000100502112a4420102030405060708090a0b0c802200047274756e000600115a7a30305a7a30303a4162"
    "436445664768000000802a0008112233445566778800250000002400047efffeff0008001441f6fcc77b69"
    "c38b4860736b80d8700c607f9e80"
)
SUCCESS = bytes.fromhex(
    "0101002c2112a4420102030405060708090a0b0c002000080001bd52e112a64800080014a267d7958cad78"
    "3abc11b3a5974b94bceae34c65802800049a269996"
)


def check(*, nominate: bool = False, controlling: bool = True, tie_breaker: int = TIE_BREAKER) -> bytes:
    return binding_request(
        ID,
        username="Zz00Zz00:AbCdEfGh",
        key=KEY,
        tie_breaker=tie_breaker,
        controlling=controlling,
        priority=2130706175,
        nominate=nominate,
    )


def raw_message(*attributes: tuple[int, bytes], kind: int = 0x0001) -> bytes:
    body = b"".join(
        struct.pack("!HH", number, len(value)) + value + bytes(-len(value) % 4)
        for number, value in attributes
    )
    return struct.pack("!HHI12s", kind, len(body), 0x2112A442, ID) + body


def with_fingerprint(message: bytes) -> bytes:
    longer = message[:2] + struct.pack("!H", len(message) - 20 + 8) + message[4:]
    return longer + struct.pack("!HHI", 0x8028, 4, crc32(longer) ^ 0x5354554E)


def test_check_is_the_vector():
    assert check() == CHECK


def test_nomination_is_the_vector():
    assert check(nominate=True) == NOMINATION


def test_success_is_the_vector():
    assert binding_success(ID, address=Address("192.0.2.10", 40000), key=KEY) == SUCCESS


def test_plain_request_is_a_bare_header():
    assert plain_binding_request(ID) == raw_message()


def test_check_is_read_back():
    assert parse_stun(CHECK) == StunMessage(
        kind="request",
        transaction_id=ID,
        username="Zz00Zz00:AbCdEfGh",
        priority=2130706175,
        controlling=True,
        tie_breaker=TIE_BREAKER,
        has_integrity=True,
    )


def test_nomination_differs_by_use_candidate():
    assert parse_stun(NOMINATION) == parse_stun(CHECK)._replace(use_candidate=True)


def test_controlled_role_is_read():
    message = parse_stun(check(controlling=False, tie_breaker=7))
    assert (message.controlling, message.tie_breaker) == (False, 7)


def test_success_is_read_from_a_memoryview():
    message = parse_stun(memoryview(SUCCESS))
    assert (message.kind, message.mapped) == ("success", Address("192.0.2.10", 40000))


def test_ipv6_success_is_read_back():
    address = Address("2001:db8::7", 9)
    assert parse_stun(binding_success(ID, address=address, key=KEY)).mapped == address


def test_mapped_address_alone_is_accepted():
    message = parse_stun(raw_message((0x0001, bytes.fromhex("00010050c0000201")), kind=0x0101))
    assert message.mapped == Address("192.0.2.1", 80)


def test_xor_mapped_address_is_preferred():
    both = raw_message(
        (0x0001, bytes.fromhex("00010050c0000201")),
        (0x0020, bytes.fromhex("0001bd52e112a648")),
        kind=0x0101,
    )
    assert parse_stun(both).mapped == Address("192.0.2.10", 40000)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(0x0001, "request"), (0x0101, "success"), (0x0111, "error"), (0x0011, "other"), (0x0003, "other")],
)
def test_kinds(kind, expected):
    assert parse_stun(raw_message(kind=kind)).kind == expected


@pytest.mark.parametrize("message", [CHECK, NOMINATION, SUCCESS])
def test_integrity_of_the_vectors(message):
    assert verify_integrity(message, KEY)
    assert verify_integrity(memoryview(message), KEY)
    assert not verify_integrity(message, "01234567")


def test_a_message_without_integrity_never_verifies():
    assert not verify_integrity(raw_message(), KEY)
    assert not parse_stun(raw_message()).has_integrity


def test_integrity_of_garbage_is_false():
    assert not verify_integrity(b"", KEY)
    assert not verify_integrity(CHECK[:-1], KEY)


@given(st.integers(0, len(CHECK) - 1), st.integers(1, 255))
def test_any_changed_byte_breaks_the_integrity(position, change):
    changed = bytearray(CHECK)
    changed[position] ^= change
    assert not verify_integrity(bytes(changed), KEY)


def test_request_with_a_right_fingerprint_is_accepted():
    message = with_fingerprint(CHECK)
    assert parse_stun(message) == parse_stun(CHECK)
    assert verify_integrity(message, KEY)


def test_a_wrong_fingerprint_is_refused():
    message = with_fingerprint(CHECK)
    refused(message[:-1] + bytes([message[-1] ^ 1]))


def test_use_candidate_behind_the_integrity_does_not_count():
    length = struct.pack("!H", len(CHECK) - 20 + 4)
    assert not parse_stun(CHECK[:2] + length + CHECK[4:] + bytes.fromhex("00250000")).use_candidate


def test_unknown_attributes_are_skipped():
    assert parse_stun(raw_message((0xC057, b"abc"), (0x0024, b"\0\0\0\7"))).priority == 7


def refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_stun(data)
    assert caught.value.reason == "stun"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        CHECK[:19],
        CHECK[:-1],
        CHECK + b"\0",
        b"\x40" + CHECK[1:],
        CHECK[:4] + bytes(4) + CHECK[8:],
        raw_message((0x0024, b"\0\0\0")),  # PRIORITY of three bytes
        raw_message((0x802A, b"\0" * 4)),  # tie-breaker of four bytes
        raw_message((0x0006, b"\xff\xfe")),  # USERNAME that is not UTF-8
        raw_message((0x0020, b"\0\3" + bytes(6)), kind=0x0101),  # unknown address family
        raw_message((0x0020, b"\0\1" + bytes(4)), kind=0x0101),  # short address
        raw_message((0x0008, bytes(8))),  # short MESSAGE-INTEGRITY
        raw_message((0x8028, bytes(4)), (0x0024, bytes(4))),  # FINGERPRINT not last
        raw_message(kind=0x0FEF),  # a method nobody defined
        raw_message()[:3] + b"\4" + raw_message()[4:] + bytes.fromhex("00060008"),  # runs past the end
        raw_message((0xC057, bytes(2000))),
    ],
)
def test_malformed_messages_are_refused(data):
    refused(data)


@pytest.mark.parametrize("data", [CHECK, memoryview(CHECK), SUCCESS, raw_message()])
def test_stun_is_recognised(data):
    assert is_stun(data)


@pytest.mark.parametrize("data", [b"", CHECK[:19], b"\x40" + CHECK[1:], b"\xc0" + CHECK[1:], bytes(20)])
def test_other_datagrams_are_not_stun(data):
    assert not is_stun(data)
    assert not is_stun(memoryview(data))


@given(st.binary(max_size=120))
def test_any_bytes_parse_or_are_refused(body):
    for data in (body, raw_message()[:2] + struct.pack("!H", len(body)) + CHECK[4:20] + body):
        try:
            message = parse_stun(data)
        except RemoteProtocolError:
            continue
        assert is_stun(data)
        assert message.transaction_id == ID
    verify_integrity(body, KEY)


@given(
    st.binary(min_size=12, max_size=12),
    st.text("abcXYZ019", min_size=1, max_size=30),
    st.integers(1, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.booleans(),
)
def test_requests_are_read_back(transaction_id, key, tie_breaker, priority, controlling, nominate):
    data = binding_request(
        transaction_id,
        username=f"{key}:x",
        key=key,
        tie_breaker=tie_breaker,
        controlling=controlling,
        priority=priority,
        nominate=nominate,
    )
    assert verify_integrity(data, key)
    assert parse_stun(data) == StunMessage(
        "request", transaction_id, f"{key}:x", priority, nominate, controlling, tie_breaker, None, True
    )
