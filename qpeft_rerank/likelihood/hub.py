"""Folders of files from the model hub, or from its local cache when the network is away."""

from collections.abc import Callable
from pathlib import Path

from qpeft_rerank.errors import InputError, first_line


def snapshot(
    what: str,
    name: str,
    patterns: list[str],
    suggest: Callable[[], str] = lambda: "",
    but: list[str] | None = None,
) -> Path:
    """Download the files of a repository that match; return their folder.

    :param what: what it is, for messages: ``model`` or ``adapter``.
    :param but: patterns of files that are left out all the same.
    :param suggest: near names to add to a message, asked only when one is due.
    :raises InputError: for a name that is none, a repository that does not exist, a hub out of reach.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=but))
    except GatedRepoError:
        raise InputError(
            f"{what} {name!r} is there for those who were given access; ask for it at https://huggingface.co/{name}, "
            "then run: hf auth login"
        ) from None
    except (HFValidationError, RepositoryNotFoundError):
        raise InputError(f"no {what} {name!r} here or on the hub{suggest()}") from None
    except LocalEntryNotFoundError:
        raise InputError(
            f"{what} {name!r} is not here, nor in the hub's cache, and the hub cannot be reached{suggest()}"
        ) from None
    except Exception as error:  # of the disk, the hub, or of whichever library carries it
        raise InputError(f"{what} {name!r} cannot be fetched: {first_line(error)}") from None
