"""Answers that are errors, in the words and with the codes of a Qdrant server."""

from reanimate.errors import Refused

__all__ = [
    "ApiError",
    "bad_request",
    "collection_missing",
    "forbidden",
    "format_error",
    "internal",
    "invalid_body",
    "not_found",
    "not_implemented",
    "wrong_input",
]


class ApiError(Refused):
    """An error answer: `status` is the HTTP code, `text` what goes into `status.error`."""

    def __init__(self, status: int, text: str, *, plain: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.plain = plain
        """Sent as plain text, without the JSON envelope, as a server does for some routes."""


def wrong_input(text: str) -> ApiError:
    return ApiError(400, f"Wrong input: {text}")


def bad_request(text: str) -> ApiError:
    return ApiError(400, f"Bad request: {text}")


def format_error(text: str) -> ApiError:
    return ApiError(400, f"Format error in JSON body: {text}")


def invalid_body(where: str, text: str) -> ApiError:
    return ApiError(422, f"Validation error in JSON body: [{where}: {text}]")


def forbidden(text: str) -> ApiError:
    return ApiError(403, f"Forbidden: {text}")


def not_found(text: str) -> ApiError:
    return ApiError(404, f"Not found: {text}")


def collection_missing(name: str) -> ApiError:
    return not_found(f"Collection `{name}` doesn't exist!")


def internal(text: str) -> ApiError:
    return ApiError(500, f"Service internal error: {text}")


def not_implemented(name: str) -> ApiError:
    """Name what a real server does and this one does not."""
    return ApiError(501, f"Not implemented by the reanimate standby server: {name}")
