import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.frames import encode_frame
from rtun_core.wire.signal_json import (
    MAX_AGENTS,
    NEVER,
    AgentEntry,
    PubRequest,
    PubResponse,
    SessionsRequest,
    SessionsResponse,
    SubRequest,
    SubResponse,
    agent_not_found,
    decode_agents,
    decode_request,
    decode_response,
    encode_agents,
    encode_request,
    encode_response,
    instance_mismatch,
    unauthorized,
)

TOKEN = "AAABi8/laADqAx7zedtTcFUXU4ayoaUQBX8KzYhIwGyEScfM3PUNxA"
PUB = PubRequest(agent="relay-e2e", token=TOKEN, expire_in=600000, ver="0.2.0.8af2851")
PUB_JSON = (
    f'{{"kind":"pub","agent":"relay-e2e","token":"{TOKEN}",'
    '"expire_in":600000,"instance_id":null,"ver":"0.2.0.8af2851"}'
).encode()

names = st.text(max_size=20)
maybe = st.none() | names
times = st.integers(0, NEVER)
codes = st.integers(-(2**31), 2**31 - 1)
entries = st.builds(AgentEntry, names, names, times, maybe, maybe)
requests = (
    st.builds(PubRequest, maybe, names, st.none() | times, maybe, maybe)
    | st.builds(SubRequest, maybe, names, st.none() | times, maybe, maybe)
    | st.just(SessionsRequest())
)
responses = (
    st.builds(PubResponse, codes, names, maybe)
    | st.builds(SubResponse, codes, names)
    | st.builds(SessionsResponse, codes, names, st.lists(entries, max_size=3))
)


def test_sessions_request_vector() -> None:
    frame = encode_frame(encode_request(SessionsRequest()))
    assert frame.hex() == "000000137b226b696e64223a2273657373696f6e73227d"


def test_pub_request_vector() -> None:
    assert encode_request(PUB) == PUB_JSON
    assert encode_frame(PUB_JSON)[:4].hex() == "0000009f"
    assert decode_request(PUB_JSON) == PUB


def test_sub_request_has_the_nulls_of_the_field() -> None:
    expected = b'{"kind":"sub","agent":"a","token":"t","expire_in":null,"instance_id":"i","ver":null}'
    assert encode_request(SubRequest("a", "t", instance_id="i")) == expected


@pytest.mark.parametrize(
    ("response", "frame"),
    [
        (
            SubResponse(0, ""),
            "000000237b226b696e64223a22737562222c22636f6465223a302c22726561736f6e223a22227d",
        ),
        (
            PubResponse(0, "", "relay-e2e"),
            "0000003c7b226b696e64223a22707562222c22636f6465223a302c22726561736f6e223a22222c22"
            "6167656e745f6e616d65223a2272656c61792d653265227d",
        ),
    ],
)
def test_response_vectors(response: PubResponse | SubResponse, frame: str) -> None:
    assert encode_frame(encode_response(response)).hex() == frame
    assert decode_response(bytes.fromhex(frame)[4:]) == response


def test_sessions_response_omits_what_an_agent_did_not_say() -> None:
    response = SessionsResponse(0, "", [AgentEntry("n", "192.0.2.1:5", NEVER, "i")])
    assert encode_response(response) == (
        b'{"kind":"sessions","code":0,"reason":"","sessions":[{"name":"n","addr":"192.0.2.1:5",'
        b'"expire_at":9223372036854775807,"instance_id":"i"}]}'
    )
    assert AgentEntry.NEVER == NEVER


def test_error_responses_with_and_without_the_optional_key() -> None:
    refused = PubResponse(-1, "unauthorized: invalid token", None)
    assert encode_response(refused).endswith(b'"agent_name":null}')
    text = b'{"reason":"unauthorized: invalid token","code":-1,"kind":"pub"}'
    assert decode_response(text) == refused
    for sessions in (b"", b',"sessions":null', b',"sessions":[]'):
        listing = b'{"kind":"sessions","code":-1,"reason":"no"%b}' % sessions
        assert decode_response(listing) == SessionsResponse(-1, "no", [])


def test_absent_keys_are_null_and_unknown_ones_are_skipped() -> None:
    text = b'{"x":[{"y":1}],"token":"t","kind":"pub"}'
    assert decode_request(text) == PubRequest(None, "t", None)
    assert decode_request(b'{"token":"t","kind":"sub"}') == SubRequest(None, "t")
    assert decode_request(b'{"kind":"sessions","token":1}') == SessionsRequest()


def test_times_beyond_the_end_are_never() -> None:
    text = b'{"kind":"pub","token":"t","expire_in":%d}' % (2**64 - 1)
    assert decode_request(text) == PubRequest(None, "t", NEVER)
    assert decode_agents(b'[{"name":"n","addr":"a","expire_at":%d}]' % 2**70) == [AgentEntry("n", "a", NEVER)]


@given(requests)
def test_request_round_trip(request_: PubRequest) -> None:
    assert decode_request(encode_request(request_)) == request_


@given(responses)
def test_response_round_trip(response: PubResponse) -> None:
    assert decode_response(encode_response(response)) == response


@given(st.lists(entries, max_size=4))
def test_agents_round_trip(agents: list[AgentEntry]) -> None:
    assert decode_agents(encode_agents(agents)) == agents


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | names,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            names | st.sampled_from(["kind", "agent", "token", "expire_in", "code", "reason", "sessions"]),
            inner | st.sampled_from(["pub", "sub", "sessions"]),
            max_size=5,
        )
    ),
    max_leaves=8,
)


@given(st.binary(max_size=80) | DOCUMENTS.map(lambda document: json.dumps(document).encode()))
def test_any_bytes_are_a_document_or_refused(data: bytes) -> None:
    for decode in (decode_request, decode_response, decode_agents):
        reason = "json"
        try:
            decode(data)
        except RemoteProtocolError as error:
            reason = error.reason
        assert reason == "json"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'{"kind":"pub"}',
        b'{"kind":"other","token":"t"}',
        b'{"kind":"pub","token":null}',
        b'{"kind":"pub","token":"t","expire_in":-1}',
        b'{"kind":"pub","token":"t","expire_in":"1"}',
        b'{"kind":"pub","token":"t","expire_in":1e400}',
        b'{"kind":"sub","token":"\xff"}',
        b'{"a":' * 10_000,
        b'{"kind":"sessions"}' + b" " * 65536,
    ],
)
def test_bad_requests(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_request(data)
    assert caught.value.reason == "json"


def test_the_agent_list_is_bounded() -> None:
    entry = AgentEntry("n", "a", 1)
    assert len(decode_agents(encode_agents([entry] * MAX_AGENTS))) == MAX_AGENTS
    with pytest.raises(RemoteProtocolError):
        decode_agents(encode_agents([entry] * (MAX_AGENTS + 1)))
    with pytest.raises(RemoteProtocolError):
        decode_response(encode_response(SessionsResponse(0, "", [entry] * (MAX_AGENTS + 1))))
    with pytest.raises(RemoteProtocolError):
        decode_agents(b"[" + b" " * 2**24 + b"]")


def test_reasons() -> None:
    assert unauthorized("invalid token") == "unauthorized: invalid token"
    assert agent_not_found("x") == "not found agent [x]"
    assert instance_mismatch("x", "A", "B") == "instance mismatch for agent [x], want [A], actual [B]"
