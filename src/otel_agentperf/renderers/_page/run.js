// One run: the verdict, what to fix, where the time went, and the tables.

const SIGNS = { critical: "\u25b2", warning: "\u25c6", info: "\u25cf" }; // the shape tells what the colour tells

const kindOf = (kind) => index.kinds[kind] || { title: kind.replace(/_/g, " "), help: "" };

const severityTag = (severity) => h("span", { class: `severity ${severity}` }, h("span", { "aria-hidden": "true" }, SIGNS[severity] || ""), ` ${severity}`);

const runSection = (run, id, back) => {
  const flow = waterfall(run);
  const heading = h("h2", { id: `${id}-waterfall`, tabindex: "-1" }, "Where the time went");
  return h(
    "article",
    { class: "run", id, "aria-labelledby": `${id}-verdict` },
    back,
    verdictHead(run, id),
    findingsSection(run, id, flow),
    h("section", { "aria-labelledby": `${id}-waterfall` }, heading, pathSummary(run), legend(run, flow), flow.element),
    suppressed(run),
    numbers(run),
  );
};

const verdictHead = (run, id) => {
  const biggest = run.findings[run.biggest];
  return h(
    "header",
    { class: "verdict" },
    h("p", { class: "eyebrow" }, named(run.name), serviceOf(run), h("span", null, run.start.replace("T", " ").replace(/\..*/, " UTC"))),
    h(
      "div",
      { class: "headline" },
      h(
        "div",
        null,
        h("h1", { id: `${id}-verdict`, tabindex: "-1" }, unbroken(run.verdict)),
        biggest &&
          h("p", { class: "biggest" }, h("strong", null, "Biggest fix: "), h("a", { href: `#${id}-finding-${run.biggest + 1}` }, named(brief(biggest.title))), ` \u2013 ${kindOf(biggest.kind).title}`, biggest.claims_time && `, saves ${seconds(biggest.saving_s)}`, "."),
      ),
      grade(run),
    ),
    run.saving_s > 0 && beforeAfter(run),
    run.incomplete && h("p", { class: "notice" }, h("strong", null, "Incomplete: "), "some spans of this run are missing, so times and counts may be too small."),
    run.unchecked_budgets.length > 0 && h("p", { class: "notice" }, h("strong", null, "Budgets that could not be checked: "), run.unchecked_budgets.join("; ")),
    facts(run),
  );
};

const serviceOf = (run) => (run.service && !run.service.startsWith("unknown_service") ? h("span", null, "of ", named(run.service)) : null);

const grade = (run) => {
  const share = (value) => (value === null || value === undefined ? "not measured" : value.toFixed(2));
  const { success, speed, resource } = run.score_parts;
  return h(
    "div",
    { class: `grade grade-${run.grade}` },
    h("p", { class: "letter" }, onlyRead("Grade "), run.grade),
    h(
      "div",
      null,
      h("p", null, h("strong", null, `Score ${run.score.toFixed(2)} of 1`), run.saving_s > 0 && ` \u00b7 efficiency ${percent(run.efficiency, 1)}`),
      h("p", { class: "muted" }, `success ${share(success)} \u00b7 speed ${share(speed)} \u00b7 resources ${share(resource)}`),
    ),
  );
};

const beforeAfter = (run) => {
  const after = run.duration_s - run.saving_s;
  const bar = (title, value, className) => [
    h("span", { class: "which" }, title),
    h("span", { class: "length", "aria-hidden": "true" }, h("i", { class: className, style: { "--size": `${(100 * value) / run.duration_s}%` } })),
    h("span", { class: "value" }, seconds(value)),
  ];
  return h("div", { class: "before-after" }, bar("now", run.duration_s, "now"), bar("fixed", after, "fixed"));
};

const facts = (run) => {
  const calls = (kind) => run.operations.filter((one) => one.kind === kind).reduce(([all, bad], one) => [all + one.calls, bad + one.errors], [0, 0]);
  const called = (kind) => {
    const [all, bad] = calls(kind);
    return all ? number(all) + (bad ? ` (${number(bad)} failed)` : "") : null;
  };
  const { input, output, cache_read: read } = run.tokens;
  const told = [
    ["agent calls", called("agent")],
    ["model calls", called("llm")],
    ["tool calls", called("tool")],
    ["tokens", input || output ? `${number(input)} in, ${number(output)} out${read ? `, ${number(read)} from the prompt cache` : ""}` : null],
    ["cost", costOf(run.cost)],
    ["spans", number(run.all_spans)],
    ["trace", h("code", null, run.trace_id)],
  ];
  return h("dl", { class: "facts" }, told.filter(([, value]) => value).map(([term, value]) => h("div", null, h("dt", null, term), h("dd", null, value))));
};

