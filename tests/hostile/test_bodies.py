"""What an endpoint's body can be, if it is not the one JSON object that was asked for."""

import json
from collections.abc import Callable

import pytest

from tests.hostile.conftest import DISCOVERY, KEYS, TOKEN, USERINFO, Hostile, endpoints


def with_member(text: str) -> Callable[[bytes], bytes]:
    """Make the honest object, with one more member, spelled as it is: its value comes from no encoder."""
    return lambda body: b"{" + text.encode("utf-8", "surrogatepass") + b"," + body.strip()[1:]


#: Bodies with the honest content in them, or a part of it, that no two readers must read the same.
NO_OBJECT: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "white space": lambda _: b" \r\n\t",
    "html": lambda _: b"<!DOCTYPE html><title>Sign in to the Wi-Fi</title>",
    "xml": lambda _: b'<?xml version="1.0"?><a/>',
    "form": lambda _: b"access_token=tok_abc&token_type=bearer",
    "list": lambda body: b"[" + body + b"]",
    "empty list": lambda _: b"[]",
    "null": lambda _: b"null",
    "true": lambda _: b"true",
    "number": lambda _: b"7",
    "NaN alone": lambda _: b"NaN",
    "string": lambda body: json.dumps(body.decode()).encode(),
    "truncated": lambda body: body.strip()[:-1],
    "half": lambda body: body[: len(body) // 2],
    "two objects": lambda body: body + body,
    "trailing comma": lambda body: body.strip()[:-1] + b",}",
    "trailing garbage": lambda body: body + b";",
    "jsonp": lambda body: b"callback(" + body + b")",
    "anti-hijacking prefix": lambda body: b")]}'\n" + body,
    "comment": lambda body: b"/* */" + body,
    "single quotes": lambda body: body.replace(b'"', b"'"),
    "byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "utf-16": lambda body: body.decode().encode("utf-16"),
    "utf-32": lambda body: body.decode().encode("utf-32"),
    "NUL at the end": lambda body: body + b"\0",
    "not utf-8": lambda body: b'{"x": "\xff",' + body.strip()[1:],
    "latin-1": lambda body: b'{"x": "Zo\xeb",' + body.strip()[1:],
    "overlong utf-8": lambda body: b'{"x": "\xc0\xae",' + body.strip()[1:],
    "raw surrogate": with_member('"x": "\ud800"'),
    "lone surrogate": with_member(r'"x": "\ud800"'),
    "lone surrogate in a name": with_member(r'"\udfff": 1'),
    "surrogates the wrong way round": with_member(r'"x": "\udc08\ud83d"'),
    "NUL": with_member(r'"x": "\u0000"'),
    "NUL in a name": with_member(r'"\u0000": 1'),
    "raw control character": with_member('"x": "\n"'),
    "NaN": with_member('"x": NaN'),
    "Infinity": with_member('"x": Infinity'),
    "-Infinity": with_member('"x": [-Infinity]'),
    "1e400": with_member('"x": 1e400'),
    "-1e400": with_member('"x": -1e400'),
    "5000 digits": with_member('"x": ' + "9" * 5000),
    "5000 digits after the point": with_member('"x": 0.' + "9" * 5000),
    "exponent of 5000 digits": with_member('"x": 1e' + "9" * 5000),
    "leading zero": with_member('"x": 007'),
    "hexadecimal": with_member('"x": 0x10'),
    "deep": with_member('"x": ' + "[" * 40 + "]" * 40),
    "deep objects": with_member('"x": ' + '{"a":' * 40 + "1" + "}" * 40),
    "deeper than the stack": with_member('"x": ' + "[" * 30_000),
    "nested beyond the stack and closed": with_member('"x": ' + "[" * 25_000 + "]" * 25_000),
    "a member twice": with_member('"x": 1, "x": 1'),
    "a member twice, once escaped": with_member(r'"x": 1, "\u0078": 2'),
    "a member twice, inside": with_member('"x": {"a": 1, "a": 2}'),
}

#: The member that matters most at each endpoint, as an attacker might double it.
DOUBLED = {
    DISCOVERY: '"token_endpoint": "https://evil.example/token"',
    TOKEN: '"access_token": "tok_of_somebody_else"',
    KEYS: '"keys": []',
    USERINFO: '"sub": "somebody-else"',
}

#: Additions that are odd, and fair.
HONEST: dict[str, Callable[[bytes], bytes]] = {
    "unchanged": lambda body: body,
    "white space around": lambda body: b"\r\n\t " + body + b"\n\n",
    "indented": lambda body: json.dumps(json.loads(body), indent=8).encode(),
    "other order": lambda body: json.dumps(dict(reversed(json.loads(body).items()))).encode(),
    "everything escaped": lambda body: body.replace(b'"sub"', rb'"\u0073\u0075\u0062"'),
    "unknown members": with_member('"x": [1, -2.5e3, null, true, {"y": {"z": []}}], "": ""'),
    "any alphabet": with_member('"名前": "Zoë 雪 🐈 \u200f\u202e"'),
    "surrogate pair": with_member(r'"x": "\ud83d\udc08"'),
    "64 bits": with_member('"x": 18446744073709551615'),
    "nested as far as protocols go": with_member('"x": ' + "[" * 30 + "]" * 30),
}


@endpoints
def test_a_body_that_is_not_one_json_object_is_named(
    hostile: Hostile, endpoint: str, subtests: pytest.Subtests
) -> None:
    """The same code at each endpoint, whatever is wrong with the text."""
    for name, change in HONEST.items():
        with subtests.test(name):
            hostile.answer_bytes(endpoint, change)
            hostile.new_process()
            hostile.accepts()
    doubled = {"its own member twice": with_member(DOUBLED[endpoint])}
    for name, change in (NO_OBJECT | doubled).items():
        with subtests.test(name):
            hostile.answer_bytes(endpoint, change)
            hostile.refuses("not_json", endpoint=endpoint)
