"""What the user has chosen: the row under the cursor, marks that are shown, and flows by `@name`."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

import msgspec

from rtun_core.commands import ALL
from rtun_core.engine.source import Source
from rtun_core.model import RuleId, Snapshot
from rtun_core.view.columns import row_key
from rtun_tui.operations import Context
from rtun_tui.table_state import TableState


def context_of(state: TableState, source: Source, snapshot: Snapshot) -> Context:
    """What keys that act are about, in the table that has the keyboard."""
    marked = sorted(state.marks & _shown_marks(state, source)) if state.marks else []
    return Context(
        snapshot=snapshot,
        table=state.table,
        row=state.current(),
        marked=tuple(marked),
        hidden=len(state.marks) - len(marked),
        rules=_rules_of(state, marked),
    )


def _rules_of(state: TableState, marked: Sequence[str]) -> frozenset[RuleId]:
    rows = state.page.rows if state.page is not None and state.table == "flows" and marked else ()
    wanted = set(marked)
    return frozenset(row.rule for row in rows if row.id in wanted and row.rule is not None)


def selectors_of(flows: TableState, source: Source) -> dict[str, Callable[[], Sequence[str]]]:
    """What `@focus`, `@marked`, `@shown` stand for: ids of flows; where only the engine knows, a filter."""

    def focus() -> Sequence[str]:
        row = flows.current()
        return [] if row is None else [row_key("flows", row)]

    def shown() -> Sequence[str]:
        spec = msgspec.structs.replace(flows.spec(), marks=tuple(sorted(flows.marks)))
        keys = source.select(spec)
        return ([spec.filter] if spec.filter else [ALL]) if keys is None else keys

    return {"@focus": focus, "@marked": lambda: sorted(flows.marks), "@shown": shown}


def _shown_marks(state: TableState, source: Source) -> Set[str]:
    """Marked rows that pass the filter: nothing that is hidden is acted on.

    Where only the engine knows them all, the rows of the window, unless no filter hides anything.
    """
    keys = source.select(state.marked_spec())
    if keys is not None:
        return set(keys)
    rows = state.page.rows if state.page is not None else ()
    return {row_key(state.table, row) for row in rows} if state.spec().filter else state.marks
