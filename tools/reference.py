"""
Write the reference pages of the documentation from the code: ``python tools/reference.py`` (``make reference``).

Settings and limits come from ``config.py``, commands from click, errors from their classes, the Python interface from
docstrings, HTTP routes from ``openapi.yaml``, and elements from the custom elements manifest. A test fails if the pages
are stale.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click
import yaml

import jobpush.cli.support.demo_runner
import jobpush.webhooks.delivery  # noqa: F401 - for its errors
from jobpush import Gateway, JobPush, TaskCancelled, progress, tqdm
from jobpush.channels import MAX_CHANNEL_LENGTH, MAX_EVENT_LENGTH, MAX_USER_ID_LENGTH
from jobpush.cli import main
from jobpush.config import Config
from jobpush.errors import JobPushError, ProtocolError
from jobpush.events import MAX_ERROR_LENGTH
from jobpush.fastapi import AsyncJobPush
from jobpush.protocol import codes
from jobpush.protocol.codes import PusherError, SubscriptionRefused
from jobpush.testing import FakeClock, RecordedEvents, jobpush_clock, jobpush_redis, recorded_events
from jobpush.tokens import MAX_SIZE, MAX_TTL
from jobpush.web.flask import routes

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
CLIENT = ROOT / "client" / "src"
MANIFEST = CLIENT / "custom-elements.json"
NOTE = "<!-- Written by tools/reference.py: change the code, then run make reference. -->\n"


def pages() -> dict[str, str]:
    """Return the pages by file name."""
    return {
        "settings.md": settings(),
        "commands.md": commands(),
        "errors.md": errors(),
        "python.md": python_interface(),
        "http.md": http_routes(),
        "widget.md": widget(),
        "javascript.md": javascript(),
        "limits.md": limits(),
    }


def settings() -> str:
    """Return the page of all settings, one section per group of ``config.py``."""
    source = inspect.getsource(Config)
    texts = setting_texts()
    groups = {match.start(): match[1] for match in re.finditer(r"^    # -- (.+?) -+$", source, re.MULTILINE)}
    parts = [
        "# Settings",
        NOTE,
        "Each setting is looked up in this order: keyword argument of `JobPush` or `Gateway`, `app.config` (Flask) or "
        "`celery_app.conf` (Celery, in lower case), environment variable, default.",
    ]
    heading = ""
    for item in fields(Config):
        position = source.index(f"    {item.name}:")
        group = next(title for start, title in sorted(groups.items(), reverse=True) if start < position)
        if group != heading:
            heading = group
            parts.append(f"## {heading[0].upper()}{heading[1:]}")
        default = item.default if item.default is not MISSING else ""
        shown = ",".join(default) if isinstance(default, tuple) else default
        kind = type(default).__name__.replace("tuple", "list, comma-separated").replace("str", "text")
        default_text = f"default `{shown}`" if shown not in ("", None) else "no default"
        parts.append(f"### `JOBPUSH_{item.name.upper()}`\n\n{kind}, {default_text}\n\n{as_markdown(texts[item.name])}")
    return "\n\n".join(parts) + "\n"


def setting_texts() -> dict[str, str]:
    """Return the comment of each setting."""
    comments = re.findall(r"((?:^    #: ?.*\n)+)^    (\w+):", inspect.getsource(Config), re.MULTILINE)
    return {
        name: " ".join(line.strip().removeprefix("#:").strip() for line in lines.splitlines())
        for lines, name in comments
    }


def limits() -> str:
    """Return the page of all limits: settings that bound a number, a size, a rate or a time of storage."""
    texts = setting_texts()
    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for item in fields(Config):
        if re.search(r"^max_(?!clock)|_(?:size|ttl|rate|lines|bytes)$|^tasks_per_page$", item.name):
            name, value = f"JOBPUSH_{item.name.upper()}", f"{item.default:,}"
            text = as_markdown(texts[item.name]).replace("|", "\\|")
            rows.append(f"| [`{name}`](settings.md#{name.lower()}) | {value} | {text} |")
    fixed = "\n".join(f"- {text}" for text in FIXED_LIMITS)
    head = "Sizes are bytes, times are seconds. 0 means no limit where the text does not describe it otherwise."
    return "\n\n".join(["# Limits", NOTE, head, "## Settings", "\n".join(rows), "## Fixed limits", fixed]) + "\n"


def commands() -> str:
    """Return the page of all commands with their help."""
    parts = ["# Commands", NOTE]
    for context in walk("jobpush", main):
        parts.append(f"## `{context.command_path}`\n\n```text\n{context.get_help()}\n```")
    return "\n\n".join(parts) + "\n"


def walk(name: str, command: click.Command, parent: click.Context | None = None) -> Iterator[click.Context]:
    """Yield the context of a command and of its subcommands, as they are called."""
    context = click.Context(
        command, parent, name, max_content_width=100, terminal_width=100, **command.context_settings
    )
    yield context
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            yield from walk(child, command.commands[child], context)


def errors() -> str:
    """Return the page of all stable error codes, in Python and on the wire, each with its cure."""
    parts = ["# Error codes", NOTE, "A code stays the same when its message changes."]
    rows = ["| code and class | meaning | cure |", "| --- | --- | --- |"]
    for error in python_errors():
        rows.append(f"| `{error.code}`<br>`{error.__name__}` | {first_line(error)} | {CURES[error.code]} |")
    parts += ["## In Python and in JSON", "\n".join(rows)]
    rows = ["| code | status | cure |", "| --- | --- | --- |"]
    rows += [f"| `{code}` | {status} | {CURES[code]} |" for status, code in gateway_states()]
    parts += ["## Answers of the gateway without a class", "\n".join(rows)]
    rows = ["| code | message | meaning | then | cure |", "| --- | --- | --- | --- | --- |"]
    for error in wire_errors():
        after = "the connection stays" if error.close_code is None else "the connection is closed"
        cure = WIRE_CURES[error.__name__]
        rows.append(f"| {error.number} | {error.sentence} | {first_line(error)} | {after} | {cure} |")
    parts += ["## On the wire", "\n".join(rows)]
    rows = ["| status | type | meaning | cure |", "| --- | --- | --- | --- |"]
    for error in sorted(subclasses(SubscriptionRefused), key=lambda one: one.status):
        rows.append(f"| {error.status} | `{error.type}` | {first_line(error)} | {WIRE_CURES[error.__name__]} |")
    parts += ["## Refused subscriptions", "Sent as `pusher:subscription_error` on the channel.", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def python_errors() -> list[type[JobPushError]]:
    """Return the classes of errors with a code of their own."""
    found = [
        error
        for error in set(subclasses(JobPushError))
        if error.__module__.startswith("jobpush.") and error.code != JobPushError.code
        if error is ProtocolError or error.code != ProtocolError.code
    ]
    return sorted(found, key=lambda one: (one.code, one.__name__))


def gateway_states() -> list[tuple[str, str]]:
    """Return status and code of the refusals that the routes make without a class."""
    return sorted(set(re.findall(r'_error\((\d+), "(\w+)"', inspect.getsource(routes))), key=lambda one: one[1])


def wire_errors() -> list[type[PusherError]]:
    """Return the errors that are sent as ``pusher:error``."""
    found = [error for error in set(subclasses(PusherError)) if error.__module__ == codes.__name__]
    return sorted(found, key=lambda one: (one.number, one.__name__))


def subclasses(cls: type) -> Iterator[type]:
    """Yield all classes below a class."""
    for child in cls.__subclasses__():
        yield child
        yield from subclasses(child)


#: The public objects that are described with their methods: heading and object.
PUBLIC = [
    ("`jobpush.JobPush`", JobPush),
    ("`jobpush.progress`", type(progress)),
    ("`jobpush.tqdm`", tqdm),
    ("`jobpush.Gateway`", Gateway),
    ("`jobpush.fastapi.AsyncJobPush`", AsyncJobPush),
    ("`jobpush.testing.RecordedEvents`", RecordedEvents),
    ("`jobpush.testing.FakeClock`", FakeClock),
    ("`jobpush.TaskCancelled`", TaskCancelled),
]


def python_interface() -> str:
    """Return the page of the public objects and their methods, from their docstrings."""
    parts = ["# Python interface", NOTE, "The errors are listed with their codes on the page [Error codes](errors.md)."]
    for title, target in PUBLIC:
        parts.append(f"## {title}\n\n{as_prose(target)}")
        for name, member in vars(target).items():
            function = member.fget if isinstance(member, property) else member
            if not name.startswith("_") and callable(function) and inspect.getdoc(function):
                shown = f"{name}{signature_of(function)}" if function is member else name
                parts.append(f"### `{name}{'()' if function is member else ''}`\n\n```python\n{shown}\n```")
                parts.append(as_prose(function))
    parts.append("## pytest fixtures\n\nThe plugin is active where jobpush is installed.")
    for fixture in (recorded_events, jobpush_redis, jobpush_clock):
        parts.append(f"### `{fixture.__name__}`\n\n{as_prose(fixture)}")
    return "\n\n".join(parts) + "\n"


def signature_of(function: Any) -> str:
    """Return a signature without ``self``, one parameter per line if it is long."""
    signature = str(inspect.signature(function)).replace("(self, ", "(").replace("(self)", "()").replace("'", "")
    signature = re.sub(r"<object object at \w+>", "…", signature)  # a default that stands for "not given"
    if len(signature) < 80:
        return signature
    arguments, _, result = signature[1:].rpartition(") -> ")
    parameters = re.split(r", (?=[\w*]+(?::|,|$)|\*)", arguments)
    return "(\n" + "".join(f"    {one},\n" for one in parameters) + f") -> {result}"


def as_prose(target: object) -> str:
    """Turn a docstring with its sections into Markdown."""
    parts, lines = [], (inspect.getdoc(target) or "").splitlines()
    while lines:
        line = lines.pop(0)
        block = []
        while lines and (lines[0].startswith("    ") or (not lines[0] and _is_indented(lines))):
            block.append(lines.pop(0)[4:])
        if line in ("Args:", "Raises:"):
            parts.append(f"**{line.rstrip(':')}**\n\n" + "\n".join(_entries(block)))
        elif line in ("Returns:", "Yields:"):
            parts.append(f"**{line.rstrip(':')}** {as_markdown(' '.join(block))}")
        elif line.endswith("::"):
            code = "\n".join(block).strip("\n")
            parts.append(f"{as_markdown(line[:-1])}\n\n```{'html' if code.startswith('<') else 'python'}\n{code}\n```")
        else:
            parts.append(as_markdown("\n".join([line, *(f"  {one}" for one in block)])))
    return re.sub(r"\n{3,}", "\n\n", _joined(parts))


def _is_indented(lines: list[str]) -> bool:
    """Whether the next line with text is indented."""
    return next((one for one in lines if one), "").startswith("    ")


def _joined(parts: list[str]) -> str:
    """Join the lines of paragraphs, and separate everything else by empty lines."""
    text = ""
    for part in parts:
        is_plain = bool(part) and not part.startswith("**") and "```" not in part
        text += part + ("\n" if is_plain else "\n\n")
    return text.strip("\n")


def _entries(block: list[str]) -> Iterator[str]:
    """Return the entries of a section as a list."""
    text = ""
    for line in [*block, "end:"]:
        if line and not line.startswith(" "):
            if text:
                name, _, rest = text.partition(": ")
                yield f"- `{name}`: {as_markdown(rest)}"
            text = line
        elif line:
            text += f" {line.strip()}"


def http_routes() -> str:
    """Return the page of the HTTP routes, from the OpenAPI document."""
    document = yaml.safe_load((PAGES / "openapi.yaml").read_text())
    parts = ["# HTTP routes", NOTE, "The same as an [OpenAPI 3.1 document](openapi.yaml)."]
    parts.append(document["info"]["description"].strip())
    schemes = document["components"]["securitySchemes"]
    rows = [f"| {name} | {one['description'].strip()} |".replace("\n", " ") for name, one in schemes.items()]
    parts += ["## Identity", "\n".join(["| name | proof |", "| --- | --- |", *rows])]
    for tag in document["tags"]:
        parts.append(f"## {tag['description']}")
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if method != "parameters" and tag["name"] in operation["tags"]:
                    parts.append(route(document, path, method, item, operation))
    parts.append('## Schemas\n\nA member without "yes" may be absent.')
    for name, schema in document["components"]["schemas"].items():
        if properties := schema.get("properties"):
            rows = ["| member | type | always | meaning |", "| --- | --- | --- | --- |"]
            for member, one in properties.items():
                always = "yes" if member in schema.get("required", ()) else ""
                about = one.get("description", "") if isinstance(one, dict) else ""
                rows.append(f"| `{member}` | {type_of(one)} | {always} | {about} |")
            parts.append(f"### `{name}`\n\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def type_of(schema: Any) -> str:
    """Return the type of a schema in words."""
    if not isinstance(schema, dict) or not schema.keys() - {"description"}:
        return "any JSON"
    if name := schema.get("$ref", "").rpartition("/")[2]:
        return f"[`{name}`](#{name.lower()})" if name not in ("TaskState", "SocketId") else f"`{name}`"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    kind = schema["type"]
    if kind == "array":
        return f"list of {type_of(schema['items'])}"
    return " or ".join([kind] if isinstance(kind, str) else kind)


def route(document: Any, path: str, method: str, item: Any, operation: Any) -> str:
    """Return the section of one route."""

    def resolved(one: Any) -> Any:
        for name in one.get("$ref", "").removeprefix("#/").split("/"):
            one = document if name == "components" else one
            one = one[name] if name else one
        return one

    proofs = ["no identity" if not one else next(iter(one)) for one in operation["security"]]
    lines = [f"### `{method.upper()} {path}`", f"{operation['summary']}. {operation.get('description', '')}".strip()]
    lines.append(f"Identity: {' or '.join(proofs)}.")
    parameters = [resolved(one) for one in (*item.get("parameters", ()), *operation.get("parameters", ()))]
    if parameters:
        rows = ["| parameter | in | meaning |", "| --- | --- | --- |"]
        for one in parameters:
            schema = one["schema"]
            values = f"`{schema['const']}`. " if "const" in schema else ""
            rows.append(f"| `{one['name']}` | {one['in']} | {values}{one.get('description', schema.get('type', ''))} |")
        lines.append("\n".join(rows))
    rows = ["| status | answer |", "| --- | --- |"]
    for status, answer in operation["responses"].items():
        rows.append(f"| {status} | {resolved(answer)['description']} |")
    return "\n\n".join([*lines, "\n".join(rows)])


def javascript() -> str:
    """Return the page of the JavaScript module, from its declarations."""
    parts = ["# JavaScript", NOTE, JAVASCRIPT.strip()]
    for title, name in (("The module", "index"), ("React: `jobpush/react`", "react"), ("Vue: `jobpush/vue`", "vue")):
        parts.append(f"## {title}")
        for comment, declaration in declarations((CLIENT / f"{name}.d.ts").read_text()):
            heading = re.search(r"(?:type|interface|function|const) (\w+)", declaration)
            assert heading is not None  # noqa: S101
            text = re.sub(r"\{@link (\S+)\}", r"`\1`", comment)
            parts += filter(None, [f"### `{heading[1]}`", text, f"```ts\n{declaration}\n```"])
    return "\n\n".join(parts) + "\n"


def declarations(source: str) -> Iterator[tuple[str, str]]:
    """Yield comment and text of each exported declaration; the elements have a page of their own."""
    for block in re.split(r"\n\n", source):
        found = re.fullmatch(
            r"(?:/\*\*(.*?)\*/\n)?(?://.*\n)?(export (?:type|interface|function|const) .*)", block, re.DOTALL
        )
        if found and not re.match(r"export interface Jobpush", found[2]):
            lines = [line.strip().removeprefix("*").strip() for line in (found[1] or "").strip().splitlines()]
            yield "\n".join(lines), found[2].strip()


def picture(text: str, name: str) -> str:
    """Return a picture in the colours of the page."""
    return f"![{text}](../pictures/{name}.png#only-light)\n![{text}](../pictures/{name}-dark.png#only-dark)"


def widget() -> str:
    """Return the page of the elements, from the custom elements manifest."""
    parts = ["# Elements", NOTE, ELEMENTS.strip()]
    parts.append(picture("A card", "card"))
    tables = (
        ("attributes", "Attributes", "name"),
        ("members", "Properties", "name"),
        ("events", "Events", "name"),
        ("slots", "Slots", "name"),
        ("cssProperties", "CSS custom properties", "name"),
        ("cssParts", "CSS parts", "name"),
    )
    pictures = {"jobpush-notifications": picture("The bell with its panel", "inbox")}
    for element in json.loads(MANIFEST.read_text())["modules"][0]["declarations"]:
        parts.append(f"## `<{element['tagName']}>`\n\n{element['description']}")
        parts += [pictures[element["tagName"]]] if element["tagName"] in pictures else []
        for key, title, name in tables:
            if entries := element.get(key):
                rows = ["| name | type | meaning |", "| --- | --- | --- |"]
                for one in entries:
                    kind = one.get("type", {}).get("text", "").replace(" | ", " or ")
                    rows.append(f"| `{one[name]}` | {f'`{kind}`' if kind else ''} | {one['description']} |")
                if not any("type" in one for one in entries):
                    rows = [re.sub(r"^(\| [^|]+ \|) [^|]* \|", r"\1", row) for row in rows]
                parts.append(f"### {title}\n\n" + "\n".join(rows))
    parts.append("## Attributes that the elements set")
    parts.append(
        "`data-connection` is the state of the connection. `data-stale` is set while the tasks are not current. A card "
        "and `<jobpush-progress>` have the state of the task as `data-state`."
    )
    parts.append("## Style")
    parts.append(
        "A part is styled from the page: `jobpush-tasks::part(bar failure) { … }`. Events bubble, also out of shadow "
        "trees; `event.detail` is the task, as in [`jobpush:task`](wire.md#from-the-gateway)."
    )
    parts += ['With `attention="toast"` a list shows the end of a task:', picture("A toast", "toast")]
    return "\n\n".join(parts) + "\n"


def first_line(target: object) -> str:
    """Return the first sentence of a docstring as the cell of a table."""
    return as_markdown((inspect.getdoc(target) or "").split("\n\n")[0].replace("\n", " ")).replace("|", "\\|")


def as_markdown(text: str) -> str:
    """Turn the markup of docstrings into Markdown."""
    return re.sub(r":\w+:`~?\.?([^`]+)`", r"`\1`", text).replace("``", "`").replace("<", "&lt;")


#: The beginning of the page of the elements.
ELEMENTS = """
Every page that has `{{ jobpush_tags() }}` or loads `jobpush.js` can use these elements:

