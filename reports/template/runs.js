// The table of runs: sorted by a heading, filtered by words, two runs side by side. Without it the table is complete.
const table = document.getElementById("runs");
const body = table.tBodies[0];
const details = JSON.parse(document.getElementById("details").textContent);
const all = [...body.rows];

function made(name, text, parent) {
  const element = document.createElement(name);
  element.textContent = text;
  parent.append(element);
  return element;
}

function sort(head) {
  const upwards = head.getAttribute("aria-sort") !== "ascending";
  const column = head.cellIndex;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", upwards ? "ascending" : "descending");
  const text = (row) => row.cells[column].textContent.trim();
  const order = new Intl.Collator("en", { numeric: false });
  const compare = (a, b) => (isNaN(parseFloat(a)) || isNaN(parseFloat(b)) || /^\d+-/.test(a) ? order.compare(a, b) : parseFloat(a) - parseFloat(b));
  all.sort((a, b) => (upwards ? 1 : -1) * compare(text(a), text(b)));
  body.append(...all);
}

for (const head of table.tHead.rows[0].cells) {
  const button = made("button", head.textContent, head);
  head.firstChild.remove();
  button.type = "button";
  button.addEventListener("click", () => sort(head));
}

function filter() {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/);
  for (const row of all) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  const shown = all.filter((row) => !row.hidden).length;
  document.getElementById("count").textContent = `${shown} of ${all.length}`;
}

document.getElementById("filter").addEventListener("input", filter);
document.querySelector(".filter").hidden = false;
filter();

function compare() {
  const ticked = all.filter((row) => row.querySelector("input").checked).map((row) => row.dataset.run);
  for (const row of all) row.querySelector("input").disabled = ticked.length === 2 && !row.querySelector("input").checked;
  const place = document.getElementById("compared");
  place.replaceChildren();
  if (ticked.length < 2) return;
  made("h3", `${ticked[0]} and ${ticked[1]}`, place);
  const [first, second] = ticked.map((run) => details[run]);
  const names = [...new Set([...Object.keys(first), ...Object.keys(second)])];
  const differing = names.filter((name) => first[name] !== second[name]);
  made("p", `What differs; ${names.length - differing.length} more are alike.`, place);
  const box = made("div", "", place);
  box.className = "table";
  box.tabIndex = 0;
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Two runs compared");
  const compared = made("table", "", box);
  const heads = made("tr", "", made("thead", "", compared));
  for (const name of ["", ...ticked]) made(name ? "th" : "td", name, heads).scope = "col";
  const lines = made("tbody", "", compared);
  for (const name of differing) {
    const line = made("tr", "", lines);
    made("th", name, line).scope = "row";
    for (const values of [first, second]) made("td", values[name] ?? "", line);
  }
}

for (const row of all) {
  const label = document.createElement("label");
  const box = document.createElement("input");
  box.type = "checkbox";
  box.addEventListener("change", compare);
  label.append(box, row.cells[0].textContent);
  row.cells[0].replaceChildren(label);
}
