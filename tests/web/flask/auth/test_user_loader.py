"""Users of the stand-alone gateway, from a function of the application."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobpush.errors import ConfigurationError
from jobpush.gateway import create_app
from jobpush.web.flask.auth.user_loader import import_user_loader
from tests.gateway.site import KEY, SECRET


@pytest.mark.parametrize(("name", "word"), [("nowhere:load", "nowhere"), ("os:nothing", "nothing"), ("os:sep", "not")])
def test_wrong_name_of_a_user_loader_is_an_error(name: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        import_user_loader(name)


def test_stand_alone_gateway_calls_the_user_loader_of_its_environment(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loader_of_users.py").write_text(
        "def load(request):\n"
        "    user = request.headers.get('X-User')\n"
        "    return user and (user, {'name': user.title()})\n"
    )
    monkeypatch.chdir(tmp_path)
    settings = {"KEY": KEY, "SECRET": SECRET, "REDIS_URL": redis_url, "PUBLISH_TIMEOUT": "60"}
    for name, value in {**settings, "USER_LOADER": "loader_of_users:load"}.items():
        monkeypatch.setenv(f"JOBPUSH_{name}", value)

    client = create_app().test_client()

    assert client.get("/jobpush/tasks").status_code == 401
    assert client.get("/jobpush/tasks", headers={"X-User": "ada"}).status_code == 200
    signed_in = client.post("/jobpush/user-auth", data={"socket_id": "1.2"}, headers={"X-User": "ada"}).json
    assert json.loads(signed_in["user_data"]) == {"id": "ada", "user_info": {"name": "Ada"}}
