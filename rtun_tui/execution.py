"""Commands of the engine in the console: may it be done, is there something to ask, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

from rtun_core.commands import Command, told
from rtun_core.engine.source import Picture
from rtun_core.errors import RtunError
from rtun_tui.chosen import context_of
from rtun_tui.host import Host
from rtun_tui.operations import (
    OPERATIONS,
    Choice,
    Context,
    Operation,
    Proposal,
    Refusal,
    typed_command,
)
from rtun_tui.screens.choose import Choose
from rtun_tui.screens.confirm import Confirm

COMMAND_TIME = 120.0  # seconds that a command is shown as being carried out, if nothing else is to be said


class Execution:
    """The commands of one console, whether keys or lines ask for them."""

    def __init__(self, app: Host) -> None:
        self._app = app

    def operate(self, operation: Operation) -> None:
        """What a key that acts would do: refuse, choose, ask, do."""
        picture = self._app.overview.picture
        if picture is None:
            self._app.say("nothing is known yet", "error")
            return
        if why := self.refusal():
            self._app.say(why, "error")
            return
        answer = operation(self._context(picture))
        if isinstance(answer, Refusal):
            self._app.say(answer.why, "error")
        elif isinstance(answer, Choice):
            dialog = Choose(answer.question, answer.options)
            self._app.push_screen(dialog, lambda value: self._chosen(answer, value))
        else:
            self._propose(answer)

    async def typed(self, command: Command) -> None:
        """A command that was typed: asked about first if it may be about more than meets the eye."""
        picture = self._app.overview.picture
        proposal = None if picture is None else typed_command(command, picture.snapshot)
        if proposal is not None and not self.refusal():
            self._propose(proposal)
        else:
            await self._execute(command)

    def start(self, command: Command) -> None:
        """Carry out a command; its progress is in the tables, its result in a line."""
        self._app.run_worker(self._execute(command), group="command")

    def refusal(self) -> str:
        """Why nothing can be changed here; empty when it can."""
        if why := self._app.source.refusal:
            return f"{why}; :live goes back" if self._app.replaying.on else why
        return "the console is read-only" if self._app.manner.read_only else ""

    def works(self) -> Callable[[str], bool]:
        """What tells of an action whether it could be done now: keys that act, not all others, may not."""
        picture = self._app.overview.picture
        context = None if picture is None or self.refusal() else self._context(picture)

        def works(action: str) -> bool:
            operation = OPERATIONS.get(action)
            if operation is None or context is None:
                return operation is None
            return not isinstance(operation(context), Refusal)

        return works

    def _context(self, picture: Picture) -> Context:
        """What the user has chosen, of what is shown."""
        return context_of(self._app.desk.table, self._app.source, picture.snapshot)

    def _chosen(self, choice: Choice, value: str | None) -> None:
        if value is not None:
            self._propose(choice.propose(value))

    def _propose(self, proposal: Proposal) -> None:
        """Ask, if there is something to ask, and do it."""
        if not proposal.ask:
            self.start(proposal.command)
            return

        def answered(yes: bool | None) -> None:
            if yes:
                self.start(proposal.command)

        private = self._app.desk.look.private
        self._app.push_screen(Confirm(proposal, self._app.palette, private=private), answered)

    async def _execute(self, command: Command) -> None:
        """Carry out a command and say what came of it."""
        if why := self.refusal():
            self._app.say(why, "error")
            return
        self._app.say(f"{told(command)} ...", seconds=COMMAND_TIME)
        try:
            result = await self._app.source.execute(command)
        except RtunError as error:
            self._app.say(str(error), "error")
        else:
            self._app.say(result.text)
            if command.words[0] == "flow":
                self._app.desk.table.clear_marks()
        self._app.look()
