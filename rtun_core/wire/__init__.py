"""Bytes <-> values and state machines: no sockets, no clock, no event loop."""
