"""Session dialogues: packets in, packets out, one end at a time."""

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtun_core.errors import LocalProtocolError, RemoteProtocolError
from rtun_core.wire.rtunnel_packet import (
    ACK,
    DATA,
    EOF,
    FIN,
    FIN_PACKET,
    MAX_MESSAGE,
    PROBE_PACKET,
    decode_packet,
    encode_ack,
    encode_data,
    encode_eof,
)
from rtun_core.wire.rtunnel_session import Session
from rtun_core.wire.rtunnel_terms import Role, SessionConfig, State
from tests.wire.rtunnel_world import GoSide, OurSide, World

CLIENT, SERVER = Role.CLIENT, Role.SERVER


def session(role: Role, *, half_close: bool = False, connected: bool = True) -> Session:
    new = Session(session_id="7", role=role, now=0.0)
    if connected:
        new.connected(0.0, half_close=half_close)
    return new


def data(seq: int, payload: bytes = b"") -> bytes:
    return encode_data(seq, [payload], len(payload))


def said(end: Session, now: float = 0.0) -> list[tuple[int, int, int, bytes]]:
    """What the session sends now: flag, seq, ack and payload of each packet."""
    return [(p.flag, p.seq, p.ack, bytes(p.payload)) for p in map(decode_packet, end.packets(now))]


def take(end: Session, now: float = 0.0) -> bytes:
    """What a local TCP that is never slow reads."""
    got = b"".join(end.read())
    end.delivered(now)
    return got


def resumed_client(*, sent: int = 2, received: int = 1) -> Session:
    """A client on its second WebSocket to the original: `sent` packets are acknowledged, `received` came."""
    client = session(CLIENT)
    for seq in range(2, sent + 1):
        client.write(b"x" * seq)
        client.packets(0.0)
    client.packets(0.0)
    for seq in range(1, received + 1):
        client.receive(data(seq, b"y"), 0.0)
    take(client)
    client.receive(encode_ack(sent), 0.0)
    client.disconnected(1.0)
    client.connected(2.0)
    return client


# The beginning.


def test_a_client_begins_with_an_empty_packet() -> None:
    client = session(CLIENT, connected=False)
    assert (client.state, client.wants_socket) == (State.OPENING, True)
    assert client.packets(0.0) == []
    client.write(b"hello")
    client.connected(1.0)
    assert said(client, 1.0) == [(DATA, 1, 0, b""), (DATA, 2, 0, b"hello")]
    assert (client.state, client.wants_socket) == (State.OPEN, False)


def test_a_server_asks_a_new_client_before_it_sends() -> None:
    server = session(SERVER)
    server.write(b"banner")
    assert said(server) == [(DATA, 0, 0, b"")]
    assert server.state is State.OPENING
    server.receive(encode_ack(0), 0.1)
    assert said(server, 0.1) == [(DATA, 1, 0, b"banner")]
    assert server.state is State.OPEN


def test_a_first_packet_of_the_client_is_answer_enough() -> None:
    server = session(SERVER)
    server.write(b"banner")
    server.packets(0.0)
    server.receive(data(1, b"x"), 0.1)
    assert said(server, 0.1) == [(DATA, 1, 0, b"banner")]


def test_between_our_own_ends_nothing_is_asked() -> None:
    server = session(SERVER, half_close=True)
    server.write(b"banner")
    assert said(server) == [(DATA, 1, 0, b"banner")]


