"""``{% load jobpush %}{% jobpush_tags %}`` in the head of a page."""

from __future__ import annotations

from django import template
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ...web.flask.assets import script_name
from .. import jobpush
from ..settings import option

register = template.Library()


@register.simple_tag
def jobpush_tags() -> SafeString:
    """Return the tags that a page needs: the gateway's address, the token endpoint and the script."""
    return format_html(
        '<meta name="jobpush" data-key="{}" data-root="{}" data-token-url="{}">\n'
        '<script type="module" src="{}/jobpush/static/{}"></script>',
        jobpush.config.key,
        option("ROOT"),
        reverse("jobpush:token"),
        option("ROOT"),
        script_name(),
    )
