"""The report in a real browser without a window: where Chromium, Node and axe-core are installed."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

import ppl_models as ppl

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
AXE = os.environ.get("PPL_AXE", "")
"""The path of axe.min.js, of `npm install axe-core puppeteer-core`, beside which puppeteer-core is."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and AXE and shutil.which("node")), reason="takes Chromium, Node and PPL_AXE"
    ),
]

LOOK = """
const [file, chromium, axe] = process.argv.slice(2), fs = require('fs');
const puppeteer = require(require.resolve('puppeteer-core', {paths: [axe]}));
(async () => {
  const browser = await puppeteer.launch({executablePath: chromium, args: ['--no-sandbox'], headless: true});
  const found = [];
  for (const [width, scheme] of [[360, 'light'], [800, 'light'], [1280, 'light'], [1280, 'dark']]) {
    const page = await browser.newPage(), requests = [], said = [];
    page.on('request', r => { if (!/^(data:|file:)/.test(r.url())) requests.push(r.url()); });
    page.on('console', m => { if (m.type() !== 'log') said.push(m.text()); });
    page.on('pageerror', e => said.push(String(e)));
    await page.setViewport({width, height: 900});
    await page.emulateMediaFeatures([{name: 'prefers-color-scheme', value: scheme}]);
    await page.goto('file://' + file, {waitUntil: 'load'});
    const over = await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    await page.evaluate(fs.readFileSync(axe, 'utf8'));
    const wrong = await page.evaluate(async () => (await axe.run(document)).violations
      .map(v => [v.impact, v.id]));
    const reached = [];
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press('Tab');
      reached.push(await page.evaluate(() => document.activeElement.tagName));
    }
    found.push({width, scheme, requests, said, over, wrong, reached});
  }
  console.log(JSON.stringify(found));
  await browser.close();
})();
"""


def test_it_asks_for_nothing_says_nothing_and_can_be_used_by_all(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 2)) + 3 * (np.arange(90) // 15 % 2)[:, None]
    ppl.fit(ppl.HMM(states=2), x, restarts=2).to_html(tmp_path / "page.html")
    (tmp_path / "look.js").write_text(LOOK)
    command = ["node", str(tmp_path / "look.js"), str(tmp_path / "page.html"), str(CHROMIUM), AXE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    for view in json.loads(done.stdout):
        assert not view["requests"], view
        assert not view["said"], view
        assert view["over"] <= 0, view
        assert not [w for w in view["wrong"] if w[0] in ("serious", "critical")], view
        assert "A" in view["reached"]
        assert "DIV" in view["reached"]
