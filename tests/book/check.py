"""Checks a built book: check.py BOOK [PICTURES]. All links and images exist, and in Chromium no page is wider than its window."""

import html.parser
import http.server
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from urllib.parse import unquote

WIDTHS = (400, 1280)
HEIGHT = 900
# A browser takes two seconds to start, and as long for all pages.
DEADLINE = 120

# Shows one page after the other in a frame of each width, and reports what is wrong with it.
LOOK = """<!doctype html><meta charset="utf-8"><body><script>
const pages = %s, widths = %s, height = %d;
async function look(page, width) {
  const frame = document.createElement('iframe');
  frame.style = `border: 0; width: ${width}px; height: ${height}px`;
  frame.src = page;
  const loaded = new Promise(done => frame.onload = done);
  document.body.append(frame);
  await loaded;
  const shown = frame.contentDocument, root = shown.documentElement, faults = [];
  if (!shown.querySelector('main h1')) faults.push('has no heading');
  if (root.clientWidth !== width) faults.push(`is shown ${root.clientWidth} px wide`);
  // The book cuts off what is too wide, so the width of the page says nothing; code and tables may scroll on their own.
  const main = shown.querySelector('main');
  if (main.scrollWidth > main.clientWidth) {
    const wide = [...main.querySelectorAll('*')].find(it => it.clientWidth && it.scrollWidth > main.clientWidth);
    faults.push(`is too narrow for ${(wide ?? main).outerHTML.slice(0, 200)}`);
  }
  const images = [...shown.images];
  for (const image of images)
    if (!image.complete || !image.naturalWidth) faults.push(`an image is missing: ${image.alt}`);
  frame.remove();
  return {page, width, faults, images: images.length};
}
(async () => {
  const seen = [];
  for (const page of pages) for (const width of widths) seen.push(await look(page, width));
  await fetch('/seen', {method: 'POST', body: JSON.stringify(seen)});
})().catch(error => fetch('/seen', {method: 'POST', body: JSON.stringify(String(error))}));
</script>"""


class Page(html.parser.HTMLParser):
    """The anchors of a page, and what it refers to."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.targets = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.ids.add(value)
            if name in ("href", "src") and value is not None:
                self.targets.append(value)


def dead_links(book, pages):
    """Gives every reference within the book that leads nowhere, and how many were followed."""
    dead, followed = [], 0
    for name, page in pages.items():
        for target in page.targets:
            if target.startswith(("http://", "https://", "data:", "mailto:")):
                continue
            followed += 1
            path, _, anchor = unquote(target).partition("#")
            found = (book / path).is_file() if path else True
            of = pages.get(path or name)
            if not found or (anchor and (of is None or anchor not in of.ids)):
                dead.append(f"{name}: {target}")
    return dead, followed


class Server(http.server.ThreadingHTTPServer):
    """Serves the book and the page that looks at it, and takes what that reports."""

    def __init__(self, book, look):
        self.reports = queue.Queue()
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=book)

            def do_GET(self):
                if self.path != "/look":
                    return super().do_GET()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(look.encode())

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204)
                self.end_headers()
                outer.reports.put(json.loads(body))

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()


def chromium(home, *args):
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    flags += ["--disable-background-networking", "--hide-scrollbars", f"--user-data-dir={home}/profile"]
    env = {**os.environ, "HOME": home}
    return subprocess.Popen(
        ["chromium", *flags, *args], env=env, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )


def end(browser):
    """Ends a browser with all its processes."""
    try:
        os.killpg(browser.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    browser.wait()


def seen_in_chromium(book, names):
    look = LOOK % (json.dumps(names), json.dumps(WIDTHS), HEIGHT)
    server = Server(book, look)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = chromium(home, f"--window-size={max(WIDTHS) + 100},{HEIGHT + 100}", server.address + "/look")
        try:
            return server.reports.get(timeout=DEADLINE)
        except queue.Empty:
            raise SystemExit(f"Chromium has not looked at all pages within {DEADLINE} s")
        finally:
            end(browser)
            server.shutdown()


def keep_pictures(book, names, folder):
    """Makes a picture of each page at each width, for people."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        for width in WIDTHS:
            picture = folder / f"{Path(name).stem}-{width}.png"
            # A window of Chromium is at least 500 px wide, so a narrow page is shown in a frame.
            frame = f'<style>*{{margin:0;border:0}}</style><iframe src="{name}" style="width:{width}px;height:2000px"></iframe>'
            server = Server(book, frame)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
                size = f"--window-size={max(width, 500)},2000"
                browser = chromium(home, f"--screenshot={picture}", size, server.address + "/look")
                try:
                    browser.wait(timeout=DEADLINE)
                finally:
                    end(browser)
                    server.shutdown()


def main():
    book = Path(sys.argv[1])
    # The first is for addresses that do not exist, and has no place of its own to link from.
    pages = {it.name: Page(it.read_text()) for it in sorted(book.glob("*.html")) if it.name != "404.html"}
    # The table of contents for browsers without scripts is part of the others.
    names = [name for name in pages if name != "toc.html"]
    dead, followed = dead_links(book, pages)
    faults = [f"a dead link: {it}" for it in dead]
    seen = seen_in_chromium(book, names)
    if isinstance(seen, str):
        raise SystemExit(f"the pages cannot be looked at: {seen}")
    faults += [f"{it['page']} at {it['width']} px {fault}" for it in seen for fault in it["faults"]]
    images = sum(it["images"] for it in seen) // len(WIDTHS)
    # So that a book without pages, links or images is no success.
    if len(names) < 30 or followed < 300 or images < 6 or len(seen) != len(names) * len(WIDTHS):
        faults.append(f"too little was seen: {len(names)} pages, {followed} links, {images} images")
    if sys.argv[2:]:
        keep_pictures(book, names, Path(sys.argv[2]))
    if faults:
        raise SystemExit("\n".join(faults))
    print(f"book: {len(names)} pages, {followed} links, {images} images: all passed")


if __name__ == "__main__":
    main()
