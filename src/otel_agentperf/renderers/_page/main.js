// The page: one run, or an index of many and the run that the address names (`#run-12`).

const dataOf = (id) => JSON.parse(document.getElementById(id).textContent);
const index = dataOf("index");
const main = document.getElementById("report");
const MOST_ROWS = 250;
const MOST_BOTTLENECKS = 5;

const rowNames = ["name", "start_s", "duration_s", "grade", "score", "saving_s", "findings", "kinds", "error", "incomplete"];
const indexRows = index.runs.map((row, place) => ({ place, ...Object.fromEntries(rowNames.map((name, at) => [name, row[at]])) }));

const indexView = () => [
  h(
    "header",
    { class: "verdict" },
    h("p", { class: "eyebrow" }, h("span", null, counted(indexRows.length, "agent run")), h("span", null, `median ${seconds(index.median_s)}`)),
    h("h1", { tabindex: "-1" }, unbroken(index.verdict)),
    index.bottlenecks.length > 0 && biggestOfAll(index.bottlenecks[index.biggest]),
    notes(),
  ),
  section("What to fix", index.bottlenecks.length ? bottleneckList() : h("p", { class: "nothing" }, "No bottleneck was found.")),
  section("Runs", runsTable()),
];

// Kept while a run is open, so that the way back leads to the same table.
let isTold = index.groups.length === indexRows.length;

const runsTable = () => {
  const rows = isTold ? indexRows : index.groups.map(groupRow);
  const table = dataTable({ caption: "Agent runs; choose one for its waterfall and details", columns: runColumns, rows, sortBy: "Can be saved", most: MOST_ROWS, className: "runs" });
  if (isTold) return table;
  const all = h("button", { type: "button", class: "more", onclick: () => ((isTold = true), table.parentNode.replaceWith(runsTable())) }, `Show each of the ${number(indexRows.length)} runs in its own row`);
  return h("div", { class: "together" }, table, all);
};

const middle = (values) => [...values].sort((one, other) => one - other)[values.length >> 1];

// Runs of one name without findings as one row: what is typical of them.
const groupRow = (places) => {
  const runs = places.map((place) => indexRows[place]);
  if (runs.length === 1) return runs[0];
  const longest = runs.reduce((one, other) => (other.duration_s > one.duration_s ? other : one));
  const grades = [...new Set(runs.map((run) => run.grade))].sort();
  const start_s = Math.min(...runs.map((run) => run.start_s));
  return { ...runs[0], times: runs.length, place: longest.place, start_s, duration_s: middle(runs.map((run) => run.duration_s)), score: middle(runs.map((run) => run.score)), grade: [...new Set([grades[0], grades[grades.length - 1]])].join(" to ") };
};

const notes = () => index.notes.map((note) => h("p", { class: "notice plain" }, unbroken(note)));

const biggestOfAll = (one) => h("p", { class: "biggest" }, h("strong", null, "Biggest fix: "), named(brief(one.title)), ` \u2013 ${kindOf(one.kind).title}, in ${counted(one.runs, "run")}`, one.saving_s > 0 && `, saves ${seconds(one.saving_s)}`, ".");

const bottleneckList = () => {
  const item = (one, place) =>
    h(
      "li",
      { class: `finding ${one.severity}` },
      h(
        "h3",
        null,
        h("span", { class: "badge", "aria-hidden": "true" }, String(place + 1)),
        h("span", { class: "what" }, named(brief(one.title)), h("span", { class: "kind-title" }, ` ${kindOf(one.kind).title}`)),
        h("span", { class: "saving" }, one.saving_s > 0 ? h("strong", null, `saves ${seconds(one.saving_s)}`) : h("span", { class: "muted" }, "saves no time")),
      ),
      h("p", { class: "advice" }, indexRows.length > 1 && "Where it costs most: ", unbroken(one.recommendation)),
      h("p", { class: "meta" }, severityTag(one.severity), h("span", null, `in ${number(one.runs)} of ${counted(indexRows.length, "run")}`), one.agent && h("span", null, "agent ", named(one.agent)), h("a", { href: `#run-${one.worst_run}` }, "The run it costs most")),
    );
  const list = h("ol", { class: "findings" }, index.bottlenecks.slice(0, MOST_BOTTLENECKS).map(item));
  const rest = index.bottlenecks.slice(MOST_BOTTLENECKS);
  if (!rest.length) return list;
  const more = h("button", { type: "button", class: "more", onclick: () => (list.append(...rest.map((one, place) => item(one, place + MOST_BOTTLENECKS))), more.remove()) }, `Show ${number(rest.length)} more`);
  return [list, more];
};

const runColumns = [
  { title: "Run", heads: true, value: (run) => run.name, cell: (run) => [h("a", { href: `#run-${run.place}`, title: run.times && "the longest of them" }, named(run.name)), run.times && h("span", { class: "muted" }, ` \u00d7${number(run.times)}, medians`), run.error && h("span", { class: "bad" }, ` \u2715 ${run.error}`), run.incomplete && h("span", { class: "muted" }, " incomplete")] },
  { title: "Started", value: (run) => run.start_s, cell: (run) => moment(run.start_s) },
  timeColumn("Duration", "duration_s"),
  { title: "Score", value: (run) => -run.score, cell: (run) => `${run.grade} ${run.score.toFixed(2)}` },
  { ...timeColumn("Can be saved", "saving_s"), cell: (run) => (run.saving_s ? `${seconds(run.saving_s)} (${percent(run.saving_s, run.duration_s)})` : "\u2013") },
  { title: "Findings", numeric: true, value: (run) => run.findings, cell: (run) => number(run.findings) },
  { title: "Kinds", value: (run) => run.kinds.join(), cell: (run) => run.kinds.map((kind) => kindOf(kind).title).join("; ") },
];

const backLinks = (place) =>
  h(
    "nav",
    { class: "back", "aria-label": "Runs" },
    h("a", { href: "#runs" }, `\u2190 All ${counted(indexRows.length, "run")}`),
    place > 0 && h("a", { href: `#run-${place - 1}` }, "Previous"),
    place + 1 < indexRows.length && h("a", { href: `#run-${place + 1}` }, "Next"),
  );

const places = new Map();
let shown = null;

const route = () => {
  const asked = location.hash.match(/^#run-(\d+)/);
  const place = asked && Number(asked[1]) < indexRows.length ? Number(asked[1]) : indexRows.length === 1 ? 0 : null;
  if (place === shown && main.dataset.ready) return;
  if (main.dataset.ready) places.set(shown, scrollY);
  const isFirst = !main.dataset.ready;
  shown = place;
  main.dataset.ready = "yes";
  main.replaceChildren(...(place === null ? indexView() : [runSection(dataOf(`run-${place}-data`), `run-${place}`, indexRows.length > 1 && backLinks(place)), ...(indexRows.length > 1 ? [] : notes())]).filter(Boolean));
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (isFirst && !target) return;
  if (place === null) scrollTo(0, places.get(null) || 0);
  else if (target && target.id !== `run-${place}`) target.scrollIntoView();
  else scrollTo(0, 0);
  main.querySelector("h1").focus({ preventScroll: true });
};

addEventListener("hashchange", route);
route();
