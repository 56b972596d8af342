// Making elements and writing numbers. Everything a file or a text brought comes in as a text node, never as HTML.

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function shape(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function percent(value, digits = 2) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`;
}

function percentRange(range) {
  return range ? `${(100 * range[0]).toFixed(2)}–${(100 * range[1]).toFixed(2)}` : "–";
}

function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6 ? String(Number(value.toPrecision(4))) : value.toExponential(2);
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 60) return `${value.toFixed(1)} s`;
  const rest = Math.floor(value % 60);
  return `${Math.floor(value / 60)}:${String(rest).padStart(2, "0")}`;
}

function table(head, rows, attributes = {}) {
  const cell = (tag) => (content) => (content instanceof Element && content.matches("th, td") ? content : element(tag, {}, content));
  return element("table", attributes,
    element("thead", {}, element("tr", {}, ...head.map(cell("th")))),
    element("tbody", {}, ...rows.map((row) => (row instanceof Element ? row : element("tr", {}, ...row.map(cell("td")))))));
}

function choice(label, options, chosen, onchange) {
  const select = element("select", { "aria-label": label, onchange: (event) => onchange(event.target.value) });
  for (const [value, text] of options) select.append(element("option", { value, ...(value === String(chosen) && { selected: "" }) }, text));
  return select;
}

function facts(pairs) {
  return element("dl", { class: "facts" }, ...pairs.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, number(value)))));
}

function section(title, note, ...children) {
  return element("section", {}, element("h2", {}, title), note ? element("p", { class: "note" }, note) : null, ...children);
}
