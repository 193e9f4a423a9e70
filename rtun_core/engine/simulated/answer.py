"""The answer to a command that may take a while."""

from __future__ import annotations

from collections.abc import Callable

from rtun_core.commands import CommandResult
from rtun_core.errors import CommandRefused


class Answer:
    """Either a result or a refusal, now or later."""

    def __init__(self) -> None:
        self._result: CommandResult | None = None
        self._refusal: CommandRefused | None = None
        self._waiters: list[Callable[[], None]] = []

    @property
    def given(self) -> bool:
        """Whether it is known."""
        return self._result is not None or self._refusal is not None

    def give(self, result: CommandResult) -> None:
        """The command was carried out."""
        self._result = result
        self._wake()

    def refuse(self, reason: str) -> None:
        """The command could not be carried out."""
        self._refusal = CommandRefused(reason)
        self._wake()

    def result(self) -> CommandResult:
        """What the command did, once it is given. Raises CommandRefused."""
        if self._refusal is not None:
            raise self._refusal
        assert self._result is not None, "asked before it was given"
        return self._result

    def when_given(self, call: Callable[[], None]) -> None:
        """Call when it is known, at once if it is."""
        if self.given:
            call()
        else:
            self._waiters.append(call)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for call in waiters:
            call()
