"""The token that the docs make without a library is one that jobpush accepts."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from jobpush.config import Config
from jobpush.tokens import read_token

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "tokens.md").read_text()
SECRET = "0123456789abcdef0123456789abcdef"


def test_token_made_in_javascript_is_accepted(tmp_path: Path) -> None:
    (source,) = re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL)
    script = tmp_path / "token.mjs"
    script.write_text(f"{source}\nconsole.log(jobpushToken('42', '{SECRET}'));\n")

    token = subprocess.run(["node", script], check=True, capture_output=True, text=True).stdout.strip()

    assert read_token(Config(key="my-app", secret=SECRET), token, time.time()).user_id == "42"
