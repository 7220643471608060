"""How the HTML report looks, by day and by night and on paper."""

STYLE = """
:root{--ink:#1d2329;--soft:#5b6670;--paper:#f6f7f9;--card:#fff;--line:#dfe3e8;
--fail:#b3261e;--unknown:#8a5a00;--waived:#6b3fa0;--pass:#1e6e34;--not_applicable:#5b6670}
@media(prefers-color-scheme:dark){:root{--ink:#e7eaee;--soft:#a3adb8;--paper:#14181c;--card:#1d2329;--line:#343c45;
--fail:#ff8a80;--unknown:#ffc45e;--waived:#c9a6ff;--pass:#7bd491;--not_applicable:#a3adb8}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:60rem;margin:0 auto;padding:1.5rem 1rem 4rem}
header,section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1.2rem 1.4rem;
margin-bottom:1.2rem}
header{border-top:.5rem solid var(--soft)}
header.isolated{border-top-color:var(--pass)}header.degraded{border-top-color:var(--unknown)}
header.unproven{border-top-color:var(--unknown)}header.not_isolated{border-top-color:var(--fail)}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:0 0 .6rem}
h3{font-size:1rem;margin:1.2rem 0 .4rem}h3 small{color:var(--soft);font-weight:400}
h4{font-size:.9rem;margin:.8rem 0 .3rem}
.what{margin:0;color:var(--soft)}.verdict{font-size:1.15rem;font-weight:600;margin:.6rem 0}
.score{margin:.2rem 0}.score b{font-size:1.5rem}
.note{color:var(--soft);font-size:.88rem;margin:.4rem 0}
.bar{display:block;position:relative;height:.7rem;border-radius:.35rem;background:var(--line);overflow:hidden;
min-width:8rem}
.bar i{position:absolute;inset:0 auto 0 0}.bar .may{background:var(--unknown);opacity:.35}
.bar .is{background:var(--pass)}
.counts{list-style:none;display:flex;flex-wrap:wrap;gap:.4rem 1.2rem;padding:0;margin:.8rem 0 0}
.counts .fail b{color:var(--fail)}.counts .unknown b{color:var(--unknown)}.counts .waived b{color:var(--waived)}
.counts .pass b{color:var(--pass)}
table{border-collapse:collapse;width:100%;font-size:.92rem}
th{text-align:left;font-weight:600;vertical-align:top}
th,td{padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line)}
tr:last-child>*{border-bottom:0}.layers td:nth-child(2){width:30%}.number{white-space:nowrap}
code,pre{font:.85rem/1.45 ui-monospace,monospace;overflow-wrap:anywhere}
pre{background:var(--paper);border:1px solid var(--line);border-radius:.3rem;padding:.5rem .7rem;margin:.3rem 0;
white-space:pre-wrap}
.finding{border:1px solid var(--line);border-left:.3rem solid var(--soft);border-radius:.4rem;margin:.4rem 0;
padding:.5rem .8rem}
.finding.fail{border-left-color:var(--fail)}.finding.unknown{border-left-color:var(--unknown)}
.finding.waived{border-left-color:var(--waived)}.finding.pass{border-left-color:var(--pass)}
.finding.fail .chip{color:var(--fail)}.finding.unknown .chip{color:var(--unknown)}
.finding.waived .chip{color:var(--waived)}.finding.pass .chip{color:var(--pass)}
.finding.not_applicable .chip{color:var(--not_applicable)}
summary{cursor:pointer}summary:focus-visible{outline:2px solid currentColor;outline-offset:2px}
.chip{font-weight:600;margin-right:.6rem}
.severity{font-size:.8rem;border:1px solid var(--line);border-radius:.8rem;padding:0 .55rem;margin-right:.6rem}
.severity.critical,.severity.high{border-color:currentColor}
.reason{display:block;color:var(--soft);font-size:.92rem;margin:.15rem 0 0 1.1rem;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:.7rem 0}
dt{color:var(--soft)}dd{margin:0}
.evidence{border-top:1px solid var(--line);padding-top:.4rem}.evidence p{margin:.2rem 0}
@media(max-width:40rem){dl{grid-template-columns:1fr}}
@media print{body{background:#fff}section,header{border:0;padding:0}details{break-inside:avoid}}
""".replace("\n", "")
