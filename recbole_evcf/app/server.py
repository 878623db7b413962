"""The page and the HTTP API, on FastAPI and uvicorn."""

from __future__ import annotations

import socket
from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr
from starlette.middleware.trustedhost import TrustedHostMiddleware

from recbole_evcf import __version__
from recbole_evcf.app.viewer import Viewer
from recbole_evcf.utils.text import one_line, shortened

# Names of this machine that no other can reach it by.
LOCAL = ("127.0.0.1", "localhost", "::1")
# The page asks nothing of another machine, and what comes from data is never a script.
POLICY = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
MOST_HISTORIES, MOST_ITEMS, MOST_RANKED = 1_000, 100_000, 10_000

Token = StrictStr | StrictInt
Tokens = Annotated[list[Token], Field(max_length=MOST_ITEMS)]
Ranked = Annotated[int, Field(ge=1, le=MOST_RANKED, description="number of items to recommend")]
Text = Annotated[str, Query(max_length=1_000)]
Limit = Annotated[int, Query(ge=1, le=100)]


class Asked(BaseModel):
    """Histories to recommend to."""

    model_config = ConfigDict(extra="forbid")
    histories: Annotated[
        list[Tokens],
        Field(max_length=MOST_HISTORIES, description="a list of item tokens for each person"),
    ]
    k: Ranked = 20
    model: Annotated[str | None, Field(description="name of a model; by default the first")] = None


class Recommendation(BaseModel):
    """What is recommended to one person."""

    items: Annotated[list[str], Field(description="item tokens, the best first")]
    scores: Annotated[list[float], Field(description="the model's own, of each item")]
    from_prior: Annotated[bool, Field(description="whether no item of the history is known")]
    unknown: Annotated[list[str], Field(description="items that the model does not know")]


class Answer(BaseModel):
    """Recommendations in the order of the histories."""

    model: str
    recommendations: list[Recommendation]


class History(BaseModel):
    """One history, for all models."""

    model_config = ConfigDict(extra="forbid")
    history: Tokens
    k: Ranked = 20


def make_app(viewer: Viewer, only_local: bool = True) -> FastAPI:
    """Return the page and the API as an ASGI application.

    Args:
        viewer: what answers.
        only_local: refuse requests that name another host than this one, as the pages of a
            hostile site do that make a browser resolve its name to 127.0.0.1.
    """
    # FastAPI's own pages of documentation load their scripts from another machine.
    app = FastAPI(
        title="recbole-evcf",
        version=__version__,
        description="Recommendations of trained models.",
        docs_url=None,
        redoc_url=None,
    )
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    if only_local:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL[:2], "[::1]"])

    @app.exception_handler(RequestValidationError)
    def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # The kinds that a token may have are no place in the request, nor is where JSON breaks off.
        broken = first["type"] == "json_invalid"
        parts = [str(part) for part in first["loc"][1:] if part not in ("str", "int")]
        place = ".".join(parts if not broken else ()) or "the request"
        return JSONResponse({"detail": shortened(f"{place}: {first['msg']}.", 300)}, 422)

    @app.exception_handler(ValueError)
    def explain(request: Request, error: ValueError) -> JSONResponse:
        return JSONResponse({"detail": one_line(error)}, 400)

    @app.middleware("http")
    async def protect(request: Request, answer: Callable) -> Any:
        response = await answer(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-store"
        return response

    # Functions that are not async run in threads.
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def show_page() -> str:
        return page

    @app.get("/models")
    def models() -> dict[str, Any]:
        """The models, their numbers of items, and the number of users that can be picked."""
        return viewer.about()

    @app.get("/items")
    def items(q: Text = "", limit: Limit = 20) -> list[dict[str, Any]]:
        """Items by words of their titles or by their tokens."""
        return viewer.search(q, limit)

    @app.get("/users")
    def users(q: Text = "", limit: Limit = 20) -> list[str]:
        """Users of the data set by a part of their ids."""
        return viewer.search_users(q, limit)

    @app.get("/user")
    def user(name: Text) -> dict[str, Any]:
        """A user's history, and the items that are held out."""
        return viewer.user(name)

    @app.post("/recommend")
    def recommend(asked: Asked) -> Answer:
        """Rank items for people by their histories, with one model."""
        return Answer.model_validate(viewer.recommend(asked.histories, asked.k, asked.model))

    @app.post("/compare")
    def compare(asked: History) -> dict[str, Any]:
        """Rank items for one history with every model, and say why."""
        return viewer.compare(asked.history, asked.k)

    return app


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; an address that cannot be had is a ``ValueError``."""
    if not 0 <= port <= 65535:
        raise ValueError(f"--port must be a number from 0 to 65535, not {port}.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"port {port} of {host} cannot be used ({one_line(error)}): give another --port, or "
            "another --host."
        ) from None


def serve(viewer: Viewer, server_socket: socket.socket, only_local: bool = True) -> None:
    """Answer requests at a socket until Ctrl-C or SIGTERM; arguments are those of :func:`make_app`.

    Raises:
        KeyboardInterrupt: after all requests are answered.
    """
    config = uvicorn.Config(
        make_app(viewer, only_local), log_level="warning", timeout_graceful_shutdown=5
    )
    uvicorn.Server(config).run(sockets=[server_socket])
