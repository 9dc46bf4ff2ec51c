"""Check of a built site: every link and picture within it leads to a file, and every anchor to an element."""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Links, and the ids that others may link to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.links += [known[name] or "" for name in ("href", "src") if known.get(name) and tag != "link"]
        self.ids |= {known[name] or "" for name in ("id", "name") if name in known}


@cache
def read(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def broken(site: Path) -> list[str]:
    """Broken links as `page: link`; addresses elsewhere are not looked at."""
    found = []
    for page in sorted(site.rglob("*.html")):
        for link in read(page).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            file = target / "index.html" if target.is_dir() else target
            missing = not file.is_file() or site.resolve() not in file.resolve().parents
            anchor = unquote(parts.fragment)
            if missing or (anchor and file.suffix == ".html" and anchor not in read(file).ids):
                found.append(f"{page.relative_to(site)}: {link}")
    return found


if __name__ == "__main__":
    if lines := broken(Path(sys.argv[1])):
        sys.exit("\n".join(["broken links:", *lines]))
