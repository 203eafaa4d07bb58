const key = cell => cell.dataset.value;
const compare = (a, b, down) => {
  if (a === "" || b === "") return (a === "") - (b === "");  // what is absent comes last
  const numbers = !isNaN(a) && !isNaN(b);
  const order = numbers ? a - b : a.localeCompare(b, undefined, { numeric: true });
  return down ? -order : order;
};
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const head = table.tHead.rows[0], body = table.tBodies[0];
  head.addEventListener("click", event => {
    if (!event.target.closest("button")) return;
    const pressed = event.target.closest("th"), i = pressed.cellIndex;
    const down = pressed.getAttribute("aria-sort") === "ascending";
    for (const cell of head.cells) cell.setAttribute("aria-sort", "none");
    pressed.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...[...body.rows].sort((a, b) => compare(key(a.cells[i]), key(b.cells[i]), down)));
  });
}

// The table of the cases turns to another figure of every class, or to every figure of a class.
const choice = document.querySelector("select[data-of]");
if (choice) {
  const table = document.getElementById(choice.dataset.of);
  const blocks = JSON.parse(table.dataset.figures), fixed = Number(table.dataset.fixed);
  const head = table.tHead.rows[0], rows = [...table.tBodies[0].rows];
  const kept = new Map([head, ...rows].map(row => [row, [...row.cells].slice(fixed)]));
  const digits = size => size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  const withDigits = (value, n) =>
    value.toLocaleString("en-US", { minimumFractionDigits: n, maximumFractionDigits: n });
  const written = (value, kind) => {
    if (value === null) return "–";
    if (kind === "share") return value.toFixed(4);
    if (kind === "count") return withDigits(value, 0);
    const size = Math.abs(value);
    return size > 0 && size < 0.1 ? String(Number(value.toPrecision(3)))
      : withDigits(value, digits(size));
  };
  const heading = name => {
    const cell = document.createElement("th"), button = document.createElement("button");
    Object.assign(cell, { scope: "col", abbr: name });
    cell.setAttribute("aria-sort", "none");
    Object.assign(button, { type: "button", title: name, textContent: name });
    cell.append(button);
    return cell;
  };
  const figure = (value, kind) => {
    const cell = document.createElement("td");
    cell.dataset.value = value ?? "";
    cell.textContent = written(value, kind);
    if (value === null) cell.className = "none";
    return cell;
  };
  const put = (row, cells) => {
    while (row.cells.length > fixed) row.lastElementChild.remove();
    row.append(...cells);
  };
  const turn = () => {
    const [, number, kind, at] = choice.value.match(/^(\d+)([ft])(\d+)$/) ?? [];
    if (kind === undefined) {
      for (const [row, cells] of kept) put(row, cells);
      return;
    }
    const { things, figures, values } = blocks[number], i = Number(at);
    const names = kind === "f" ? things : figures.map(f => f.name);
    const kinds = kind === "f" ? things.map(() => figures[i].kind) : figures.map(f => f.kind);
    put(head, names.map(heading));
    for (const row of rows) {
      const of = values[Number(row.dataset.row)];
      const found = kind === "f" ? of.map(thing => thing[i]) : of[i];
      put(row, found.map((value, n) => figure(value, kinds[n])));
    }
  };
  choice.addEventListener("change", turn);
  choice.closest("label").hidden = false;
  turn();  // a page that was left and is met again keeps its choice
}
