// The run as rows of a tree: one for a call, or for repeated calls of one operation. No document in here.
//
// Spans are numbered, parents before children; times are microseconds from the run's start.

const SMALLEST_GROUP = 3;
const MOST_NEIGHBOURS = 16; // rows below a call; beyond, calls of one operation are one row even with others between them

const spanTree = (run) => {
  const spans = run.spans;
  const count = spans.parent.length;
  const children = Array.from({ length: count }, () => []);
  const segments = Array.from({ length: count }, () => []);
  const findings = Array.from({ length: count }, () => []);
  for (let span = 1; span < count; span++) if (spans.parent[span] >= 0) children[spans.parent[span]].push(span);
  for (const list of children) list.sort((one, other) => spans.start[one] - spans.start[other]);
  for (const [span, start, end] of run.path) segments[span].push([start, end]);
  run.findings.forEach((finding, place) => finding.evidence.forEach((span) => findings[span].push(place)));
  // What a row shows while it is closed is that of all the spans below it.
  const failedBelow = new Array(count).fill(0);
  const findingsBelow = findings.map((own) => new Set(own));
  for (let span = count - 1; span > 0; span--) {
    const parent = spans.parent[span];
    failedBelow[parent] += failedBelow[span] + (span in spans.error ? 1 : 0);
    for (const place of findingsBelow[span]) findingsBelow[parent].add(place);
  }
  return { run, spans, children, segments, findings, failedBelow, findingsBelow };
};

const newRow = (spans, parent) => ({ spans, parent, depth: parent ? parent.depth + 1 : 0, open: false, told: false, shown: 0 });

const rowsBelow = (tree, row) => {
  if (row.below) return row.below;
  const [first] = row.spans;
  const groups = row.spans.length > 1 ? row.spans.map((span) => [span]) : grouped(tree, tree.children[first]);
  row.below = groups.map((group) => newRow(group, row));
  return row.below;
};

const isOpenable = (tree, row) => row.spans.length > 1 || tree.children[row.spans[0]].length > 0;

const grouped = (tree, spans) => {
  const name = (span) => tree.spans.name[span];
  let groups = [];
  for (const span of spans) {
    const last = groups[groups.length - 1];
    if (last && name(last[0]) === name(span)) last.push(span);
    else groups.push([span]);
  }
  if (groups.length > MOST_NEIGHBOURS) {
    const byName = new Map();
    for (const span of spans) {
      if (!byName.has(name(span))) byName.set(name(span), []);
      byName.get(name(span)).push(span);
    }
    groups = [...byName.values()];
  }
  return groups.flatMap((group) => (group.length < SMALLEST_GROUP ? group.map((span) => [span]) : [group]));
};

const joined = (stretches, gap = 0) => {
  const found = [];
  for (const [start, end] of stretches.sort((one, other) => one[0] - other[0])) {
    const last = found[found.length - 1];
    if (last && start <= last[1] + gap) last[1] = Math.max(last[1], end);
    else found.push([start, end]);
  }
  return found;
};

const busy = (tree, row) => joined(row.spans.map((span) => [tree.spans.start[span], tree.spans.end[span]]));

// The stretches of the critical path that are the row's own; while it is closed, those of everything below it too.
const critical = (tree, row) => {
  const found = [];
  const stack = [...row.spans];
  while (stack.length) {
    const span = stack.pop();
    for (const [start, end] of tree.segments[span]) found.push([start, end]);
    if (!row.open) for (const child of tree.children[span]) stack.push(child);
  }
  return joined(found);
};

const length = (stretches) => stretches.reduce((sum, [start, end]) => sum + end - start, 0);

const MOST_WAITING = 50;

// Opens what took longest, level by level, as long as it all fits on a screen or two. Groups stay closed.
const openFirst = (tree, root, most) => {
  const took = new Map();
  const longest = (row) => took.get(row) ?? took.set(row, length(busy(tree, row))).get(row);
  let rows = 1;
  let waiting = [root];
  while (waiting.length && rows < most) {
    const row = waiting.shift();
    const below = rowsBelow(tree, row);
    if (row !== root && rows + below.length > most) continue;
    row.open = true;
    rows += below.length;
    waiting.push(...below.filter((one) => one.spans.length === 1 && isOpenable(tree, one)));
    waiting = waiting.sort((one, other) => longest(other) - longest(one)).slice(0, MOST_WAITING);
  }
};
