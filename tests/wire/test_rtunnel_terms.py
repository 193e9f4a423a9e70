from rtun_core.wire.rtunnel_terms import EOF_GRACE, ORIGINAL_SHAPE, OWN_SHAPE, WINDOW_PACKETS, Role


def test_the_window_of_the_original_is_two_mebibytes_of_payload() -> None:
    assert ORIGINAL_SHAPE.payload * WINDOW_PACKETS == 2 * 1024 * 1024
    assert ORIGINAL_SHAPE.window == WINDOW_PACKETS * 16_405


def test_every_role_has_its_grace() -> None:
    assert set(EOF_GRACE) == set(Role)
    assert OWN_SHAPE.payload == 65_536
