"""RTunnel: TCP connections carried over WebSockets that may break and come back (rtunnel spec).

The engine of a session is `rtun_core.wire.rtunnel_session`, without I/O. Here is the rest: `local_tcp` is
the TCP side of a session, `link` its WebSocket, `carrier` moves bytes between the two, with `alarm` for time
and `round_trip` for probes; `watcher` says who is told of it, `book` keeps and counts the sessions. `serve`
takes WebSockets in, `connect` opens them through `dialer`, `listen` takes connections for both; what both
say to each other beyond the original program stands in `handshake`.
"""
