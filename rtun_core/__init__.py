"""The relay engine of rtun: wire formats, sockets, services, engine and command line."""

__version__ = "0.1.0"
