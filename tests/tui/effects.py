"""Effects of the console that are only written down."""

from __future__ import annotations


class Recorded:
    """`calls` are what was asked for, in order."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def done(*words, **options):
            self.calls.append((name, *words, *options.values()))
            return f"did {name}"

        return done

    def theme_names(self):
        return ("night", "noon")

    def keymap_names(self):
        return ("default", "own")

    def help_topics(self):
        return ("keys", "sort")

    def recordings(self):
        return ("a.rec", "'b c.rec'")

    def view_names(self):
        return ("mine", "yours")
