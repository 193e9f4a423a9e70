"""Sockets and the operating system: batched UDP, ICE, QUIC, WebSocket, TLS, tasks."""