const costOf = ({ usd, complete, basis }) =>
  usd === null ? null : h("span", { title: basis }, `${complete ? "" : "at least "}$${usd.toFixed(usd < 1 ? 4 : 2)}`);

const findingsSection = (run, id, flow) => {
  const list = run.findings.length
    ? h("ol", { class: "findings" }, run.findings.map((finding, place) => findingItem(run, finding, place, id, flow)))
    : h("p", { class: "nothing" }, run.status === "error" ? "No bottleneck was found; the run failed." : "No bottleneck was found.");
  const more = run.findings_left_out > 0 && h("p", null, `${counted(run.findings_left_out, "more finding")} of the same kinds left out: the worst are told.`);
  return h("section", { "aria-labelledby": `${id}-findings` }, h("h2", { id: `${id}-findings` }, "What to fix"), list, more);
};

const findingItem = (run, finding, place, id, flow) => {
  const kind = kindOf(finding.kind);
  const saves = finding.claims_time && finding.saving_s > 0;
  return h(
    "li",
    { class: `finding ${finding.severity}`, id: `${id}-finding-${place + 1}`, tabindex: "-1" },
    h(
      "h3",
      null,
      h("span", { class: "badge", "aria-hidden": "true" }, String(place + 1)),
      h("span", { class: "what" }, named(brief(finding.title)), h("span", { class: "kind-title" }, ` ${kind.title}`)),
      h("span", { class: "saving" }, saves ? [h("strong", null, `saves ${seconds(finding.saving_s)}`), ` ${Math.round(finding.saving_pct)}%`] : h("span", { class: "muted" }, "saves no time")),
    ),
    h("p", { class: "advice" }, unbroken(finding.recommendation)),
    h(
      "p",
      { class: "meta" },
      severityTag(finding.severity),
      h("span", null, counted(finding.calls, "call")),
      finding.agent && h("span", null, "agent ", named(finding.agent)),
      h("span", { title: kind.help }, `rule: ${finding.threshold}`),
      finding.evidence.length > 0 &&
        h("button", { type: "button", class: "evidence", onclick: () => flow.show(finding.evidence) }, finding.spans === 1 ? "Show it in the waterfall" : "Show them in the waterfall", finding.evidence.length < finding.spans && ` (${number(finding.evidence.length)} of ${number(finding.spans)})`),
    ),
  );
};

const MOST_SUMMED = 4;

const pathSummary = (run) => {
  const byName = new Map(); // a framework's step may be called like the model inside
  for (const { name, critical_s: time } of run.operations) byName.set(name, (byName.get(name) || 0) + time);
  const longest = [...byName].sort(([, one], [, other]) => other - one).slice(0, MOST_SUMMED);
  const told = longest.filter(([, time]) => time > 0.01 * run.duration_s);
  if (!told.length) return null;
  const parts = told.flatMap(([name, time], place) => [place ? ", " : "", named(brief(name)), ` ${percent(time, run.duration_s)} (${seconds(time)})`]);
  return h("p", { class: "path-summary" }, "The run waited for: ", parts, ".");
};

const legend = (run, flow) => {
  const left = run.all_spans - run.spans.parent.length;
  return h(
    "div",
    { class: "legend" },
    h("span", null, h("i", { class: "key critical", "aria-hidden": "true" }), "on the critical path"),
    h("span", null, h("i", { class: "key", "aria-hidden": "true" }), "in parallel, or waiting for what is below"),
    run.findings.length > 0 && h("span", null, h("span", { class: "badge", "aria-hidden": "true" }, "1"), " evidence of the finding with this number"),
    h("span", { class: "controls" }, h("button", { type: "button", onclick: () => flow.openAll(true) }, "Open all"), h("button", { type: "button", onclick: () => flow.openAll(false) }, "Close all")),
    left > 0 && h("p", { class: "notice" }, `${number(run.spans.parent.length)} of ${number(run.all_spans)} spans are in this page: evidence, failures, and what took longest. The numbers count all of them.`),
    h("p", { class: "sr-only" }, "Arrow keys move between rows and open or close them; Enter shows a row's details."),
  );
};

