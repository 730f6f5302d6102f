"""How the page looks: as in print by day, dark by night, on a phone and on paper.

Colours of methods are those of Okabe and Ito (2008), which colour-blind readers tell apart, darker
on white and lighter on black. Every method has a shape besides.
"""

from __future__ import annotations

__all__ = ["COLORS", "STYLE"]

COLORS = 8

STYLE = """
:root { color-scheme: light dark; --bg: #fdfdfb; --panel: #ffffff; --ink: #16191d;
  --soft: #565e69; --line: #dcded9; --rule: #16191d; --accent: #00607f; --bad: #a32d22;
  --good: #1f6b43; --mark: #fbefed; --fold: #f4f5f1; --heat: #0f7f8f; --idle: #8a929c;
  --s0: #005f94; --s1: #b64a00; --s2: #00785a; --s3: #a3427f; --s4: #8a6400; --s5: #2f7fb5;
  --s6: #5b4a9c; --s7: #5c5c5c; }
@media (prefers-color-scheme: dark) { :root { --bg: #121417; --panel: #181b1f; --ink: #e9ebed;
  --soft: #a4acb6; --line: #2f353c; --rule: #b9c0c8; --accent: #6cc3e0; --bad: #f2978c;
  --good: #86d3a5; --mark: #3a2422; --fold: #1d2126; --heat: #2aa7b8; --idle: #78818c;
  --s0: #62b5ea; --s1: #f39a58; --s2: #4fcfa6; --s3: #e59bc8; --s4: #e3c04a; --s5: #9cd3f5;
  --s6: #b5a7ee; --s7: #b5bac0; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--bg); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1, h2, h3, h4 { font-family: Charter, "Bitstream Charter", "Iowan Old Style", "Palatino Linotype",
  Georgia, "DejaVu Serif", serif; font-weight: 600; letter-spacing: -.005em; text-wrap: balance; }
h1 { font-size: clamp(1.6rem, 4.5vw, 2.25rem); line-height: 1.15; margin: 0 0 .5rem; }
h2 { font-size: 1.4rem; line-height: 1.25; margin: 3.5rem 0 .8rem; padding-top: .9rem;
  border-top: 2px solid var(--rule); }
h3 { font-size: 1.08rem; line-height: 1.3; margin: 1.8rem 0 .5rem; }
h4 { font-size: .98rem; line-height: 1.3; margin: 0 0 .35rem; }
p { margin: .5rem 0; max-width: 46rem; } header p { max-width: none; } .soft { color: var(--soft); }
a { color: var(--accent); text-underline-offset: .15em; }
a:focus-visible, summary:focus-visible, .scroll:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px; }
nav ol { margin: .4rem 0 0; padding-left: 1.3rem; } nav li { margin: .15rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  gap: 1rem 1.5rem; margin: 1.6rem 0 1rem; }
.tile { border-top: 2px solid var(--rule); padding-top: .5rem; }
.tile b { display: block; font-size: 2rem; line-height: 1.15; font-weight: 600;
  font-variant-numeric: tabular-nums lining-nums; }
.tile span { color: var(--soft); font-size: .85rem; line-height: 1.4; display: block; }
.scroll { overflow-x: auto; margin: 1rem 0 1.4rem; }
table { border-collapse: separate; border-spacing: 0; font-size: .92rem; line-height: 1.4;
  min-width: 100%; border-bottom: 1.5px solid var(--rule); }
caption { text-align: left; color: var(--soft); font-size: .88rem; padding: 0 0 .5rem;
  caption-side: top; }
caption b { color: var(--ink); }
caption > span { display: block; position: sticky; left: 0; width: min(46rem, 100vw - 3rem); }
th, td { text-align: left; padding: .4rem .75rem; vertical-align: top; }
tbody th { font-weight: 500; }
thead th { font-weight: 600; border-top: 1.5px solid var(--rule);
  border-bottom: 1px solid var(--rule); vertical-align: bottom; line-height: 1.25; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
th:first-child, td:first-child { padding-left: .25rem; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums lining-nums; }
table:not(.worst) td { white-space: nowrap; }
td small { display: block; color: var(--soft); font-size: .8rem; }
table.board th[scope=row], table.heat th[scope=row] { position: sticky; left: 0;
  background: var(--bg); white-space: nowrap; z-index: 1; }
table.board tr.unedited > * { color: var(--soft); font-style: italic; }
table.heat td[style] { background: color-mix(in srgb, var(--heat) calc(var(--v) * 42%),
  transparent); border-left: 2px solid var(--bg); }
table.worst { min-width: 42rem; } table.worst td { overflow-wrap: break-word; min-width: 6rem; }
table.worst td:nth-child(2) { min-width: 14rem; } table.worst th { white-space: nowrap; }
b.best { font-weight: 700; } .up { color: var(--good); } .down { color: var(--bad); }
td .up, td .down { display: inline-block; width: 1rem; margin-right: -1rem; text-align: center;
  font-size: .72em; vertical-align: .1em; }
.key { display: inline-block; width: .85em; height: .85em; margin-right: .45em;
  vertical-align: -.08em; fill: currentColor; stroke: currentColor; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr));
  gap: 1.4rem 2rem; margin: 1rem 0; align-items: start; }
figure { margin: 0; min-width: 0; } figure.wide { max-width: 44rem; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .3rem; }
svg.plot { display: block; width: 100%; height: auto; max-width: 30rem; overflow: visible; }
figure.wide svg.plot { max-width: 44rem; }
svg text { fill: var(--ink); font-size: 12px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
svg .dim { fill: var(--soft); font-size: 11px; } svg .name { font-size: 12px; }
svg .grid { stroke: var(--line); stroke-width: 1; } svg .axis { stroke: var(--soft); }
svg .limit { stroke: var(--bad); stroke-dasharray: 4 4; opacity: .7; }
svg .mark { fill: currentColor; stroke: var(--bg); stroke-width: 1; }
svg .bar { stroke: currentColor; stroke-width: 1.5; fill: none; opacity: .4; }
svg .curve { stroke: currentColor; stroke-width: 2; fill: none; stroke-linejoin: round; }
svg .band { fill: currentColor; opacity: .13; } svg .faint { opacity: .05; }
svg .leader { stroke: var(--soft); opacity: .6; }
svg .front { stroke: var(--soft); stroke-dasharray: 2 4; fill: none; }
.s0 { color: var(--s0); } .s1 { color: var(--s1); } .s2 { color: var(--s2); }
.s3 { color: var(--s3); } .s4 { color: var(--s4); } .s5 { color: var(--s5); }
.s6 { color: var(--s6); } .s7 { color: var(--s7); } .idle { color: var(--idle); }
details { border-bottom: 1px solid var(--line); }
details .scroll { margin-top: .3rem; }
summary { cursor: pointer; padding: .6rem 0; font-weight: 500; }
summary:hover { color: var(--accent); }
details details { border-bottom: 0; padding-left: 1.15rem; }
details details > summary { padding: .3rem 0; font-weight: 400; }
.note { border-left: 3px solid var(--bad); background: var(--mark); padding: .55rem .9rem;
  margin: 1rem 0; }
pre { overflow-x: auto; font: 13px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
  monospace; margin: .7rem 0 1rem; padding: .8rem 1rem; background: var(--fold);
  border-radius: .25rem; }
@media (max-width: 40rem) { main { padding: 1.8rem 1rem 3rem; } body { font-size: 15.5px; }
  h2 { margin-top: 2.6rem; } th, td { padding: .38rem .55rem; }
  caption > span { width: calc(100vw - 2rem); } }
@media print { :root { color-scheme: light; --bg: #fff; --panel: #fff; --ink: #000; --soft: #444;
  --line: #ccc; --rule: #000; --fold: #f6f6f6; }
  body { font-size: 9.5pt; } main { max-width: none; padding: 0; } nav { display: none; }
  .scroll { overflow: visible; } caption > span { width: auto; }
  table { font-size: 8pt; } th, td { padding: .2rem .4rem; }
  h2, h3, caption { break-after: avoid; } figure, tr { break-inside: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { list-style: none; } a { color: inherit; text-decoration: none; } }
"""
