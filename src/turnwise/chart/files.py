"""A picture as a file: SVG, PNG, PDF, text, or a page of HTML with its tables."""

import io
import os
import re
import tempfile
from html import escape
from pathlib import Path
from xml.sax.saxutils import escape as escape_xml

from turnwise.chart.drawing import draw, style
from turnwise.names import printable
from turnwise.picture.made import Gap, Picture, ShownRun
from turnwise.picture.text import alternative, clock, duration, span, summary

SUFFIXES = (".svg", ".png", ".pdf", ".html", ".txt")

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 64em; padding: 0 1em; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2em .8em .2em 0; border-bottom: 1px solid #ddd; }
td { overflow-wrap: anywhere; }
"""


def save(picture: Picture, path: Path) -> None:
    """Write the picture in the format that the path's suffix names.

    Whole or not at all: it is written beside its place first. The same picture gives the same
    bytes.

    Raises:
        ValueError: the suffix is none of ``SUFFIXES``.
        OSError: the file cannot be written.
    """
    content = rendered(picture, path.suffix.lower())
    # Not after the file's own name, which may be as long as a name may be.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".chart.", delete=False) as file:
        try:
            file.write(content)
            file.close()
            mask = os.umask(0)  # a temporary file is its owner's alone; a chart is as any file
            os.umask(mask)
            Path(file.name).chmod(0o666 & ~mask)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def rendered(picture: Picture, suffix: str) -> bytes:
    """The bytes of a file with this suffix.

    Raises:
        ValueError: the suffix is none of ``SUFFIXES``.
    """
    if suffix == ".svg":
        return _svg(picture).encode()
    if suffix == ".png":
        return _drawn(picture, "png", {"Title": _title(picture), "Description": _words(picture)})
    if suffix == ".pdf":
        about = {"Title": _title(picture), "Subject": _words(picture), "CreationDate": None}
        return _drawn(picture, "pdf", about)
    if suffix == ".html":
        return _page(picture).encode()
    if suffix == ".txt":
        return (alternative(picture) + "\n").encode()
    raise ValueError(f"suffix must be one of {', '.join(SUFFIXES)}, got {suffix!r}")


def _drawn(picture: Picture, kind: str, metadata: dict[str, str | None]) -> bytes:
    file = io.BytesIO()
    with style():
        draw(picture).savefig(file, format=kind, metadata=metadata, dpi=110)
    return file.getvalue()


def _title(picture: Picture) -> str:
    return _NOT_IN_XML.sub("?", picture.title)


def _words(picture: Picture) -> str:
    return _NOT_IN_XML.sub("?", alternative(picture))


def _svg(picture: Picture) -> str:
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    drawn = _drawn(picture, "svg", nothing).decode()
    # matplotlib has no place for them: a title, and a description of all that is in it.
    words = (
        f"<title>{escape_xml(_title(picture))}</title>\n<desc>{escape_xml(_words(picture))}</desc>"
    )
    return re.sub(
        r"<svg [^>]*>", lambda tag: f'{tag[0][:-1]} role="img">\n {words}', drawn, count=1
    )


def _page(picture: Picture) -> str:
    svg = _svg(picture)
    title = escape(_title(picture))
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width">',
            f"<title>{title}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{title}</h1>",
            f"<p>{escape(span(picture))}: {escape(summary(picture))}.</p>",
            svg[svg.index("<svg ") :],
            "<h2>Executions</h2>",
            _table(
                ("start", "late", "took", "token", "runner", "status", "reason", ""),
                [_row(picture, run) for run in _in_order(picture)],
            ),
            "<h2>Times without a start</h2>",
            _table(("from", "to", "for"), [_of_gap(picture, gap) for gap in picture.gaps]),
            "</body></html>\n",
        )
    )


def _of_gap(picture: Picture, gap: Gap) -> tuple[str, str, str]:
    return clock(gap.start, picture), clock(gap.end, picture), duration(gap.end - gap.start)


def _in_order(picture: Picture) -> list[ShownRun]:
    return sorted((*picture.runs, *picture.attempts), key=lambda run: (run.start, run.runner_id))


def _row(picture: Picture, run: ShownRun) -> tuple[str, ...]:
    admitted = run.token is not None
    took = duration(run.end - run.start) if run.end and admitted else ""
    how = "triggered" if run.triggered else "standby" if run.as_standby else ""
    return (
        clock(run.start, picture),
        "" if run.triggered or not admitted else duration(run.late),
        took,
        str(run.token or ""),
        printable(run.runner_id),
        str(run.status),
        printable(run.reason),
        how,
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return "<p>None.</p>"
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(_NOT_IN_XML.sub('?', cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table>"
