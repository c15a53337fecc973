"""No secret of a URL is printed, wherever it stands in the URL and whoever quotes the URL."""

from __future__ import annotations

import logging
import os
import string
import subprocess
import sys
import time
import traceback
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from server.blobs import BlobsUnusable, open_blobs
from server.queue import CannotOpen, open_database
from server.redaction import RedactingFormatter, redacted, shown

ROOT = Path(__file__).parents[2]
SECRET = "hunter2hunter2"

FORMS = [
    "postgresql://tierserve:{}@db/name",
    "postgresql://{}@db/name",
    "postgresql://{}:{}@db/name",
    "postgresql://tierserve:{}@db1:5432,db2:5433/name?target_session_attrs=any",
    "postgresql://tierserve:{}@[::1]:5432/name",
    "postgresql://tierserve:{}@/name?host=/run/postgresql",
    "postgresql://db/name?password={}",
    "postgresql://db/name?sslmode=require&sslpassword={}&user=tierserve",
    "postgresql://db/name?passfile={}",
    "postgresql://db/name?password=a&password={}",
    "postgresql://db/name?{}",
    "postgresql://db/name?{}=1",
    "postgresql://db/name#{}",
    "postgresql://tierserve:{}",
    "postgresql://tierserve:{}/name",
    "postgresql://tierserve:a@{}@db/name",
    "postgresql://tierserve:a/{}@db/name",
    "postgresql://tierserve:a?{}@db/name",
    "postgresql://tierserve:a#{}@db/name",
    "postgresql://tierserve:a://{}@db/name",
    "postgresql://tierserve:%zz{}@db/name",
    "postgresql://tierserve:{}@db:port/name",
    "postgresql://tierserve:{}@db:5432:5433/name",
    "postgresql+psycopg://tierserve:{}@db/name",
    "postgresql:/tierserve:{}@db/name",
    "postgresql//tierserve:{}@db/name",
    "host=db password={} dbname=name",
    "host=db password = '{}' dbname=name",
    "s3://key:{}@bucket/prefix",
    "s3://bucket/prefix?secret_access_key={}",
    "az://container/prefix?sig={}",
    "https://account.blob.core.windows.net/container?sv=2024&sig={}",
    "https://hooks.example/services/T0/B0/{}",
    "https://user:{}@proxy.example:3128",
    "http://{}@proxy.example:3128/",
    "HTTPS://USER:{}@PROXY",
]
# Here the secret is no part of its own, or a part that a library may name.
NOT_ALONE = {
    "postgresql://{}@db/name",
    "https://hooks.example/services/T0/B0/{}",
    "postgresql://tierserve:%zz{}@db/name",
}
# A secret may contain any character; it is long enough not to be a part of the form's other words by chance.
SECRETS = st.text(string.ascii_letters + string.digits + string.punctuation + "äß€", min_size=12, max_size=40)
QUOTES = ["{}", 'cannot connect to "{}"', "failed ({}), trying again", "url={}\nnext line", "a {}, b {}."]


def leaks(secret: str, text: str) -> bool:
    """Whether a part of the secret that says something about it stands in the text."""
    return any(secret[at : at + 8] in text for at in range(len(secret) - 7))


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_at_any_place_of_a_url_is_not_shown(form: str) -> None:
    url = form.replace("{}", SECRET)
    assert SECRET not in shown(url)
    for sentence in QUOTES:
        assert SECRET not in redacted(sentence.replace("{}", url))
        assert SECRET not in redacted(sentence.replace("{}", url), url)


@settings(max_examples=400, deadline=None)
@given(secret=SECRETS, form=st.sampled_from(FORMS), sentence=st.sampled_from(QUOTES), encode=st.sampled_from("nqp"))
@example(secret="password=password", form=FORMS[0], sentence=QUOTES[0], encode="n")
def test_any_secret_at_any_place_of_a_url_is_not_shown(secret: str, form: str, sentence: str, encode: str) -> None:
    written = {"n": secret, "q": quote(secret, safe=""), "p": quote_plus(secret)}[encode]
    url = form.replace("{}", written)
    for text in (shown(url), redacted(sentence.replace("{}", url), url)):
        assert not leaks(secret, text)
        assert not leaks(written, text)


@settings(max_examples=200, deadline=None)
@given(secret=SECRETS, form=st.sampled_from([form for form in FORMS if "://" in form and form not in NOT_ALONE]))
def test_an_error_that_quotes_a_part_of_a_url_shows_no_secret(secret: str, form: str) -> None:
    url = form.replace("{}", quote(secret, safe=""))
    assert secret not in redacted(f'invalid value "{secret}" in the connection string', url)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://tierserve:hunter2@db.example:5432/name?sslmode=require", "postgresql://db.example:5432/name"),
        ("postgresql://u:hunter2@db1:5432,[fd00::1]:5433/name", "postgresql://db1:5432,[fd00::1]:5433/name"),
        ("postgresql:///name", "postgresql:///name"),
        ("postgresql://", "postgresql://..."),
        ("s3://bucket/some/prefix", "s3://bucket/some/prefix"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("https://hooks.example/services/T0", "https://hooks.example/..."),
        ("hunter2", "..."),
        ("", "..."),
    ],
)
def test_what_is_no_secret_is_shown(url: str, text: str) -> None:
    assert shown(url) == text


