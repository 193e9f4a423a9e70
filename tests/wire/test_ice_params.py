"""ICE parameters in control messages."""

from collections import Counter

import pytest

from rtun_core.errors import RemoteProtocolError
from rtun_core.wire.address import Address
from rtun_core.wire.candidate import host_candidate, srflx_candidate
from rtun_core.wire.ice_checker import MAX_REMOTE, IceParams
from rtun_core.wire.ice_params import MAX_CREDENTIAL, ice_params_from_pb, ice_params_to_pb
from rtun_core.wire.pb import rtun_pb2

TEXT = "candidate:1 1 udp 2130706175 192.0.2.10 40000 typ host"
ENCODED = bytes.fromhex("0a084162436445664768120830313233343536371a36") + TEXT.encode()


def message(**changes: object) -> rtun_pb2.P2PIceArgs:
    parts = {"ufrag": "AbCdEfGh", "pwd": "01234567", "candidates": [TEXT]}
    return rtun_pb2.P2PIceArgs(**(parts | changes))


def test_the_vector_both_ways():
    params = ice_params_from_pb(rtun_pb2.P2PIceArgs.FromString(ENCODED))
    assert (params.ufrag, params.pwd) == ("AbCdEfGh", "01234567")
    assert [candidate.address for candidate in params.candidates] == [Address("192.0.2.10", 40000)]
    assert ice_params_to_pb(params).SerializeToString(deterministic=True) == ENCODED


def test_what_we_offer_is_read_back():
    address = Address("192.0.2.1", 5)
    params = IceParams("u", "p", (srflx_candidate(address, Address("0.0.0.0", 5)), host_candidate(address)))
    assert ice_params_from_pb(ice_params_to_pb(params)) == params


def test_an_unreadable_candidate_is_skipped_and_counted():
    counters: Counter[str] = Counter()
    candidates = ["nonsense", TEXT, TEXT.replace("192.0.2.10", "x.local")]
    assert len(ice_params_from_pb(message(candidates=candidates), counters).candidates) == 1
    assert counters == {"candidate": 2}


def test_the_number_of_candidates_is_bounded():
    counters: Counter[str] = Counter()
    params = ice_params_from_pb(message(candidates=[TEXT] * (MAX_REMOTE + 3)), counters)
    assert len(params.candidates) == MAX_REMOTE
    assert counters == {"limit": 3}


def test_no_candidate_at_all_is_legal():
    assert ice_params_from_pb(message(candidates=[])).candidates == ()


@pytest.mark.parametrize("field", ["ufrag", "pwd"])
@pytest.mark.parametrize("value", ["", "x" * (MAX_CREDENTIAL + 1)])
def test_credentials_must_be_there_and_bounded(field, value):
    with pytest.raises(RemoteProtocolError, match=f"{field} has {len(value)} characters") as caught:
        ice_params_from_pb(message(**{field: value}))
    assert caught.value.reason == "ice"
    assert "xxxx" not in str(caught.value)
