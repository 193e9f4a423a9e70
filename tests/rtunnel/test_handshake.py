from hypothesis import given
from hypothesis import strategies as st

from rtun_core.rtunnel import handshake


def test_first_request_asks_for_half_close_only():
    assert handshake.request_headers("id", token=None, resume=False) == {
        "X-Session-Id": "id",
        "X-Rtun-Half-Close": "1",
    }


def test_resume_and_token_are_added():
    headers = handshake.request_headers("id", token=b"secret", resume=True)
    assert handshake.resumes(headers)
    assert handshake.half_close(headers)
    assert handshake.is_authorized(b"secret", "id", headers)
    assert "secret" not in "".join(headers.values())


def test_unknown_versions_are_not_agreed_to():
    assert not handshake.half_close({"X-Rtun-Half-Close": "2"})
    assert not handshake.half_close({})
    assert not handshake.resumes({"X-Rtun-Resume": "yes"})


def test_agreement():
    assert handshake.half_close(handshake.agreement(half_close=True))
    assert handshake.agreement(half_close=False) == {}


def test_proof_is_for_one_session_and_one_token():
    headers = handshake.request_headers("a", token=b"secret", resume=False)
    assert handshake.is_authorized(None, "b", headers)
    assert not handshake.is_authorized(b"secret", "b", headers)
    assert not handshake.is_authorized(b"other", "a", headers)
    assert not handshake.is_authorized(b"secret", "a", {})


def test_proof_vector():
    """Both ends must agree across versions."""
    assert handshake.proof(b"secret", "id").startswith("9b0b50940822c4a9")


@given(st.text(max_size=80))
def test_any_header_is_only_wrong(value):
    assert not handshake.is_authorized(b"secret", "id", {"X-Rtun-Token": value})
