"""Authentication by a ``user_loader``: a function of the application, which usually reads its session."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from flask import g

from ....channels import escape_user_id
from ....errors import ConfigurationError, EventError
from ....protocol.actions import UserData
from ....protocol.sign_in import read_user_info
from ..state import GatewayState

logger = logging.getLogger("jobpush.gateway")


def session_user(state: GatewayState) -> UserData | None:
    """Return the user that ``user_loader`` returns for the current request; log an invalid one."""
    loader = state.callbacks.user_loader
    if loader is None:
        return None
    try:
        return loaded_user(loader(), max_user_info=state.config.max_user_info)
    except EventError as exc:
        state.log.warn("invalid_user", f"user_loader returned an invalid user, so the request has no user: {exc}")
    except Exception:
        logger.exception("user_loader failed; the request has no user")
    g.jobpush_loader_failed = True
    return None


def loaded_user(loaded: object, *, max_user_info: int) -> UserData | None:
    """
    Return the user from the result of a ``user_loader``: an id, a pair of id and ``user_info``, or ``None`` for no
    user.

    Raises:
        EventError: If the id or ``user_info`` is invalid.
    """
    user_id, info = loaded if isinstance(loaded, (tuple, list)) and len(loaded) == 2 else (loaded, None)
    if user_id is None:
        return None
    members = {"user_info": dict(info) if isinstance(info, Mapping) else info}
    return UserData(escape_user_id(user_id), read_user_info(members, max_user_info))


def import_user_loader(name: str) -> Callable[..., Any]:
    """
    Import the function ``package.module:function``, also from the working directory.

    Raises:
        ConfigurationError: If it cannot be imported or called.
    """
    module, _, attribute = name.partition(":")
    sys.path.insert(0, "")
    try:
        function = getattr(importlib.import_module(module), attribute)
    except Exception as exc:
        raise ConfigurationError(f"JOBPUSH_USER_LOADER {name!r} cannot be imported: {exc}") from exc
    finally:
        sys.path.remove("")
    if not callable(function):
        raise ConfigurationError(f"JOBPUSH_USER_LOADER {name!r} is not a function")
    return function  # type: ignore[no-any-return]
