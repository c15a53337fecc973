"""Forms as browsers, libraries and scripts send them: each is taken, or refused in words that help.

How it could break: a picture is taken for a field or is lost; names come back garbled, or with characters that do
harm where they are shown; results come in another order than the pictures; a refusal speaks of the parser.
"""

from __future__ import annotations

import base64

import pytest

from server.intake import formats, names
from server.intake.gathering import Request
from server.intake.memory import Memory
from server.problems import Problem
from server.settings.records import Limits

LIMITS = Limits(queue=10, queue_bytes=1_000_000, images=10, image_bytes=2000, image_pixels=100, attempts=3)
JPEG = b"\xff\xd8\xff" + bytes(40)
GIF = b"GIF89a" + bytes(30)


def part(disposition: bytes, value: bytes = JPEG, more: bytes = b"", boundary: bytes = b"XX") -> bytes:
    return b"--%b\r\nContent-Disposition: %b\r\n%b\r\n%b\r\n" % (boundary, disposition, more, value)


def read(body: bytes, kind: str = "multipart/form-data; boundary=XX", step: int = 7) -> Request:
    held = Memory(100_000).hold("free", "127.0.0.1", {"free": 100_000})
    reader = formats.reader({"Content-Type": kind}, LIMITS, held)
    for start in range(0, len(body), step):
        reader.feed(body[start : start + step])
    return reader.finish({})


def pictures(request: Request) -> list[bytes]:
    return [b"".join(pieces) for pieces in request.pictures]


def refused(body: bytes, kind: str = "multipart/form-data; boundary=XX") -> tuple[str, str]:
    with pytest.raises(Problem) as problem:
        read(body, kind)
    return problem.value.body["code"], problem.value.body["detail"]


ONE = part(b'form-data; name="a"; filename="a.jpg"')
END = b"--XX--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"a preamble\r\nof two lines\r\n" + ONE + END,
        b"\r\n" + ONE + END,
        ONE + b"--XX--",
        ONE + END + b"an epilogue\r\n--XX",
        part(b'form-data; name="a"') + END,
        part(b'form-data; name="a"', more=b"Content-Type: application/octet-stream\r\n") + END,
        part(b'form-data; name="a"', more=b"Content-Type: IMAGE/Unknown\r\n") + END,
        part(b"form-data; name=a; filename=a.jpg") + END,
        part(b'form-data; filename="a.jpg"') + END,
        part(b'attachment; filename="a.jpg"') + END,
        part(b'file; filename="a.jpg"') + END,
        part(b'form-data; name=""; filename="a.jpg"') + END,
        part(b'form-data; name="a"; filename=""', more=b"Content-Type: application/octet-stream\r\n") + END,
        part(b'form-data; name="a"; filename=""', b"", b"Content-Type: application/octet-stream\r\n") + ONE + END,
        part(b'form-data; name="a"; filename="a.jpg"', more=b"Content-Length: %d\r\n" % len(JPEG)) + END,
        part(b'form-data; name="a"; filename="a.jpg"', more=b"Content-Transfer-Encoding: BINARY\r\n") + END,
        part(b'form-data;\r\n name="a"; filename="a.jpg"') + END,
        part(b'form-data; name="top_k"; filename="top_k"') + END,
        part(b'form-data; name="top_k"', b"3") + ONE + END,
    ],
)
@pytest.mark.parametrize("step", [1, 100_000])
def test_a_form_with_one_picture_in_whatever_shape(body: bytes, step: int) -> None:
    request = read(body, step=step)
    assert pictures(request) == [JPEG]


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        ('multipart/form-data; boundary="a,b=c d/e?:\'()+_.-"', b"a,b=c d/e?:'()+_.-"),
        ('multipart/form-data; charset=utf-8; Boundary="XX"', b"XX"),
        ('Multipart/Form-Data;boundary="a\\"b"', b'a"b'),
        ("multipart/form-data; boundary = XX ; charset=utf-8", b"XX"),
        ("multipart/form-data; boundary=----=_Part_1,2", b"----=_Part_1,2"),
    ],
)
def test_a_boundary_may_be_quoted_and_may_have_all_that_is_allowed(kind: str, boundary: bytes) -> None:
    body = part(b'form-data; name="a"', boundary=boundary) + b"--" + boundary + b"--"
    assert pictures(read(body, kind)) == [JPEG]


@pytest.mark.parametrize("lines", [b"\r\n", b"\n", b""])
@pytest.mark.parametrize("pads", [True, False])
def test_a_part_in_base64_is_decoded(lines: bytes, pads: bool) -> None:
    text = base64.b64encode(JPEG)
    text = lines.join(text[start : start + 20] for start in range(0, len(text), 20))
    more = b"Content-Transfer-Encoding: base64\r\nContent-Type: image/jpeg\r\n"
    body = part(b'form-data; name="a"', text if pads else text.rstrip(b"="), more) + ONE + END
    assert pictures(read(body)) == [JPEG, JPEG]
    unnamed = part(b'form-data; name="a"', text, b"Content-Transfer-Encoding: base64\r\n") + END
    assert pictures(read(unnamed)) == [JPEG]


