"""The built files of the widget: compressed, and cached by browsers if the name contains a hash."""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from pathlib import Path

from flask import Response, request, send_from_directory
from markupsafe import Markup

STATIC = Path(__file__).parents[2] / "static"

#: The hash that the build puts into the name of each module.
_HASHED = re.compile(r"-[0-9A-Z]{8}\.js")
#: Seconds.
_YEAR = 31_536_000
#: Bytes below which compression saves nothing.
_MIN_COMPRESSED = 1024


@cache
def script_name() -> str:
    """Return the hashed name of the module that pages load."""
    manifest: dict[str, str] = json.loads((STATIC / "manifest.json").read_text())
    return manifest["jobpush.js"]


def page_tags(key: str, root: str, token_url: str | None = None, nonce: str | None = None) -> Markup:
    """
    Return the tags that a page needs in its head: the gateway's address and the script with client and elements.

    Args:
        key: Public name of the application.
        root: URL of the gateway; empty for the page's own origin.
        token_url: URL of the token endpoint; ``None``: there is none.
        nonce: Of the page's Content-Security-Policy, if scripts need one.
    """
    nonces = Markup(' nonce="{}"').format(nonce) if nonce else ""
    tokens = "" if token_url is None else Markup(' data-token-url="{}"').format(token_url)
    return Markup(
        '<meta name="jobpush" data-key="{key}" data-root="{root}"{tokens}>\n'
        '<script type="module"{nonces} src="{root}/jobpush/static/{script}"></script>'
    ).format(key=key, root=root, tokens=tokens, nonces=nonces, script=script_name())


def send_asset(name: str) -> Response:
    """Return one of the built files."""
    is_hashed = _HASHED.search(name) is not None
    response = send_from_directory(STATIC, name, max_age=_YEAR if is_hashed else 0)
    if is_hashed:
        response.cache_control.immutable = True
    response.vary.add("Accept-Encoding")
    is_large = (response.content_length or 0) >= _MIN_COMPRESSED
    if response.status_code == 200 and is_large and request.accept_encodings.quality("gzip"):
        response.close()  # closes the file
        response.direct_passthrough = False
        response.data = _compressed(name)
        response.content_encoding = "gzip"
        response.set_etag(response.get_etag()[0] or name, weak=True)
    return response


@cache
def _compressed(name: str) -> bytes:
    return gzip.compress((STATIC / name).read_bytes(), mtime=0)
