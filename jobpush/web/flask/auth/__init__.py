"""
Authentication: which user a request has, and which channels that user may join.

A backend is one file here that returns the user of the current request: ``bearer_token.py`` reads a connection token,
``user_loader.py`` calls a function of the application. ``request_user.py`` chooses between them. The functions in
``django_session.py`` and ``starlette_session.py`` are user loaders for ``jobpush gateway --user-loader``.
``channel_access.py`` decides about channels.

Two parts are elsewhere, because code without Flask needs them too: ``jobpush/tokens.py`` makes and checks tokens, and
``jobpush/protocol/`` reads what an open connection sends, in ``sign_in.py`` and ``admission.py``.
"""
