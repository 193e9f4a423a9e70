"""An engine in another process as the console sees it, over the control socket or address of that process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import numpy as np

from rtun_core.commands import Command, CommandResult
from rtun_core.engine.control_client import ControlClient, decode_event
from rtun_core.engine.control_place import ControlPlace
from rtun_core.engine.event_inbox import EventInbox
from rtun_core.engine.hello import Hello
from rtun_core.engine.picture_delta import PictureReader, Shot, page_of
from rtun_core.engine.source import Parting, Picture, SourceStatus
from rtun_core.engine.view_link import ViewLink
from rtun_core.engine.view_messages import (
    FASTEST,
    MAX_ASKS,
    SLOWEST,
    AnswerMessage,
    Ask,
    SpecError,
    ViewMessage,
    ViewRequest,
)
from rtun_core.errors import CommandRefused, RtunError, UsageError
from rtun_core.event import Stamped
from rtun_core.net.tasks import TaskOwner
from rtun_core.view.filter_text import FilterError
from rtun_core.view.history import STEP, HistoryPicture
from rtun_core.view.history_packed import unpack_history
from rtun_core.view.history_tail import joined
from rtun_core.view.page import Page, ViewSpec

INTERVAL = 0.25  # seconds between two pictures
RECALL = 1000  # events from before the console came
BACKOFF = (0.2, 2.0)  # seconds between two attempts to get the link back: the first, the longest
ASK_LIMIT = 15.0  # seconds to wait for a page
WHO = "attached"


class AttachedSource:
    """Looks at the engine at a place. Everything happens on the loop that `start` was called on.

    `on_picture` is called when there is something that the console waited for: the first picture, the one
    that answers a changed look, another status. What comes between is seen at the console's own beat.
    """

    def __init__(
        self, place: ControlPlace, *, interval: float = INTERVAL, wall: Callable[[], float] = time.time
    ) -> None:
        self.on_picture: Callable[[], None] | None = None
        self._place = place
        self._interval = interval
        self._wall = wall
        self._status = SourceStatus("LOST", "not connected yet", wall())
        self._hello: Hello | None = None
        self._specs: tuple[ViewSpec, ...] | None = None
        self._turn = 0
        self._answered = 0
        self._holds = False
        self._picture: Picture | None = None
        self._reader = PictureReader()
        self._missed = False
        self._history = _NOTHING_YET
        self._error: UsageError | None = None
        self._inbox = EventInbox()
        self._asks: dict[int, _Question] = {}
        self._numbers = count(1)
        self._changed = asyncio.Event()
        self._delay = BACKOFF[0]
        self._link: ViewLink | None = None
        self._tasks = TaskOwner("attached", self._failed)

    @property
    def title(self) -> str:
        """The process that is looked at, or its address."""
        if self._place.is_far:
            return f"attached {self._place}"
        return f"attached {self._hello.pid}" if self._hello else "attached"

    @property
    def status(self) -> SourceStatus:
        """LIVE, LOST while the link is being made again, or ENDED."""
        return self._status

    @property
    def refusal(self) -> str:
        """Commands need the link."""
        return {"LIVE": "", "ENDED": "the engine has ended"}.get(
            self._status.word, "there is no link to the engine right now"
        )

    @property
    def interval(self) -> float:
        """Seconds between two pictures."""
        return self._interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        self._interval = min(SLOWEST, max(FASTEST, seconds))
        self._changed.set()

    @property
    def waiting(self) -> bool:
        """Whether the engine has not answered the newest look yet."""
        return self._picture is not None and self._answered < self._turn

    def watch(self, call: Callable[[], None]) -> None:
        """Have `call` made when an answer from the engine has come."""
        self.on_picture = call

    def pace(self, seconds: float) -> None:
        """Ask the engine for no more than one picture in so many seconds."""
        self.interval = seconds

    async def start(self) -> None:
        """Make the link. Raises RtunError when there is no engine, or one that this rtun cannot look at."""
        link = await ViewLink.open(self._place)
        self._meet(link.hello)
        self._tasks.spawn(self._live(link), "link")

    def look(self, specs: Sequence[ViewSpec]) -> Picture | None:
        """The newest picture; of the last specs until that of these is here.

        Raises, once, the UsageError of a spec that the engine could not answer.
        """
        wanted = tuple(specs)
        if wanted != self._specs:
            self._specs = wanted
            self._turn += 1
            self._changed.set()
        error, self._error = self._error, None
        if error is not None:
            raise error
        return self._picture

    async def page(self, spec: ViewSpec) -> Page:
        """Ask the engine for one page of the picture that is looked at."""
        if why := self.refusal:
            raise RtunError(why)
        number = next(self._numbers)
        question = self._asks[number] = _Question(Ask(number, spec))
        self._changed.set()
        try:
            async with asyncio.timeout(ASK_LIMIT):
                return await question.page
        except TimeoutError:
            raise RtunError(f"the engine did not answer within {ASK_LIMIT:g} s") from None
        finally:
            self._asks.pop(number, None)

    def hold(self, *, on: bool) -> None:
        """Have the engine answer looks from the picture of this moment."""
        self._holds = on
        self._changed.set()

    def select(self, spec: ViewSpec) -> list[str] | None:
        """Only the engine can tell: commands are sent with the filter in place of ids."""
        return None

    def events(self) -> list[Stamped]:
        """What came since the last call."""
        return self._inbox.drain()

    async def execute(self, command: Command) -> CommandResult:
        """Send the command over a connection of its own."""
        if why := self.refusal:
            raise CommandRefused(why)
        async with ControlClient(self._place) as client:
            return await client.command(command, who=WHO)

    async def close(self, parting: Parting = Parting.CLOSED) -> None:
        """Part; the engine goes on."""
        self.on_picture = None
        if self._link is not None:
            # First: where receiving is cancelled, the engine's answer to the goodbye is not waited for.
            await self._link.close(parting)
        await self._tasks.close()
        self._fail_asks("the console is closing")

    # -- the link ------------------------------------------------------------------------------

    async def _live(self, link: ViewLink | None) -> None:
        while link is not None:
            reason = await self._follow(link)
            self._fail_asks(reason)
            self._be("LOST", reason)
            link = await self._again()
        self._be("ENDED", "the engine has ended")

    async def _follow(self, link: ViewLink) -> str:
        """Talk until the link is gone; why it is."""
        self._link = link
        writer = self._tasks.spawn(self._speak(link), "speak")
        try:
            while True:
                self._take(await link.receive())
        except RtunError as error:
            return str(error)
        finally:
            writer.cancel()
            await link.close()
            self._link = None

    async def _again(self) -> ViewLink | None:
        """The next link; None when there will be none, because the engine ended."""
        while True:
            if not self._inbox.stopping:
                await asyncio.sleep(self._delay)
                self._delay = min(2 * self._delay, BACKOFF[1])
            try:
                link = await ViewLink.open(self._place)
            except RtunError as error:
                if self._inbox.stopping:
                    return None
                self._status = self._status._replace(detail=str(error))
            else:
                self._meet(link.hello)
                return link

    async def _speak(self, link: ViewLink) -> None:
        since = self._inbox.seq
        if since is None:
            since = max(0, link.hello.seq - RECALL)
        try:
            await link.send(self._request(since))
            while True:
                await self._changed.wait()
                await link.send(self._request(None))
        except RtunError:
            return  # the one who listens hears it, too, and knows better why

    def _request(self, since: int | None) -> ViewRequest:
        """All that is wanted: the engine finds out what of it is new."""
        unsent = [each for each in self._asks.values() if since is not None or not each.sent][:MAX_ASKS]
        for question in unsent:
            question.sent = True
        if all(question.sent for question in self._asks.values()):
            self._changed.clear()
        return ViewRequest(
            since=since,
            look=self._specs,
            turn=self._turn,
            interval=self._interval,
            hold=self._holds,
            form=None if since is None else "changes" if self._place.is_far else "packed",
            key=self._missed,
            ask=tuple(question.ask for question in unsent),
        )

    # -- what comes ----------------------------------------------------------------------------

    def _meet(self, hello: Hello) -> None:
        known = self._hello
        if known is not None and (known.pid != hello.pid or hello.seq < (self._inbox.seq or 0)):
            self._inbox.seq = None  # another engine took its place and counts anew
        self._hello = hello
        self._reader, self._missed = PictureReader(), False
        self._history = _NOTHING_YET
        self._be("LIVE")

    def _take(self, message: ViewMessage) -> None:
        for raw in message.events:
            stamped = decode_event(bytes(raw))
            if stamped is not None:
                self._inbox.put(stamped)
        if message.history is not None:
            self._history = joined(self._history, unpack_history(message.history))
            if self._picture is not None:
                self._picture = replace(self._picture, history=self._history)
        if message.answer is not None:
            self._answer(message.answer)
        if message.error is not None:
            self._error = _usage_error(message.error)
        if (picture := message.picture or message.change) is not None:
            shot = self._reader.read(picture)
            self._missed = shot is None
            if shot is None:
                self._changed.set()
            else:
                self._show(shot)

    def _show(self, shot: Shot) -> None:
        waited = self._picture is None or shot.turn > self._answered
        self._answered = shot.turn
        self._delay = BACKOFF[0]
        self._picture = Picture(snapshot=shot.snapshot, pages=shot.pages, history=self._history)
        if waited:
            self._redraw()

    def _answer(self, message: AnswerMessage) -> None:
        question = self._asks.get(message.number)
        if question is None or question.page.done():
            return  # it came too late
        wanted = question.ask.spec.table
        page = next((page for page in message.pages.all() if page.table == wanted), None)
        if message.error is not None:
            question.page.set_exception(_usage_error(message.error))
        elif page is None:
            question.page.set_exception(RtunError("the engine sent another page than was asked for"))
        else:
            question.page.set_result(page_of(page, page.rows))

    def _fail_asks(self, reason: str) -> None:
        for question in self._asks.values():
            if not question.page.done():
                question.page.set_exception(RtunError(reason))

    def _be(self, word: str, detail: str = "") -> None:
        self._status = SourceStatus(word, detail, self._wall())
        self._redraw()

    def _redraw(self) -> None:
        if self.on_picture is not None:
            self.on_picture()

    def _failed(self, name: str, error: BaseException) -> None:
        """An error of ours: the console stays with what it has and says so."""
        self._be("LOST", f"{name} failed: {error!r}")


class _Question:
    """A page that somebody waits for."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.sent = False
        self.page: asyncio.Future[Page] = asyncio.get_running_loop().create_future()


def _usage_error(error: SpecError) -> UsageError:
    return UsageError(error.text) if error.column is None else FilterError(error.text, column=error.column)


_NO_SAMPLES = np.empty(0, np.float32)
_NOTHING_YET = HistoryPicture(step=STEP, end=0.0, up=_NO_SAMPLES, down=_NO_SAMPLES, drops=_NO_SAMPLES)
