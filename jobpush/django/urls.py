"""``path("jobpush/", include("jobpush.django.urls"))``."""

from __future__ import annotations

from django.urls import path

from .views import token

app_name = "jobpush"
urlpatterns = [path("token", token, name="token")]
