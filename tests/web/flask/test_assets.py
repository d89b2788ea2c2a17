"""The built files of the widget, as browsers get them."""

from __future__ import annotations

import gzip
import json

import pytest
from flask import Flask
from flask.testing import FlaskClient

from jobpush.gateway import Gateway
from jobpush.web.flask.assets import STATIC, script_name


@pytest.fixture
def client() -> FlaskClient:
    app = Flask(__name__)
    Gateway(app, redis_url="redis://127.0.0.1:1", key="key", secret="s" * 32)
    return app.test_client()


def test_hashed_module_is_compressed_and_kept_for_ever(client: FlaskClient) -> None:
    response = client.get(f"/jobpush/static/{script_name()}", headers={"Accept-Encoding": "gzip, br"})

    assert response.headers["Content-Encoding"] == "gzip"
    assert "immutable" in response.headers["Cache-Control"] and "max-age=31536000" in response.headers["Cache-Control"]
    assert response.headers["Vary"] == "Accept-Encoding"
    assert response.mimetype == "text/javascript"
    assert gzip.decompress(response.data) == (STATIC / script_name()).read_bytes()
    assert len(response.data) == int(response.headers["Content-Length"])


def test_client_without_compression_gets_the_uncompressed_module(client: FlaskClient) -> None:
    with client.get(f"/jobpush/static/{script_name()}") as response:
        body = response.data

    assert "Content-Encoding" not in response.headers
    assert body == (STATIC / script_name()).read_bytes()


def test_unhashed_name_is_revalidated_and_redirects_to_the_hashed_one(client: FlaskClient) -> None:
    with client.get("/jobpush/static/jobpush.js", headers={"Accept-Encoding": "gzip"}) as first:
        text = first.text
    with client.get("/jobpush/static/jobpush.js", headers={"If-None-Match": first.headers["ETag"]}) as second:
        status = second.status_code

    assert "max-age=31536000" not in first.headers["Cache-Control"]
    assert script_name() in text
    assert status == 304


@pytest.mark.parametrize("name", ["none.js", "../config.py", "%2e%2e/config.py", "jobpush-00000000.js"])
def test_unknown_asset_is_not_found(client: FlaskClient, name: str) -> None:
    assert client.get(f"/jobpush/static/{name}").status_code == 404


def test_script_tag_has_the_nonce_of_the_page(client: FlaskClient) -> None:
    with client.application.test_request_context():
        tags = client.application.jinja_env.globals["jobpush_tags"]
        assert '<script type="module" nonce="a&#34;b" src="/jobpush/static/' in tags(nonce='a"b')
        assert "nonce" not in tags()


def test_manifest_names_a_built_file() -> None:
    manifest = json.loads((STATIC / "manifest.json").read_text())

    assert all((STATIC / name).is_file() for name in manifest.values())
