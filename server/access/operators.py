"""What operators need: the token that opens their routes, where these are, and the pepper. All lie in files."""

from __future__ import annotations

import base64
import hmac
import os
import secrets
import stat
from pathlib import Path

from server.files import UnsafePath, check_parent, open_file

ADMIN_TOKEN, PEPPER, INTERNAL_URL = "admin-token", "pepper", "internal-url"
"""The names of the files in the state folder."""
MOST_BYTES, FEWEST_CHARACTERS = 4096, 20


class BadSecret(Exception):
    """A file with a secret cannot be used: the text says why and what to do, and nothing of the secret."""


class AdminToken:
    """What opens the operators' routes; its text is never shown."""

    def __init__(self, text: str) -> None:
        self._token = text.encode()

    def matches(self, text: str) -> bool:
        """Whether this is it; compares in constant time."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self._token)


def tell_url(state: Path, url: str) -> None:
    """Write into the state folder where the operators' routes are, for commands on this machine. Raises ``OSError``."""
    folder = _open(state)
    try:
        new = state / f"{INTERNAL_URL}.new"
        with os.fdopen(open_file(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, folder), "w") as stream:
            stream.write(f"{url}\n")
        os.rename(new.name, INTERNAL_URL, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def given_secret(path: Path) -> str:
    """The secret in a file that the operator made, as a mounted Secret. Raises ``BadSecret``."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadSecret(f"{path} cannot be read: {error.strerror}") from error
    return _text(path, data)


def kept_secret(state: Path, name: str) -> str:
    """The secret in a file of the state folder, which is made where it is missing (mode 0600). Raises ``BadSecret``."""
    path = state / name
    try:
        folder = _open(state)
        try:
            try:
                file = open_file(path, os.O_RDONLY, folder)
            except FileNotFoundError:
                _make(path, folder)
                file = open_file(path, os.O_RDONLY, folder)
            with os.fdopen(file, "rb") as stream:
                if os.fstat(stream.fileno()).st_mode & stat.S_IROTH:
                    raise UnsafePath(path, "other users can read it", f"chmod 600 {path}")
                return _text(path, stream.read(MOST_BYTES + 1))
        finally:
            os.close(folder)
    except OSError as error:
        raise BadSecret(f"{path} cannot be used: {error.strerror}") from error


def _open(state: Path) -> int:
    """The descriptor of the state folder, which is made where it is missing. Raises ``OSError``."""
    check_parent(state / PEPPER)
    return os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _make(path: Path, folder: int) -> None:
    """Write a new secret, on disk when this returns: what was made with a pepper is worth nothing without it."""
    text = f"tsa_{base64.b32encode(secrets.token_bytes(30)).decode().lower()}\n"
    # Under another name first: a file of this name is always whole.
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(open_file(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    try:
        # Unlike a rename, a link never replaces the file that another server has made meanwhile.
        os.link(new.name, path.name, src_dir_fd=folder, dst_dir_fd=folder)
    except FileExistsError:
        pass
    finally:
        os.unlink(new.name, dir_fd=folder)
    os.fsync(folder)


def _text(path: Path, data: bytes) -> str:
    try:
        text = data.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if len(data) > MOST_BYTES or len(text) < FEWEST_CHARACTERS or not text.isprintable() or " " in text:
        most = f"{FEWEST_CHARACTERS} to {MOST_BYTES}"
        raise BadSecret(f"{path} must have one word of {most} ASCII characters: openssl rand -hex 32 > {path}")
    return text
