"""Writes the table of architectures into its page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEADINGS = (
    "family",
    "network",
    "input",
    "parameters",
    "exports",
    "top-1 timm",
    "top-1 fp32",
    "top-1 int8",
    "agreement fp32",
    "agreement int8",
    "int8 weights",
    "ms fp32",
    "ms int8",
    "build s",
)


def write_page(page: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Replace what is between the markers of a page by a table of ``rows``; see ``architectures.examine``.

    Raises ``ValueError`` if the page has no markers.
    """
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} does not have the markers {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{_table(rows)}\n{END}{after}", "utf-8")


def _table(rows: Sequence[dict[str, Any]]) -> str:
    exported = sum(bool(row.get("exports")) for row in rows)
    served = sum("onnx int8" in row for row in rows)
    lines = [f"{len(rows)} families: {exported} export, and {served} of those are served as int8 too.", ""]
    lines += [f"Made {machine}." for machine in sorted({_made(row) for row in rows})]
    lines += ["", f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    remarks = [f"- **{row['family']}** ({row['architecture']}): {remark}" for row in rows for remark in _remarks(row)]
    return "\n".join([*lines, *(["", *remarks] if remarks else [])])


def _made(row: dict[str, Any]) -> str:
    packages = ", ".join(f"{package} {number}" for package, number in row["versions"].items())
    return f"on {row['date']} with {packages}, on {row['machine']}"


def _cells(row: dict[str, Any]) -> list[str]:
    named = [row["family"], f"`{row['architecture']}`", f"{row['size']}" if "size" in row else ""]
    named.append(f"{row['parameters'] / 1e6:.1f} M" if "parameters" in row else "")
    if "error" in row:
        return [*named, "not built", *[""] * (len(HEADINGS) - len(named) - 1)]
    fp32, int8 = row.get("onnx fp32", row["timm fp32"]), row.get("onnx int8", {})
    return [
        *named,
        "yes" if row["exports"] else "no: `runtime: timm`",
        _share(row["timm"]),
        _share(fp32["top1"]),
        _share(int8.get("top1")),
        _share(fp32["agreement"]),
        _share(int8.get("agreement")),
        f"{row['int8_bits']} bits" if int8 else "left out",
        _time(fp32["ms"]),
        _time(int8.get("ms")),
        f"{row['seconds']:.0f}",
    ]


def _remarks(row: dict[str, Any]) -> list[str]:
    return [row["error"]] if "error" in row else row["warnings"]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _time(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
