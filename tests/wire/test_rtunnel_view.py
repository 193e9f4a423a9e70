from rtun_core.wire.rtunnel_packet import encode_ack, encode_data
from rtun_core.wire.rtunnel_session import Session
from rtun_core.wire.rtunnel_terms import Role, SessionConfig, State


def client(config: SessionConfig | None = None) -> Session:
    return Session(session_id="7", role=Role.CLIENT, now=0.0, config=config or SessionConfig())


def test_the_states_of_a_life() -> None:
    end = client()
    seen = [end.state]
    end.connected(0.0)
    end.packets(0.0)
    seen.append(end.state)
    end.disconnected(1.0)
    seen.append(end.state)
    end.connected(2.0)
    seen.append(end.state)
    end.receive(encode_ack(1), 2.0)
    seen.append(end.state)
    end.write_eof(3.0)
    seen.append(end.state)
    end.packets(5.0)
    seen.append(end.state)
    assert [state.value for state in seen] == [
        "opening",
        "open",
        "resuming",
        "resuming",
        "open",
        "closing",
        "closed",
    ]


def test_room_and_what_is_not_acknowledged() -> None:
    end = client(SessionConfig(send_buffer=1_000))
    assert end.room == 1_000
    end.write(b"x" * 600)
    assert (end.room, end.unacknowledged, end.in_flight) == (400, 600, 0)
    end.connected(0.0)
    end.packets(0.0)
    assert (end.room, end.unacknowledged, end.in_flight) == (1_000, 600, 2)
    end.receive(encode_ack(2), 0.1)
    assert (end.room, end.unacknowledged, end.in_flight) == (1_000, 0, 0)


def test_what_can_be_read() -> None:
    end = client()
    end.connected(0.0)
    assert (end.readable, end.unread, end.read_eof) == (False, 0, False)
    end.receive(encode_data(1, [b"abc"], 3), 0.0)
    assert (end.readable, end.unread) == (True, 3)
    end.read()
    assert (end.readable, end.unread) == (False, 3)
    end.delivered(0.0)
    assert end.unread == 0


def test_round_trips_come_from_pings() -> None:
    end = client()
    assert end.ping(0.0) is None
    end.connected(1.0)
    payload = end.ping(1.0)
    assert payload is not None
    assert (end.rtt, end.srtt) == (None, None)
    end.pong(payload, 1.5)
    assert (end.rtt, end.srtt) == (0.5, 0.15)
    assert end.state is State.OPEN
