"""Download files of a repository from the Hugging Face hub, or take them from its cache on this machine."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils.tqdm import disable_progress_bars

from model.build.checkpoints import shown
from model.build.errors import BuildError

SECONDS = 10.0
"""So long an answer may take; the library tries again for half a minute when nothing answers."""

# The library's own errors, and those of its HTTP client.
_FAILED: tuple[type[BaseException], ...] = (OSError, ValueError, *HfHubHTTPError.__bases__)


def fetch(repository: str, revision: str | None, name: str) -> Path | None:
    """Return the file ``name`` of ``OWNER/NAME``, in a folder named by its commit; None if there is no such file.

    ``revision`` is a branch, a tag or a commit; None: the main branch. Raises ``BuildError`` when it cannot be had.
    """
    disable_progress_bars()  # the build shows its own
    called = f"hf-hub:{repository}" + (f"@{revision}" if revision else "")
    try:
        return Path(hf_hub_download(repository, name, revision=revision, etag_timeout=SECONDS))
    except RemoteEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise BuildError(f"{called} is no repository of the hub: write hf-hub:OWNER/NAME.") from error
    except GatedRepoError as error:
        raise BuildError(f"{called} is open to some people only; accept its terms and set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise BuildError(f"The hub has no {called}, or it is private and HF_TOKEN does not open it.") from error
    except RevisionNotFoundError as error:
        raise BuildError(f"The hub has hf-hub:{repository}, but no revision {revision} of it.") from error
    except LocalEntryNotFoundError as error:
        raise BuildError(
            f"{called} cannot be downloaded: the hub does not answer, and {name} is not in its cache here. "
            "Try again when there is a connection, or copy the model's folder here and build from it."
        ) from error
    except _FAILED as error:
        raise BuildError(f"{called} cannot be downloaded: {shown(error)}.") from error
