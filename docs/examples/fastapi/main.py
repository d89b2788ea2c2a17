import os

from fastapi import Depends, FastAPI, Form, Request
from fastapi.responses import RedirectResponse
from fastapi.templating import Jinja2Templates
from starlette.concurrency import run_in_threadpool
from starlette.middleware.sessions import SessionMiddleware
from tasks import export, jobpush

from jobpush.fastapi import AsyncJobPush

app = FastAPI()
app.add_middleware(SessionMiddleware, secret_key=os.environ.get("SESSION_SECRET", "change me"))
templates = Jinja2Templates("templates")


def current_user(request: Request) -> str | None:
    return request.session.get("user_id")


push = AsyncJobPush(jobpush, root=os.environ.get("GATEWAY", "http://127.0.0.1:8001"))
app.include_router(push.router(current_user))
templates.env.globals["jobpush_tags"] = push.tags


@app.get("/")
def index(request: Request, user_id: str | None = Depends(current_user)):
    return templates.TemplateResponse(request, "index.html", {"user_id": user_id})


@app.post("/sign-in")
def sign_in(request: Request, name: str = Form()):
    request.session["user_id"] = name
    return RedirectResponse("/", 303)


@app.post("/sign-out")
async def sign_out(request: Request, user_id: str | None = Depends(current_user)):
    request.session.clear()
    await push.sign_out(user_id)
    return RedirectResponse("/", 303)


@app.post("/export")
async def start(user_id: str = Depends(current_user)):
    await run_in_threadpool(export.delay, user_id, "orders.csv")
    return RedirectResponse("/", 303)
