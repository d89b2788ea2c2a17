"""The token endpoint: names the user of Django's session to the gateway."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from . import jobpush
from .settings import option


@require_safe
@never_cache
def token(request: HttpRequest) -> JsonResponse:
    """Return ``{"token": "…"}`` for the user of the session, else 401."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return JsonResponse({"error": {"code": "not_signed_in", "message": "nobody is signed in"}}, status=401)
    return JsonResponse({"token": jobpush.token(user.pk, ttl=option("TOKEN_TTL"))})
