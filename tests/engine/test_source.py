"""What sources have in common."""

from rtun_core.engine.source import looked_up
from rtun_core.view.page import Page, ViewSpec


def test_each_table_gets_its_page_and_what_it_cost():
    busy = {"flows": 200_000, "agents": 0}

    def page(spec):
        sum(range(busy[spec.table]))
        return Page(table=spec.table, total=0, shown=0, first=0, rows=(), now=0.0)

    pages, costs = looked_up((ViewSpec(table="flows"), ViewSpec(table="agents")), page)
    assert {table: page.table for table, page in pages.items()} == {"flows": "flows", "agents": "agents"}
    assert costs["flows"] > costs["agents"] >= 0.0
