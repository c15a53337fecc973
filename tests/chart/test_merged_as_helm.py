"""Files of values and flags mean for ``check``, ``render`` and ``serve`` what they mean for Helm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from server.settings.sources import ConfigError, Files
from server.settings.values import merged
from tests.chart.charts import Chart

BASE = "a: {b: 1, c: [1, 2], d: {e: x, f: z}}\nl: [{k: 1, m: 2}, {k: 3}]\ns: text\n"
SHOWS = "{{ .Values | toJson }}\n"

Flags = list[tuple[str, str]]

SET = [
    "a=1,b=2",
    "a.b=5,a.d.e=z",
    "s=a\\,b",
    "s=a\\.b,t=1.10",
    "a.d\\.e\\.f=1",
    "a\\=b=1",
    "s=a=b",
    "s=C:\\\\dir",
    "s=ends\\",
    "l[0].k=7",
    "l[1].k=7,l[1].m=8",
    "l[2]=x",
    "l[0][1]=x",
    "k[0][1].a[2]=x",
    "k[1].a=1,k[0].a=2",
    "k[0]=1,k[0].a=2",
    "s={x,y}",
    "s={x,y},t=1",
    "s={}",
    "s={1,true,null,a\\,b}",
    "s={a,{b,c}}",
    "s={a}b=1",
    "s=",
    "s=,t=1",
    "s=1,",
    "s=TRUE,t=False,u=Null",
    "s=0,t=-0,u=+5,v=-5,w=007,x=0x1f,y=1e3,z=0.5",
    "s=9223372036854775807,t=9223372036854775808",
    "s=\uff15,t= 5,u=5 ",
    "s=yes,t=~,u=on",
    "a=null",
    "a.d=null",
    "a.new=null",
    "new.a=null",
    "a.b=null,s=null",
    "s=[1,2]",
    'a.d={"e": 1}',
    "a.b.x=1",
    "x=1,x.w=2",
    "x=null,x.w=2",
    "x=1,x[0]=2",
    "a..b=1,a.b=2",
    "l[65537]=1",
    "l[-1]=1",
    "l[+1]=1",
    "l[x]=1",
    "l[0]x=1",
    "s",
    "s,t=1",
    "s={a,b",
    ".".join("abcdefghijklmnopqrstuvwxyzabcde") + "=1",
    ".".join("abcdefghijklmnopqrstuvwxyzabcdef") + "=1",
    "s=line\nbreak",
    "s= ,t=\u00e9",
]
OTHERS: list[Flags] = [
    [("set-string", "a=1,b=true,c=null,d={1,2}")],
    [("set-string", "l[0].k=1")],
    [("set-json", "a.b=0.5,a.c={},s=[1, 2.5, null]")],
    [("set-json", 's="a,b" , t=1')],
    [("set-json", "s=,t=1")],
    [("set-json", "s= ")],
    [("set-json", '{"a": {"b": 2, "d": {"e": null}}, "k": [1]}')],
    [("set-json", '  {"s": 1}')],
    [("set-json", '{"s": 1} x')],
    [("set-json", 'l[1]={"k": true}')],
    [("set-json", "s={")],
    [("set-json", "s=NaN")],
    [("set-json", "s=x")],
    [("set-literal", "s=a,b=c\\.d{[")],
    [("set-literal", "a.d.e=1")],
    [("set-literal", "l[0].k=1,2")],
    # Helm's order of the options is not that of the command.
    [("set-literal", "s=1"), ("set-string", "s=2"), ("set", "s=3"), ("set-json", "s=4")],
    [("set-string", "s=2"), ("set", "s=3"), ("set-json", 's="4"')],
    [("set", "s=3"), ("set-json", "s=[1,2,3]"), ("set", "s=5")],
    [("set-json", "s=[1,2,3]"), ("set", "s[1]=x")],
    [("set", "a.b=1"), ("set", "a.b=2")],
    [("set-file", "s=text.txt,t={text.txt,text.txt}")],
    [("set-file", "s=none.txt")],
]
WORDS = """
yes off ~ y N null Null NULL TRUE 0o17 017 08 1_000 1_0.5 0x1F 0b11 +12 -3 1. .5 0.5e3 1e3 1E+3 1.5e-7 1:30 1:30.5 12e03
2026-01-02 2026-01-02T03:04:05Z v1.2.3 1.10 = - 0x 1__0 _1 .e1 0.0.0.0/0 ::1 "1" 'y'
"""
FILES: list[list[str]] = [
    ["a: {b: 2}", "a: {b: 3, d: {e: z}}"],
    ["a: null", "a: {x: 1}"],
    ["a: {d: null}", "a: {d: {g: 1}}"],
    ["a: {d: {e: 1}}", "a: null"],
    ["a: 1", "a: {x: 1}"],
    ["s: {x: 1}", "s: back"],
    ["new: {x: null, w: 1}"],
    ["l: [1]", "l: []"],
    ["", "# nothing"],
    ["a: &shared {b: 7, d: &inner {e: z}}\nnew: *shared\nmore: [*inner, *inner]"],
    ["base: &base {x: 1, w: {z: 2}}\nnew: {<<: *base, w: 5}\nmore: {<<: [{x: 1}, {x: 2, w: 3}]}"],
    ["new: {w: 5, <<: {w: 6, v: 1}}"],
    ["s: 2026-01-02\nt: 2026-01-02T03:04:05Z"],
    ["\ufeffs: bom"],
    ["s: windows\r\na:\r\n  b: 2\r\n"],
    ['{"s": "json", "a": {"b": 1e3, "d": null}}'],
    ["a:\n\tb: 1"],
    ["a: {b: *nothing}"],
    ["".join(f"k{number}: {word}\n" for number, word in enumerate(WORDS.split()))],
]


def by_helm(chart: Chart, folder: Path, files: list[str], flags: Flags) -> Any:
    """What Helm has for ``.Values``, or None if it refuses."""
    (folder / "mini" / "templates").mkdir(parents=True)
    (folder / "mini" / "Chart.yaml").write_text("apiVersion: v2\nname: mini\nversion: 1.0.0\n")
    (folder / "mini" / "values.yaml").write_text(BASE)
    (folder / "mini" / "templates" / "shown.yaml").write_text(SHOWS)
    arguments = [word for name in files for word in ("--values", name)]
    arguments += [word for option, text in flags for word in (f"--{option}", text)]
    done = chart.run("helm", "template", "x", "mini", *arguments, folder=folder)
    return None if done.returncode else json.loads(done.stdout.partition("shown.yaml\n")[2] or "{}")


def by_us(folder: Path, files: list[str], flags: Flags) -> Any:
    """What our commands have, or None if they refuse."""
    plain = tuple(text for option, text in flags if option == "set")
    typed = tuple(flag for flag in flags if flag[0] != "set")
    values = tuple(folder / name for name in files)
    try:
        return merged(Files(values, plain, folder / "mini" / "values.yaml", typed=typed).read())[0].value
    except ConfigError as error:
        assert str(error)
        return None


def both(chart: Chart, folder: Path, texts: list[str], flags: Flags) -> tuple[Any, Any]:
    (folder / "text.txt").write_text("one\ntwo, three")
    names = [f"{number}.yaml" for number in range(len(texts))]
    for name, text in zip(names, texts, strict=True):
        (folder / name).write_text(text, newline="")
    return by_helm(chart, folder, names, flags), by_us(folder, names, flags)


@pytest.mark.parametrize("text", SET)
def test_a_flag_is_read_as_helm_reads_it(text: str, chart: Chart, tmp_path: Path) -> None:
    helm, ours = both(chart, tmp_path, [], [("set", text)])
    assert ours == helm


@pytest.mark.parametrize("flags", OTHERS, ids=str)
def test_typed_flags_are_read_as_helm_reads_them(
    flags: Flags, chart: Chart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    helm, ours = both(chart, tmp_path, [], flags)
    assert ours == helm


@pytest.mark.parametrize("texts", FILES, ids=str)
def test_files_are_merged_as_helm_merges_them(texts: list[str], chart: Chart, tmp_path: Path) -> None:
    helm, ours = both(chart, tmp_path, texts, [])
    assert ours == helm


@pytest.mark.parametrize("text", ["=1", "a.b=2,=1", "l[0=1", "a."])
def test_what_helm_drops_without_a_word_is_refused(text: str, chart: Chart, tmp_path: Path) -> None:
    helm, ours = both(chart, tmp_path, [], [("set", text)])
    assert helm is not None
    assert ours is None


def test_a_key_that_is_there_twice_is_refused(chart: Chart, tmp_path: Path) -> None:
    helm, ours = both(chart, tmp_path, ["s: one\ns: two"], [])
    assert (helm["s"], ours) == ("two", None)