const numbers = (run) => [
  section("Operations", dataTable({ caption: shortened("Calls and times by operation, most time on the critical path first", run.operations, run.all_operations), columns: operationColumns(run), rows: run.operations })),
  run.profile.length > 0 && section("CPU time", profileTable(run)),
  run.agents.length > 0 && section("Agents", dataTable({ caption: shortened("Calls and score by agent", run.agents, run.all_agents), columns: agentColumns, rows: run.agents, className: "narrow" })),
  run.caches.length > 0 && section("Caches", dataTable({ caption: shortened("Look-ups and hits by cache", run.caches, run.all_caches), columns: cacheColumns, rows: run.caches, className: "narrow" })),
];

const shortened = (caption, rows, all) => (rows.length < all ? `${caption}; the first ${number(rows.length)} of ${number(all)}` : caption);

const section = (title, ...content) => h("section", null, h("h2", null, title), content);

const timeColumn = (title, field) => ({ title, numeric: true, value: (one) => one[field], cell: (one) => seconds(one[field]) });
const countColumn = (title, field) => ({ title, numeric: true, value: (one) => one[field], cell: (one) => number(one[field]) });

const operationColumns = (run) => [
  { title: "Operation", heads: true, value: (one) => one.name, cell: (one) => named(one.name) },
  { title: "Kind", value: (one) => one.kind },
  countColumn("Calls", "calls"),
  countColumn("Failed", "errors"),
  { ...timeColumn("Critical path", "critical_s"), cell: (one) => `${seconds(one.critical_s)} (${percent(one.critical_s, run.duration_s)})` },
  timeColumn("Total", "total_s"),
  timeColumn("Self", "self_s"),
  timeColumn("Median", "p50_s"),
  timeColumn("p95", "p95_s"),
  timeColumn("p99", "p99_s"),
];

const profileTable = (run) =>
  dataTable({
    caption: "The hottest functions of the calls that took most CPU time",
    rows: run.profile.flatMap((one) => one.frames.map((frame) => ({ ...frame, call: one.name, cpu_s: one.cpu_s * frame.share }))),
    columns: [
      { title: "Function", heads: true, value: (frame) => frame.function, cell: (frame) => named(`${frame.function} ${frame.file}:${frame.line}`) },
      { title: "In call", value: (frame) => frame.call, cell: (frame) => named(frame.call) },
      timeColumn("CPU time", "cpu_s"),
      { title: "Share of the call's", numeric: true, value: (frame) => frame.share, cell: (frame) => percent(frame.share, 1) },
      { title: "Called from", value: (frame) => frame.caller, cell: (frame) => (frame.caller ? named(frame.caller) : "") },
    ],
  });

const agentColumns = [
  { title: "Agent", heads: true, value: (one) => one.name, cell: (one) => named(one.name) },
  countColumn("Calls", "calls"),
  countColumn("Failed", "errors"),
  { title: "Score", numeric: true, value: (one) => one.score, cell: (one) => (one.score === null ? "not measured" : one.score.toFixed(2)) },
];

const cacheColumns = [
  { title: "Cache", heads: true, value: (one) => one.name, cell: (one) => named(one.name) },
  countColumn("Look-ups", "lookups"),
  countColumn("Hits", "hits"),
  { title: "Hit rate", numeric: true, value: (one) => (one.lookups ? one.hits / one.lookups : 0), cell: (one) => percent(one.hits, one.lookups) },
  { title: "Time saved", numeric: true, value: (one) => one.time_saved_s, cell: (one) => (one.time_saved_s === null ? "not measured" : seconds(one.time_saved_s)) },
];

// Findings that the user's settings silence.
const suppressed = (run) => {
  if (!run.suppressed.length) return null;
  const item = (one) => h("li", null, named(brief(one.title)), ` ${kindOf(one.kind).title}`, one.reason && ` (${one.reason})`, ": ", unbroken(one.recommendation));
  return section("Suppressed", h("details", null, h("summary", null, `${counted(run.suppressed.length, "finding")} silenced by your settings`), h("ul", null, run.suppressed.map(item))));
};