```html
<jobpush-tasks header group limit="10" attention="toast title"></jobpush-tasks>
<jobpush-progress task-id="8d7c…"></jobpush-progress>
<jobpush-notifications></jobpush-notifications>
```
"""

#: The beginning of the page of the JavaScript module.
JAVASCRIPT = """
The gateway serves one ES module. Importing it defines the [elements](widget.md).

```html
<script type="module">
  import { connect } from "/jobpush/static/jobpush.js";

  const connection = connect();                          // shared with the elements of the page
  connection.on("jobpush:tasks", (tasks) => show([...tasks.values()]));
  connection.on("message", ({ text }) => alert(text));   // an event of jobpush.notify()
  const room = connection.subscribe("presence-room");
  room.on("pusher:member_added", ({ user_id }) => greet(user_id));
  document.addEventListener("jobpush-progress-success", ({ detail: task }) => open(task.data.url));
</script>
```

A bundler takes the same module from the npm package `jobpush`, which the repository has in `client/`.
"""

#: Limits that are no settings.
FIXED_LIMITS = [
    f"A name of a channel has at most {MAX_CHANNEL_LENGTH} characters, a name of an event {MAX_EVENT_LENGTH}, "
    f"a user id {MAX_USER_ID_LENGTH} once escaped.",
    f"An error that a user sees has one line of at most {MAX_ERROR_LENGTH} characters.",
    f"A connection token has at most {MAX_SIZE:,} characters, and is valid for at most {MAX_TTL:,} seconds.",
    "A page of a log has at most 1,000 lines, a page of a workflow's members at most 100.",
    "One delivery of webhooks has at most 20 events.",
]

#: What to do about each code of :func:`python_errors` and :func:`gateway_states`.
CURES = {
    "bad_request": "Correct the field that the message names.",
    "command_refused": "Read the message. Often the Redis user lacks a right; see [Redis](../run/redis.md#rights).",
    "configuration": "Correct the setting or decorator that the message names. The process does not start without it.",
    "delivery_failed": "Look at the receiver's log. `jobpush webhooks` lists deliveries that were given up, and sends "
    "them again.",
    "demo_failed": "Read the log that the message shows; `jobpush demo --verbose` shows all of them.",
    "draining": "None: the process stops. Clients reconnect to another one.",
    "forbidden": "Return `True` for this user and channel from `authorize_channel`, or send the header "
    "`X-Requested-With: jobpush`.",
    "forbidden_address": "Use a public address, or set `JOBPUSH_WEBHOOK_ALLOW_PRIVATE` if the receiver is yours.",
    "forbidden_origin": "Add the page's origin to `JOBPUSH_ALLOWED_ORIGINS`; behind a proxy that changes `Host`, name "
    "the proxy in `JOBPUSH_TRUSTED_PROXIES`.",
    "hub_dead": "Restart the process, and report a bug with its log.",
    "invalid_channel_name": "Use Pusher's characters: letters, digits and `_-=@,.;`, at most 200.",
    "invalid_data": "Send JSON of at most `JOBPUSH_MAX_DATA` bytes; store larger data elsewhere and send its URL.",
    "invalid_event": "Correct what the message names.",
    "invalid_event_name": "Use a name of 1 to 200 characters that does not begin with `pusher:` or `jobpush:`.",
    "invalid_user_id": "Return the user's id as text or a number: not empty, not too long.",
    "link_lost": "None: the gateway connects again. If it repeats, look at the Redis server and the network.",
    "malformed_message": "Find the other program that writes to this Redis and prefix; give it another database.",
    "metrics_refused": "Set `JOBPUSH_METRICS_TOKEN`, and send it as the bearer token.",
    "missing_setting": "Set the setting that the message names: keyword, configuration or environment.",
    "no_sockets": "Run gunicorn with `--config python:jobpush.gunicorn_conf`; until then pages poll.",
    "not_signed_in": "Sign the user in first, check what `user_loader` returns, or connect with a token.",
    "protocol": "Update the client library; the message names what it sent.",
    "redis_away": "Start Redis, or correct `JOBPUSH_REDIS_URL`; clients retry by themselves.",
    "rerun_failed": "Read the traceback in the gateway's log: `on_rerun` raised an error.",
    "rerun_refused": "Register `gateway.on_rerun`, and return something other than `False` for this task.",
    "shard_unavailable": "None: what it holds is published when it answers again, or its replica takes over.",
    "store": "Check that Redis runs and answers in time: `jobpush doctor`.",
    "task_not_found": "Check the id and its owner. Finished tasks are removed after `JOBPUSH_FINAL_TTL`.",
    "token_audience": "Issue the token with `aud` set to `JOBPUSH_KEY`.",
    "token_expired": "Fetch a new token; the widget does so if its token function returns a new one each time.",
    "token_invalid": "Sign the token with `JOBPUSH_SECRET`, with `sub` and `exp`; see [tokens](../howto/tokens.md).",
    "token_not_yet_valid": "Synchronise the clocks of the issuer and the gateway.",
    "token_other_user": "Open a new connection for another user.",
    "token_revoked": "Sign in again: a token that is issued now is accepted.",
    "unknown_argument": "Name an argument of the task in `track(user=…)` or `title`.",
}

#: What to do about each class of :func:`wire_errors` and each refused subscription.
WIRE_CURES = {
    "BinaryMessage": "Send text frames.",
    "ClientEventRejected": "Send fewer or smaller client events, on a private or presence channel that is joined.",
    "Inactive": "None: the client reconnects when it is used again; see `JOBPUSH_IDLE_TIMEOUT`.",
    "InvalidMessage": "Correct the message: a JSON object with `event`.",
    "InvalidSubscription": "Correct the name of the channel, its `channel_data` or `since`.",
    "InvalidVersion": "Connect with `protocol=7`.",
    "MessageTooBig": "Send less than `JOBPUSH_MAX_MESSAGE` bytes in one message.",
    "MissingVersion": "Connect with `protocol=7`.",
    "NotAuthorized": "Add the page's origin to `JOBPUSH_ALLOWED_ORIGINS`, or sign in; the message gives the reason.",
    "OverCapacity": "None while a process stops; else start more gateways.",
    "PongMissing": "None: the client reconnects. If it repeats, raise `JOBPUSH_PONG_TIMEOUT`.",
    "Reconnect": "None: the client reconnects.",
    "SigninTimeout": "Sign in within `JOBPUSH_SIGNIN_TIMEOUT`.",
    "SubscriptionLimitReached": "Subscribe to fewer channels; or raise `JOBPUSH_MAX_CHANNELS`, `JOBPUSH_MAX_MEMBERS`.",
    "SubscriptionUnauthorized": "Check the secret of the auth endpoint, and that the channel belongs to the user.",
    "TlsRequired": "Connect with `wss://`; behind a proxy that ends TLS, name it in `JOBPUSH_TRUSTED_PROXIES`.",
    "TooManyConnections": "Start more gateways, or raise `JOBPUSH_MAX_CONNECTIONS`.",
    "TooManyConnectionsOfAddress": "Name the proxy in `JOBPUSH_TRUSTED_PROXIES`, or raise "
    "`JOBPUSH_MAX_CONNECTIONS_PER_ADDRESS`.",
    "TooManyConnectionsOfUser": "Close unused connections, or raise `JOBPUSH_MAX_CONNECTIONS_PER_USER`.",
    "TooManyHandshakes": "Name the proxy in `JOBPUSH_TRUSTED_PROXIES`, or raise `JOBPUSH_HANDSHAKE_RATE`.",
    "TooManyMessages": "Send fewer messages, or raise `JOBPUSH_MESSAGE_RATE`.",
    "UnknownApp": "Use the value of `JOBPUSH_KEY` as the key.",
    "UnsupportedVersion": "Connect with `protocol=7`.",
    "WatchlistTooLong": "Watch fewer users, or raise `JOBPUSH_MAX_WATCHLIST`.",
}


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for name, text in pages().items():
        (PAGES / name).write_text(text)
    sys.exit(0)
