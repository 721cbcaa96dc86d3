"""The dict over the fields of a session, which Django and Flask use."""

from __future__ import annotations

import pytest

from coatcheck import Counter, Invalid, Request, mapping
from coatcheck.view import Op


def stored(manager, **texts):
    """Returns a session with these JSON texts."""
    s = manager.session(Request("POST")).load()
    for name, text in texts.items():
        s.core.change(Op("set", name, text))
    s.commit()
    return s


def ops(s):
    return [(op.kind, op.name, op.value) for op in s.core.view.ops]


@pytest.mark.parametrize("text, value, want", [
    (b"1", True, b"true"), (b"0", False, b"false"), (b"1", 1.0, b"1.0"), (b"true", 1, b"1"),
    (b'[1,{"a":0}]', [True, {"a": False}], b'[true,{"a":false}]'), (b"[0.0]", [0], b"[0]"),
    (b'"1"', 1, b"1"), (b"null", 0, b"0"), (b'{"a":1}', {"a": 1, "b": 2}, b'{"a":1,"b":2}'),
])
def test_a_value_that_python_calls_equal_is_stored(manager, text, value, want):
    s = stored(manager, k=text)
    values, shown = mapping.read(s.core)
    values["k"] = value
    mapping.write(s.core, values, shown)
    assert ops(s) == [("set", "k", want)]


@pytest.mark.parametrize("text", [
    b"1", b"-0", b"1.50", b' "a\\u0062" ', b"[ 1, 2.0, true ]", b'{"b":1,\n"a":"\\u00e9"}', b"null",
    b"123456789012345678901234567890", b"[123456789012345678901234567890]",
])
def test_what_was_only_read_is_not_written(manager, text):
    s = stored(manager, k=text)
    values, shown = mapping.read(s.core)
    mapping.write(s.core, values, shown)
    assert ops(s) == [] and s.core.error is None


def test_what_was_only_read_does_not_overwrite_what_changed_meanwhile(manager):
    s = stored(manager, n=b"1", cart=b"[1]")
    values, shown = mapping.read(s.core)
    other = manager.session(Request("POST", [f"__Host-session-anon={s.core.token.text(manager.ring)}"])).load()
    Counter("n").add(other)
    other.core.change(Op("set", "cart", b"[1,2]"))
    other.commit()
    Counter("mine").add(s)
    s.commit()
    assert Counter("n").get(s) == 2
    mapping.write(s.core, values, shown)
    assert ops(s) == []


def test_a_second_write_sends_only_what_changed_since(manager):
    s = stored(manager, a=b"1", gone=b"1")
    values, shown = mapping.read(s.core)
    values.update(a=2, new=[1])
    del values["gone"]
    mapping.write(s.core, values, shown)
    assert ops(s) == [("set", "a", b"2"), ("set", "new", b"[1]"), ("unset", "gone", None)]
    s.commit()
    mapping.write(s.core, values, shown)
    assert ops(s) == []
    values["new"].append(2)
    mapping.write(s.core, values, shown)
    assert ops(s) == [("set", "new", b"[1,2]")]


def test_what_is_not_json_fails(manager):
    s = stored(manager, a=b"1")
    values, shown = mapping.read(s.core)
    for bad in (float("nan"), {1, 2}, 1 << 64, "\ud800", [float("inf")], {2: 1}):
        values["a"] = bad
        with pytest.raises(Invalid):
            mapping.write(s.core, values, shown)
