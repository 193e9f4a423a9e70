"""Datagrams in flat buffers, as readers and channels hand them over."""

import hypothesis.strategies as st
import numpy as np

from rtun_core.net.frame_socket import Frames
from rtun_core.net.udp import ROOM, DatagramBatch, Spans


def batch_of(payloads):
    """A received batch; of what is larger than ROOM the end is lost."""
    batch = DatagramBatch()
    batch.resize(len(payloads))
    for start, payload in zip(batch.starts.tolist(), payloads, strict=True):
        batch.memory[start : start + len(payload[:ROOM])] = payload[:ROOM]
    batch.length_column()[: len(payloads)] = [min(len(payload), ROOM + 1) for payload in payloads]
    batch.resize(len(payloads))
    return batch


def spans_of(payloads, *, room=0):
    """Payloads at odd distances in a buffer, the last one first, with `room` bytes before each."""
    data, starts = bytearray(b"\xee" * 3), []
    for number, payload in enumerate(reversed(payloads)):
        data += b"\xee" * (room + number % 3)
        starts.append(len(data))
        data += payload
    lengths = np.array([len(payload) for payload in payloads], np.int64)
    return Spans(np.frombuffer(data, np.uint8), np.array(starts[::-1], np.int64), lengths)


def frames_of(frames, *, room=0):
    """Pairs of flow and payload as the frames of a batch."""
    flows = np.array([flow for flow, _ in frames], np.uint64)
    return Frames(*spans_of([payload for _, payload in frames], room=room), flows)


def listed(frames):
    """The flow and the payload of each frame."""
    return list(zip(frames.flows.tolist(), map(bytes, frames.spans.payloads()), strict=True))


@st.composite
def batches(draw, keys, sizes, *, fewest=0):
    """Batches of pairs of a key and a payload that is like no other of its batch, if it is not empty."""
    shapes = draw(st.lists(st.lists(st.tuples(keys, sizes), min_size=fewest, max_size=40), max_size=4))
    return [[(key, bytes([at]) * size) for at, (key, size) in enumerate(shape)] for shape in shapes]
