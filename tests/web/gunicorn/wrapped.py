"""WSGI middleware of the kinds that applications use, around the application of the tests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask
from werkzeug.middleware.profiler import ProfilerMiddleware

from tests.gateway.site import create_app

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


def generator(inner: Application) -> Application:
    """Yield what the application returns, as a generator function."""

    def middleware(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        yield from inner(environ, start_response)

    return middleware


def reporter(inner: Application) -> Application:
    """Report each exception that passes through, as Sentry's and OpenTelemetry's middleware do."""

    def middleware(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            return inner(environ, start_response)
        except BaseException:
            logging.getLogger("reporter").exception("an error event")
            raise

    return middleware


def tracer(inner: Application) -> Application:
    """End the span of a request after the last part of its response, as OpenTelemetry's middleware does."""

    def parts(response: Iterable[bytes]) -> Iterator[bytes]:
        try:
            yield from response
        finally:
            logging.getLogger("tracer").warning("a span ends")

    def middleware(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        logging.getLogger("tracer").warning("a span begins")
        return parts(inner(environ, start_response))

    return middleware


def profiler(inner: Application) -> Application:
    """Measure the application."""
    return ProfilerMiddleware(inner, stream=None)


_KINDS = {"generator": generator, "reporter": reporter, "tracer": tracer, "profiler": profiler}


def wrap(*kinds: str) -> Flask:
    """Make the application with middleware around it."""
    app = create_app()
    for kind in kinds:
        app.wsgi_app = _KINDS[kind](app.wsgi_app)
    return app


def hidden() -> Application:
    """Make an application that hides the Flask object from the server."""
    return generator(create_app(request_timeout=2.5))
