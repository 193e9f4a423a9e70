"""Widgets, one in a file. They get data, post messages, and never call the engine."""
