#!/usr/bin/env python3
"""A preprocessor of mdBook for book.toml: adds the pages and files outside docs/ that the pages link to.

mdBook knows what is below docs/ and nothing else, so that a link to ../SECURITY.md would be dead. Pages at the top of the
repository become chapters, other files (examples, LICENSE) become chapters that show them, and images are put into the page.
"""

import base64
import json
import posixpath
import re
import sys
from pathlib import Path

DOCS = "docs"
FIRST = "README.md"
LINK = re.compile(r"(!?)\[((?:[^\[\]`]|`[^`]*`)*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"^```", re.MULTILINE)
LANGUAGES = {".json": "json", ".yaml": "yaml", ".service": "ini", ".socket": "ini", ".conf": "nginx"}


class Book:
    """The chapters so far, and those that their links have asked for."""

    def __init__(self, root, items):
        self.root = root
        self.added = {}
        self.paths = {}
        for chapter in chapters(items):
            self.paths[posixpath.join(DOCS, chapter["path"])] = chapter["path"]

    def page_of(self, path):
        """Gives the chapter for this file of the repository, which is made where there is none."""
        if path not in self.paths:
            # A name that does not depend on the folder: chapters lie side by side.
            name = "mcp-remote" if path == FIRST else path.removesuffix(".md").replace("/", "-").lower()
            self.paths[path] = f"{name}.md"
            # Set before its links are followed: pages may link to each other in a circle.
            self.added[path] = None
            self.added[path] = chapter(title_of(self.root, path), self.paths[path], self.text_of(path))
        return self.paths[path]

    def text_of(self, path):
        """Gives a file as Markdown. A folder is all of its files, one after the other."""
        file = self.root / path
        if path.endswith(".md"):
            return self.linked(file.read_text(), posixpath.dirname(path))
        files = sorted(file.iterdir()) if file.is_dir() else [file]
        parts = [f"# {path}"]
        for each in files:
            if file.is_dir():
                parts.append(f"## {each.name}")
            parts.append(f"```{LANGUAGES.get(each.suffix, 'text')}\n{each.read_text().rstrip()}\n```")
        return "\n\n".join(parts) + "\n"

    def linked(self, text, folder):
        """Gives the text of a page in this folder with its links as the book has them."""
        parts, inside = [], False
        for part in re.split(r"(^```.*$)", text, flags=re.MULTILINE):
            if FENCE.match(part):
                inside = not inside
            elif not inside:
                part = LINK.sub(lambda link: self.link(link, folder), part)
            parts.append(part)
        return "".join(parts)

    def link(self, link, folder):
        """Gives one link, or one image, as the book has it."""
        image, label, target = link.groups()
        if re.match(r"[a-z]+:|#", target):
            return link[0]
        target, hash_mark, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, target))
        if not (self.root / path).exists():
            raise SystemExit(f"{folder or '.'}: the link {link[0]} is dead")
        if image:
            data = base64.b64encode((self.root / path).read_bytes()).decode()
            return f'<img alt="{label}" src="data:image/svg+xml;base64,{data}">'
        return f"[{label}]({self.page_of(path)}{hash_mark}{anchor})"


def chapters(items):
    """Gives all chapters below these items, which may be separators and titles of parts, too."""
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def title_of(root, path):
    if not path.endswith(".md"):
        return path
    heading = next(line for line in (root / path).read_text().splitlines() if line.startswith("# "))
    return heading.removeprefix("# ")


def chapter(name, path, content):
    return {
        "name": name, "content": content, "number": None, "sub_items": [],
        "path": path, "source_path": None, "parent_names": [],
    }


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    context, book = json.load(sys.stdin)
    items = book["items"]
    pages = Book(Path(context["root"]), items)
    pages.page_of(FIRST)
    for each in list(chapters(items)):
        each["content"] = pages.linked(each["content"], posixpath.join(DOCS, posixpath.dirname(each["path"])))
    first = pages.added.pop(FIRST)
    code = [it for path, it in pages.added.items() if path.endswith(".md")]
    files = [it for path, it in sorted(pages.added.items()) if not path.endswith(".md")]
    items.insert(0, {"Chapter": first})
    items.extend({"Chapter": it} for it in code)
    items.append({"PartTitle": "Files"})
    items.extend({"Chapter": it} for it in files)
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    main()
