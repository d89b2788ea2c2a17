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
def jobpush_tags(nonce: str | None = None) -> SafeString:
    """
    Return the tags that a page needs: the gateway's address, the token endpoint and the script.

    Args:
        nonce: Of the page's Content-Security-Policy, if scripts need one.
    """
    tags = page_tags(jobpush.config.key, option("ROOT"), reverse("jobpush:token"), nonce)
    return mark_safe(tags)  # noqa: S308 - its values are escaped
