"""The API: the model's facts, songs, ratings and the study. Only numbers come in; no route takes an image.

What it takes are the library's own `Affect`, `Rating` and `PromptRow`, which check themselves.
"""

import secrets
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from pocketaffect.app.affect import Affect
from pocketaffect.app.music.catalogue import Catalogue
from pocketaffect.app.music.listeners import Listeners, Rating
from pocketaffect.app.music.recommend import COUNT, SERVICES, Recommender, Suggestion
from pocketaffect.app.music.spotify import SpotifyRecommender
from pocketaffect.app.server.model import ServedModel
from pocketaffect.app.study.protocol import CONSENT_VERSION, NEUTRAL_PROMPT, PROMPTS, STATEMENTS, PromptRow
from pocketaffect.app.study.store import Progress, StudyStore, UnknownRunError

MAX_RECENT: Final = 200
MAX_SENT_RATINGS: Final = 200

TrackId = Annotated[str, Field(min_length=1, max_length=100)]
ListenerId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{16,64}$")]


class Body(BaseModel):
    """Base of what is sent and answered: unknown keys are refused, nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class SongsBody(Body):
    """A wish for songs. `ratings` are those a listener keeps on their own device; `listener` names stored ones."""

    affect: Affect
    recent: Annotated[list[TrackId], Field(max_length=MAX_RECENT)] = []
    ratings: Annotated[list[Rating], Field(max_length=MAX_SENT_RATINGS)] = []
    listener: ListenerId | None = None
    count: Annotated[int, Field(ge=1, le=20)] = COUNT
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None


class RatingBody(Body):
    """A rating for the server's store."""

    listener: ListenerId
    affect: Affect
    track: TrackId
    stars: Annotated[int, Field(ge=1, le=5)]


class ConsentBody(Body):
    """Agreement to the texts of this version."""

    version: Annotated[str, Field(max_length=40)]


class Songs(Body):
    """Suggestions, best first."""

    songs: list[Suggestion]


class Forgotten(Body):
    """How many rows were deleted."""

    deleted: int


class Begun(Body):
    """A run of the study. The token is shown this once."""

    token: str
    expires: date


@dataclass(frozen=True)
class Services:
    """What the API works with."""

    model: ServedModel
    recommender: Recommender | SpotifyRecommender
    catalogue: Catalogue | None
    """Tracks that are suggested and may be rated; None where a service suggests its own."""

    listeners: Listeners
    study: StudyStore
    retention_days: int


_bearer = HTTPBearer(auto_error=False, description="The run's token, from POST /api/study/runs.")


def _read_token(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
    if credentials is None:
        raise UnknownRunError
    return credentials.credentials


Token = Annotated[str, Depends(_read_token)]


def build_api(services: Services) -> APIRouter:
    """Makes the router with all routes below /api."""
    api = APIRouter(prefix="/api")
    api.get("/model", summary="How to feed the model and to read its answer")(services.model.facts)
    _add_songs(api, services)
    _add_study(api, services)
    return api


def _add_songs(api: APIRouter, services: Services) -> None:
    catalogue = services.catalogue

    @api.get("/music", summary="The music services that songs link to, and the catalogue's length where there is one")
    def read_music() -> dict[str, Any]:
        tracks = None if catalogue is None else len(catalogue)
        return {"services": {key: name for key, (name, _) in SERVICES.items()}, "tracks": tracks}

    @api.post("/songs", summary="Songs for an affect")
    def suggest_songs(body: SongsBody) -> Songs:
        found = services.recommender.recommend(
            body.affect,
            listener=body.listener,
            ratings=body.ratings,
            recent=body.recent,
            count=body.count,
            seed=secrets.randbits(32) if body.seed is None else body.seed,
        )
        return Songs(songs=found)

    @api.post("/ratings", status_code=201, summary="Keep a rating in this server's store")
    def rate(body: RatingBody) -> None:
        if catalogue is None or catalogue.position(body.track) is None:
            raise HTTPException(404, "no such track")
        services.listeners.rate(body.listener, body.affect, body.track, body.stars)

    @api.delete("/listeners/{listener}", summary="Delete a listener's stored ratings")
    def forget(listener: ListenerId) -> Forgotten:
        return Forgotten(deleted=services.listeners.forget(listener))


def _add_study(api: APIRouter, services: Services) -> None:
    texts = {key: text.format(days=services.retention_days) for key, text in STATEMENTS.items()}

    @api.get("/study", summary="What a participant agrees to, and the prompts")
    def read_study() -> dict[str, Any]:
        prompts = [{"number": each.number, "id": each.id, "title": each.title, "hint": each.hint} for each in PROMPTS]
        consent = {"version": CONSENT_VERSION, "statements": texts, "days": services.retention_days}
        return {"consent": consent, "prompts": prompts, "neutral_prompt": NEUTRAL_PROMPT}

    @api.post("/study/runs", status_code=201, summary="Begin a run, with consent")
    def begin(body: ConsentBody) -> Begun:
        run = services.study.begin(body.version, services.retention_days)
        return Begun(token=run.token, expires=run.expires)

    @api.put("/study/run/rows", status_code=204, summary="Keep a prompt's row; once answered it is on disk")
    def add_row(body: PromptRow, token: Token) -> None:
        services.study.add(token, body)

    @api.get("/study/run", summary="How far the run is")
    def read_progress(token: Token) -> Progress:
        return services.study.progress(token)

    @api.delete("/study/run", summary="Withdraw: delete the run and its rows")
    def withdraw(token: Token) -> Forgotten:
        return Forgotten(deleted=services.study.withdraw(token))
