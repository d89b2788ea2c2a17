"""Fixtures with a real Celery worker; see :mod:`tests.celery_site.site`."""

from tests.celery_site.site import eager, hasty_site, own_site, site, user

__all__ = ["eager", "hasty_site", "own_site", "site", "user"]
