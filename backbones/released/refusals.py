"""What the errors of the hub's library mean, each in one sentence with the way out."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from backbones.contract import BackboneError
from backbones.released.place import HubPlace, is_offline, server

HINT = "install it with: pip install 'asdbench[hf]'"


class NotThereError(BackboneError):
    """A repository, revision or file that the hub does not have, or does not give to everybody."""


def library() -> Any:
    """Import the hub's library, which is an extra."""
    found = importlib.import_module("huggingface_hub")
    for part in ("errors", "utils", "constants"):
        importlib.import_module(f"huggingface_hub.{part}")
    return found


def transport_errors() -> tuple[type[Exception], ...]:
    """Return what the library lets through when a connection fails or an address is none."""
    http = importlib.import_module("httpx2")
    return (http.TransportError, http.InvalidURL, http.TooManyRedirects, http.DecodingError)


@contextmanager
def sentences(what: str, place: HubPlace, *, kept: bool = False) -> Iterator[None]:
    """Say what keeps a file from coming in one sentence.

    Args:
        what: is brought.
        place: it comes from.
        kept: whether it may be here already, so that a forbidden network is no reason to refuse.

    Raises:
        NotThereError: the hub does not have it, or not for everybody.
        BackboneError: the network is forbidden or broken, or the library is not installed.
    """
    if is_offline() and not kept:
        raise BackboneError(
            f"HF_HUB_OFFLINE forbids the network, so {what} cannot be brought; unset it, or copy the file from another "
            "machine."
        )
    try:
        yield
    except ModuleNotFoundError as error:
        raise BackboneError(f"The hub needs the package {error.name}, which is not installed; {HINT}") from error
    except BackboneError:
        raise
    except Exception as error:
        sentence = _sentence(error, what, place)
        if sentence is None:
            raise
        raise sentence from error


def _sentence(error: BaseException, what: str, place: HubPlace) -> BackboneError | None:
    """Return what an error means; None for one that is not the hub's."""
    errors = library().errors
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _not_here(error.__cause__, what, place)
    status = getattr(getattr(error, "response", None), "status_code", None)
    not_there = {
        errors.GatedRepoError: f"{place} is gated: accept its conditions on its page, then log in with: hf auth login",
        errors.RepositoryNotFoundError: f"{server()} has no repository {place.repository}, or it is private.",
        errors.RevisionNotFoundError: (
            f"{place.repository} has no revision {place.revision}; name a commit, a tag or a branch."
        ),
        errors.EntryNotFoundError: f"{server()} has no {what}.",
    }
    for kind, sentence in not_there.items():
        if isinstance(error, kind):
            return NotThereError(sentence)
    if status == 404:
        return NotThereError(f"{server()} has no {what}.")
    first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    broken = f"{what} could not be brought from {server()}: {first}; is there a network? The same command goes on."
    known = {
        errors.HfHubHTTPError: f"{server()} answers {what} with status {status}; try again later.",
        errors.HFValidationError: f"{place} is no name of a repository: {first}.",
        errors.OfflineModeIsEnabled: broken,
        **dict.fromkeys(transport_errors(), broken),
    }
    return next((BackboneError(sentence) for kind, sentence in known.items() if isinstance(error, kind)), None)


def _not_here(cause: BaseException | None, what: str, place: HubPlace) -> BackboneError:
    """Say that something is not kept here; the library names what happened as the cause."""
    if is_offline():
        return BackboneError(
            f"{what} is not here, and HF_HUB_OFFLINE forbids the network; unset it, or bring it where there is one."
        )
    known = _sentence(cause, what, place) if cause is not None else None
    return known or BackboneError(f"{what} is not here, and {server()} could not be reached; is there a network?")
