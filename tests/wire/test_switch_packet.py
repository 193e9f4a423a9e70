import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import LocalProtocolError, RemoteProtocolError
from rtun_core.wire.frames import encode_frame
from rtun_core.wire.pb import rtun_pb2 as pb
from rtun_core.wire.switch_packet import MAX_PACKET, Packet, decode_packet, encode_packet

OPEN_P2P = (
    "69326722650a4c0a084162436445664768120830313233343536371a3663616e6469646174653a312031"
    "207564702032313330373036313735203139322e302e322e31302034303030302074797020686f7374120a"
    "382e382e382e383a3533187820a20b28f8acd19101"
)
OPEN_P2P_ANSWER = (
    "0a6722650a4c0a085a7a30305a7a3030120837363534333231301a3663616e6469646174653a3220312075"
    "64702032313330373036313735203139322e302e322e32302035303030302074797020686f7374120a382e"
    "382e382e383a3533187820a20b28f8acd19101"
)
STATUS = "08ffffffffffffffffff01"  # code -1


def relay_args(ufrag: str, pwd: str, candidate: str) -> pb.P2PArgs:
    ice = pb.P2PIceArgs(ufrag=ufrag, pwd=pwd, candidates=[candidate])
    relay = pb.UdpRelayArgs(
        ice=ice, target_addr="8.8.8.8:53", idle_timeout_secs=120, max_payload=1442, obfs_seed=0x12345678
    )
    return pb.P2PArgs(udp_relay=relay)


@pytest.mark.parametrize(
    ("channel", "payload", "packet", "frame"),
    [
        (0, "22070880d095ffbc31", "120922070880d095ffbc31", "0000000b120922070880d095ffbc31"),
        (0, "0880d095ffbc31", "12070880d095ffbc31", "0000000912070880d095ffbc31"),
        (5, "", "0805", "000000020805"),
        (300, b"abc".hex(), "08ac021203616263", "0000000808ac021203616263"),
        (0, "", "", "00000000"),
    ],
)
def test_packet_vectors(channel: int, payload: str, packet: str, frame: str) -> None:
    data = bytes.fromhex(packet)
    assert encode_packet(channel, bytes.fromhex(payload)) == data
    assert decode_packet(data) == Packet(channel, bytes.fromhex(payload))
    assert encode_frame(data).hex() == frame


ICE_1 = ("AbCdEfGh", "01234567", "candidate:1 1 udp 2130706175 192.0.2.10 40000 typ host")
ICE_2 = ("Zz00Zz00", "76543210", "candidate:2 1 udp 2130706175 192.0.2.20 50000 typ host")


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (pb.C2ARequest(ping=pb.Ping(timestamp=1700000000000)), "22070880d095ffbc31"),
        (pb.Pong(timestamp=1700000000000), "0880d095ffbc31"),
        (pb.ResponseStatus(code=0, reason="ok"), "12026f6b"),
        (
            pb.C2ARequest(kick_down=pb.KickDownArgs(code=-1, reason="replace by other session")),
            f"2a25{STATUS}12187265706c616365206279206f746865722073657373696f6e",
        ),
        (
            pb.C2ARequest(open_socks=pb.OpenSocksArgs(ch_id=1, peer_addr="127.0.0.1:50000")),
            "12130801120f3132372e302e302e313a3530303030",
        ),
        (pb.OpenChannelResponse(ch_id=1), "0801"),
        (pb.C2ARequest(close_channel=pb.CloseChannelArgs(ch_id=1)), "1a020801"),
        (
            pb.OpenP2PResponse(status=pb.ResponseStatus(code=-1, reason="boom")),
            f"1211{STATUS}1204626f6f6d",
        ),
        (
            pb.P2PHardNatArgs(
                mode=2,
                socket_count=64,
                scan_count=64,
                interval_ms=1000,
                batch_interval_ms=5000,
                assist_delay_ms=300,
            ),
            "08021840204028e80730882748ac02",
        ),
        (pb.OpenP2PResponse(args=relay_args(*ICE_2)), OPEN_P2P_ANSWER),
        (
            pb.QuicStats(path=pb.QuicPathStats(rtt=12, cwnd=14720)),
            "0a05080c108073",
        ),
    ],
)
def test_message_vectors(message: pb.C2ARequest, payload: str) -> None:
    assert message.SerializeToString().hex() == payload
    assert type(message).FromString(bytes.fromhex(payload)) == message


def test_open_p2p_vector() -> None:
    request = pb.C2ARequest(open_p2p=relay_args(*ICE_1))
    packet = encode_packet(0, request.SerializeToString())
    assert packet.hex() == f"12{OPEN_P2P}"
    assert encode_frame(packet)[:4].hex() == "0000006b"


def test_the_extension_is_one_unknown_field_to_others() -> None:
    args = relay_args(*ICE_1)
    plain = args.udp_relay.SerializeToString()
    args.udp_relay.ext.CopyFrom(pb.RelayExtension(session_id=b"12345678", features=3))
    assert args.udp_relay.SerializeToString() == plain + bytes.fromhex("a2060c0a0831323334353637381003")


def test_unknown_fields_survive_forwarding() -> None:
    data = bytes.fromhex(OPEN_P2P_ANSWER) + bytes.fromhex("fa3e0161")
    assert pb.OpenP2PResponse.FromString(data).SerializeToString() == data


@given(st.integers(min_value=0, max_value=2**64 - 1), st.binary(max_size=300))
def test_round_trip(channel: int, payload: bytes) -> None:
    assert decode_packet(encode_packet(channel, payload)) == (channel, payload)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    try:
        packet = decode_packet(data)
    except RemoteProtocolError as error:
        reason = error.reason
    else:
        assert decode_packet(encode_packet(*packet)) == packet
        return
    assert reason == "packet"


def test_limits() -> None:
    with pytest.raises(RemoteProtocolError, match="bytes"):
        decode_packet(bytes(MAX_PACKET + 1))
    with pytest.raises(LocalProtocolError, match="too big"):
        encode_packet(0, bytes(MAX_PACKET))
    with pytest.raises(LocalProtocolError, match="64 bits"):
        encode_packet(2**64, b"")
    with pytest.raises(LocalProtocolError, match="64 bits"):
        encode_packet(-1, b"")
