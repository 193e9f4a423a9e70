"""The UDP echo service of an agent: what comes goes back, for tests of a whole relay path."""

from __future__ import annotations

from collections import Counter

import numpy as np

from rtun_core.net.udp import DatagramBatch, UdpSocket
from rtun_core.wire.address import Address


class EchoService:
    """One socket that answers every datagram with itself.

    Empty datagrams are answered too; what is larger than a batch row is dropped and counted.
    """

    def __init__(self, listen: Address) -> None:
        """Listen on an IP address, port 0 for any. Raises BindError."""
        self.drops: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._socket = UdpSocket.open(local=listen)
        self._socket.start(self._on_batch, self._on_error)

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self._socket.local

    def counters(self) -> tuple[Counter[str], Counter[str]]:
        """Drops and faults by reason."""
        drops = Counter(self.drops)
        stats = self._socket.stats
        for reason, count in stats.tx_dropped.items():
            drops[f"echo {reason}"] += count
        drops["kernel"] += stats.kernel_drops
        return +drops, Counter(self.faults)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _on_batch(self, batch: DatagramBatch) -> None:
        spans, names = batch.spans(), batch.names[: batch.count]
        if batch.truncated is not None:
            whole = ~batch.truncated
            self.drops["oversize"] += int(np.count_nonzero(batch.truncated))
            spans, names = spans.take(whole), names[whole]
        self._socket.send_spans(spans, names)

    def _on_error(self, error: OSError) -> None:
        """A client that is gone, or one that cannot be reached: others are served all the same."""
        self.faults["echo socket"] += 1
