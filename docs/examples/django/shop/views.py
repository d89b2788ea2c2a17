from django.contrib.auth import get_user_model, login, logout
from django.db import transaction
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from .tasks import export


def index(request):
    return render(request, "index.html")


@require_POST
def sign_in(request):
    user, _ = get_user_model().objects.get_or_create(username=request.POST["name"])  # your own login goes here
    login(request, user)
    return redirect("/")


@require_POST
def sign_out(request):
    logout(request)
    return redirect("/")


@require_POST
def start(request):
    with transaction.atomic():
        export.delay_on_commit(request.user.pk, "orders.csv")
    return redirect("/")