@pytest.mark.parametrize(
    "text",
    [
        "taking pictures at http://127.0.0.1:8080; tiers: free, premium",
        'connection to server at "127.0.0.1", port 5432 failed: FATAL: database "x" does not exist',
        "cannot use s3://bucket/prefix: no credentials: it answered 403",
        "Job free-7 ended: exit code 1: key=3 at 12:30:01",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert redacted(text, "postgresql://tierserve:hunter2@db/name", "/var/lib/blobs") == text


@pytest.mark.parametrize(
    "part", ["a", "a:", "a-", "a@:", "a://", "pass", "password='", 'token="\\', "'", "@", "sig = "]
)
def test_a_long_text_takes_no_long_time(part: str) -> None:
    began = time.process_time()
    redacted(part * (100_000 // len(part)) + " x://y:z@w")
    assert time.process_time() - began < 5


def test_headers_and_json_show_no_secret() -> None:
    assert redacted("Authorization: Bearer abc.def") == "Authorization: Bearer ***"
    assert redacted("{'password': 'a b', \"token\": \"c d\"}") == "{'password': ***, \"token\": ***}"


def test_a_traceback_in_the_log_shows_no_secret() -> None:
    url = f"postgresql://db/name?password={SECRET}"
    formatter = RedactingFormatter("%(message)s", url)
    try:
        try:
            raise ValueError(f"cannot parse {SECRET}")
        except ValueError as error:
            raise OSError(f"cannot open {url}") from error
    except OSError:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "with %s", (url,), sys.exc_info())
    written = formatter.format(record)
    assert "with postgresql://db/name" in written
    assert written.count("Traceback") == 2
    assert SECRET not in written


@pytest.mark.parametrize("form", [form for form in FORMS if form.startswith(("postgresql", "host"))])
def test_a_database_that_cannot_be_opened_is_named_without_secrets(tmp_path: Path, form: str) -> None:
    url = form.replace("{}", SECRET).replace("db1", "127.0.0.1").replace("db2", "127.0.0.1").replace("db", "127.0.0.1")
    url = url.replace("5432", "1").replace("5433", "1").replace("127.0.0.1/", "127.0.0.1:1/")
    with pytest.raises(CannotOpen) as caught:
        open_database(tmp_path, url).close()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def traceback_of(folder: Path, option: str, value: str) -> str:
    """What is printed of a database that cannot be opened with this option."""
    url = f"postgresql://127.0.0.1:1/name?{option}={quote(value, safe='')}&passfile=/x"
    with pytest.raises(CannotOpen) as caught:
        open_database(folder, url).close()
    return "".join(traceback.format_exception(caught.value))


@settings(max_examples=60, deadline=None)
@given(
    option=st.sampled_from(["password", "port", "sslmode", "connect_timeout", "nonsense", "sslrootcert"]),
    secret=SECRETS,
)
def test_an_option_that_the_driver_refuses_is_named_without_its_value(
    tmp_path_factory: pytest.TempPathFactory, option: str, secret: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    printed = traceback_of(folder, option, secret)
    if option not in ("port", "sslmode", "connect_timeout"):  # options that nobody can take for a secret
        assume(not leaks(secret, traceback_of(folder, option, SECRET)))  # a traceback's own words may be like it
        assert not leaks(secret, printed)


@pytest.mark.parametrize("form", [form for form in FORMS if form.startswith(("s3", "az", "https"))])
def test_a_place_of_blobs_that_cannot_be_used_is_named_without_secrets(form: str) -> None:
    with pytest.raises(BlobsUnusable) as caught:
        open_blobs(form.replace("{}", SECRET))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://127.0.0.1:1/name?pass={SECRET}",
        f"host=127.0.0.1 password={SECRET}",
        f"postgresql://u:{SECRET}@127.0.0.1:port/name",
    ],
)
def test_a_server_that_cannot_start_prints_no_secret(tmp_path: Path, url: str) -> None:
    models = os.environ.get("TIERSERVE_MODELS", str(ROOT / ".tierserve" / "models"))
    command = [sys.executable, "-m", "server", "serve", "--state", str(tmp_path / "state"), "--models", models]
    ended = subprocess.run(
        command,
        env=os.environ | {"TIERSERVE_DATABASE_URL": url, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "Error: " in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


KEY_ID, KEY_SECRET = "0123456789ab", "a2" * 16


@pytest.mark.parametrize(
    "form",
    [
        "{}",
        "'{}'",
        "X-API-Key: {}",
        "Authorization: Bearer {}",
        "GET /v1/tiers?key={}&a=b",
        "https://h/{}",
        "{{'a': '{}'}}",
    ],
)
def test_keys_are_hidden_and_their_ids_are_not(form: str) -> None:
    for key in (f"tsk_{KEY_ID}_{KEY_SECRET}", f"tsk%5F{KEY_ID}%5f{KEY_SECRET}", f"TSK_{KEY_ID}_{KEY_SECRET}"):
        said = redacted(f"before {form.format(key)} after")
        assert KEY_SECRET not in said
        assert said.startswith("before ")
        assert said.endswith(" after")
    assert f"tsk_{KEY_ID}_***" in redacted(f"the key tsk_{KEY_ID}_{KEY_SECRET} is wrong")


def test_parts_of_keys_and_admin_tokens_are_hidden() -> None:
    assert KEY_SECRET[:9] not in redacted(f"tsk_{KEY_ID}_{KEY_SECRET[:9]} is cut off")
    assert KEY_SECRET not in redacted(f"tsk_{KEY_SECRET} has no id")
    assert KEY_SECRET not in redacted(f"tsa_{KEY_SECRET}")
    assert redacted("keys are tsk_<id>_<secret>") == "keys are tsk_<id>_<secret>"
