// How the page of results looks: one sheet, for light and dark, desk and phone and paper.
//
// Colours k1 to k6 are after Okabe and Ito (Color Universal Design, 2008), which people with any
// common colour blindness tell apart, made darker on white and lighter on black until each has a
// contrast of 3:1 at least (WCAG 2.1, 1.4.11).
#pragma once

#include <string_view>

namespace burin::tools::bench {

inline constexpr std::string_view page_style = R"css(
:root{color-scheme:light dark;--paper:#fff;--card:#f6f7f9;--ink:#1a1e23;--soft:#59636e;--line:#dde2e8;
--k0:#7b858f;--k1:#0072b2;--k2:#c65000;--k3:#00835c;--k4:#b0568d;--k5:#8f6a00;--k6:#2f86b8;--alarm:#b42318}
@media(prefers-color-scheme:dark){:root{--paper:#14171b;--card:#1d2126;--ink:#e9ecef;--soft:#9aa5b1;--line:#343b43;
--k0:#8d98a4;--k1:#4aa8e8;--k2:#ff8f4d;--k3:#2cc295;--k4:#e394c4;--k5:#e6b422;--k6:#9bd4f5;--alarm:#ff8a80}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
font-variant-numeric:tabular-nums lining-nums;overflow-wrap:anywhere}
main{max-width:66rem;margin:0 auto;padding:2.5rem 1.5rem 4rem}
h1{font-size:1.9rem;line-height:1.2;margin:0;letter-spacing:-.015em}
h2{font-size:1.25rem;margin:0;letter-spacing:-.01em}
h3{font-size:.9rem;font-weight:600;margin:1.1rem 0 .1rem}
p{margin:.2rem 0 0;max-width:46rem}
.soft,small,.unit,figcaption p{color:var(--soft)}
.lead{font-size:1.05rem;margin-top:.5rem}
.alarm{border-left:4px solid var(--alarm);padding:.4rem .9rem;margin-top:1rem;background:var(--card)}
figure,section{margin:2.75rem 0 0;padding-top:1.25rem;border-top:1px solid var(--line)}
figcaption p,section>p{font-size:.9rem}
.k0{--k:var(--k0)}.k1{--k:var(--k1)}.k2{--k:var(--k2)}.k3{--k:var(--k3)}.k4{--k:var(--k4)}.k5{--k:var(--k5)}.k6{--k:var(--k6)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,21rem),1fr));gap:1rem;margin-top:1.75rem}
.card{background:var(--card);border-radius:.15rem .15rem .6rem .6rem;border-top:4px solid var(--k);padding:1rem 1.2rem 1.1rem;max-width:34rem}
.card h2{font-size:1.05rem;margin-bottom:.4rem}
.card dl{display:grid;grid-template-columns:1fr auto minmax(3.4rem,auto);gap:.25rem .8rem;margin:0;font-size:.9rem;align-items:baseline}
.card dt{color:var(--soft);overflow-wrap:normal}
.card dd{margin:0;text-align:right;white-space:nowrap}
.card dd b{font-size:1.05rem}
.who{border-left:4px solid var(--k);padding-left:.5rem;font-size:.9rem;line-height:1.25;align-self:center;margin:.15rem 0}
.bars{margin-top:.4rem}
.bar{display:grid;grid-template-columns:minmax(6rem,11rem) 1fr 9.5rem;column-gap:.9rem;align-items:stretch}
.track{width:100%;height:38px;display:block;overflow:visible}
.grid{stroke:var(--line);stroke-width:1;vector-effect:non-scaling-stroke}
.fill{fill:var(--k)}.second{fill-opacity:.55}
.whisker line{stroke:var(--ink);stroke-width:1.5}.halo line{stroke:var(--paper);stroke-width:4;stroke-linecap:square}
.value{align-self:center;line-height:1.2;white-space:nowrap}
.value small{display:block;font-size:.75rem;white-space:normal}
.unit{font-size:.8rem}
.axis{font-size:.78rem;color:var(--soft)}
.axis div{position:relative;height:1.3rem}.axis div span{position:absolute;transform:translateX(-50%);white-space:nowrap}
.axis div span:first-child{transform:none}.axis div span:last-child{transform:translateX(-100%)}
.panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1rem 2.5rem}
.plot{position:relative;height:300px;margin:.8rem 7.5rem 2.4rem 4rem;font-size:.78rem}
.plot svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible}
.plot .line{fill:none;stroke:var(--k);stroke-width:2.5;stroke-linejoin:round;stroke-linecap:round;vector-effect:non-scaling-stroke}
.plot .reference .line{stroke-dasharray:6 5}
.plot .leader{stroke:var(--k);stroke-width:1;stroke-dasharray:1 4;vector-effect:non-scaling-stroke}
.plot .band{fill:var(--k);fill-opacity:.14}
.plot .dot{position:absolute;width:9px;height:9px;margin:-4.5px 0 0 -4.5px;border-radius:50%;background:var(--k);border:1.5px solid var(--paper)}
.plot .y{position:absolute;right:100%;transform:translateY(-50%);padding-right:.5rem;white-space:nowrap;color:var(--soft)}
.plot .x{position:absolute;top:100%;transform:translateX(-50%);padding-top:.4rem;white-space:nowrap;color:var(--soft)}
.plot .end{position:absolute;left:100%;width:7.4rem;padding-left:.6rem;line-height:20px;font-weight:600;color:var(--k);
white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.scroll{overflow-x:auto;margin-top:1rem}
table{border-collapse:collapse;font-size:.88rem;min-width:100%}
th,td{padding:.32rem .8rem;text-align:right;border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:normal}
th:first-child{text-align:left;padding-left:0;font-weight:400;min-width:9rem;position:sticky;left:0;background:var(--paper)}
thead th{font-weight:600;vertical-align:bottom;border-bottom:2px solid var(--ink);min-width:5.2rem;max-width:14rem;overflow-wrap:break-word}
thead th.ratio{font-weight:400;color:var(--soft)}
tr.group th{font-weight:600;padding-top:1.1rem;border-bottom-color:var(--soft)}
td .who,th .who{display:block;min-width:8rem;overflow-wrap:anywhere}
td small{display:block;white-space:nowrap}td.ratio{color:var(--soft)}
.facts{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.2rem;margin:.8rem 0 0;font-size:.9rem}
.facts dt{color:var(--soft)}.facts dd{margin:0}
@media(max-width:40rem){main{padding:1.5rem 1rem 3rem}h1{font-size:1.5rem}
.bar{grid-template-columns:1fr auto;row-gap:.15rem;margin-top:.5rem}.bar .track,.bar.axis div{grid-column:1/-1;grid-row:2}
.bar.axis{margin-top:0}.bar.axis>span:first-child{display:none}.bar.axis div{grid-row:1}
.bar .value{text-align:right}
.plot{margin:.8rem 6.4rem 2.4rem 3.6rem}.plot .end{width:6.4rem}
.facts{grid-template-columns:1fr}.facts dd{margin-bottom:.4rem}th,td{padding:.32rem .5rem}}
@media print{:root{--card:#fff}figure,section,.card{break-inside:avoid}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
)css";

}  // namespace burin::tools::bench
