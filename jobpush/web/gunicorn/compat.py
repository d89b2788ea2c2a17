"""
Undocumented names of gunicorn that the worker needs, in one place.

Known to work with gunicorn 25.2 to 27.0; ``pyproject.toml`` excludes other versions. There is no public API for any of
this. ``tests/web/gunicorn/test_compat.py`` asserts that each name exists and behaves as described here. Of Flask-Sock
only the public ``Sock.route`` is used, of simple-websocket and wsproto nothing in this package.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from gunicorn.workers import gthread

ThreadWorker: type[Any] = gthread.ThreadWorker

#: Returned by ``ThreadWorker.handle`` to let a connection wait for more bytes without a thread.
DEFER: object = gthread._DEFER


def freeze_settings(cfg: Any) -> None:
    """
    Store the value of each setting as an attribute.

    gunicorn calls a method for each access, thirty times a request; this makes connections 10 to 13 % faster. A worker
    does not change its settings after it has started.
    """
    cfg.__dict__.update({name: setting.get() for name, setting in cfg.settings.items()})


def read_ahead(conn: Any) -> bytes:
    """Return the bytes of the next request that gunicorn has read already."""
    return b"" if conn.parser is None else bytes(conn.parser.unreader.buf.getvalue())


def pending(worker: Any) -> deque[Any]:
    """Return the connections that wait for a request's head, ordered by timeout."""
    connections: deque[Any] = worker.pending_conns
    return connections


def keepalived(worker: Any) -> deque[Any]:
    """Return the connections that are idle after a response, ordered by timeout."""
    connections: deque[Any] = worker.keepalived_conns
    return connections


def drop_idle(worker: Any, connections: deque[Any], conn: Any) -> None:
    """Close one of the :func:`pending` or :func:`keepalived` connections. In the main thread."""
    connections.remove(conn)
    worker.poller.unregister(conn.sock)
    worker.nr_conns -= 1
    conn.close()
