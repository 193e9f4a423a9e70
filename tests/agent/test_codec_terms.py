"""What a relay asked for, and what follows for the frames."""

import pytest

from rtun_core.agent.codec_terms import HOLD, CodecTerms
from rtun_core.wire.frame_policy import FrameTerms
from rtun_core.wire.relay_frame import CodecKind

SEED = 0x12345678


@pytest.mark.parametrize(
    ("terms", "limit"),
    [
        (CodecTerms(0), 1444),
        (CodecTerms(0, agreed=True), 1444),
        (CodecTerms(SEED, agreed=True), 1442),
        (CodecTerms(SEED), 1443),
    ],
)
def test_the_payload_limit_follows_from_the_header(terms, limit):
    assert terms.payload_limit == limit


@pytest.mark.parametrize(
    "terms", [CodecTerms(0), CodecTerms(0, 1442), CodecTerms(0, 1444), CodecTerms(0, agreed=True)]
)
def test_seed_0_is_legacy_whatever_else_is_said(terms):
    assert terms.frames.settled is CodecKind.LEGACY


@pytest.mark.parametrize("max_payload", [0, 1200, 1442])
def test_an_agreement_settles_obfs_v2(max_payload):
    assert CodecTerms(SEED, max_payload, agreed=True).frames.settled is CodecKind.OBFS_V2


@pytest.mark.parametrize(
    ("max_payload", "guess", "fallback"),
    [
        (0, None, CodecKind.OBFS_V2),
        (1391, None, CodecKind.OBFS_V2),
        (1441, None, CodecKind.OBFS_V2),
        (1442, CodecKind.OBFS_V2, CodecKind.OBFS_V2),
        (1443, None, CodecKind.OBFS_V1),
    ],
)
def test_without_an_agreement_the_payload_gives_a_hint(max_payload, guess, fallback):
    expected = FrameTerms(seed=SEED, settled=None, guess=guess, fallback=fallback, hold=HOLD)
    assert CodecTerms(SEED, max_payload).frames == expected


def test_the_hold_leaves_a_relay_time_for_its_first_heartbeat():
    assert CodecTerms(SEED).frames.hold == 3.0
