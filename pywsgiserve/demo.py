"""A page to see the server by: pywsgiserve pywsgiserve.demo:app

It asks the server for a sign of life once a second and draws how long each answer took.
"""

from __future__ import annotations

import html
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from typing import Any

from pywsgiserve._version import __version__

STARTED = time.monotonic()
answered = 0

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>pywsgiserve is running</title>
<link rel="icon" href="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' \
viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='%232c9f6b'/></svg>">
<style>
:root { color-scheme: light dark; --ink: #16211c; --dim: #64756c; --line: #dfe7e2;
  --paper: #f6f9f7; --card: #fff; --live: #1f8f5f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8f0ec; --dim: #90a49a;
  --line: #27332d; --paper: #0f1512; --card: #161e1a; --live: #45cf93; } }
* { box-sizing: border-box; margin: 0; }
body { min-height: 100vh; display: grid; place-items: center; padding: 2rem 1rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
main { width: min(44rem, 100%); }
h1 { font-size: clamp(1.7rem, 6vw, 2.6rem); line-height: 1.15; letter-spacing: -.02em; }
h1 i { display: inline-block; width: .42em; height: .42em; margin-right: .35em;
  border-radius: 50%; background: var(--live); animation: beat 2s infinite; }
main.lost h1 i { background: #d64545; animation: none; }
@keyframes beat { 50% { opacity: .35; transform: scale(.8); } }
p { color: var(--dim); margin: .6rem 0 1.6rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 1.2rem 1.4rem; margin-bottom: 1rem; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem 2.6rem; }
.numbers b { display: block; font-size: 1.6rem; font-variant-numeric: tabular-nums; }
.numbers span, dt { color: var(--dim); font-size: .85rem; }
svg { display: block; width: 100%; height: 72px; margin-top: 1rem; }
polyline { fill: none; stroke: var(--live); stroke-width: 2;
  vector-effect: non-scaling-stroke; stroke-linejoin: round; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.4rem; }
dd { font-family: ui-monospace, monospace; font-size: .9rem; overflow-wrap: anywhere; }
code { font-family: ui-monospace, monospace; color: var(--ink); }
</style>
<main>
<h1><i></i>pywsgiserve is running</h1>
<p>This page is a WSGI app inside it. Serve yours with
<code>pywsgiserve mymodule:app</code>.</p>
<section>
<div class="numbers">
<div><b id="took">&ndash;</b><span>last answer</span></div>
<div><b id="count">@COUNT@</b><span>requests of this process</span></div>
<div><b id="uptime">@UPTIME@</b><span>up</span></div>
<div><b id="pid">@PID@</b><span>process</span></div>
</div>
<svg viewBox="0 0 59 72" preserveAspectRatio="none" role="img"
aria-label="How long the last answers took"><polyline id="curve"/></svg>
</section>
<section><dl>@FACTS@</dl></section>
</main>
<script>
const took = [], show = (id, text) => document.getElementById(id).textContent = text;
async function beat() {
  try {
    const start = performance.now();
    const answer = await fetch("@BASE@/pulse", { cache: "no-store" });
    const pulse = await answer.json();
    took.push(performance.now() - start);
    if (took.length > 60) took.shift();
    show("took", took.at(-1).toFixed(1) + " ms");
    for (const id of ["count", "uptime", "pid"]) show(id, pulse[id]);
    const top = Math.max(4, ...took);
    document.getElementById("curve").setAttribute("points",
      took.map((ms, x) => x + "," + (70 - 66 * ms / top)).join(" "));
    document.querySelector("main").className = "";
  } catch {
    show("took", "no answer");
    document.querySelector("main").className = "lost";
  }
}
beat();
setInterval(beat, 1000);
</script>
</html>
"""


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def pulse() -> dict[str, str]:
    uptime = duration(time.monotonic() - STARTED)
    return {"count": str(answered), "uptime": uptime, "pid": str(os.getpid())}


def page(environ: dict[str, Any]) -> str:
    facts = {
        "Server": f"pywsgiserve {__version__}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "Request": f"{environ['REQUEST_METHOD']} {environ['wsgi.url_scheme']}"
        f"://{environ.get('HTTP_HOST', '')}{environ.get('RAW_URI', '/')}",
        "Protocol": environ["SERVER_PROTOCOL"],
        "From": environ.get("REMOTE_ADDR") or "a Unix socket",
        "Browser": environ.get("HTTP_USER_AGENT", "unknown"),
    }
    rows = (f"<dt>{k}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items())
    text = PAGE
    for name, value in pulse().items():
        text = text.replace(f"@{name.upper()}@", value)
    text = text.replace("@FACTS@", "\n".join(rows))
    base = json.dumps(environ.get("SCRIPT_NAME", ""))[1:-1].replace("<", "\\u003c")
    return text.replace("@BASE@", base)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    global answered
    answered += 1
    status, kind = "200 OK", "text/html; charset=utf-8"
    path = environ.get("PATH_INFO", "")
    if path == "/pulse":
        kind, text = "application/json", json.dumps(pulse())
    elif path in ("", "/"):
        text = page(environ)
    else:
        status, kind, text = "404 Not Found", "text/plain", "There is only one page.\n"
    body = text.encode()
    fields = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response(status, fields)
    return [body]


application = app
