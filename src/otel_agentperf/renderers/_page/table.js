// A table that is sorted by its headings' buttons, and shows its first rows until asked for all.
//
// columns: [{ title, value(row): what it sorts by, cell(row): what it shows (default: the value), numeric, heads }]

const dataTable = ({ caption, columns, rows, sortBy, most = 25, className = "" }) => {
  let sorted = [...rows];
  let sortedBy = null;
  let descending = false;
  let all = rows.length <= most;
  const body = h("tbody");
  const headings = columns.map((column) =>
    h(
      "th",
      { scope: "col", class: column.numeric ? "numeric" : null },
      h("button", { type: "button", onclick: () => sort(column) }, h("span", null, column.title), h("span", { class: "arrow", "aria-hidden": "true" })),
    ),
  );

  const row = (item) =>
    h(
      "tr",
      null,
      columns.map((column) =>
        h(
          column.heads ? "th" : "td",
          { scope: column.heads ? "row" : null, class: column.numeric ? "numeric" : null },
          (column.cell || column.value)(item),
        ),
      ),
    );

  const fill = () => body.replaceChildren(...(all ? sorted : sorted.slice(0, most)).map(row));

  const sort = (column) => {
    descending = sortedBy === column ? !descending : Boolean(column.numeric);
    sortedBy = column;
    const sign = descending ? -1 : 1;
    sorted = [...rows].sort((one, other) => {
      const [a, b] = [column.value(one), column.value(other)];
      if (typeof a === "string") return sign * a.localeCompare(b);
      return sign * ((a ?? -1) - (b ?? -1));
    });
    headings.forEach((heading, place) => {
      if (columns[place] === column) heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
    fill();
  };

  const first = columns.find((column) => column.title === sortBy);
  if (first) sort(first);
  else fill();
  const table = h("table", { class: className }, h("caption", null, caption), h("thead", null, h("tr", null, headings)), body);
  const scroll = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table);
  if (all) return scroll;
  const more = h("button", { type: "button", class: "more", onclick: () => ((all = true), fill(), more.remove()) });
  more.textContent = `Show all ${number(rows.length)} (${number(most)} are shown)`;
  return h("div", null, scroll, more);
};
