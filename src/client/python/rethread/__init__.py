"""Client for rethread, the cache of hidden reasoning traces. See README.md beside this package."""

from .aio import AsyncClient
from .errors import (
    BadRequest, Busy, Conflict, ConnectError, ConnectionLost, Internal, NotFound, OverBudget,
    ProtocolError, ReadOnly, RequestTimeout, RethreadError, ServerError, ShuttingDown, TooLarge,
    TransportError, Unauthorized, UnknownMethod,
)
from .requests import Request
from .stream import AsyncStream, Stream
from .sync import Client, Pending, Pipeline
from .types import (
    ID, AbortResult, AppendResult, BeginResult, ChunkResult, ForgetResult, ForkResult, HaveLike,
    HelloResult, ListPage, Replay, RewindResult, Segment, SegmentLike, Stat, Step, ThreadEntry,
    TouchResult,
)

__version__ = "0.1.0"

__all__ = [
    "ID", "AbortResult", "AppendResult", "AsyncClient", "AsyncStream", "BadRequest", "BeginResult",
    "Busy", "ChunkResult", "Client", "Conflict", "ConnectError", "ConnectionLost", "ForgetResult",
    "ForkResult", "HaveLike", "HelloResult", "Internal", "ListPage", "NotFound", "OverBudget",
    "Pending", "Pipeline", "ProtocolError", "ReadOnly", "Replay", "Request", "RequestTimeout",
    "RethreadError", "RewindResult", "Segment", "SegmentLike", "ServerError", "ShuttingDown",
    "Stat", "Step", "Stream", "ThreadEntry", "TooLarge", "TouchResult", "TransportError",
    "Unauthorized", "UnknownMethod",
]
