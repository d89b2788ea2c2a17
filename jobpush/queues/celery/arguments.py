"""The arguments of a task by name, in the form that the task receives."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .compat import function_of


def bound_arguments(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, defaults included, without ``self``; those of ``**kwargs`` too."""
    function = function_of(task)
    signature = inspect.signature(function)
    try:
        bound = signature.bind_partial(*args, **kwargs)
    except TypeError:
        return dict(kwargs)  # an invalid call; it fails in the worker
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(parameter.name))
    if "pydantic" in sys.modules:
        for name, model in _models_of(function).items():
            if arguments.get(name) is not None and not isinstance(arguments[name], UnknownResult):
                arguments[name] = ModelArgument(arguments[name], model)
    return arguments


class ResultIsUnknown(Exception):
    """Raised where a callable of the application uses an :class:`UnknownResult`."""


class UnknownResult:
    """Stands for an argument that a task will get from the tasks before it. Any use of it raises."""

    def _raise(self, *args: Any) -> Any:
        raise ResultIsUnknown

    __getattr__ = __getitem__ = __call__ = __iter__ = __bool__ = __eq__ = __hash__ = __str__ = __repr__ = _raise
    __int__ = __float__ = __index__ = __len__ = __contains__ = __format__ = _raise


class ModelArgument:
    """
    An argument that a task with ``pydantic=True`` receives as a model. ``job.user_id`` works in every process.

    The message holds its JSON form, while ``delay()`` and an eager call may be given the model or a mapping. Names that
    are not attributes of the model are looked up in the mapping, so ``job["user_id"]`` works too.
    """

    def __init__(self, value: Any, model: Any) -> None:
        self._value = value
        self._model = model

    @functools.cached_property
    def _validated(self) -> Any:
        if isinstance(self._value, self._model):
            return self._value
        try:
            return self._model.model_validate(self._value)
        except Exception:  # the task fails in the worker, visibly for its user
            return None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return getattr(self._validated, name)
        except AttributeError:
            if isinstance(self._value, Mapping) and name in self._value:
                return self._value[name]
            raise

    def __getitem__(self, name: str) -> Any:
        return self._value[name] if isinstance(self._value, Mapping) else getattr(self._validated, name)

    def __str__(self) -> str:
        return str(self._value if self._validated is None else self._validated)


@functools.lru_cache(maxsize=1_000)
def _models_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the parameters of a function that are annotated with a pydantic model, or with an optional one."""
    from pydantic import BaseModel  # already loaded if any function has such an annotation

    try:
        hints = typing.get_type_hints(function)
    except Exception:  # the name is imported only for type checkers
        return {}
    found = {}
    for name, hint in hints.items():
        # Celery itself makes no models of the items of a list or the values of a mapping.
        is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        for candidate in typing.get_args(hint) if is_union else [hint]:
            if name != "return" and inspect.isclass(candidate) and issubclass(candidate, BaseModel):
                found[name] = candidate
    return found
