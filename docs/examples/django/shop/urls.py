from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.index),
    path("sign-in", views.sign_in),
    path("sign-out", views.sign_out),
    path("export", views.start),
    path("jobpush/", include("jobpush.django.urls")),
]
