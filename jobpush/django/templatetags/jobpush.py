"""``{% load jobpush %}{% jobpush_tags %}`` in the head of a page."""

from __future__ import annotations

from django import template
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe

from ...web.flask.assets import page_tags
from .. import jobpush
from ..settings import option

register = template.Library()


@register.simple_tag
def jobpush_tags() -> SafeString:
    """Return the tags that a page needs: the gateway's address, the token endpoint and the script."""
    tags = page_tags(jobpush.config.key, option("ROOT"), reverse("jobpush:token"))
    return mark_safe(tags)  # noqa: S308 - its values are escaped
