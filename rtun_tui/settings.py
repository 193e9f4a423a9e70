"""The console's settings: `config.toml` in the directory of settings, or the file that RTUN_CONFIG names.

Settings are the start; keys and commands change them while the console runs, and never the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from rtun_core.engine.paths import settings_file
from rtun_core.errors import UsageError
from rtun_core.view.columns import COLUMNS, TABLES, TableId, column_named
from rtun_core.view.filter import compile_filter
from rtun_core.view.filter_text import parse_filter
from rtun_core.view.page import Sort
from rtun_tui.keymap_library import OWN
from rtun_tui.strict_toml import Document, nearest, read_document
from rtun_tui.theme_library import DEFAULT_THEME

MIN_HZ, MAX_HZ = 0.2, 10.0
MAX_VIEWS = 100

_VIEW_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_VIEW_KEYS = ("table", "filter", "sort", "columns")


@dataclass(frozen=True, kw_only=True)
class SavedView:
    """A table as the user likes it. Empty `sort` or `columns` leave those as they are."""

    name: str
    table: TableId
    filter: str = ""
    sort: tuple[Sort, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the console starts with. `interval_hz` is pictures per second, `columns` ids by table."""

    theme: str = DEFAULT_THEME
    keymap: str = OWN
    interval_hz: float = 4.0
    units: str = "bit"
    iec: bool = False
    ascii: bool = False
    mouse: bool = True
    privacy: bool = False
    columns: Mapping[TableId, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    views: Mapping[str, SavedView] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def bits(self) -> bool:
        """Whether rates are written in bits."""
        return self.units == "bit"


CONSOLE_HELP: Mapping[str, str] = MappingProxyType(
    {
        "theme": "a name from `rtun config --print-themes` or of a file in the directory themes",
        "keymap": '"own" is keymap.toml, "default" the keys that come with rtun, others are in keymaps',
        "interval_hz": f"pictures per second, {MIN_HZ:g} to {MAX_HZ:g}; only the picture, never the counting",
        "units": 'rates in "bit" or "byte" per second',
        "iec": "steps of 1024 (KiB) instead of 1000 (kB)",
        "ascii": "no line or plot characters outside ASCII",
        "mouse": "clicks and the wheel; false leaves them to the terminal",
        "privacy": "start with parts of addresses hidden",
    }
)


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings of the file, the defaults if there is none. Raises UsageError with file, line and key.

    A file that RTUN_CONFIG names must exist.
    """
    file = settings_file(environ)
    if not file.exists() and not environ.get("RTUN_CONFIG"):
        return Settings()
    return parse_settings(read_document(file))


def parse_settings(document: Document) -> Settings:
    """The settings of a document. Raises UsageError naming file, line and key."""
    document.only(("console", "columns", "views"))
    document.only(tuple(CONSOLE_HELP), "console")
    start = Settings()
    return Settings(
        theme=document.get(str, start.theme, "console", "theme"),
        keymap=document.get(str, start.keymap, "console", "keymap"),
        interval_hz=_interval(document, start.interval_hz),
        units=_units(document, start.units),
        iec=document.get(bool, start.iec, "console", "iec"),
        ascii=document.get(bool, start.ascii, "console", "ascii"),
        mouse=document.get(bool, start.mouse, "console", "mouse"),
        privacy=document.get(bool, start.privacy, "console", "privacy"),
        columns=_columns(document),
        views=_views(document),
    )


def print_template() -> str:
    """A `config.toml` with every key commented out and explained; with the marks taken away it is valid."""
    lines = [
        "# Settings of the rtun console. Every key is optional; each line shows the default.",
        "",
        "[console]",
    ]
    for key, words in CONSOLE_HELP.items():
        lines += [f"# {words}", f"#{key} = {_toml(getattr(Settings(), key))}"]
    lines += ["", "# Columns of each table, in their order.", "[columns]"]
    for table in TABLES:
        shown = ", ".join(f'"{column.id}"' for column in COLUMNS[table] if column.shown)
        lines.append(f"#{table} = [{shown}]")
    return "\n".join([*lines, *_VIEW_TEMPLATE])


_VIEW_TEMPLATE = (
    "",
    "# Saved views: `view load heavy` shows the table so. A filter may use another view's as @name.",
    "#[views.heavy]",
    '#table = "flows"                  # ' + ", ".join(TABLES),
    '#filter = "dn>1M"                 # as after the key /',
    '#sort = ["dn desc", "flow"]       # columns, each with asc (the default) or desc',
    '#columns = ["flow", "src", "dn"]  # without it the columns stay',
    "",
)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def _interval(document: Document, default: float) -> float:
    path = ("console", "interval_hz")
    value = document.get(float, default, *path)
    if not MIN_HZ <= value <= MAX_HZ:
        raise document.error(path, f"must be {MIN_HZ:g} to {MAX_HZ:g}, not {value:g}")
    return value


def _units(document: Document, default: str) -> str:
    value = document.get(str, default, "console", "units")
    if value not in ("bit", "byte"):
        raise document.error(("console", "units"), f'must be "bit" or "byte", not {value!r}')
    return value


def _columns(document: Document) -> Mapping[TableId, tuple[str, ...]]:
    document.only(TABLES, "columns")
    given = document.table("columns")
    return MappingProxyType(
        {table: _column_ids(document, table, "columns", table) for table in TABLES if table in given}
    )


def _column_ids(document: Document, table: TableId, *path: str) -> tuple[str, ...]:
    names = document.texts(*path)
    try:
        ids = tuple(dict.fromkeys(column_named(table, name).id for name in names))
    except UsageError as error:
        raise document.error(path, str(error)) from None
    if not ids:
        raise document.error(path, "names no column")
    return ids


def _views(document: Document) -> Mapping[str, SavedView]:
    given = document.table("views")
    if len(given) > MAX_VIEWS:
        raise document.error(("views",), f"has {len(given)} views; at most {MAX_VIEWS} are kept")
    views = {name: _view(document, name) for name in given}
    filters = {name: view.filter for name, view in views.items()}
    for view in views.values():
        _check_filter(document, view, filters)
    return MappingProxyType(views)


def _view(document: Document, name: str) -> SavedView:
    path = ("views", name)
    if not _VIEW_NAME.fullmatch(name):
        raise document.error(path, "a view's name is 1 to 40 of a-z, 0-9, '-' and '_'")
    document.only(_VIEW_KEYS, *path)
    table = _table(document, path)
    return SavedView(
        name=name,
        table=table,
        filter=document.get(str, "", *path, "filter"),
        sort=tuple(_sort(document, table, text, path) for text in document.texts(*path, "sort")),
        columns=_column_ids(document, table, *path, "columns") if "columns" in document.table(*path) else (),
    )


def _table(document: Document, path: tuple[str, ...]) -> TableId:
    given = document.get(str, "", *path, "table")
    for table in TABLES:
        if given == table:
            return table
    if not given:
        raise document.error(path, "table is missing")
    raise document.error((*path, "table"), f"{given!r} is no table; {nearest(given, TABLES)}")


def _sort(document: Document, table: TableId, text: str, path: tuple[str, ...]) -> Sort:
    column, _, order = text.partition(" ")
    if order.strip() not in ("", "asc", "desc"):
        raise document.error((*path, "sort"), f"{text!r} must be COLUMN, COLUMN asc or COLUMN desc")
    try:
        return Sort(column_named(table, column).id, order.strip() == "desc")
    except UsageError as error:
        raise document.error((*path, "sort"), str(error)) from None


def _check_filter(document: Document, view: SavedView, filters: Mapping[str, str]) -> None:
    try:
        compile_filter(parse_filter(view.filter), view.table, named=filters)
    except UsageError as error:
        raise document.error(("views", view.name, "filter"), str(error)) from None
