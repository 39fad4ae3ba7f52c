// The waterfall: a treegrid (rows by arrow keys, Enter for details) with each row's stretches on the time axis.

const ROWS_AT_ONCE = 100;
const FIRST_ROWS = 36;
const DEEPEST_INDENT = 12;
const FINEST_SHARE = 0.0015; // of the run: stretches closer than this are drawn as one, shorter ones of the path not at all

const waterfall = (run) => {
  const tree = spanTree(run);
  const { spans } = tree;
  const total = Math.max(1, spans.end[0] - spans.start[0]);
  const root = newRow([0], null);
  openFirst(tree, root, FIRST_ROWS);
  const step = niceStep(total);
  const grid = h("div", { role: "treegrid", class: "waterfall", "aria-label": "Waterfall of the run", style: { "--tick": `${(100 * step) / total}%` } });
  const marked = new Set();
  const byElement = new Map();

  const kindAndName = (row) => run.names[spans.name[row.spans[0]]];
  const failed = (row) => row.spans.filter((span) => span in spans.error).length;

  const place = (start, end) => {
    const from = Math.min(Math.max(start, 0), total);
    const to = Math.min(Math.max(end, from), total);
    return { "--from": `${(100 * from) / total}%`, "--size": `${(100 * (to - from)) / total}%` };
  };

  const label = (row) => {
    const [kind, name] = kindAndName(row);
    const bad = failed(row);
    const below = row.open ? 0 : row.spans.reduce((sum, span) => sum + tree.failedBelow[span], 0);
    const places = new Set(row.spans.flatMap((span) => (row.open ? tree.findings[span] : [...tree.findingsBelow[span]])));
    return [
      h("span", { class: "twisty", "aria-hidden": "true" }),
      Object.assign(named(name), { title: name }),
      row.spans.length > 1 && h("span", { class: "times" }, `\u00d7${number(row.spans.length)}`),
      h("span", { class: "kind" }, kind === "other" ? "" : kind),
      bad > 0 && h("span", { class: "bad" }, row.spans.length === 1 ? `\u2715 ${spans.error[row.spans[0]] || "failed"}` : `\u2715 ${number(bad)} failed`),
      bad === 0 && below > 0 && h("span", { class: "bad" }, `\u2715 ${number(below)} failed inside`),
      [...places].sort((one, other) => one - other).map((at) => h("span", { class: "badge", title: `evidence of finding ${at + 1}` }, onlyRead("evidence of finding "), String(at + 1))),
    ];
  };

  const bars = (row) => {
    const taken = busy(tree, row);
    const path = critical(tree, row);
    const gap = total * FINEST_SHARE;
    const drawn = joined(path, row.open ? 0 : gap).filter(([start, end]) => !row.open || end - start >= gap);
    const share = percent(length(path), total);
    const told = `starts at ${seconds(spans.start[row.spans[0]] / 1e6)}, takes ${seconds(length(taken) / 1e6)}, ${share} of the run on the critical path`;
    return [
      onlyRead(told),
      h(
        "div",
        { class: "bars", "aria-hidden": "true", title: told },
        joined(taken, gap).map(([start, end]) => h("i", { class: "bar", style: place(start, end) })),
        drawn.map(([start, end]) => h("i", { class: "bar critical", style: place(start, end) })),
      ),
    ];
  };

  const redraw = (row) => {
    row.nameCell.replaceChildren(h("div", { class: "label" }, label(row)));
    row.barCell.replaceChildren(...bars(row));
    if (isOpenable(tree, row)) row.element.setAttribute("aria-expanded", String(row.open));
  };

  const build = (row) => {
    if (row.element) return row.element;
    const own = row.spans.reduce((sum, span) => sum + spans.self[span], 0);
    row.nameCell = h("div", { role: "gridcell", class: "call" });
    row.barCell = h("div", { role: "gridcell", class: "timeline" });
    row.element = h(
      "div",
      { role: "row", class: "row", tabindex: "-1", "aria-level": row.depth + 1, style: { "--depth": Math.min(row.depth, DEEPEST_INDENT) } },
      row.nameCell,
      h("div", { role: "gridcell", class: "time" }, seconds(length(busy(tree, row)) / 1e6)),
      h("div", { role: "gridcell", class: "own" }, seconds(own / 1e6)),
      row.barCell,
    );
    if (row.spans.some((span) => tree.segments[span].length)) row.element.classList.add("on-path");
    byElement.set(row.element, row);
    redraw(row);
    return row.element;
  };

  const details = (row) => {
    const [kind, name] = kindAndName(row);
    const times = row.spans.map((span) => spans.end[span] - spans.start[span]).sort((one, other) => one - other);
    const onPath = length(row.spans.flatMap((span) => tree.segments[span]));
    const errors = [...new Set(row.spans.filter((span) => span in spans.error).map((span) => spans.error[span]))];
    const tokens = row.spans.map((span) => spans.tokens[span]).filter(Boolean);
    const sum = (place) => number(tokens.reduce((all, of) => all + (of[place] || 0), 0));
    const alone = row.spans.length === 1;
    const facts = [
      ["name", named(name)],
      ["kind", kind],
      ["starts at", seconds(spans.start[row.spans[0]] / 1e6)],
      alone ? ["duration", seconds(times[0] / 1e6)] : ["calls", number(row.spans.length)],
      !alone && ["shortest, median, longest", [times[0], times[times.length >> 1], times[times.length - 1]].map((time) => seconds(time / 1e6)).join(", ")],
      ["self time", seconds(row.spans.reduce((all, span) => all + spans.self[span], 0) / 1e6)],
      ["itself on the critical path", onPath ? `${seconds(onPath / 1e6)}, ${percent(onPath, total)} of the run` : "no"],
      tokens.length > 0 && ["tokens", `${sum(0)} in, ${sum(1)} out`],
      errors.length > 0 && ["error type", named(errors.join(", "))],
      alone && ["span id", h("code", null, spans.id[row.spans[0]])],
    ];
    const list = h("dl", null, facts.filter(Boolean).map(([term, value]) => h("div", null, h("dt", null, term), h("dd", null, value))));
    return h("div", { role: "row", class: "details", "aria-level": row.depth + 2 }, h("div", { role: "gridcell" }, list));
  };

  // The elements below a row, from top to bottom. Of many rows the first are shown, and a button for more.
  const elementsBelow = (row) => {
    const found = row.told ? [(row.details ||= details(row))] : [];
    if (!row.open) return found;
    const below = rowsBelow(tree, row);
    row.shown = Math.min(below.length, Math.max(row.shown, ROWS_AT_ONCE));
    for (const one of below.slice(0, row.shown)) found.push(build(one), ...elementsBelow(one));
    if (row.shown < below.length) found.push((row.more = moreRows(row, below.length)));
    return found;
  };

  const moreRows = (row, all) =>
    h(
      "div",
      { role: "row", class: "row rest", "aria-level": row.depth + 2, style: { "--depth": Math.min(row.depth + 1, DEEPEST_INDENT) } },
      h(
        "div",
        { role: "gridcell" },
        h("button", { type: "button", onclick: () => update(row, () => (row.shown += ROWS_AT_ONCE)) }, `Show ${number(Math.min(ROWS_AT_ONCE, all - row.shown))} more`),
        ` ${number(row.shown)} of ${number(all)} rows here are shown`,
      ),
    );

  const update = (row, change) => {
    for (const element of elementsBelow(row)) element.remove();
    change();
    redraw(row);
    row.element.after(...elementsBelow(row));
    if (!grid.querySelector('[tabindex="0"]')) root.element.tabIndex = 0;
  };

  const toggle = (row, open = !row.open) => {
    if (isOpenable(tree, row) && row.open !== open) update(row, () => (row.open = open));
  };

  const tell = (row) => update(row, () => (row.told = !row.told));

  const focus = (row) => {
    grid.querySelector('.row[tabindex="0"]')?.setAttribute("tabindex", "-1");
    row.element.tabIndex = 0;
    row.element.focus();
  };

  grid.addEventListener("keydown", (event) => {
    const row = byElement.get(event.target);
    if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
    const rows = [...grid.querySelectorAll(".row")].filter((element) => byElement.has(element));
    const at = rows.indexOf(row.element);
    const go = (to) => rows[to] && focus(byElement.get(rows[to]));
    const act = {
      ArrowDown: () => go(at + 1),
      ArrowUp: () => go(at - 1),
      Home: () => go(0),
      End: () => go(rows.length - 1),
      ArrowRight: () => (row.open || !isOpenable(tree, row) ? row.open && go(at + 1) : toggle(row, true)),
      ArrowLeft: () => (row.open ? toggle(row, false) : row.parent && focus(row.parent)),
      Enter: () => tell(row),
      " ": () => tell(row),
    }[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });

  grid.addEventListener("click", (event) => {
    const row = byElement.get(event.target.closest(".row"));
    if (!row) return;
    if (event.target.closest(".twisty") && isOpenable(tree, row)) toggle(row);
    else tell(row);
    focus(row);
  });

  const openAll = (open) => {
    const stack = [root];
    let rows = 1;
    while (stack.length) {
      const row = stack.shift();
      if (!isOpenable(tree, row) || (open && rows > MOST_OPENED)) continue;
      if (open || row !== root) row.open = open;
      if (open || row.below) stack.push(...rowsBelow(tree, row));
      if (open) rows += row.below.length;
    }
    for (const row of byElement.values()) redraw(row);
  };

  // Opens the way to the spans, and marks the rows that hold them. Returns the first of these.
  const mark = (wanted) => {
    for (const row of marked) row.element.classList.remove("marked");
    marked.clear();
    update(root, () => {
      for (const span of wanted) marked.add(rowOf(span));
    });
    for (const row of marked) build(row).classList.add("marked");
    return [...marked][0];
  };

  const rowOf = (span) => {
    const way = [];
    for (let at = span; at > 0; at = spans.parent[at]) way.unshift(at);
    let row = root;
    for (const at of way) {
      row = within(row, at);
      if (at !== span && row.spans.length > 1) row = within(row, at);
    }
    return row;
  };

  // The row below that holds the span, which opens the row and shows that many of its rows.
  const within = (row, span) => {
    row.open = true;
    if (row.element) redraw(row);
    const below = rowsBelow(tree, row);
    const at = below.findIndex((one) => one.spans.includes(span));
    row.shown = Math.max(row.shown, at + 1);
    return below[at];
  };

  const refill = () => {
    grid.replaceChildren(axis(total, step), build(root), ...elementsBelow(root));
    root.element.tabIndex = 0;
  };

  refill();
  return {
    element: grid,
    openAll: (open) => (openAll(open), refill()),
    show: (wanted) => {
      const row = mark(wanted);
      if (!row) return;
      focus(row);
      row.element.scrollIntoView({ block: "center" });
    },
  };
};

const MOST_OPENED = 1000;

const niceStep = (total) => {
  const least = total / 6;
  const magnitude = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * magnitude).find((step) => step >= least);
};

const axis = (total, step) => {
  const ticks = [];
  for (let at = 0; at <= total * 0.9; at += step) ticks.push(h("i", { class: "tick", style: { "--from": `${(100 * at) / total}%` } }, seconds(at / 1e6)));
  const head = (className, ...children) => h("div", { role: "columnheader", class: className }, children);
  return h(
    "div",
    { role: "row", class: "row axis" },
    head("call", "Call"),
    head("time", "Time"),
    head("own", "Self"),
    head("timeline", onlyRead("Timeline"), h("div", { class: "ticks", "aria-hidden": "true" }, ticks)),
  );
};
