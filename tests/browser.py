"""A page in a real browser: what it complains of, whom it asks, what it has drawn."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian package chromium)")

SOFTWARE = "GPU stall due to ReadPixels"
"""What the console says where there is no GPU."""

DRAWN = """() => [...document.querySelectorAll('.chart')].map(chart => {
  const lines = chart.querySelectorAll('canvas.gl-canvas-context');
  if (!lines.length) return chart.querySelectorAll('.trace path').length;
  const copy = new OffscreenCanvas(lines[0].width, lines[0].height).getContext('2d');
  copy.drawImage(lines[0], 0, 0);
  return copy.getImageData(0, 0, lines[0].width, lines[0].height).data.filter(value => value).length;
})"""
"""Of each chart how many marks it has drawn; of one that WebGL draws, how much is not empty."""

PLAYED = """async () => {
  const found = [];
  for (const video of document.querySelectorAll('video')) {
    await video.play();
    while (video.currentTime < 0.3) await new Promise(resolve => setTimeout(resolve, 50));
    found.push(video.getVideoPlaybackQuality().totalVideoFrames);
  }
  return found;
}"""
"""Of each video how many pictures were shown when 0.3 s of it had been played."""


@dataclass
class Opened:
    """A page, what its console said, and what it asked for besides itself."""

    page: Page
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def drawn(self) -> list[int]:
        """See ``DRAWN``; when all have drawn something, or after 20 s."""
        with contextlib.suppress(PlaywrightTimeout):
            self.page.wait_for_function(f"({DRAWN})().every(count => count > 0)", timeout=20_000)
        return self.page.evaluate(DRAWN)


@contextlib.contextmanager
def opened(file: Path, width: int) -> Iterator[Opened]:
    """The file in a window of that width [px]; it can ask nobody."""
    flags = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": width, "height": 900})
        found = Opened(page)
        page.on("console", lambda message: found.said.append(message.text))
        page.on("pageerror", lambda error: found.said.append(str(error)))
        page.route("**/*", lambda route: (found.asked.append(route.request.url), route.abort()))
        page.route(file.as_uri(), lambda route: route.continue_())
        page.goto(file.as_uri())
        yield found
        browser.close()