@pytest.mark.parametrize(
    ("message", "reason"), [(data(2, b"B"), "stale"), (encode_ack(1), "lost"), (encode_ack(2**63), "lost")]
)
def test_a_restarted_server_refuses_a_session_that_it_forgot(message: bytes, reason: str) -> None:
    server = session(SERVER)
    server.packets(0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        server.receive(message, 0.1)
    assert caught.value.reason == reason
    assert server.end == (reason, True)
    assert server.packets(0.1) == [FIN_PACKET]
    assert server.drop_socket


def test_a_client_that_never_answers_is_a_ghost() -> None:
    server = session(SERVER)
    server.packets(0.0)
    server.heard(59.0)
    server.handle_timer(60.0)
    assert server.end == ("ghost", True)


# Acknowledgements.


def test_a_probe_is_answered_with_the_position() -> None:
    server = session(SERVER)
    server.packets(0.0)
    server.receive(PROBE_PACKET, 0.0)
    assert said(server) == [(ACK, 0, 0, b"")]
    for seq in (1, 2):
        server.receive(data(seq, b"x"), 0.0)
    take(server)
    server.receive(PROBE_PACKET, 0.0)
    assert said(server) == [(ACK, 0, 2, b"")]


def test_a_duplicate_is_dropped_in_silence() -> None:
    client = session(CLIENT)
    client.packets(0.0)
    client.receive(data(1, b"a"), 0.0)
    assert take(client) == b"a"
    assert said(client, 0.02) == [(ACK, 0, 1, b"")]
    client.receive(data(1, b"a"), 1.0)
    assert said(client, 9.0) == []
    assert client.counters.duplicates == 1


def test_disorder_is_put_right_and_acknowledged_once() -> None:
    client = session(CLIENT)
    client.packets(0.0)
    for seq, payload in [(1, b""), (3, b"B"), (2, b"A")]:
        client.receive(data(seq, payload), 0.0)
    assert take(client) == b"AB"
    assert said(client, 0.02) == [(ACK, 0, 3, b"")]


def test_nothing_is_acknowledged_before_the_local_tcp_has_it() -> None:
    client = session(CLIENT)
    client.packets(0.0)
    for seq in range(1, 101):
        client.receive(data(seq, b"x"), 0.0)
    assert client.read(limit=50) == [b"x"] * 50
    assert said(client, 5.0) == []
    assert client.unread == 100
    client.delivered(5.0)
    assert said(client, 5.0) == [(ACK, 0, 50, b"")]


def test_our_own_kind_learns_what_has_arrived_as_well() -> None:
    client = session(CLIENT, half_close=True)
    client.receive(data(1, b"x"), 0.0)
    client.receive(PROBE_PACKET, 0.0)
    assert said(client) == [(ACK, 1, 0, b"")]


@pytest.mark.parametrize("ack", [3, 2**63])
def test_an_ack_beyond_what_was_sent_ends_it(ack: int) -> None:
    client = session(CLIENT)
    client.write(b"x")
    client.packets(0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(encode_ack(ack), 0.0)
    assert caught.value.reason == "ack"


def test_an_ack_that_goes_back_ends_it() -> None:
    client = session(CLIENT)
    client.packets(0.0)
    client.receive(encode_ack(1), 0.0)
    with pytest.raises(RemoteProtocolError):
        client.receive(encode_ack(0), 0.0)


# Resuming with the original.


def test_a_client_asks_then_sends_what_is_missing_and_nudges() -> None:
    client = resumed_client(sent=3, received=1)
    client.write(b"new")
    assert said(client, 2.0) == [(DATA, 0, 0, b""), (DATA, 0, 0, b"")]
    assert client.state is State.RESUMING
    client.receive(encode_ack(3), 2.1)
    assert said(client, 2.1) == [(ACK, 0, 1, b""), (DATA, 4, 0, b"new")]
    assert client.state is State.OPEN
    assert client.counters.reconnects == 1


def test_what_the_peer_has_is_not_sent_again() -> None:
    client = session(CLIENT)
    client.packets(0.0)
    for block in (b"a", b"b", b"c"):
        client.write(block)
        client.packets(0.0)
    client.receive(encode_ack(1), 0.0)
    client.connected(2.0)
    client.packets(2.0)
    client.receive(encode_ack(2), 2.0)
    assert said(client, 2.0) == []
    client.receive(encode_ack(2), 2.0)
    assert said(client, 2.0) == [(ACK, 0, 0, b""), (DATA, 3, 0, b"b"), (DATA, 4, 0, b"c")]
    assert client.counters.resends == 2


def test_a_server_that_forgot_betrays_itself_and_its_data_goes_nowhere() -> None:
    client = resumed_client()
    client.packets(2.0)
    client.receive(data(1, b"other banner"), 2.0)
    client.receive(data(2, b"other life"), 2.0)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(encode_ack(0), 2.0)
    assert caught.value.reason == "lost"
    assert client.read() == []
    assert client.end == ("lost", True)
    assert said(client, 2.0) == [(FIN, 0, 0, b"")]


def test_a_server_of_which_nothing_can_be_known_is_not_trusted() -> None:
    client = session(CLIENT)
    client.packets(0.0)
    client.receive(data(1, b"y"), 0.0)
    client.connected(2.0)
    client.packets(2.0)
    client.receive(encode_ack(0), 2.0)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(encode_ack(0), 2.0)
    assert caught.value.reason == "lost"


def test_no_ack_leaves_before_the_server_is_known() -> None:
    client = resumed_client()
    client.receive(data(2, b"z"), 2.0)
    assert [flag for flag, *_ in said(client, 2.0)] == [DATA, DATA]
    assert said(client, 3.0) == []
    client.receive(encode_ack(2), 3.0)
    assert take(client, 3.0) == b"z"
    assert said(client, 3.0) == [(ACK, 0, 2, b"")]


def test_a_fin_instead_of_an_answer_is_a_refusal() -> None:
    client = resumed_client()
    client.packets(2.0)
    client.receive(FIN_PACKET, 2.0)
    assert client.end == ("refused", True)


def test_a_deaf_server_is_dropped() -> None:
    """It reads the old socket only, and pings on the new one."""
    client = resumed_client()
    client.packets(2.0)
    client.heard(61.0)
    assert client.timer() == 2.0
    client.ping(61.0)
    assert client.timer() == 62.0
    client.handle_timer(62.0)
    assert (client.drop_socket, client.end) == (True, None)
    client.disconnected(62.0)
    assert (client.wants_socket, client.drop_socket) == (True, False)


def test_held_data_without_end_ends_it() -> None:
    client = resumed_client(received=1)
    for seq in range(2, 1_026):
        client.receive(data(seq, b"z"), 2.0)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(data(1_026, b"z"), 2.0)
    assert caught.value.reason == "overflow"


def test_a_peer_that_is_suddenly_another_program_is_another_life() -> None:
    client = session(CLIENT)
    client.connected(1.0, half_close=True)
    assert client.end == ("changed", True)


# Ends.


def test_fin_comes_after_everything_and_a_silence() -> None:
    client = session(CLIENT)
    client.write(b"last")
    client.write_eof(0.0)
    client.packets(0.0)
    assert client.state is State.CLOSING
    assert client.room == 0
    assert said(client, 20.0) == []
    client.receive(encode_ack(2), 20.0)
    client.receive(data(1, b"answer"), 21.0)
    assert take(client, 21.0) == b"answer"
    assert said(client, 22.9) == [(ACK, 0, 1, b"")]
    client.ping(22.9)
    assert client.timer() == 23.0
    client.handle_timer(23.0)
    assert said(client, 23.0) == [(FIN, 0, 0, b"")]
    assert (client.end, client.state, client.drop_socket) == (("done", False), State.CLOSED, True)
    assert client.read_eof
    assert client.timer() is None


def test_an_end_without_a_websocket_still_delivers() -> None:
    client = session(CLIENT, connected=False)
    client.write(b"all")
    client.write_eof(0.0)
    assert client.wants_socket
    client.connected(1.0)
    assert said(client, 1.0)[1:] == [(DATA, 2, 0, b"all")]


def test_a_fin_ends_both_directions_after_what_has_come() -> None:
    client = session(CLIENT)
    client.receive(data(1, b"rest"), 0.0)
    client.receive(FIN_PACKET, 0.0)
    assert (client.state, client.drop_socket, client.read_eof) == (State.CLOSING, True, False)
    assert client.write(b"late") == 0
    assert take(client) == b"rest"
    assert (client.state, client.read_eof, client.end) == (State.CLOSED, True, ("eof", False))


def test_a_fin_behind_a_hole_is_a_reset() -> None:
    client = session(CLIENT)
    client.receive(data(1, b"a"), 0.0)
    client.receive(data(3, b"c"), 0.0)
    client.receive(FIN_PACKET, 0.0)
    assert client.end == ("truncated", True)
    assert client.state is State.CLOSED


def test_a_fin_with_a_payload_is_a_fin() -> None:
    client = session(CLIENT)
    client.receive(b"\x04" + bytes(19) + b"\x03abc", 0.0)
    assert client.end == ("eof", False)


def test_a_reset_tells_the_peer_at_once_or_when_it_comes_back() -> None:
    server = session(SERVER)
    server.receive(data(1, b"x"), 0.0)
    server.reset("target")
    assert server.end == ("target", True)
    assert said(server) == [(FIN, 0, 0, b"")]
    away = session(SERVER)
    away.disconnected(1.0)
    away.reset("target")
    assert away.packets(1.0) == []
    assert not away.wants_socket
    away.connected(2.0)
    assert said(away, 2.0) == [(FIN, 0, 0, b"")]
    assert away.drop_socket


def test_a_local_failure_during_the_last_bytes_is_a_reset() -> None:
    client = session(CLIENT)
    client.receive(data(1, b"rest"), 0.0)
    client.receive(FIN_PACKET, 0.0)
    client.reset("local")
    assert client.end == ("local", True)
    assert client.read() == []


def test_without_a_websocket_a_session_ends_some_day() -> None:
    client = resumed_client()
    client.disconnected(10.0)
    assert client.timer() == 310.0
    client.handle_timer(309.0)
    assert client.end is None
    client.handle_timer(310.0)
    assert client.end == ("gone", True)


def test_silence_drops_the_websocket_not_the_session() -> None:
    client = session(CLIENT)
    client.handle_timer(149.0)
    assert not client.drop_socket
    client.handle_timer(150.0)
    assert (client.drop_socket, client.end, client.timer()) == (True, None, None)
    assert client.packets(150.0) == []


def test_after_its_end_the_local_stream_takes_nothing() -> None:
    client = session(CLIENT)
    client.write_eof(0.0)
    with pytest.raises(LocalProtocolError):
        client.write(b"x")


# Half-close between our own ends.


def test_one_direction_ends_and_the_other_goes_on() -> None:
    client = session(CLIENT, half_close=True)
    client.write(b"question")
    client.write_eof(0.0)
    assert said(client) == [(DATA, 1, 0, b"question"), (EOF, 2, 0, b"")]
    client.receive(encode_ack(2, 2), 0.0)
    assert client.state is State.OPEN
    client.receive(data(1, b"answer"), 1_000.0)
    client.receive(encode_eof(2), 1_000.0)
    assert not client.read_eof
    assert take(client, 1_000.0) == b"answer"
    assert client.read_eof
    assert said(client, 1_000.0) == [(ACK, 2, 2, b""), (FIN, 0, 0, b"")]
    assert client.end == ("done", False)


def test_a_fin_before_the_end_of_the_stream_is_a_reset() -> None:
    client = session(CLIENT, half_close=True)
    client.receive(data(1, b"x"), 0.0)
    client.receive(FIN_PACKET, 0.0)
    assert client.end == ("aborted", True)


def test_who_missed_the_last_words_hears_them_again() -> None:
    client = session(CLIENT, half_close=True)
    client.write_eof(0.0)
    client.packets(0.0)
    client.receive(encode_ack(1, 1), 0.0)
    client.receive(encode_eof(1), 0.0)
    client.packets(0.0)
    client.disconnected(1.0)
    client.connected(2.0, half_close=True)
    assert said(client, 2.0) == [(ACK, 1, 1, b""), (FIN, 0, 0, b"")]


def test_the_numbered_end_is_an_unknown_flag_without_the_agreement() -> None:
    client = session(CLIENT)
    client.receive(encode_eof(1), 0.0)
    assert (client.end, client.read_eof, client.counters.duplicates) == (None, False, 0)


# Garbage.


@pytest.mark.parametrize("message", [b"", b"\x01", data(1, b"abc")[:-1]])
def test_what_is_no_packet_is_counted(message: bytes) -> None:
    client = session(CLIENT)
    client.receive(message, 0.0)
    assert (client.counters.bad_packets, client.end) == (1, None)


@pytest.mark.parametrize("flag", [0, 3, 5, 200, 255])
def test_unknown_flags_are_skipped(flag: int) -> None:
    client = session(CLIENT)
    client.receive(bytes([flag]) + b"\xff" * 16 + bytes(4), 0.0)
    assert (client.counters.bad_packets, client.end) == (0, None)


def test_what_is_too_big_ends_it() -> None:
    client = session(CLIENT)
    with pytest.raises(RemoteProtocolError):
        client.receive(bytes(MAX_MESSAGE + 1), 0.0)
    assert client.end == ("oversize", True)


def test_data_far_ahead_ends_it() -> None:
    client = session(CLIENT)
    client.receive(data(1), 0.0)
    for seq in range(3, 1_027):
        client.receive(data(seq, b"x"), 0.0)
    with pytest.raises(RemoteProtocolError) as caught:
        client.receive(data(1_027, b"x"), 0.0)
    assert caught.value.reason == "overflow"


def test_after_the_end_nothing_is_heard() -> None:
    client = session(CLIENT)
    client.reset("local")
    client.receive(encode_ack(2**63), 0.0)
    client.disconnected(0.0)
    client.receive(b"", 0.0)
    assert client.counters.packets_in == 0


PACKETS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda flag, seq, ack, payload: (
            bytes([flag])
            + seq.to_bytes(8, "big")
            + ack.to_bytes(8, "big")
            + len(payload).to_bytes(4, "big")
            + payload
        ),
        st.sampled_from([0, 1, 1, 1, 2, 2, 3, 4, 16, 255]),
        st.one_of(st.integers(0, 6), st.integers(0, 2**64 - 1)),
        st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1)),
        st.binary(max_size=10),
    ),
)
MOVES = st.one_of(PACKETS, st.sampled_from(["packets", "time", "lost", "there", "read", "write", "eof"]))


