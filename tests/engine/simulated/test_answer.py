import pytest

from rtun_core.commands import CommandResult
from rtun_core.engine.simulated.answer import Answer
from rtun_core.errors import CommandRefused


def test_a_result():
    answer, calls = Answer(), []
    answer.when_given(lambda: calls.append("waited"))
    assert not answer.given
    answer.give(CommandResult(text="done"))
    answer.when_given(lambda: calls.append("at once"))
    assert answer.given
    assert answer.result().text == "done"
    assert calls == ["waited", "at once"]


def test_a_refusal():
    answer = Answer()
    answer.refuse("not now")
    assert answer.given
    with pytest.raises(CommandRefused, match="not now"):
        answer.result()
