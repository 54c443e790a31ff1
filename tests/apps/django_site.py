"""A Django project in one module: admin, sessions, uploads, static files, streaming.

DJANGO_DIR is a directory of the test's own; database and files are in it.
"""

import fcntl
import os
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

HERE = Path(os.environ["DJANGO_DIR"])

settings.configure(
    DEBUG=False,
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    STATIC_URL="/static/",
    STATIC_ROOT=str(HERE / "static"),
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    FILE_UPLOAD_TEMP_DIR=str(HERE),
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(HERE / "db.sqlite3"),
        }
    },
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.staticfiles",
    ],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
)
django.setup()

# What needs the settings comes after them.
from django.contrib import admin  # noqa: E402
from django.contrib.auth.decorators import login_required  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import (  # noqa: E402
    FileResponse,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path, re_path  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from django.views.static import serve  # noqa: E402


def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    return HttpResponse(str(request.session["count"]))


def own_upload(request):
    file = request.FILES["file"]
    size, total = 0, 0
    for piece in file.chunks():
        size += len(piece)
        total = (total + sum(piece[::4096])) % 65521
    return JsonResponse({"name": file.name, "size": size, "total": total})


upload = csrf_exempt(own_upload)


def stream(request):
    return StreamingHttpResponse(f"line {n}\n" for n in range(1000))


def file(request):
    return FileResponse(open(request.GET["path"], "rb"))


def away(request):
    return HttpResponseRedirect(request.build_absolute_uri("/count"))


def fails(request):
    raise ValueError("a failing view")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("count", count),
    path("upload", upload),
    path("own/upload", login_required(own_upload)),
    path("stream", stream),
    path("file", file),
    path("away", away),
    path("fails", fails),
    re_path("^static/(?P<path>.*)$", serve, {"document_root": str(HERE / "static")}),
]

# One of several workers fills the database.
with open(HERE / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    call_command("migrate", verbosity=0)
    call_command("collectstatic", verbosity=0, interactive=False)
    if not User.objects.exists():
        User.objects.create_superuser("admin", "admin@example.com", "password")

application = get_wsgi_application()