def test_pictures_stay_in_the_order_in_which_they_were_sent() -> None:
    fields = [b"b", b"a", b"b", b"c", b"a"]
    body = b"".join(
        part(b'form-data; name="%b"; filename="%d.gif"' % (name, n), GIF + b"%d" % n) for n, name in enumerate(fields)
    )
    request = read(body + END)
    assert pictures(request) == [GIF + b"%d" % n for n in range(5)]
    assert names.read(request.names) == [(name.decode(), f"{n}.gif") for n, name in enumerate(fields)]


@pytest.mark.parametrize(
    ("disposition", "field", "file"),
    [
        (b'form-data; name="cat"; filename="cat.jpg"', "cat", "cat.jpg"),
        (b'form-data; name="cat"', "cat", None),
        (b'form-data; filename="cat.jpg"', None, "cat.jpg"),
        (b'form-data; name="pictures[0][file]"; filename="cat.jpg"', "pictures[0][file]", "cat.jpg"),
        ('form-data; name="größe"; filename="katze €.jpg"'.encode(), "größe", "katze €.jpg"),
        ('form-data; name="größe"; filename="grün.jpg"'.encode("latin-1"), "größe", "grün.jpg"),
        ('form-data; name="a"; filename="5 €.jpg"'.encode("cp1252"), "a", "5 €.jpg"),
        (b"form-data; name=a; filename*=UTF-8''%e2%82%ac%20rates.jpg", "a", "€ rates.jpg"),
        (b"form-data; name=a; filename=\"x.jpg\"; filename*=utf-8'en'%C3%A9.jpg", "a", "é.jpg"),
        (b"form-data; name=a; filename=\"x.jpg\"; filename*=iso-8859-1''%E9.jpg", "a", "é.jpg"),
        (b"form-data; name=a; filename=\"x.jpg\"; filename*=koi8-r''%E9.jpg", "a", "x.jpg"),
        (b'form-data; name="a"; filename="a \\"cat\\".jpg"', "a", 'a "cat".jpg'),
        (b'form-data; name="a"; filename="a %22cat%22.jpg"', "a", 'a "cat".jpg'),
        (b'form-data; name="a"; filename="a;b=c.jpg"', "a", "a;b=c.jpg"),
        (b'form-data; name="a"; filename="two%0D%0Alines.jpg"', "a", "two\ufffd\ufffdlines.jpg"),
        (b'form-data; name="a"; filename="C:\\\\pictures\\\\cat.jpg"', "a", "cat.jpg"),
        (b'form-data; name="a"; filename="../../etc/passwd"', "a", "passwd"),
        ('form-data; name="a"; filename="gpj.\u202etac.exe"'.encode(), "a", "gpj.\ufffdtac.exe"),
        (b'form-data; name="a"; filename="\x1b[31m.jpg"', "a", "\ufffd[31m.jpg"),
        (b'form-data; name="%b"; filename="%b"' % (101 * b"n", 256 * b"f"), 100 * "n", 255 * "f"),
    ],
)
def test_names_come_back_as_they_were_meant_and_can_be_shown(
    disposition: bytes, field: str | None, file: str | None
) -> None:
    request = read(part(disposition) + END, step=100_000)
    assert names.read(request.names) == [(field, file)]


def test_a_picture_that_came_without_names_has_none() -> None:
    assert read(JPEG, "image/jpeg").names is None
    assert names.read(None) == []


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (ONE, "bad_multipart", "it ends before its last boundary"),
        (ONE[:-20], "bad_multipart", "it ends before its last boundary"),
        (b"nothing of the kind", "bad_multipart", "the boundary of its Content-Type does not occur in it"),
        ((ONE + END).replace(b"\r\n", b"\n"), "bad_multipart", "its lines end with a line feed alone"),
        (
            part(b'form-data; name="a"', b"--Y", b"Content-Type: multipart/mixed; boundary=Y\r\n") + END,
            "bad_multipart",
            "the part 'a' is itself multipart/mixed",
        ),
        (
            part(b'form-data; name="a"', b"=FF", b"Content-Transfer-Encoding: quoted-printable\r\n") + END,
            "bad_multipart",
            "the part 'a' has Content-Transfer-Encoding 'quoted-printable'",
        ),
        (
            part(b'form-data; name="a"', JPEG, b"Content-Transfer-Encoding: base64\r\n") + END,
            "bad_base64",
            "the part 'a' is not base64",
        ),
        (END, "no_image", "no part of the body is a file"),
        (part(b'form-data; name="a"; filename=""', b"") + END, "no_image", "no part of the body is a file"),
        (part(b'form-data; name="top_k"', b"3") + END, "no_image", "no part of the body is a file"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(body: bytes, code: str, says: str) -> None:
    found, detail = refused(body)
    assert (found, says in detail) == (code, True), detail


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; x=boundary"]
)
def test_a_form_without_a_boundary_says_who_should_set_it(kind: str) -> None:
    code, detail = refused(ONE + END, kind)
    assert (code, "Let your HTTP library set the Content-Type" in detail) == ("bad_multipart", True)
