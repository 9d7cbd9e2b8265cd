"""Takes pictures of pages for the documentation, with chromium.

    python docs/images/render.py .paritygate/churn/report.html docs/images/report-passed.png [--dark] [--size 1200x1500]

The picture shows the top of the page. `pngquant`, where installed, makes it smaller.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LARGEST = 300_000
"""Bytes: pictures are part of every clone."""
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def main() -> int:
    """Renders one page; exit status 1 when there is no browser, it fails, or the picture is too large."""
    parser = argparse.ArgumentParser(description="Take a picture of a page.")
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", default="1200x1500", help="width x height in pixels")
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        return _failed("no chromium on the PATH; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            *QUIET,
            f"--user-data-dir={profile}",
            f"--window-size={options.size.replace('x', ',')}",
            f"--blink-settings=preferredColorScheme={0 if options.dark else 1}",
            f"--screenshot={options.picture.resolve()}",
            options.page.resolve().as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - our own
    if done.returncode or not options.picture.exists():
        return _failed(f"chromium ended with status {done.returncode}: {done.stderr[-500:]}")
    if quantizer := shutil.which("pngquant"):
        subprocess.run([quantizer, "--force", "--ext", ".png", "64", str(options.picture)], check=True)  # noqa: S603
    size = options.picture.stat().st_size
    if size > LARGEST:
        return _failed(f"{options.picture} has {size:,} bytes; at most {LARGEST:,}. Choose a smaller --size.")
    return 0


def _failed(message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