@settings(max_examples=300)
@given(role=st.sampled_from(Role), half_close=st.booleans(), moves=st.lists(MOVES, max_size=40))
def test_whatever_comes_is_taken_or_refused(role: Role, half_close: bool, moves: list[bytes | str]) -> None:
    end = session(role, half_close=half_close)
    now, open_stream = 0.0, True
    for move in moves:
        match move:
            case bytes():
                with contextlib.suppress(RemoteProtocolError):
                    end.receive(move, now)
            case "packets":
                end.packets(now)
            case "time":
                now += 20.0
                end.handle_timer(now)
            case "lost":
                end.disconnected(now)
            case "there":
                end.connected(now, half_close=half_close)
            case "read":
                take(end, now)
            case "write" if open_stream:
                end.write(b"some")
            case "eof":
                open_stream = False
                end.write_eof(now)
        end.timer()
        assert end.state in State
        assert end.in_flight <= 128


# The original's ends.


def test_the_original_closes_after_its_bytes() -> None:
    ours = OurSide(CLIENT, b"question", half_close=False, end=False)
    theirs = GoSide(b"answer", random.Random(1))
    world = World(ours, theirs, 1)
    world.quiet(20)
    theirs.peer.close_tcp()
    world.quiet(20)
    assert ours.got == b"answer"
    assert ours.closed == ("eof", False)


@pytest.mark.parametrize("role", list(Role))
def test_our_end_of_stream_loses_nothing_at_the_original(role: Role) -> None:
    content = random.Random(5).randbytes(1_000_000)
    ours = OurSide(role, content, half_close=False, config=SessionConfig(eof_grace=0.5))
    theirs = GoSide(b"", random.Random(1))
    World(ours, theirs, 1).quiet()
    assert theirs.got == content
    assert theirs.peer.closed
    assert ours.closed == ("done", False)


def test_the_original_restarted_is_found_out_and_not_frozen() -> None:
    ours = OurSide(CLIENT, b"x" * 50_000, half_close=False, end=False)
    world = World(ours, GoSide(b"y" * 50_000, random.Random(1)), 1)
    world.quiet(40)
    world.cut()
    restarted = GoSide(b"z" * 100_000, random.Random(2))
    world.sides = (ours, restarted)
    world.quiet(5)
    assert ours.session.end == ("lost", True)
    assert ours.got == b"y" * 50_000
    assert restarted.got == b""
    assert not restarted.peer.frozen
