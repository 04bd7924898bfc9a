"""The proxy's door: announce a call on rtpengine, and its end, over the control API.

Not needed where calls are found by their labels. It is for proxies that cannot label, that want a call followed from
its first second, or that know what labels do not say: numbers, language, the operator's own id of the call. It names
calls and configured nodes, never an address: whoever may speak here cannot make us speak to another host.

Bodies are JSON or, as proxies can write without a module for it and without a caller's quotes getting through, a form.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import APIRouter, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from inference.errors import CapacityError, CodecError, ConfigError, GatewayError
from inference.gateway.rtpengine.described import MAX_TAG_CHARS, Note, Roles
from inference.gateway.rtpengine.follower import id_of
from inference.gateway.rtpengine.subscription import Wanted
from inference.gateway.spec import CALL_ID_PATTERN, Language

if TYPE_CHECKING:
    from inference.gateway.rtpengine.gateway import RtpengineGateway

PATH = "/v1/gateways/rtpengine/calls"
FORM = "application/x-www-form-urlencoded"

Tag = Annotated[str, Field(min_length=1, max_length=MAX_TAG_CHARS)]
Number = Annotated[SecretStr, Field(max_length=256)]


class AnnouncedCall(BaseModel):
    """A call as the proxy knows it.

    Attributes:
        call_id: SIP Call-ID.
        far_tag: SIP tag of the other party; of an incoming call the From tag.
        near_tag: SIP tag of the subscriber.
        id: the operator's own id of the call; None for one made from the Call-ID.
        node: which rtpengine has it, by the name in the configuration; None to ask all.
        language: of the call.
        subscriber, caller: their numbers, for messages where nothing can be played.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    call_id: Tag
    far_tag: Tag
    near_tag: Tag
    id: Annotated[str, Field(pattern=CALL_ID_PATTERN)] | None = None
    node: Annotated[str, Field(max_length=32)] | None = None
    language: Language | None = None
    subscriber: Number | None = None
    caller: Number | None = None


class EndedCall(BaseModel):
    """A call that is over."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    call_id: Tag


Body = TypeVar("Body", bound=BaseModel)


async def _read(request: Request, model: type[Body]) -> Body:
    """The body, a form or JSON; it was bounded by the API.

    Raises:
        HTTPException: from a browser. A page of anyone's may send a form here without asking first.
        RequestValidationError: it is not what was wanted.
    """
    if "origin" in request.headers:
        raise HTTPException(403, "this is for proxies, not for browsers")
    body = await request.body()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        return model.model_validate(_form(body)) if kind == FORM else model.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_input=False)) from None
    except ValueError as error:
        fault = {"loc": ("body",), "msg": f"not a form ({type(error).__name__})", "type": "form"}
        raise RequestValidationError([fault]) from None


def _form(body: bytes) -> dict[str, str]:
    """Fields of a form.

    Raises:
        ValueError: it is none, not ASCII, not UTF-8 behind its escapes, or has a field twice.
    """
    text = body.decode("ascii")
    pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=16, errors="strict")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is there twice")
    return fields


def make_door(gateway: "RtpengineGateway") -> APIRouter:
    """The two requests a proxy may make. Who may call them is the control API's business."""
    router = APIRouter()

    @router.post(PATH, status_code=201)
    async def begin(request: Request) -> dict[str, Any]:
        call = await _read(request, AnnouncedCall)
        try:
            follower, state = await gateway.locate(call.call_id, call.node)
            followed = gateway.find(call.call_id)
            name = call.id or (followed.spec.id if followed is not None else id_of(call.call_id))
            roles = Roles(call.far_tag, call.near_tag)
            if not state.are_talking(roles):
                raise HTTPException(409, "the two tags are not connected in this call")
            note = Note(name, roles, call.language)
            wanted = Wanted(follower.node, call.call_id, note, call.subscriber, call.caller)
            await follower.follow(wanted, state)
        except KeyError:
            raise HTTPException(404, "no rtpengine has this call") from None
        except CapacityError as error:
            raise HTTPException(503, str(error), {"Retry-After": "5"}) from error
        except CodecError as error:
            raise HTTPException(422, str(error)) from error
        except ConfigError as error:
            raise HTTPException(409, str(error)) from error
        except GatewayError as error:
            raise HTTPException(502, str(error)) from error
        return {"id": name}

    @router.post(f"{PATH}/ended")
    async def end(request: Request) -> dict[str, bool]:
        call = await _read(request, EndedCall)
        return {"was_followed": gateway.end(call.call_id)}

    return router
