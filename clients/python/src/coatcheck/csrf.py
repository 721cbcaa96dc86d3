"""Finds the CSRF token of a form in the beginning of a request's body."""

from __future__ import annotations

import email
from email.message import Message
from urllib.parse import unquote_plus

FIELD = "csrf_token"
MISSING = f"neither a header X-CSRF-Token nor a form field {FIELD} in the first 64 KiB"
MAX_PEEK = 64 << 10  # how many bytes of a body are searched; the application gets all of it


def is_form(content_type: str) -> bool:
    """Reports whether a body can have a token."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in ("application/x-www-form-urlencoded", "multipart/form-data")


def find_token(content_type: str, body: bytes) -> str:
    """Returns the token of a form whose body begins so, or ""."""
    header = Message()
    header["content-type"] = content_type
    if header.get_content_type() == "multipart/form-data":
        boundary = header.get_param("boundary")
        return _in_multipart(str(boundary), body) if boundary else ""
    for pair in body.split(b"&"):
        name, _, value = pair.partition(b"=")
        if b";" not in pair and unquote_plus(name.decode("latin-1")) == FIELD:
            return unquote_plus(value.decode("latin-1"))
    return ""


def _in_multipart(boundary: str, body: bytes) -> str:
    parts = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1", "replace"))
    for part in parts[1:-1]:  # the last one may be cut off
        head, _, value = part.partition(b"\r\n\r\n")
        of = email.message_from_bytes(head.lstrip())
        name = of.get_param("name", header="content-disposition")
        if name == FIELD and of.get_filename() is None:
            return value.decode("latin-1")
    return ""
